//! The routes that clients of other model servers call: Text Embeddings Inference, vLLM, SageMaker.

use anyhow::{Context as _, Result};
use millstream_tests::Cluster;
use serde_json::{Value, json};

use crate::clients::cluster;

/// A classifier: a reranker read as one, whose only label is `LABEL_0`.
const CLASSIFIER: &str = r#"
name = "moods"
[deployments.mood]
task  = "classify"
model = "mini-reranker@production"
"#;

/// A pipeline with only a route, whose answer is its request.
fn with_route(name: &str, route: &str) -> String {
    format!(
        r#"
name = "{name}"
route = "{route}"
[request]
text = "text"
[deployments.echo]
engine = "echo"
[stages.same]
use = "echo"
inputs = {{ text = "request.text" }}
[response]
own = "same.text"
"#
    )
}

fn good(cluster: &Cluster, path: &str, body: &Value) -> Result<Value> {
    let (status, answer) = cluster.post(path, body)?;
    anyhow::ensure!(status == 200, "{path} {body}: {status} {answer}");
    Ok(answer)
}

fn numbers(list: &Value, field: &str) -> Vec<f64> {
    list.as_array().into_iter().flatten().filter_map(|it| it[field].as_f64()).collect()
}

#[test]
fn text_embeddings_inference_has_its_routes() -> Result<()> {
    let cluster = cluster(&[])?;
    let vectors = good(&cluster, "/embed", &json!({"inputs": ["Cats purr.", "Bread"], "truncate": true}))?;
    let single = good(&cluster, "/embed", &json!({"inputs": "Cats purr.", "normalize": false}))?;
    let openai = good(&cluster, "/v1/embeddings", &json!({"model": "ai/embedder", "input": "Cats purr."}))?;
    assert_eq!((vectors.as_array().map(Vec::len), single.as_array().map(Vec::len)), (Some(2), Some(1)));
    let close = |a: &Value, b: &Value| {
        let (a, b) = (a.as_array().unwrap(), b.as_array().unwrap());
        let near = |(a, b): (&Value, &Value)| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-4;
        a.len() == b.len() && a.iter().zip(b).all(near)
    };
    assert!(close(&vectors[0], &openai["data"][0]["embedding"]), "the same as at the other route");
    assert!(close(&single[0], &openai["data"][0]["embedding"]), "the model's vectors have length 1");

    let texts = json!(["Cats purr.", "Bread needs flour."]);
    let body = json!({"query": "What needs flour?", "texts": texts, "return_text": true});
    let ranks = good(&cluster, "/rerank", &body)?;
    let scores = numbers(&ranks, "score");
    assert!(scores.len() == 2 && scores.is_sorted_by(|a, b| a >= b), "{ranks}");
    let index = ranks[0]["index"].as_u64().context("an index")?;
    assert_eq!(ranks[0]["text"], texts[usize::try_from(index)?]);
    let body = json!({"query": "What needs flour?", "documents": texts, "top_n": 1});
    let jina = good(&cluster, "/rerank", &body)?;
    assert_eq!(jina["results"][0]["index"], ranks[0]["index"], "{jina}");

    assert_eq!(cluster.post("/predict", &json!({"inputs": "x"}))?.0, 404, "nothing classifies");
    cluster.deploy(CLASSIFIER, &[])?;
    let one = good(&cluster, "/predict", &json!({"inputs": "All is well."}))?;
    assert_eq!((one[0]["label"].as_str(), numbers(&one, "score").len()), (Some("LABEL_0"), 1), "{one}");
    let two = good(&cluster, "/predict", &json!({"inputs": [["All is well."], ["Fire!"]]}))?;
    assert!(two[0] == one && two[1][0]["score"].is_f64(), "{two}");

    for (path, body, status, said) in [
        ("/embed", json!({"inputs": []}), 400, "`inputs`"),
        ("/embed", json!({"inputs": {"a": 1}}), 400, "`inputs`"),
        ("/embed", json!({"inputs": "x", "prompt_name": "query"}), 400, "no prompts"),
        ("/decode", json!({"ids": [[1], 2], "model": "ai/writer"}), 400, "`ids"),
        ("/embed", json!({"inputs": "x", "model": "ai/writer"}), 400, "`model`"),
        ("/embed", json!({"inputs": "x", "model": "nobody"}), 404, "`nobody`"),
        ("/rerank", json!({"query": "x", "texts": ["a"], "raw_scores": true}), 400, "`raw_scores`"),
        ("/rerank", json!({"query": "x"}), 400, "`documents`"),
        ("/predict", json!({"inputs": ["a", "b"]}), 400, "pair"),
    ] {
        let (found, answer) = cluster.post(path, &body)?;
        assert_eq!((found, &answer["error_type"]), (status, &json!("Validation")), "{path} {body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(said)), "{body}: {answer}");
    }
    Ok(())
}

#[test]
fn vllm_scores_pairs_in_their_order() -> Result<()> {
    let cluster = cluster(&[])?;
    let documents = json!(["Cats purr.", "Bread needs flour.", "Rust is a language."]);
    let ranks = good(&cluster, "/v2/rerank", &json!({"query": "What needs flour?", "documents": documents}))?;
    for (path, body) in [
        ("/score", json!({"text_1": "What needs flour?", "text_2": documents})),
        (
            "/v1/score",
            json!({"model": "ai/reranker", "queries": ["What needs flour?"], "documents": documents}),
        ),
    ] {
        let scored = good(&cluster, path, &body)?;
        assert_eq!(numbers(&scored["data"], "index"), [0.0, 1.0, 2.0], "{scored}");
        for rank in ranks["results"].as_array().context("results")? {
            let index = usize::try_from(rank["index"].as_u64().context("an index")?)?;
            let (score, other) = (&scored["data"][index]["score"], &rank["relevance_score"]);
            let difference = score.as_f64().context("a score")? - other.as_f64().context("a score")?;
            assert!(difference.abs() < 1e-4, "{scored} {ranks}");
        }
        assert!(scored["usage"]["total_tokens"].as_u64() > Some(3), "{scored}");
    }
    for (body, status, param) in [
        (json!({"text_1": ["a", "b"], "text_2": ["c", "d"]}), 400, "text_1"),
        (json!({"text_1": "a", "text_2": []}), 400, "text_2"),
        (json!({"text_1": "a", "text_2": ["b"], "use_activation": false}), 400, "use_activation"),
        (json!({"text_1": "a", "text_2": "b", "model": "ai/embedder"}), 400, "model"),
    ] {
        let (found, answer) = cluster.post("/score", &body)?;
        assert_eq!((found, &answer["error"]["param"]), (status, &json!(param)), "{body}: {answer}");
    }
    Ok(())
}

#[test]
fn a_pipelines_own_route_comes_before_these() -> Result<()> {
    let cluster = cluster(&[])?;
    let ping = || -> Result<u16> { Ok(cluster.http().get(cluster.url("/ping")).send()?.status().as_u16()) };
    assert_eq!(ping()?, 200);
    // SageMaker's route runs the only pipeline.
    let text = good(&cluster, "/invocations", &json!({"prompt": "x"}))?;
    assert!(text["text"].is_string(), "{text}");
    let embed = json!({"inputs": "x"});
    assert!(good(&cluster, "/embed", &embed)?[0].is_array());
    for (name, route) in [("mine", "/embed"), ("yours", "/rerank")] {
        cluster.deploy(&with_route(name, route), &[])?;
        let own = good(&cluster, route, &json!({"text": "hello"}))?;
        assert_eq!(own, json!({"own": "hello"}), "{route}");
        assert_eq!(good(&cluster, &format!("{route}/"), &json!({"text": "hello"}))?, own);
        assert_eq!(cluster.post(route, &embed)?.0, 422, "its own fields");
    }
    let (status, answer) = cluster.post("/invocations", &json!({"prompt": "x"}))?;
    let listed = answer["detail"].as_str().context("a detail")?;
    assert!(status == 404 && listed.ends_with("`/ai`, `/embed`, `/rerank`"), "{answer}");
    assert_eq!(ping()?, 200);
    // What is in `/v1` and `/v2` stays.
    let body = json!({"texts": ["x"], "input_type": "search_query"});
    assert!(good(&cluster, "/v2/embed", &body)?["embeddings"]["float"][0].is_array());
    cluster.deploy(&with_route("probe", "/ping"), &[])?;
    assert_eq!(good(&cluster, "/ping", &json!({"text": "hello"}))?, json!({"own": "hello"}));
    assert_eq!(ping()?, 405);
    Ok(())
}

#[test]
fn hostile_bodies_get_errors_in_each_form() -> Result<()> {
    let cluster = cluster(&[])?;
    let wide = |before: &str| format!("{before}[{}\"\"]}}", "\"\",".repeat(70_000));
    for (path, field, more) in [
        ("/embed", "error", r#"{"inputs": "#),
        ("/rerank", "error", r#"{"query": "q", "texts": "#),
        ("/rerank", "message", r#"{"query": "q", "documents": "#),
        ("/predict", "error", r#"{"inputs": "#),
        ("/tokenize", "error", r#"{"inputs": "#),
        ("/tokenize", "message", r#"{"prompt": "#),
        ("/tokenize", "message", r#"{"messages": "#),
        ("/decode", "error", r#"{"ids": "#),
        ("/detokenize", "error", r#"{"tokens": "#),
        ("/classify", "error", r#"{"input": "#),
        ("/score", "error", r#"{"text_1": "q", "text_2": "#),
        ("/v1/score", "error", r#"{"text_1": "q", "text_2": "#),
        ("/v2/embed", "message", r#"{"texts": "#),
        ("/v1/embed", "message", r#"{"texts": "#),
    ] {
        let long = format!("{more}{{\"{}\": 1}}}}", "x".repeat(100_000));
        for body in ["{", "[]", "null", &"[".repeat(100_000), &wide(more), &long] {
            let request = cluster.http().post(cluster.url(path)).header("content-type", "application/json");
            let answer = request.body(body.to_owned()).send()?;
            let (status, text) = (answer.status().as_u16(), answer.text()?);
            let shown: String = body.chars().take(60).collect();
            assert!(status == 400 && text.len() < 2000, "{path} {shown}: {status}, {} bytes", text.len());
            let json: Value = serde_json::from_str(&text)?;
            let said = json[field]["message"].as_str().or_else(|| json[field].as_str());
            assert!(said.is_some_and(|text| !text.is_empty()), "{path} {shown}: {json}");
        }
    }
    Ok(())
}
