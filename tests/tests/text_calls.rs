//! What calls to text models may ask for beside their texts: how those that are too long are cut, prompts, all labels, tokens; and
//! models that take texts as tensors.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, root};
use serde_json::{Value, json};

use crate::clients::{cluster, python_with};

fn good(cluster: &Cluster, path: &str, body: &Value) -> Result<Value> {
    let (status, answer) = cluster.post(path, body)?;
    ensure!(status == 200, "{path} {body}: {status} {answer}");
    Ok(answer)
}

/// What an API says of a body that it refuses with 400.
fn refused(cluster: &Cluster, path: &str, body: &Value) -> Result<String> {
    let (status, answer) = cluster.post(path, body)?;
    ensure!(status == 400, "{path} {body}: {status} {answer}");
    let said = [&answer["error"]["message"], &answer["message"], &answer["error"]];
    let said = said.into_iter().find_map(Value::as_str).context("the API's own form of an error")?;
    Ok(said.to_owned())
}

#[test]
fn texts_that_are_too_long_are_cut_or_refused_as_each_api_says() -> Result<()> {
    let cluster = cluster(&[])?;
    let limit = good(&cluster, "/tokenize", &json!({"model": "ai/embedder", "prompt": "x"}))?;
    let limit = limit["max_model_len"].as_u64().context("a limit")?;
    let long = format!("Cats purr. {} Bread needs flour.", "salt ".repeat(2000));
    let vector = |path: &str, body: Value| -> Result<Value> {
        let answer = good(&cluster, path, &body)?;
        let places = ["/0", "/data/0/embedding", "/embeddings/float/0"];
        places.iter().find_map(|place| answer.pointer(place)).cloned().context("a vector")
    };
    let openai = |more: Value| -> Result<Value> {
        let mut body = json!({"model": "ai/embedder", "input": long});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        vector("/v1/embeddings", body)
    };
    // The end is cut by Cohere's and Voyage's rule, and the beginning by vLLM's.
    let end = vector("/embed", json!({"inputs": long, "truncate": true}))?;
    let start = vector("/embed", json!({"inputs": long, "truncate": true, "truncation_direction": "Left"}))?;
    assert_ne!(end, start);
    assert_eq!(vector("/embed", json!({"inputs": long}))?, end);
    assert_eq!(vector("/v2/embed", json!({"texts": [long], "input_type": "search_query"}))?, end);
    assert_eq!(vector("/v2/embed", json!({"texts": [long], "truncate": "START"}))?, start);
    assert_eq!(openai(json!({"truncation": true}))?, end);
    assert_eq!(openai(json!({"truncate_prompt_tokens": -1}))?, start);
    assert_ne!(openai(json!({"truncate_prompt_tokens": 5}))?, start);

    let (query, short) = ("What needs flour?", "Bread needs flour.");
    for (path, body) in [
        ("/embed", json!({"inputs": ["x", long], "truncate": false})),
        ("/v2/embed", json!({"texts": ["x", long], "truncate": "NONE"})),
        ("/v1/embeddings", json!({"model": "ai/embedder", "input": ["x", long]})),
        ("/v1/embeddings", json!({"model": "ai/embedder", "input": ["x", long], "truncation": false})),
        ("/rerank", json!({"query": query, "texts": ["x", long], "truncate": false})),
        ("/v1/rerank", json!({"query": query, "documents": ["x", long], "top_k": 1, "truncation": false})),
        ("/score", json!({"text_1": query, "text_2": ["x", long]})),
    ] {
        let said = refused(&cluster, path, &body)?;
        let place = if body["query"].is_null() && body["text_1"].is_null() { "texts" } else { "documents" };
        assert!(said.contains(&format!("`{place}[1]` has ")) && said.contains(" more than the "), "{said}");
    }
    let said =
        refused(&cluster, "/v2/embed", &json!({"texts": [long], "truncate": "NONE", "max_tokens": 7}))?;
    assert!(said.contains("more than the 7 that are read"), "{said}");
    let said = refused(&cluster, "/v2/embed", &json!({"texts": [long], "truncate": "NONE"}))?;
    assert!(said.contains(&format!("more than the {limit} that are read")), "{said}");
    for (path, body) in [
        ("/rerank", json!({"query": query, "texts": [short, long]})),
        ("/v2/rerank", json!({"query": query, "documents": [short, long]})),
        ("/v1/rerank", json!({"query": query, "documents": [short, long], "top_k": 2, "truncation": true})),
        ("/score", json!({"text_1": query, "text_2": [short, long], "truncate_prompt_tokens": -1})),
        ("/score", json!({"text_1": query, "text_2": [short], "truncate_prompt_tokens": 9})),
    ] {
        good(&cluster, path, &body)?;
    }
    // A stage asks for it too.
    let (status, answer) = cluster.post("/ai/", &json!({"prompt": long}))?;
    assert_eq!(status, 422, "the generator's context is too short: {answer}");
    Ok(())
}

const PROMPTED: &str = r#"
name = "prompted"
route = "/prompted"
[request]
question = "text"
[deployments.embedder]
task    = "embed"
model   = "mini-embedder"
prompts = { query = "query: ", document = "passage: " }
[stages.vectors]
use = "embedder"
inputs = { texts = "[request.question]", prompt_name = "'query'", truncate = "'none'" }
[response]
vectors = "vectors"
"#;

#[test]
fn an_embedder_has_prompts_for_queries_and_documents() -> Result<()> {
    let cluster = cluster(&[])?;
    cluster.deploy(PROMPTED, &[])?;
    let embed = |body: Value| good(&cluster, "/embed", &body);
    let plain = |text: &str| embed(json!({"model": "ai/embedder", "inputs": text}));
    let (query, document) = (plain("query: bread")?, plain("passage: bread")?);
    assert_ne!(query, document);
    let model = "prompted/embedder";
    assert_eq!(embed(json!({"model": model, "inputs": "bread", "prompt_name": "query"}))?, query);
    assert_eq!(embed(json!({"model": model, "inputs": "bread"}))?, plain("bread")?);
    assert_eq!(good(&cluster, "/prompted", &json!({"question": "bread"}))?["vectors"], query);
    for (kind, expected) in
        [("search_query", &query), ("search_document", &document), ("clustering", &plain("bread")?)]
    {
        let answer =
            good(&cluster, "/v2/embed", &json!({"model": model, "texts": ["bread"], "input_type": kind}))?;
        assert_eq!(&answer["embeddings"]["float"], expected, "{kind}");
    }
    for (kind, expected) in [("query", &query), ("document", &document), ("passage", &document)] {
        let body = json!({"model": model, "input": "bread", "input_type": kind});
        assert_eq!(good(&cluster, "/v1/embeddings", &body)?["data"][0]["embedding"], expected[0], "{kind}");
    }
    // A model without prompts takes texts of any kind, and no name.
    good(
        &cluster,
        "/v2/embed",
        &json!({"model": "ai/embedder", "texts": ["x"], "input_type": "search_query"}),
    )?;
    let body = |model: &str| json!({"model": model, "inputs": "x", "prompt_name": "story"});
    let said = refused(&cluster, "/embed", &body(model))?;
    assert!(said.contains("the model has no such prompt; it has `document`, `query`"), "{said}");
    let said = refused(&cluster, "/embed", &body("ai/embedder"))?;
    assert!(said.contains("the model has no prompts"), "{said}");
    Ok(())
}

/// The bundled reranker with three labels: its score, nothing, and its score the other way round.
fn write_classifier(dir: &Path) -> Result<()> {
    let source = root().join("pipelines/models/mini-reranker");
    fs::create_dir_all(dir)?;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(source.join(name), dir.join(name))?;
    }
    let mut config: Value = serde_json::from_slice(&fs::read(source.join("config.json"))?)?;
    config["id2label"] = json!({"0": "useful", "1": "neither", "2": "useless"});
    config["num_labels"] = json!(3);
    fs::write(dir.join("config.json"), config.to_string())?;
    let file = fs::read(source.join("model.safetensors"))?;
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into()?))?;
    let mut header: Value = serde_json::from_slice(&file[8..8 + length])?;
    let data = &file[8 + length..];
    // The head comes last, in half precision.
    let offset = |name: &str, end: usize| {
        header[name]["data_offsets"][end].as_u64().and_then(|at| usize::try_from(at).ok())
    };
    let bias_start = offset("classifier.bias", 0).context("a bias")?;
    let weight_start = offset("classifier.weight", 0).context("a weight")?;
    let weights = data[weight_start..].to_vec();
    let negative = weights.chunks(2).flat_map(|half| [half[0], half[1] ^ 0x80]);
    let head: Vec<u8> = weights.iter().copied().chain(vec![0; weights.len()]).chain(negative).collect();
    let bias_end = bias_start + 6;
    header["classifier.bias"] = json!({"dtype": "F16", "shape": [3], "data_offsets": [bias_start, bias_end]});
    header["classifier.weight"] = json!({
        "dtype": "F16", "shape": [3, weights.len() / 2], "data_offsets": [bias_end, bias_end + head.len()],
    });
    let header = header.to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.bytes());
    out.extend(&data[..bias_start]);
    out.extend([0; 6]);
    out.extend(head);
    fs::write(dir.join("model.safetensors"), out)?;
    Ok(())
}

#[test]
fn a_classifier_tells_all_labels_to_those_who_ask() -> Result<()> {
    let cluster = cluster(&[])?;
    let dir = tempfile::tempdir()?;
    write_classifier(&dir.path().join("judge"))?;
    let file = format!(
        r#"name = "judge"
route = "/judge"
[request]
texts = "text[]"
[deployments.judge]
task  = "classify"
model = "file:{}/judge"
[stages.best]
use = "judge"
inputs = {{ texts = "request.texts" }}
[stages.two]
use = "judge"
inputs = {{ texts = "request.texts", top_k = 2 }}
[response]
best = "best"
two = "two"
"#,
        dir.path().display()
    );
    cluster.deploy(&file, &[])?;
    let texts = ["Bread needs flour.", "Cats purr."];
    let own = good(&cluster, "/judge", &json!({"texts": texts}))?;
    assert_eq!(own["best"]["labels"].as_array().map(Vec::len), Some(2), "{own}");
    assert_eq!(own["two"]["labels"][1][0], own["best"]["labels"][1], "{own}");
    assert_eq!(own["two"]["scores"][0].as_array().map(Vec::len), Some(2), "{own}");

    let predicted = good(&cluster, "/predict", &json!({"inputs": [[texts[0]], [texts[1]]]}))?;
    let classified = good(&cluster, "/classify", &json!({"model": "judge/judge", "input": texts}))?;
    assert!(classified["usage"]["total_tokens"].as_u64() > Some(4), "{classified}");
    for at in 0..2 {
        let row = predicted[at].as_array().context("labels")?;
        assert_eq!(row.len(), 3, "{predicted}");
        let scores: Vec<f64> = row.iter().filter_map(|label| label["score"].as_f64()).collect();
        assert!(
            scores.is_sorted_by(|a, b| a >= b) && (scores.iter().sum::<f64>() - 1.0).abs() < 1e-5,
            "{row:?}"
        );
        assert_eq!(row[0]["label"], own["best"]["labels"][at]);
        let data = &classified["data"][at];
        assert_eq!((&data["label"], &data["num_classes"]), (&row[0]["label"], &json!(3)));
        for (place, name) in ["useful", "neither", "useless"].iter().enumerate() {
            let label = row.iter().find(|label| label["label"] == *name).context("a label")?;
            assert_eq!(data["probs"][place], label["score"], "{data}");
        }
    }
    let one = good(&cluster, "/predict", &json!({"inputs": texts[0]}))?;
    assert_eq!(one.as_array().map(Vec::len), Some(3), "{one}");
    let long = "salt ".repeat(2000);
    assert!(refused(&cluster, "/classify", &json!({"input": long}))?.contains("`texts[0]` has "));
    good(&cluster, "/classify", &json!({"input": long, "truncate_prompt_tokens": -1}))?;
    good(&cluster, "/predict", &json!({"inputs": long}))?;
    assert!(
        refused(&cluster, "/predict", &json!({"inputs": long, "truncate": false}))?.contains("`texts[0]`")
    );
    assert!(
        refused(&cluster, "/classify", &json!({"model": "ai/embedder", "input": "x"}))?.contains("classify")
    );
    Ok(())
}

#[test]
fn texts_become_tokens_and_texts_again() -> Result<()> {
    let cluster = cluster(&[])?;
    for model in ["ai/embedder", "ai/reranker", "ai/writer"] {
        let body = json!({"model": model, "prompt": "Bread needs flour.", "return_token_strs": true});
        let told = good(&cluster, "/tokenize", &body)?;
        let count = told["count"].as_u64().context("a count")?;
        assert!(count > 3 && told["max_model_len"].as_u64() > Some(count), "{told}");
        assert_eq!(told["tokens"].as_array().map(|it| it.len() as u64), Some(count), "{told}");
        assert_eq!(told["token_strs"].as_array().map(|it| it.len() as u64), Some(count), "{told}");
        let text = good(&cluster, "/detokenize", &json!({"model": model, "tokens": told["tokens"]}))?;
        let text = text["prompt"].as_str().context("a text")?.to_lowercase();
        assert!(text.contains("bread needs flour"), "{model}: {text}");

        let inputs = ["Bread needs flour.", "é!"];
        let told = good(&cluster, "/tokenize", &json!({"model": model, "inputs": inputs}))?;
        for (row, input) in told.as_array().context("lists")?.iter().zip(inputs) {
            for token in row.as_array().context("a list")? {
                let (start, stop) = (token["start"].as_u64(), token["stop"].as_u64());
                assert_eq!(start.is_none(), token["special"] == true, "{token}");
                if let (Some(start), Some(stop)) = (start, stop) {
                    let span = usize::try_from(start)?..usize::try_from(stop)?;
                    assert_eq!(input.get(span), token["text"].as_str(), "{token}");
                }
            }
        }
        let ids: Vec<_> = told[0].as_array().unwrap().iter().map(|token| token["id"].clone()).collect();
        let texts = good(&cluster, "/decode", &json!({"model": model, "ids": [ids, ids]}))?;
        assert_eq!((texts.as_array().map(Vec::len), &texts[0]), (Some(2), &texts[1]));
        assert!(!texts[0].as_str().context("a text")?.contains("[CLS]"), "{texts}");
    }
    let count = |are_added: bool| -> Result<Option<u64>> {
        let body = json!({"model": "ai/embedder", "prompt": "flour", "add_special_tokens": are_added});
        Ok(good(&cluster, "/tokenize", &body)?["count"].as_u64())
    };
    assert_eq!(count(true)?, count(false)?.map(|count| count + 2));
    let said = json!([{"role": "user", "content": "hi"}]);
    let chat = good(&cluster, "/tokenize", &json!({"model": "ai/writer", "messages": said}))?;
    assert!(chat["count"].as_u64() > Some(1) && chat["token_strs"].is_null(), "{chat}");

    for (path, body, reason) in [
        ("/tokenize", json!({"prompt": "x"}), "`ai/embedder`, `ai/reranker`, `ai/writer`"),
        ("/tokenize", json!({"model": "ai", "prompt": "x"}), "is a pipeline"),
        ("/tokenize", json!({"model": "ai/embedder", "messages": said}), "no chat template"),
        ("/tokenize", json!({"model": "ai/embedder", "inputs": "x", "prompt_name": "q"}), "no prompts"),
        ("/tokenize", json!({"model": "ai/writer", "inputs": "a".repeat(300_000)}), "at most 262144"),
        ("/detokenize", json!({"model": "ai/writer", "tokens": [-1]}), "`tokens"),
        ("/detokenize", json!({"model": "ai/writer", "tokens": vec![1; 70_000]}), "more than 65536"),
        ("/decode", json!({"model": "ai/writer", "ids": "x"}), "`ids`"),
        ("/detokenize", json!({"tokens": [1]}), "`model`: is missing"),
    ] {
        let found = refused(&cluster, path, &body)?;
        assert!(found.contains(reason), "{path}: {found}");
    }
    // Ids that no token has are none.
    let none = good(&cluster, "/detokenize", &json!({"model": "ai/writer", "tokens": [4_000_000_000_u32]}))?;
    assert_eq!(none["prompt"], "");
    // These calls have no place in a pipeline's own requests.
    assert_eq!(cluster.post("/ai", &json!({"tokenize": {"texts": ["x"]}}))?.0, 422);
    Ok(())
}

#[test]
fn models_take_texts_as_tensors() -> Result<()> {
    let models = std::env::var("MILLSTREAM_TEST_MODELS")
        .unwrap_or_else(|_| root().join("target/test-models").display().to_string());
    let library = format!("{models}/lib");
    if !Path::new(&library).is_dir() {
        ensure!(std::env::var_os("CI").is_none(), "ONNX Runtime is missing: run tests/setup");
        eprintln!("skipped: ONNX Runtime is not installed; tests/setup installs it");
        return Ok(());
    }
    let cluster = cluster(&["--onnxruntime", &library])?;
    let model = root().join("worker/engines/onnx/tests/data/texts.onnx");
    let file = |request: &str| {
        format!(
            r#"name = "words"
route = "/words"
[request]
words = "{request}"
pairs = "text[][]"
[deployments.texts]
task  = "tensor"
model = "file:{}"
[stages.told]
use = "texts"
inputs = {{ words = "request.words", pairs = "request.pairs" }}
[response]
kind = "told.kind"
known = "told.known"
same = "told.same"
"#,
            model.display()
        )
    };
    let failed = cluster.try_deploy(&file("float[]"), &[]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("`inputs.words`: expected `text[]`, found `float[]`"), "{said}");
    cluster.deploy(&file("text[]"), &[])?;
    let body = json!({"words": ["Bread", "ü", ""], "pairs": [["a", "b"], ["c", "d"], ["é", ""]]});
    let answer = good(&cluster, "/words", &body)?;
    assert_eq!(answer["kind"], json!(["food", "", ""]));
    assert_eq!(answer["known"], json!([1, -1, -1]));
    assert_eq!(answer["same"], body["pairs"]);
    let (status, answer) = cluster.post("/words", &json!({"words": ["a\u{0}b"], "pairs": [["a"]]}))?;
    let detail = answer["detail"].as_str().unwrap_or_default();
    assert!(status == 422 && detail.contains("NUL") && detail.contains("`text[1,1]`"), "{answer}");
    let Some(python) = python_with(&["tritonclient.http.aio"])? else { return Ok(()) };
    let script = root().join("tests/clients/triton_texts.py");
    let run = Command::new(&python).arg(script).arg(cluster.url("")).output()?;
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    ensure!(run.status.success(), "{said}");
    Ok(())
}
