//! What a client and its operator see at the ingress: which request failed and why, who is ready, how large a body may be.

use anyhow::{Context as _, Result};
use millstream_tests::{Cluster, Echo, UpOptions, eventually};
use serde_json::{Value, json};

#[test]
fn a_failed_request_has_one_line_with_its_id_stage_and_replica() -> Result<()> {
    let failing =
        Echo::new("bad").top("timeout = \"5s\"").deployment("fail_ratio = 1.0").stage("retries = 0");
    let cluster = Cluster::serving(&failing)?;
    let answer = cluster.ask("/bad", &[("x-request-id", "find-me")])?;
    assert_eq!(answer.status(), 500);
    let log = eventually("the failure is logged", || {
        let log = cluster.leader.log();
        log.lines().find(|line| line.contains("find-me")).map(str::to_owned)
    });
    for part in [
        "WARN",
        "a request failed",
        "/bad",
        "status=500",
        "class=\"internal\"",
        "stage=",
        "replica=\"bad-model-1",
        "trace_id=",
    ] {
        assert!(log.contains(part), "`{part}` in {log}");
    }
    assert_eq!(cluster.ask("/nothing-here", &[("x-request-id", "not-there")])?.status(), 404);
    assert!(!cluster.leader.log().contains("not-there"), "what clients get wrong is theirs");
    Ok(())
}

#[test]
fn the_access_log_has_every_request() -> Result<()> {
    let options = UpOptions::new().args(&["--access-log", "--log-format", "json"]).pipeline(&Echo::new("p"));
    let mut cluster = Cluster::up(&options)?;
    cluster.wait_ready();
    assert_eq!(cluster.ask("/p", &[("x-request-id", "good")])?.status(), 200);
    assert_eq!(cluster.ask("/q", &[("x-request-id", "astray")])?.status(), 404);
    let line = |id: &str| -> Result<Value> {
        let line = eventually("the request is logged", || {
            cluster.leader.log().lines().find(|line| line.contains(id)).map(str::to_owned)
        });
        serde_json::from_str(&line).with_context(|| line.clone())
    };
    let good = line("good")?;
    assert_eq!(
        (&good["target"], &good["status"], &good["path"], &good["pipeline"], &good["revision"]),
        (&json!("access"), &json!(200), &json!("/p"), &json!("p"), &json!(1))
    );
    let astray = line("astray")?;
    assert_eq!((&astray["status"], &astray["class"]), (&json!(404), &json!("not-found")));
    Ok(())
}

#[test]
fn ready_is_not_alive_and_is_asked_of_each_pipeline() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let get = |path: &str| -> Result<(u16, String)> {
        let answer = cluster.http().get(cluster.url(path)).send()?;
        Ok((answer.status().as_u16(), answer.text()?))
    };
    assert_eq!(get("/-/readyz")?, (200, "{\"status\":\"ready\"}\n".to_owned()));
    assert_eq!(get("/-/readyz/p")?.0, 200);
    assert_eq!(get("/-/readyz/q")?.0, 404);
    let broken = Echo::new("broken").deployment("labels = { zone = \"nowhere\" }");
    cluster.deploy(&broken, &["--no-wait"])?;
    let (status, text) = eventually("the ingress knows the pipeline", || {
        get("/-/readyz/broken").ok().filter(|(status, _)| *status != 404)
    });
    assert!(status == 503 && text.contains("`broken/model`"), "{status} {text}");
    Ok(())
}

#[test]
fn a_pipeline_says_how_large_its_bodies_may_be() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("large").top("max_body = \"6MiB\""))?;
    cluster.deploy(&Echo::new("small").top("max_body = \"2KiB\""), &[])?;
    let body = |bytes: usize| json!({ "text": "x".repeat(bytes) });
    assert_eq!(cluster.post("/large", &body(5 << 20))?.0, 200);
    let (status, problem) = cluster.post("/large", &body(6 << 20))?;
    assert_eq!(status, 413);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("larger than `6MiB`")), "{problem}");
    assert_eq!(cluster.post("/small", &body(100))?.0, 200);
    assert_eq!(cluster.post("/small", &body(2 << 10))?.0, 413);
    Ok(())
}
