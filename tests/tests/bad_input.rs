//! Bad input gets a clear error, and the cluster goes on.

use std::fs;

use anyhow::Result;
use millstream_tests::{Cluster, eventually, run_cluster};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

const TYPED: &str = r#"
name = "typed"
route = "/typed"

[request]
question  = "text"
documents = "text[]"
top_k     = { type = "int", default = 3, min = 1, max = 50 }
features  = { type = "f32[3]", default = [0.0, 0.0, 0.0] }

[deployments.mirror]
engine = "echo"

[stages.out]
use = "mirror"
inputs = { question = "request.question", documents = "request.documents", top_k = "request.top_k", features = "request.features" }

[response]
question = "out.question"
top_k = "out.top_k"
"#;

#[test]
fn a_bad_pipeline_is_refused_with_every_fault_and_its_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bad.toml");
    fs::write(
        &file,
        TYPED
            .replace("engine = \"echo\"", "engine = \"echo\"\nmax_ongoing_requests = 0\ncolour = \"red\"")
            .replace("request.top_k", "request.topk"),
    )?;
    let output = run_cluster(&["validate", "--json", &file.display().to_string()]);
    assert_eq!(output.status.code(), Some(3));
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let faults = answer["error"]["files"][0]["faults"].as_array().expect("a list of faults");
    let at_line =
        |line: u64| faults.iter().find(|fault| fault["line"] == line).map(|fault| fault["message"].clone());
    assert!(at_line(13).is_some_and(|text| text.to_string().contains("max_ongoing_requests")), "{answer}");
    assert!(at_line(14).is_some_and(|text| text.to_string().contains("colour")), "{answer}");
    assert!(faults.iter().any(|fault| fault["found"].to_string().contains("topk")), "{answer}");
    assert!(faults.iter().all(|fault| !fault["help"].as_str().unwrap_or_default().is_empty()), "{answer}");

    let text = run_cluster(&["validate", &file.display().to_string()]);
    assert_eq!(text.status.code(), Some(3));
    let text = String::from_utf8(text.stderr)?;
    assert!(text.contains("bad.toml:13:") && text.contains("colour = \"red\""), "{text}");
    Ok(())
}

#[test]
fn a_bad_deploy_leaves_what_runs_untouched() -> Result<()> {
    let cluster = Cluster::serving(TYPED)?;
    let output = cluster.try_deploy(&TYPED.replace("engine = \"echo\"", "engine = \"eccho\""), &[]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let (status, answer) = cluster.post("/typed", &json!({"question": "q", "documents": []}))?;
    assert_eq!((status, &answer["top_k"]), (200, &json!(3)));
    assert_eq!(cluster.status()["pipelines"][0]["revision"], 1);
    assert_eq!(cluster.command(&["delete", "nobody"]).status.code(), Some(5));
    assert_eq!(cluster.command(&["delete", "typed"]).status.code(), Some(0));
    eventually("the route is gone", || {
        let answer = cluster.post("/typed", &json!({"question": "q", "documents": []}));
        answer.is_ok_and(|(status, _)| status == 404).then_some(())
    });
    Ok(())
}

#[test]
fn a_bad_body_lists_every_fault_with_its_path() -> Result<()> {
    let cluster = Cluster::serving(TYPED)?;
    let (status, problem) = cluster.post(
        "/typed",
        &json!({"documents": ["a", 7], "top_k": 99, "features": [1, 2], "extra": true, "question": null}),
    )?;
    assert_eq!(status, 422);
    let paths: Vec<&str> = problem["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .filter_map(|error| error["path"].as_str())
        .collect();
    for path in ["/documents/1", "/top_k", "/features", "/extra", "/question"] {
        assert!(paths.contains(&path), "{path} is not in {problem}");
    }
    assert!(problem["request_id"].is_string());

    let raw = |body: &str, content_type: &str| -> Result<u16> {
        let request = cluster.http().post(cluster.url("/typed")).header("content-type", content_type);
        Ok(request.body(body.to_owned()).send()?.status().as_u16())
    };
    assert_eq!(raw("{\"question\": ", "application/json")?, 400);
    assert_eq!(raw("{\"question\":\"a\",\"question\":\"b\",\"documents\":[]}", "application/json")?, 400);
    assert_eq!(raw("{}", "text/plain")?, 415);
    assert_eq!(raw(&format!("{{\"question\":\"{}\"}}", "x".repeat(5 << 20)), "application/json")?, 413);
    assert_eq!(
        raw(&format!("{{\"question\":{}1{}}}", "[".repeat(100), "]".repeat(100)), "application/json")?,
        400
    );
    assert_eq!(cluster.http().get(cluster.url("/typed")).send()?.status(), 405);
    assert_eq!(cluster.http().post(cluster.url("/nothing")).json(&json!({})).send()?.status(), 404);
    let late = cluster.http().post(cluster.url("/typed")).header("x-request-timeout", "soon");
    assert_eq!(late.json(&json!({"question": "q", "documents": []})).send()?.status(), 400);
    Ok(())
}

#[test]
fn a_thousand_mutated_bodies_get_a_clear_answer_each() -> Result<()> {
    let cluster = Cluster::serving(TYPED)?;
    let good = r#"{"question":"what is served?","documents":["one","two \u00e9"],"top_k":3,"features":[0.5,1e3,-2]}"#;
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..1000 {
        let mut body = good.as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            mutate(&mut body, &mut random);
        }
        let request = cluster.http().post(cluster.url("/typed")).header("content-type", "application/json");
        let answer = request.body(body.clone()).send()?;
        let status = answer.status().as_u16();
        let document: Value = serde_json::from_str(&answer.text()?)?;
        let shown = String::from_utf8_lossy(&body);
        assert!(matches!(status, 200 | 400 | 422), "round {round}: {status} {document} for {shown}");
        if status != 200 {
            assert!(
                document["detail"].is_string() && document["request_id"].is_string(),
                "{document} for {shown}"
            );
            assert_eq!(status == 422, document["errors"].is_array(), "{document} for {shown}");
        }
    }
    Ok(())
}

/// Changes, removes, repeats or inserts a piece of the body.
fn mutate(body: &mut Vec<u8>, random: &mut StdRng) {
    const PIECES: [&[u8]; 12] = [
        b"null",
        b"\"",
        b"{",
        b"[",
        b"]",
        b"}",
        b",",
        b"-1e999",
        b"99999999999999999999",
        b"\\ud800",
        b"\xff",
        b"true",
    ];
    if body.is_empty() {
        return;
    }
    let at = random.random_range(0..body.len());
    let end = (at + random.random_range(1..8)).min(body.len());
    match random.random_range(0..4) {
        0 => body[at] = random.random(),
        1 => drop(body.drain(at..end)),
        2 => {
            let piece = body[at..end].to_vec();
            body.splice(at..at, piece);
        }
        _ => drop(body.splice(at..at, PIECES[random.random_range(0..PIECES.len())].iter().copied())),
    }
}
