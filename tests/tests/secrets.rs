//! What people say to models, their keys and their tokens stand nowhere but where they belong: not in logs, metrics, traces,
//! events, errors, or in what is stored.

use std::path::Path;

use anyhow::{Result, ensure};
use millstream_tests::{Cluster, Echo, UpOptions};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A word that nobody else says.
const PROMPT: &str = "kestrel-over-the-heath-7731";

/// Files below a folder that contain the text.
fn files_with(folder: &Path, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, text)?);
        } else if path.is_file()
            && std::fs::read(&path)?.windows(text.len()).any(|part| part == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

fn secret_of(cluster: &Cluster, command: &[&str]) -> Result<String> {
    let output = cluster.command(command);
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[test]
fn prompts_keys_and_tokens_are_found_nowhere() -> Result<()> {
    let flags = ["--log", "debug,h2=info,hyper=info", "--access-log"];
    let echo = Echo::new("good").to_string();
    let failing = Echo::new("bad").deployment("fail_ratio = 1.0").stage("retries = 0").to_string();
    let cluster = Cluster::up(&UpOptions::new().args(&flags).args(&["--empty"]))?;
    cluster.deploy(&echo, &[])?;
    cluster.deploy(&failing, &[])?;
    // All of its requests are captured, without what people say.
    let redact = "[capture]\npercent = \"100%\"\nredact = [\"request.text\", \"answer.text\"]";
    cluster.deploy(&Echo::new("kept").more(redact).to_string(), &[])?;
    let key = secret_of(&cluster, &["key", "create", "alice"])?;
    let token = secret_of(&cluster, &["token", "create", "board", "--role", "viewer"])?;
    let admin = std::fs::read_to_string(cluster.leader.data_dir().join("admin.token"))?.trim().to_owned();
    let mut errors = String::new();
    for path in ["/good", "/bad", "/kept", "/nothing"] {
        for body in [json!({ "text": PROMPT }), json!({ "text": [PROMPT] }), json!({ PROMPT: 1 })] {
            let asked = cluster.http().post(cluster.url(path)).bearer_auth(&key).json(&body);
            let answer =
                asked.header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
            let (status, text) = answer.send().map(|answer| (answer.status(), answer.text()))?;
            // Whoever gets a field's name wrong is told which.
            if status.is_server_error() {
                errors += &text?;
            }
        }
    }
    let dashboard = |path: &str, token: &str| -> Result<String> {
        let url = format!("http://{}{path}", cluster.dashboard());
        Ok(cluster.http().get(url).bearer_auth(token).send()?.text()?)
    };
    let traced = millstream_tests::eventually("failures are traced", || {
        let listed: Value = serde_json::from_str(&dashboard("/api/requests", &token).ok()?).ok()?;
        listed["requests"].as_array().filter(|all| all.iter().any(|it| it["kept"] == "failed")).cloned()
    });
    let mut said = vec![("errors".to_owned(), errors), ("log".to_owned(), cluster.leader.log())];
    let ids = traced.iter().filter_map(|request| request["request_id"].as_str());
    let paths = ids.map(|id| format!("/api/requests/{id}"));
    let fixed = [
        "/metrics",
        "/api/status",
        "/api/events?limit=5000",
        "/api/keys",
        "/api/tokens",
        "/api/series",
        "/api/head",
    ];
    for path in paths.chain(fixed.map(str::to_owned)) {
        let page = dashboard(&path, &token)?;
        said.push((path, page));
    }
    // With a log in which somebody has written what should stand nowhere.
    let careless = format!("curl -H 'authorization: Bearer {key}' # {token} {admin}\n");
    std::fs::write(cluster.leader.data_dir().join("careless.log"), careless)?;
    let bundle = cluster.folder().join("bundle.tar.gz");
    crate::debug::bundle(&cluster, &bundle)?;
    let hashes = [&key, &token].map(|secret| format!("{:x}", Sha256::digest(secret)));
    for (path, bytes) in crate::debug::files_of(&bundle)? {
        let text = String::from_utf8_lossy(&bytes);
        ensure!(hashes.iter().all(|hash| !text.contains(hash)), "a hash stands in {path} of the bundle");
        said.push((format!("{path} of the bundle"), String::from_utf8_lossy(&bytes).into_owned()));
    }
    std::fs::remove_file(cluster.leader.data_dir().join("careless.log"))?;
    let join = std::fs::read_to_string(cluster.leader.data_dir().join("join.token"))?.trim().to_owned();
    for (what, text) in &said {
        ensure!(!text.is_empty() || what == "errors", "{what} says nothing");
        for (whose, secret) in [
            ("prompt", PROMPT),
            ("key", &key),
            ("viewer token", &token),
            ("admin token", &admin),
            ("join token", &join),
        ] {
            ensure!(!text.contains(secret), "the {whose} stands in {what}: {text}");
        }
    }
    millstream_tests::eventually("the request is captured", || {
        let captured = cluster.leader.data_dir().join("captures/kept/00000001.jsonl");
        (std::fs::read_to_string(captured).ok()?.lines().count() == 2).then_some(())
    });
    for secret in [PROMPT, &key, &token] {
        let files = files_with(cluster.leader.data_dir(), secret)?;
        ensure!(files.is_empty(), "a secret stands in {files:?}");
    }
    let files = files_with(cluster.leader.data_dir(), &admin)?;
    ensure!(files.len() == 1 && files[0].ends_with("admin.token"), "{files:?}");
    Ok(())
}
