//! What API keys may use and have used: limits of tokens, lists of models, usage by the hour, with real processes and OpenAI's client.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, Echo, UpOptions, eventually, root};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::clients::{cluster, python_with};

/// A generator that takes longer than any test.
const SLOW_WRITER: &str = r#"
name = "p"
route = "/p"
[request]
text = "text"
[deployments.model]
task = "generate"
engine = "echo"
delay = "10m"
[stages.out]
use = "model"
inputs = { prompt = "request.text" }
[response]
text = "out.text"
"#;

fn run(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.command(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a key; returns its secret once the ingress at that URL knows it.
fn create(cluster: &Cluster, url: &str, name: &str, limits: &[&str]) -> String {
    let secret = run(cluster, &[&["key", "create", name][..], limits].concat()).trim().to_owned();
    eventually("the ingress knows the key", || {
        let answer = cluster.http().get(format!("{url}/-/routes")).bearer_auth(&secret).send().ok()?;
        (answer.status() == 200).then_some(())
    });
    secret
}

/// Status and body of a call with a key.
fn ask(cluster: &Cluster, secret: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = cluster.http().post(cluster.url(path)).bearer_auth(secret).json(body).send().unwrap();
    (answer.status().as_u16(), answer.json().unwrap_or_default())
}

fn get(cluster: &Cluster, secret: &str, path: &str) -> (u16, Value) {
    let answer = cluster.http().get(cluster.url(path)).bearer_auth(secret).send().unwrap();
    (answer.status().as_u16(), answer.json().unwrap_or_default())
}

/// Sums by key: requests, refused, tokens of prompts, tokens of answers.
fn usage_of(cluster: &Cluster, key: &str) -> Option<[u64; 4]> {
    let report = cluster.rest("/api/usage?by=key").ok()?;
    let row = report["rows"].as_array()?.iter().find(|row| row["key"] == key)?.clone();
    let counts = ["requests", "refused", "input_tokens", "output_tokens"];
    Some(counts.map(|name| row[name].as_u64().unwrap_or_default()))
}

#[test]
fn clients_of_openai_are_told_of_tokens_and_models_and_all_is_accounted() -> Result<()> {
    let Some(python) = python_with(&["openai"])? else { return Ok(()) };
    let cluster = cluster(&[])?;
    let limits = ["--tokens-per-minute", "200", "--models", "ai/writer"];
    let secret = create(&cluster, &cluster.url(""), "alice", &limits);
    let script = root().join("tests/clients/openai_limits.py");
    let ended = Command::new(python).arg(script).args([&cluster.url(""), &secret]).output()?;
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    ensure!(ended.status.success(), "{said}");
    // Two that ran, two that were turned away, one for a model that is not there for the key.
    let found = eventually("usage is stored", || usage_of(&cluster, "alice").filter(|counts| counts[0] == 5));
    assert_eq!(found[1], 2);
    assert!(found[2] > 10 && (1..=16).contains(&found[3]), "{found:?}");

    let table = run(&cluster, &["usage"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("KEY    MODEL      REQUESTS"), "{table}");
    assert!(lines.iter().any(|line| line.starts_with("alice  ai/writer  4")), "{table}");
    let csv = run(&cluster, &["usage", "--by", "hour,key", "--since", "2h", "--csv"]);
    assert!(csv.starts_with("hour,key,requests,refused,input_tokens,output_tokens\n20"), "{csv}");
    let report: Value = serde_json::from_str(&run(&cluster, &["usage", "--by", "model", "--json"]))?;
    assert_eq!(report["rows"][1]["model"], "ai/writer", "{report}");
    assert!(report["rows"][0].get("key").is_none());
    let wrong = cluster.command(&["usage", "--by", "keys"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("give `hour`, `key` or `model`"));
    Ok(())
}

#[test]
fn a_key_sees_and_calls_what_it_is_for() -> Result<()> {
    let cluster = cluster(&[])?;
    let secret = create(&cluster, &cluster.url(""), "alice", &["--models", "ai/embedder,ai/re*"]);
    let names = |path: &str, list: &str, name: &str| -> Vec<String> {
        let (_, page) = get(&cluster, &secret, path);
        let list = page[list].as_array().cloned().unwrap_or_default();
        list.iter().map(|entry| entry[name].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names("/v1/models", "data", "id"), ["ai/embedder", "ai/reranker"]);
    assert_eq!(names("/-/routes", "pipelines", "name"), [""; 0]);
    assert_eq!(names("/", "pipelines", "name"), [""; 0]);
    let (_, index) = ask(&cluster, &secret, "/v2/repository/index", &json!({}));
    assert_eq!(index.as_array().map(Vec::len), Some(2), "{index}");
    let (_, document) = get(&cluster, &secret, "/openapi.json");
    assert_eq!(document["paths"], json!({}));
    for path in
        ["/-/readyz/ai", "/ai/openapi.json", "/v2/models/ai", "/v2/models/ai%2Fwriter/ready", "/v1/models/ai"]
    {
        assert_eq!(get(&cluster, &secret, path).0, 404, "{path}");
    }
    let messages = json!([{"role": "user", "content": "hi"}]);
    for (path, body) in [
        ("/ai", json!({"prompt": "a"})),
        ("/v1/chat/completions", json!({"model": "ai/writer", "messages": messages})),
        ("/v1/messages", json!({"model": "ai/writer", "messages": messages, "max_tokens": 4})),
        ("/v2/models/ai/infer", json!({"inputs": []})),
    ] {
        let (status, answer) = ask(&cluster, &secret, path, &body);
        assert_eq!(status, 404, "{path} {answer}");
    }
    let query = json!({"query": "flour", "documents": ["bread", "water"]});
    let (status, ranked) = ask(&cluster, &secret, "/v2/rerank", &query);
    assert_eq!(status, 200, "the only one that it may call: {ranked}");
    assert_eq!(
        ask(&cluster, &secret, "/v1/embeddings", &json!({"model": "ai/embedder", "input": "a"})).0,
        200
    );

    let said = run(&cluster, &["key", "set", "alice", "--models", "*"]);
    assert!(!said.contains("may call"), "{said}");
    eventually("it may call everything", || {
        (ask(&cluster, &secret, "/ai", &json!({"prompt": "a"})).0 == 200).then_some(())
    });
    let bad = cluster.command(&["key", "set", "alice", "--models", "Rag", "--tokens-per-day", "-4"]);
    assert_eq!(bad.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(stderr.contains("`Rag` is not the name") && stderr.contains("tokens-per-day `-4`"), "{stderr}");
    Ok(())
}

#[test]
fn who_leaves_in_the_middle_pays_for_what_came() -> Result<()> {
    let cluster = Cluster::serving(SLOW_WRITER)?;
    let secret = create(&cluster, &cluster.url(""), "alice", &["--tokens-per-day", "1M"]);
    let remaining = || -> u64 {
        let answer = cluster.http().post(cluster.url("/p")).bearer_auth(&secret).body("{").send().unwrap();
        answer.headers()["x-ratelimit-remaining-tokens"].to_str().unwrap().parse().unwrap()
    };
    assert_eq!(remaining(), 1_000_000);
    let body = json!({"text": "x".repeat(4000)});
    let request = cluster.http().post(cluster.url("/p")).bearer_auth(&secret).json(&body);
    let request = request.timeout(std::time::Duration::from_millis(500));
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| request.send().is_err());
        eventually("it is set aside", || (remaining() < 999_000).then_some(()));
        assert!(caller.join().unwrap());
    });
    let found = eventually("it is counted", || usage_of(&cluster, "alice").filter(|counts| counts[2] > 0));
    assert!((1000..1010).contains(&found[2]) && found[3] == 256, "{found:?}");
    assert!((998_700..=998_800).contains(&remaining()), "{}", remaining());
    Ok(())
}

#[test]
fn what_was_used_outlives_heads_and_ingresses_and_counts_once() -> Result<()> {
    let options = UpOptions::new().args(&["--roles", "head,ingress"]);
    let mut cluster = Cluster::up(&options.clone().args(&["--empty"]))?;
    cluster.join("i", &["--roles", "ingress,worker"])?;
    cluster.deploy(&Echo::new("p"), &[])?;
    let ingress = cluster.joined[0].endpoints()["ingress"].as_str().context("an address")?.to_owned();
    let url = format!("http://{ingress}");
    let secret = create(&cluster, &url, "alice", &[]);
    let http = cluster.http().clone();
    let ask = |times: u64| {
        for _ in 0..times {
            let request = http.post(format!("{url}/p")).bearer_auth(&secret).json(&json!({"text": "x"}));
            assert_eq!(request.send().unwrap().status(), 200);
        }
    };
    let until = |cluster: &Cluster, total: u64| {
        eventually(&format!("{total} are counted"), || {
            usage_of(cluster, "alice")
                .filter(|counts| counts[0] >= total)
                .map(|counts| assert_eq!(counts[0], total))
        });
    };
    ask(3);
    until(&cluster, 3);
    // The head is killed while there is something that it was not told.
    ask(4);
    cluster.leader.kill();
    ask(5);
    cluster.restart_leader(options)?;
    until(&cluster, 12);
    ask(1);
    // A process that ends tells what it has.
    cluster.joined[0].signal(Signal::TERM);
    assert_eq!(cluster.joined[0].wait(), Some(0));
    until(&cluster, 13);
    Ok(())
}
