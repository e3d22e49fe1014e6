//! OpenAI's responses and moderations, and models by aliases: the official client in Python, keys that must not see one another's
//! responses, bodies that no client sends, and a store that does not grow.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, UpOptions, root};
use serde_json::{Value, json};

use crate::clients::{MODELS, python_with};

/// A pipeline that answers chats by the model of `ai`.
const TALK: &str = r#"
name = "talk"
route = "/talk"
[serving]
aliases = ["rag-chat"]
[request]
question = { type = "text", max_length = 100 }
length = { type = "int", default = 4, min = 1, max = 50 }
[stages.written]
use = "ai/writer"
inputs = { prompt = "request.question", max_tokens = "request.length", temperature = "0.0" }
[response]
answer = "written.text"
[chat]
question = "messages[-1].content"
length = "max_tokens"
"#;

/// A classifier: a reranker read as one, whose only label is `LABEL_0`.
const CLASSIFIER: &str = r#"
name = "moods"
[deployments.mood]
task  = "classify"
model = "mini-reranker@production"
serving = { aliases = ["omni-moderation-latest"] }
"#;

fn models() -> String {
    let alias = "[deployments.writer]\nserving = { aliases = [\"gpt-4o-mini\", \"org/Model-1.5\"] }\n";
    MODELS.replace("[deployments.writer]\n", alias)
}

fn cluster(flags: &[&str]) -> Result<Cluster> {
    let cluster = Cluster::up(&UpOptions::new().args(&["--empty"]).args(flags))?;
    cluster.deploy(&models(), &[])?;
    Ok(cluster)
}

fn ask(more: &Value) -> Value {
    let mut body = json!({"model": "gpt-4o-mini", "input": "Once upon a time", "max_output_tokens": 2});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn the_official_client_works_unchanged() -> Result<()> {
    let Some(python) = python_with(&["openai"])? else { return Ok(()) };
    let mut cluster = cluster(&["--response-store", "1MiB"])?;
    cluster.deploy(TALK, &[])?;
    cluster.deploy(CLASSIFIER, &[])?;
    let script = root().join("tests/clients/openai_responses_client.py");
    let run = Command::new(&python).arg(script).arg(cluster.url("")).output()?;
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    ensure!(run.status.success(), "{said}");
    let held = cluster.metrics()?.one("millstream_response_store_bytes", &[]);
    assert!(held.is_some_and(|bytes| bytes > 0.0 && bytes <= 1024.0 * 1024.0), "{held:?}");
    // The streams that were left and stopped have freed their replica.
    let admin = crate::metrics::address(&mut cluster.leader, "admin");
    millstream_tests::eventually("what was left and stopped has ended", || {
        let page = reqwest::blocking::get(format!("http://{admin}/metrics")).ok()?.text().ok()?;
        page.contains("vllm:num_requests_running{model_name=\"ai/writer\"} 0").then_some(())
    });
    Ok(())
}

#[test]
fn without_a_store_what_needs_one_says_how_to_have_it() -> Result<()> {
    let cluster = cluster(&[])?;
    let (status, answer) = cluster.post("/v1/responses", &ask(&json!({})))?;
    assert_eq!((status, &answer["store"]), (200, &json!(false)), "{answer}");
    for (more, param) in [
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"store": true}), "store"),
        (json!({"background": true}), "background"),
    ] {
        let (status, answer) = cluster.post("/v1/responses", &ask(&more))?;
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{more}: {answer}");
        let text = answer["error"]["message"].as_str().context("a text")?;
        assert!(text.contains("--response-store"), "{text}");
    }
    let id = answer["id"].as_str().context("an id")?;
    let kept = cluster.http().get(cluster.url(&format!("/v1/responses/{id}"))).send()?;
    assert_eq!(kept.status().as_u16(), 404);
    assert!(kept.text()?.contains("--response-store"));
    Ok(())
}

#[test]
fn bodies_that_no_client_sends_are_refused_in_the_apis_form() -> Result<()> {
    let cluster = cluster(&["--response-store", "1MiB"])?;
    cluster.deploy(CLASSIFIER, &[])?;
    let deep = "[".repeat(100_000);
    let wide = format!(r#"{{"model":"gpt-4o-mini","input":[{}{{}}]}}"#, "{},".repeat(70_000));
    let items = format!(r#"{{"input":[{}1]}}"#, "\"a\",".repeat(70_000));
    let bodies: Vec<Vec<u8>> = vec![
        deep.clone().into_bytes(),
        format!(r#"{{"model":"gpt-4o-mini","input":{deep}"#).into_bytes(),
        wide.into_bytes(),
        items.into_bytes(),
        b"\xff\xfe".to_vec(),
        b"{\"model\":\"gpt-4o-mini\",\"input\":\"\xff\"}".to_vec(),
        b"{}".to_vec(),
        b"[]".to_vec(),
        br#"{"model":"gpt-4o-mini","input":[{"type":"function_call_output","call_id":"x","output":"y"}]}"#
            .to_vec(),
        br#"{"model":"gpt-4o-mini","input":[{"role":"king","content":"y"}]}"#.to_vec(),
        br#"{"model":"gpt-4o-mini","input":"x","max_output_tokens":-1}"#.to_vec(),
        br#"{"model":"gpt-4o-mini","input":"x","metadata":{"a":1}}"#.to_vec(),
        br#"{"model":1,"input":{"a":{"b":1}}}"#.to_vec(),
    ];
    for path in ["/v1/responses", "/v1/responses/input_tokens", "/v1/moderations"] {
        for body in &bodies {
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            let request = cluster.http().post(cluster.url(path)).header("content-type", "application/json");
            let answer = request.body(body.clone()).send()?;
            assert_eq!(answer.status().as_u16() / 100, 4, "{path} {shown}");
            let answer: Value = answer.json()?;
            assert!(answer["error"]["message"].is_string(), "{path} {shown}: {answer}");
        }
    }
    // Paths and queries as well.
    let (_, made) = cluster.post("/v1/responses", &ask(&json!({})))?;
    let id = made["id"].as_str().context("an id")?;
    let of = |rest: &str| cluster.url(&format!("/v1/responses/{id}{rest}"));
    for (method, url, status) in [
        ("GET", of("/input_items?limit=0"), 400),
        ("GET", of("/input_items?limit=x&order=asc"), 400),
        ("GET", of("/input_items?order=up"), 400),
        ("GET", of("/input_items?after=nobody"), 400),
        ("GET", of("?stream=true"), 400),
        ("POST", of(""), 405),
        ("GET", of("/cancel"), 405),
        ("POST", of("/cancel"), 400),
        ("GET", of("/nothing"), 404),
        ("GET", cluster.url("/v1/responses"), 405),
        ("GET", cluster.url("/v1/responses/..%2f"), 404),
        ("GET", cluster.url(&format!("/v1/responses/resp_{}", "x".repeat(5000))), 404),
        ("POST", cluster.url("/v1/responses/compact"), 404),
    ] {
        let answer = cluster.http().request(method.parse()?, &url).send()?;
        assert_eq!(answer.status().as_u16(), status, "{method} {}", &url[..url.len().min(120)]);
        let answer: Value = answer.json()?;
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    Ok(())
}

/// A cluster that requires keys, and two of them.
fn with_keys(flags: &[&str]) -> Result<(Cluster, [String; 2])> {
    let flags: Vec<&str> = flags.iter().copied().chain(["--require-api-key"]).collect();
    let cluster = cluster(&flags)?;
    let key = |name: &str| -> Result<String> {
        Ok(String::from_utf8(cluster.command(&["key", "create", name]).stdout)?.trim().to_owned())
    };
    let keys = [key("one")?, key("two")?];
    Ok((cluster, keys))
}

#[test]
fn one_key_never_sees_the_responses_of_another() -> Result<()> {
    let (cluster, [one, two]) = with_keys(&["--response-store", "1MiB"])?;
    let post = |key: &str, body: &Value| -> Result<(u16, Value)> {
        let request = cluster.http().post(cluster.url("/v1/responses")).bearer_auth(key).json(body);
        let answer = request.send()?;
        Ok((answer.status().as_u16(), answer.json()?))
    };
    millstream_tests::eventually("the keys are known", || {
        (post(&two, &ask(&json!({}))).ok()?.0 == 200).then_some(())
    });
    let (status, made) = post(&one, &ask(&json!({})))?;
    assert_eq!(status, 200, "{made}");
    let id = made["id"].as_str().context("an id")?.to_owned();
    let call = |key: &str, method: &str, rest: &str| -> Result<u16> {
        let url = cluster.url(&format!("/v1/responses/{id}{rest}"));
        Ok(cluster.http().request(method.parse()?, url).bearer_auth(key).send()?.status().as_u16())
    };
    for (method, rest) in [("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")] {
        assert_eq!(call(&two, method, rest)?, 404, "{method} {rest}");
    }
    let (status, refused) = post(&two, &ask(&json!({"previous_response_id": id})))?;
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("previous_response_id")), "{refused}");
    assert_eq!(call("mk_wrong", "GET", "")?, 401);
    let (status, _) = post(&one, &ask(&json!({"previous_response_id": id})))?;
    assert_eq!((status, call(&one, "GET", "")?, call(&one, "DELETE", "")?), (200, 200, 200));
    Ok(())
}

#[test]
fn the_store_forgets_the_oldest_and_does_not_grow() -> Result<()> {
    let cluster = cluster(&["--response-store", "256KiB"])?;
    let mut ids = Vec::new();
    for number in 0..300 {
        let mut metadata = json!({"n": number.to_string()});
        (0..8).for_each(|pair| metadata[format!("k{pair}")] = "v".repeat(500).into());
        let body = ask(&json!({"max_output_tokens": 1, "metadata": metadata}));
        let (status, made) = cluster.post("/v1/responses", &body)?;
        ensure!(status == 200 && made["store"] == true, "{made}");
        ids.push(made["id"].as_str().context("an id")?.to_owned());
    }
    let status = |id: &str| -> Result<u16> {
        Ok(cluster.http().get(cluster.url(&format!("/v1/responses/{id}"))).send()?.status().as_u16())
    };
    let kept = ids.iter().map(|id| status(id)).collect::<Result<Vec<_>>>()?;
    let num_kept = kept.iter().filter(|status| **status == 200).count();
    assert!((20..70).contains(&num_kept), "{num_kept} of 256 KiB in pieces of 5 KiB");
    assert!(kept[..200].iter().all(|status| *status == 404) && kept[299] == 200);
    // One that would take a quarter of the store is answered, and not kept.
    let (status_of_large, large) =
        cluster.post("/v1/responses", &ask(&json!({"user": "x".repeat(100_000)})))?;
    assert_eq!((status_of_large, &large["store"]), (200, &json!(false)));
    assert_eq!(status(&ids[299])?, 200, "it has pushed nothing out");
    Ok(())
}

#[test]
fn aliases_name_one_thing_each() -> Result<()> {
    let cluster = cluster(&[])?;
    cluster.deploy(TALK, &[])?;
    for model in ["gpt-4o-mini", "org/Model-1.5", "rag-chat"] {
        let body = json!({"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]});
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let (status, answer) = cluster.post(path, &body)?;
            assert_eq!((status, &answer["model"]), (200, &json!(model)), "{path} {answer}");
        }
        let encoded = model.replace('/', "%2F");
        for path in [format!("/v1/models/{encoded}"), format!("/v2/models/{encoded}")] {
            assert_eq!(cluster.http().get(cluster.url(&path)).send()?.status().as_u16(), 200, "{path}");
        }
    }
    // Requests that name no model still find the only one of its kind: aliases are not others.
    let (status, answer) = cluster.post("/v1/rerank", &json!({"query": "a", "documents": ["b"]}))?;
    assert_eq!(status, 200, "{answer}");
    let echo = |name: &str, alias: &str| {
        format!(
            "name = \"{name}\"\n[deployments.d]\nengine = \"echo\"\nserving = {{ aliases = [\"{alias}\"] }}\n"
        )
    };
    for (file, said) in [
        (echo("other", "gpt-4o-mini"), "taken by deployment `ai/writer`"),
        (echo("other", "rag-chat"), "taken by pipeline `talk`"),
        (echo("other", "ai/writer"), "is the name of"),
        (echo("rag-chat", "mine"), "is an alias of pipeline `talk`"),
    ] {
        let refusal = cluster.deploy(&file, &[]).expect_err("it is taken").to_string();
        assert!(refusal.contains(said), "{refusal}");
    }
    Ok(())
}
