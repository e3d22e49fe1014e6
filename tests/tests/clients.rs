//! Public APIs at the ingress: official clients, frameworks that call them, and bodies that they never send.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, UpOptions, root};
use serde_json::{Value, json};

/// A generator, an embedder, a reranker, and a pipeline around two of them.
pub(crate) const MODELS: &str = r#"
name = "ai"
route = "/ai"
[request]
prompt = "text"
[deployments.writer]
task  = "generate"
model = "mini-generator"
[deployments.embedder]
task  = "embed"
model = "mini-embedder@production"
[deployments.reranker]
task  = "rerank"
model = "mini-reranker@production"
[stages.answer]
use = "writer"
inputs = { prompt = "request.prompt", max_tokens = "8", temperature = "0.0" }
[stages.vectors]
use = "embedder"
inputs = { texts = "[request.prompt]" }
[response]
text = "answer.text"
vectors = "vectors"
"#;

/// Tensors of any shape: a deployment that answers what it gets, alone and behind a pipeline with types.
const SHAPES: &str = r#"
name = "shapes"
route = "/shapes"
max_body = "16MiB"
[request]
rows = "f32[?,300]"
count = { type = "int", default = 1 }
[deployments.mirror]
engine = "echo"
[stages.same]
use = "mirror"
inputs = { rows = "request.rows", count = "request.count" }
[response]
rows = "same.rows"
count = "same.count"
"#;

pub(crate) fn cluster(flags: &[&str]) -> Result<Cluster> {
    let cluster = Cluster::up(&UpOptions::new().args(&["--empty"]).args(flags))?;
    cluster.deploy(MODELS, &[])?;
    Ok(cluster)
}

/// What the API says of a body that it does not take: status, type, param and code.
fn refusal(cluster: &Cluster, path: &str, body: &Value) -> Result<(u16, String, String)> {
    let (status, answer) = cluster.post(path, body)?;
    let error = &answer["error"];
    ensure!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    Ok((
        status,
        error["type"].as_str().context("a type")?.to_owned(),
        error["param"].as_str().unwrap_or_default().to_owned(),
    ))
}

#[test]
fn what_cannot_be_done_is_refused_in_the_apis_own_form() -> Result<()> {
    let cluster = cluster(&[])?;
    let said = json!([{"role": "user", "content": "hi"}]);
    let chat = |more: Value| {
        let mut body = json!({"model": "ai/writer", "messages": said, "max_tokens": 3});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    let table = [
        ("/v1/chat/completions", chat(json!({"model": "nobody"})), 404, ""),
        ("/v1/chat/completions", chat(json!({"model": "ai/embedder"})), 400, "model"),
        ("/v1/chat/completions", chat(json!({"model": "ai"})), 400, "model"),
        ("/v1/chat/completions", chat(json!({"messages": []})), 400, "messages"),
        (
            "/v1/chat/completions",
            chat(json!({"messages": [{"role": "king", "content": "x"}]})),
            400,
            "messages[0].role",
        ),
        (
            "/v1/chat/completions",
            chat(json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})),
            400,
            "messages[0].content[0].type",
        ),
        (
            "/v1/chat/completions",
            chat(json!({"messages": [{"role": "user", "content": 1}]})),
            400,
            "messages[0].content",
        ),
        ("/v1/chat/completions", chat(json!({"temperature": "hot"})), 400, "temperature"),
        ("/v1/chat/completions", chat(json!({"stop": ["a", "b", "c", "d", "e"]})), 400, "stop"),
        ("/v1/chat/completions", chat(json!({"n": 2})), 400, "n"),
        ("/v1/chat/completions", chat(json!({"logprobs": true})), 400, "logprobs"),
        (
            "/v1/chat/completions",
            chat(json!({"response_format": {"type": "json_object"}})),
            400,
            "response_format",
        ),
        ("/v1/chat/completions", chat(tools), 400, "tools"),
        ("/v1/chat/completions", json!({"messages": said}), 400, ""),
        ("/v1/completions", json!({"model": "ai/writer", "prompt": ["a", "b"]}), 400, "prompt"),
        ("/v1/completions", json!({"model": "ai/writer", "prompt": [1, 2]}), 400, "prompt[0]"),
        ("/v1/completions", json!({"model": "ai/writer", "prompt": "x", "suffix": "y"}), 400, "suffix"),
        ("/v1/embeddings", json!({"model": "ai/writer", "input": "x"}), 400, "model"),
        ("/v1/embeddings", json!({"model": "ai/embedder", "input": []}), 400, "input"),
        (
            "/v1/embeddings",
            json!({"model": "ai/embedder", "input": "x", "encoding_format": "hex"}),
            400,
            "encoding_format",
        ),
        (
            "/v1/embeddings",
            json!({"model": "ai/embedder", "input": "x", "dimensions": 100_000}),
            400,
            "dimensions",
        ),
        ("/v1/batches", json!({}), 404, ""),
    ];
    for (path, body, status, param) in table {
        let (found, kind, found_param) = refusal(&cluster, path, &body).with_context(|| body.to_string())?;
        assert_eq!((found, &*found_param), (status, param), "{path} {body}");
        assert_eq!(kind, "invalid_request_error");
    }
    // What asks for nothing is taken, and what nobody knows is ignored.
    let neutral = json!({
        "n": 1, "logprobs": false, "tools": [], "stop": null, "response_format": {"type": "text"},
        "user": "somebody", "presence_penalty": 0, "whatever": {"deep": [1]},
    });
    let (status, answer) = cluster.post("/v1/chat/completions", &chat(neutral))?;
    assert_eq!(status, 200, "{answer}");
    Ok(())
}

/// A pipeline that answers chats: the model of `ai` writes, an echo beside it gives back what it was asked.
const TALK: &str = r#"
name = "talk"
route = "/talk"
[request]
question = { type = "text", max_length = 100 }
history = [{ role = "text", content = "text" }]
length = { type = "int", default = 4, min = 1, max = 50 }
[deployments.echo]
engine = "echo"
[stages.said]
use = "echo"
inputs = { text = "request.question", before = "request.history|length" }
[stages.written]
use = "ai/writer"
inputs = { prompt = "request.question", max_tokens = "request.length", temperature = "0.0" }
[response]
answer = "written.text"
question = "said.text"
before = "said.before"
[chat]
question = "messages[-1].content"
history = "messages[:-1]"
length = "max_tokens"
"#;

#[test]
fn a_pipeline_answers_chats_by_its_own_table() -> Result<()> {
    let cluster = cluster(&[])?;
    cluster.deploy(TALK, &[])?;
    let models: Value = cluster.http().get(cluster.url("/v1/models")).send()?.json()?;
    let ids: Vec<_> =
        models["data"].as_array().context("a list")?.iter().map(|it| it["id"].clone()).collect();
    assert!(ids.contains(&json!("talk")) && !ids.contains(&json!("ai")), "{models}");

    let own = json!({"question": "Once upon a time", "history": [], "length": 6});
    let (status, direct) = cluster.post("/talk", &own)?;
    assert_eq!(status, 200, "{direct}");
    let ask = |more: Value| -> Result<(u16, Value)> {
        let messages = json!([{"role": "user", "content": "Once upon a time"}]);
        let mut body = json!({"model": "talk", "messages": messages, "max_tokens": 6});
        body.as_object_mut().context("an object")?.extend(more.as_object().context("an object")?.clone());
        cluster.post("/v1/chat/completions", &body)
    };
    let (status, whole) = ask(json!({}))?;
    assert_eq!(status, 200, "{whole}");
    assert_eq!(whole["choices"][0]["message"]["content"], direct["answer"], "{whole}");
    assert_eq!(whole["usage"]["completion_tokens"], json!(6));
    // Another client's API, and parts as they are made.
    let body = json!({"model": "talk", "max_tokens": 6, "messages": [{"role": "user", "content": "Once upon a time"}]});
    let (status, message) = cluster.post("/v1/messages", &body)?;
    assert_eq!((status, &message["content"][0]["text"]), (200, &direct["answer"]), "{message}");
    let stream = json!({"model": "talk", "stream": true, "max_tokens": 6, "messages": body["messages"]});
    let events = cluster.http().post(cluster.url("/v1/chat/completions")).json(&stream).send()?.text()?;
    let chunks = events.lines().filter_map(|line| line.strip_prefix("data: {"));
    let chunks: Vec<Value> =
        chunks.map(|json| serde_json::from_str(&format!("{{{json}"))).collect::<Result<_, _>>()?;
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(json!(text), direct["answer"], "{events}");
    assert!(chunks.len() > 4, "it comes in parts: {events}");

    for (more, status, param) in [
        (json!({"temperature": 0.5}), 400, "temperature"),
        (json!({"max_tokens": 51}), 400, "max_tokens"),
        (json!({"messages": [{"role": "user", "content": "x".repeat(200)}]}), 400, "messages"),
    ] {
        let (found, answer) = ask(more.clone())?;
        assert_eq!((found, &answer["error"]["param"]), (status, &json!(param)), "{more}: {answer}");
    }
    Ok(())
}

#[test]
fn a_text_that_is_not_made_in_parts_is_told_at_the_end_of_a_stream() -> Result<()> {
    let cluster = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    let echo = "name = \"e\"\nroute = \"/e\"\n[request]\nq = \"text\"\n[deployments.d]\nengine = \"echo\"\n[stages.s]\nuse = \"d\"\n\
                inputs = { text = \"request.q\" }\n[response]\nanswer = \"s.text|upper\"\n[chat]\nq = \"messages[-1].content\"\n";
    cluster.deploy(echo, &[])?;
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let body = json!({"model": "e", "stream": true, "max_tokens": 5, "messages": [{"role": "user", "content": "hi there"}]});
        let body = if path.ends_with("messages") { body } else { without(body, "max_tokens") };
        let events = cluster.http().post(cluster.url(path)).json(&body).send()?.text()?;
        assert_eq!(events.matches("HI THERE").count(), 1, "{events}");
    }
    Ok(())
}

fn without(mut body: Value, field: &str) -> Value {
    body.as_object_mut().map(|body| body.remove(field));
    body
}

#[test]
fn rerank_speaks_to_clients_of_cohere_jina_and_voyage() -> Result<()> {
    let cluster = cluster(&[])?;
    let documents = json!(["Cats purr.", "Bread needs flour.", {"text": "Flour is milled."}]);
    let ask = |path: &str, more: Value| -> Result<(u16, Value)> {
        let mut body = json!({"query": "What needs flour?", "documents": documents});
        body.as_object_mut().context("an object")?.extend(more.as_object().context("an object")?.clone());
        cluster.post(path, &body)
    };
    // The only deployment that reranks need not be named.
    let (status, all) = ask("/v2/rerank", json!({}))?;
    assert_eq!(status, 200, "{all}");
    let scores: Vec<_> = all["results"]
        .as_array()
        .context("results")?
        .iter()
        .map(|it| it["relevance_score"].as_f64())
        .collect();
    assert!(scores.len() == 3 && scores.is_sorted_by(|a, b| a >= b), "{all}");
    let (status, jina) =
        ask("/v1/rerank", json!({"model": "ai/reranker", "top_n": 1, "return_documents": true}))?;
    assert_eq!(status, 200, "{jina}");
    assert_eq!(jina["results"][0]["index"], all["results"][0]["index"]);
    assert!(
        jina["results"][0]["document"]["text"].is_string()
            && jina["results"].as_array().map(Vec::len) == Some(1),
        "{jina}"
    );
    assert!(jina["usage"]["total_tokens"].as_u64() > Some(3), "{jina}");
    let (status, voyage) =
        ask("/v1/rerank", json!({"model": "ai/reranker", "top_k": 2, "return_documents": true}))?;
    assert_eq!((status, voyage["data"].as_array().map(Vec::len)), (200, Some(2)), "{voyage}");
    assert!(voyage["data"][0]["document"].is_string(), "{voyage}");
    for (more, expected) in [
        (json!({"model": "nobody"}), 404),
        (json!({"model": "ai/embedder"}), 400),
        (json!({"documents": []}), 400),
        (json!({"documents": [1]}), 400),
        (json!({"documents": [{"title": "x"}]}), 400),
        (json!({"top_n": 0}), 400),
    ] {
        let (status, answer) = ask("/v2/rerank", more.clone())?;
        assert_eq!(status, expected, "{more}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    // With a second one it has to be named.
    let other = MODELS.replace("\"ai\"", "\"more\"").replace("\"/ai\"", "\"/more\"");
    cluster.deploy(&other, &[])?;
    let (status, answer) = ask("/v2/rerank", json!({}))?;
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["message"].as_str().is_some_and(|text| text.contains("`ai/reranker`, `more/reranker`")),
        "{answer}"
    );
    Ok(())
}

#[test]
fn pipelines_are_described_as_they_are() -> Result<()> {
    let cluster = cluster(&[])?;
    let get = |path: &str| -> Result<(u16, Value)> {
        let answer = cluster.http().get(cluster.url(path)).send()?;
        Ok((answer.status().as_u16(), answer.json()?))
    };
    let (status, all) = get("/openapi.json")?;
    assert_eq!((status, &all["openapi"]), (200, &json!("3.1.0")), "{all}");
    let (_, one) = get("/ai/openapi.json")?;
    assert_eq!(one["paths"]["/ai"], all["paths"]["/ai"]);
    let operation = &one["paths"]["/ai"]["post"];
    let body = &operation["requestBody"]["content"]["application/json"];
    assert_eq!(body["schema"]["required"], json!(["prompt"]), "{body}");
    assert_eq!(body["schema"]["properties"]["prompt"]["type"], "string");
    // What the example asks for works.
    let (status, answer) = cluster.post("/ai", &body["example"])?;
    assert_eq!(status, 200, "{answer}");
    let answered: Vec<_> = answer.as_object().context("an object")?.keys().cloned().collect();
    let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(answered));
    for status in ["400", "422", "429", "503", "504"] {
        assert!(
            operation["responses"][status]["content"]["application/problem+json"].is_object(),
            "{status}"
        );
    }
    assert_eq!(get("/nobody/openapi.json")?.0, 404);
    Ok(())
}

#[test]
fn hostile_bodies_are_answered_and_cost_little() -> Result<()> {
    let cluster = cluster(&["--require-api-key"])?;
    let send = |path: &str, body: String, kind: &str, key: Option<&str>| -> Result<(u16, Value)> {
        let mut request = cluster.http().post(cluster.url(path)).header("content-type", kind).body(body);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let answer = request.send()?;
        Ok((answer.status().as_u16(), answer.json()?))
    };
    let made = cluster.command(&["key", "create", "client"]);
    ensure!(made.status.success(), "{made:?}");
    let key = String::from_utf8(made.stdout)?.trim().to_owned();
    let json_type = "application/json";
    for (path, body, kind, key, status) in [
        ("/v1/chat/completions", "{}".to_owned(), json_type, None, 401),
        ("/v1/models/x", "{}".to_owned(), json_type, Some(&*key), 405),
        ("/v1/chat/completions", "{}".to_owned(), "text/plain", Some(&*key), 415),
        ("/v1/chat/completions", "{".to_owned(), json_type, Some(&*key), 400),
        ("/v1/chat/completions", "[".repeat(100_000), json_type, Some(&*key), 400),
        (
            "/v1/chat/completions",
            format!("{{\"x\": {}1{}}}", "[".repeat(500), "]".repeat(500)),
            json_type,
            Some(&*key),
            400,
        ),
        (
            "/v1/chat/completions",
            format!(
                "{{\"model\": \"ai/writer\", \"messages\": [{}{{}}]}}",
                "{\"role\":\"user\"},".repeat(70_000)
            ),
            json_type,
            Some(&*key),
            400,
        ),
        (
            "/v1/embeddings",
            format!("{{\"model\": \"ai/embedder\", \"input\": [{}\"\"]}}", "\"\",".repeat(70_000)),
            json_type,
            Some(&*key),
            400,
        ),
        (
            "/v1/embeddings",
            "{\"model\": \"ai/embedder\", \"model\": \"x\", \"input\": \"y\"}".to_owned(),
            json_type,
            Some(&*key),
            400,
        ),
    ] {
        let shown: String = body.chars().take(60).collect();
        let (found, answer) = send(path, body, kind, key).with_context(|| shown.clone())?;
        assert_eq!(found, status, "{path} {shown}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    let (status, answer) = send(
        "/v1/embeddings",
        r#"{"model": "ai/embedder", "input": "x"}"#.to_owned(),
        json_type,
        Some(&*key),
    )?;
    assert_eq!(status, 200, "{answer}");
    Ok(())
}

#[test]
fn the_official_clients_work_unchanged() -> Result<()> {
    let Some(python) = python_with(&["openai", "anthropic", "cohere", "tritonclient.http.aio"])? else {
        return Ok(());
    };
    let mut cluster = cluster(&[])?;
    for client in ["openai", "anthropic", "cohere", "triton"] {
        // Behind the others, which know all models that there are.
        if client == "triton" {
            cluster.deploy(SHAPES, &[])?;
        }
        passes(&cluster, Command::new(&python).arg(program(&format!("{client}_client.py"))))?;
    }
    freed(&mut cluster);
    Ok(())
}

#[test]
fn tritons_client_works_over_grpc() -> Result<()> {
    let Some(python) = python_with(&["tritonclient.grpc.aio"])? else {
        return Ok(());
    };
    let mut cluster = cluster(&[])?;
    cluster.deploy(SHAPES, &[])?;
    passes(&cluster, Command::new(&python).arg(program("triton_grpc_client.py")))?;
    freed(&mut cluster);
    Ok(())
}

/// The client that left in the middle of a stream has freed its replica.
fn freed(cluster: &mut Cluster) {
    let admin = crate::metrics::address(&mut cluster.leader, "admin");
    millstream_tests::eventually("the stream that was left has ended", || {
        let page = reqwest::blocking::get(format!("http://{admin}/metrics")).ok()?.text().ok()?;
        page.contains("vllm:num_requests_running{model_name=\"ai/writer\"} 0").then_some(())
    });
}

#[test]
fn frameworks_and_clients_in_other_languages_work_unchanged() -> Result<()> {
    let python = root().join("target/frameworks/bin/python");
    let node = program("node/node_modules/openai");
    if !python.exists() || !node.exists() {
        return skipped("LiteLLM, LangChain, LlamaIndex and OpenAI's client for Node");
    }
    let cluster = cluster(&[])?;
    for client in ["litellm", "langchain", "llama_index", "generated"] {
        passes(&cluster, Command::new(&python).arg(program(&format!("{client}_client.py"))))?;
    }
    passes(&cluster, Command::new("node").arg(program("node/openai_client.mjs")))
}

/// A file of `tests/clients`.
fn program(name: &str) -> PathBuf {
    root().join("tests/clients").join(name)
}

/// That a client's program, told where the cluster is, finds all as it should be.
fn passes(cluster: &Cluster, command: &mut Command) -> Result<()> {
    let run = command.arg(cluster.url("")).output()?;
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    ensure!(run.status.success(), "{command:?}: {said}");
    Ok(())
}

/// The Python that has these packages; `None` where there is none. Where all tests must run, there has to be one.
pub(crate) fn python_with(packages: &[&str]) -> Result<Option<PathBuf>> {
    let python = root().join("target/tools/bin/python");
    let has_it = Command::new(&python).args(["-c", &format!("import {}", packages.join(", "))]).output();
    if has_it.is_ok_and(|output| output.status.success()) {
        return Ok(Some(python));
    }
    skipped(&format!("the Python packages {packages:?}"))?;
    Ok(None)
}

/// Says that a test is skipped because something is missing; where all tests must run, it fails.
fn skipped(missing: &str) -> Result<()> {
    ensure!(std::env::var_os("CI").is_none(), "not there: {missing}; run .ci/setup");
    eprintln!("skipped: not there: {missing}; .ci/setup installs them");
    Ok(())
}
