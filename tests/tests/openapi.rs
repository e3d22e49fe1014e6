//! What the ingress says of pipelines is true: Schemathesis reads the document and sends what fits it and what does not.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, UpOptions, eventually, root};
use serde_json::{Value, json};

use crate::clients::python_with;

/// Every type of field. The echo answers all of them.
const FIELDS: &str = r#"
name = "fields"
route = "/fields"

[request]
text      = { type = "text", min_length = 1, max_length = 40, description = "Any text." }
mode      = { type = "text", enum = ["fast", "good"], default = "fast" }
count     = { type = "int", min = 1, max = 10, default = 3 }
whole     = "int"
ratio     = { type = "float", min = 0, max = 1 }
weight    = { type = "float", default = 0.5 }
flag      = "bool"
texts     = { type = "text[]", max_length = 4 }
numbers   = { type = "int[]", default = [] }
rows      = "f64[?,2]"
pixels    = "u8[3]"
blob      = "bytes"
anything  = { type = "json", default = {} }
messages  = [{ role = { type = "text", enum = ["user", "system"] }, content = "text" }]

[deployments.model]
engine = "echo"

[stages.out]
use    = "model"
inputs = { all = "request" }

[response]
all = "out.all"
"#;

/// How long it sends requests.
const TIME: &str = "20";

/// A cluster that requires keys, with one.
fn cluster() -> Result<(Cluster, String)> {
    let cluster = Cluster::up(&UpOptions::new().args(&["--empty", "--require-api-key"]))?;
    cluster.deploy(FIELDS, &[])?;
    let made = cluster.command(&["key", "create", "reader"]);
    ensure!(made.status.success(), "{made:?}");
    let key = String::from_utf8(made.stdout)?.trim().to_owned();
    eventually("the ingress knows the key", || {
        let answer = cluster.http().get(cluster.url("/fields/openapi.json")).bearer_auth(&key).send();
        answer.ok().filter(|answer| answer.status() == 200).map(drop)
    });
    Ok((cluster, key))
}

#[test]
fn nobody_without_a_key_learns_which_pipelines_there_are() -> Result<()> {
    let (cluster, key) = cluster()?;
    let get = |path: &str, key: Option<&str>| -> Result<(u16, String)> {
        let mut request = cluster.http().get(cluster.url(path));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let answer = request.send()?;
        Ok((answer.status().as_u16(), answer.text()?))
    };
    for path in ["/", "/docs", "/fields/docs", "/nothing/docs"] {
        let (status, page) = get(path, None)?;
        assert_eq!(status, 200, "{path}");
        assert!(!page.contains("fields"), "{path}: {page}");
    }
    for path in ["/openapi.json", "/fields/openapi.json", "/nothing/openapi.json"] {
        assert_eq!(get(path, None)?.0, 401, "{path}");
    }
    let (_, start) = get("/", Some(&key))?;
    let start: Value = serde_json::from_str(&start)?;
    assert_eq!(start["pipelines"][0]["docs"], "/fields/docs");
    let (_, document) = get("/fields/openapi.json", Some(&key))?;
    let document: Value = serde_json::from_str(&document)?;
    assert_eq!(document["security"], json!([{"bearer": []}, {"key": []}]));
    Ok(())
}

#[test]
fn requests_of_every_kind_are_answered_as_the_document_says() -> Result<()> {
    let Some(python) = python_with(&["schemathesis"])? else { return Ok(()) };
    let (cluster, key) = cluster()?;
    let folder = tempfile::tempdir()?;
    // In files, as an own header would be sent also where it is tried without a key.
    let document = cluster.http().get(cluster.url("/openapi.json")).bearer_auth(&key).send()?.text()?;
    fs::write(folder.path().join("openapi.json"), document)?;
    let config = format!("[auth.openapi.bearer]\nbearer = \"{key}\"\n");
    fs::write(folder.path().join("schemathesis.toml"), config)?;
    let run = Command::new(python)
        .args(["-m", "schemathesis.cli", "run", "openapi.json", "--url", &cluster.url(""), "--no-color"])
        .args(["--phases", "examples,coverage,fuzzing", "--mode", "all", "--checks", "all"])
        .args(["--max-time", TIME, "--seed", "1", "--continue-on-failure"])
        .env("SCHEMATHESIS_HOOKS", root().join("tests/clients/schemathesis_hooks.py"))
        .current_dir(folder.path())
        .output()
        .context("Schemathesis does not start")?;
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    ensure!(run.status.success(), "{said}");
    Ok(())
}
