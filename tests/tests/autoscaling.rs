//! Autoscaling in real processes: from zero, up, down, to zero; bounds set by hand; bad input; the simulation.

use anyhow::Result;
use millstream_tests::{Cluster, Load, UpOptions, eventually, root, run_cluster};
use serde_json::{Value, json};

/// Two stages: a quick one in front of a slow one, both scaling with short times. If the calls that wait for the slow one
/// counted for the quick one too, 24 callers would make two of it.
const PIPELINE: &str = r#"
name = "scaled"
route = "/scaled"
[request]
text = "text"
[deployments.quick]
engine = "echo"
autoscaling = { min_replicas = 1, max_replicas = 4, target_ongoing_requests = 12, look_back = "500ms", upscale_delay = "100ms", downscale_delay = "1s" }
[deployments.slow]
engine = "echo"
delay = "200ms"
max_ongoing_requests = 2
autoscaling = { min_replicas = 0, max_replicas = 3, target_ongoing_requests = 2, look_back = "500ms", upscale_delay = "100ms", downscale_delay = "1s", idle_timeout = "1s" }
[stages.first]
use = "quick"
inputs = { text = "request.text" }
[stages.second]
use = "slow"
inputs = { text = "first.text" }
[response]
text = "second.text"
"#;

/// Waits until a deployment has that many ready replicas and no other.
fn until_replicas(cluster: &Cluster, name: &str, count: usize) {
    eventually(&format!("{name} has {count} replicas"), || {
        let found = cluster.deployment(name);
        let replicas = found["replicas"].as_array()?;
        let all_ready = replicas.iter().all(|replica| replica["state"] == "ready");
        (replicas.len() == count && all_ready).then_some(())
    });
}

#[test]
fn from_zero_up_and_back_to_zero_without_a_failed_request() -> Result<()> {
    let cluster = Cluster::serving(PIPELINE)?;
    assert_eq!(cluster.status()["pipelines"][0]["state"], "ready");
    let slow = cluster.deployment("scaled/slow");
    assert_eq!(
        (&slow["target_replicas"], &slow["min_replicas"], &slow["max_replicas"]),
        (&json!(0), &json!(0), &json!(3))
    );
    let (code, body) = cluster.post("/scaled", &json!({"text": "first"}))?;
    assert_eq!((code, &body["text"]), (200, &json!("first")));

    let load = Load::on(&cluster, "/scaled").start(24);
    eventually("the bottleneck grows to its maximum", || {
        (cluster.deployment("scaled/slow")["ready_replicas"] == 3).then_some(())
    });
    load.until_answered(100);
    let quick = &cluster.deployment("scaled/quick");
    assert_eq!(
        (&quick["target_replicas"], &quick["ready_replicas"]),
        (&json!(1), &json!(1)),
        "what waits for the slow stage does not inflate the one in front of it"
    );
    let ended = load.stop();
    assert_eq!((ended.failed, ended.shed), (0, 0), "of {}: {:?}", ended.answered, ended.texts);
    until_replicas(&cluster, "scaled/slow", 0);
    let (code, _) = cluster.post("/scaled", &json!({"text": "again"}))?;
    assert_eq!(code, 200);
    Ok(())
}

#[test]
fn bounds_set_by_hand_apply_in_place_and_survive_a_restart() -> Result<()> {
    let mut cluster = Cluster::serving(PIPELINE)?;
    let scale = |cluster: &Cluster, args: &[&str]| {
        let output = cluster.command(&[&["scale", "scaled/quick"], args, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let answer = scale(&cluster, &["--replicas", "3"]);
    assert_eq!(
        (&answer["min_replicas"], &answer["max_replicas"], &answer["changed"]),
        (&json!(3), &json!(3), &json!(true))
    );
    until_replicas(&cluster, "scaled/quick", 3);
    assert_eq!(cluster.status()["pipelines"][0]["revision"], 1, "no new revision");
    assert_eq!(scale(&cluster, &["--replicas", "3"])["changed"], false);

    cluster.restart_leader(UpOptions::new().pipeline(PIPELINE))?;
    eventually("the head answers again", || cluster.status()["leader"].as_str().map(|_| ()));
    until_replicas(&cluster, "scaled/quick", 3);
    let answer = scale(&cluster, &["--min", "2", "--max", "8"]);
    assert_eq!((&answer["min_replicas"], &answer["max_replicas"]), (&json!(2), &json!(8)));
    until_replicas(&cluster, "scaled/quick", 2);
    let answer = scale(&cluster, &["--reset"]);
    assert_eq!((&answer["min_replicas"], &answer["max_replicas"]), (&json!(1), &json!(4)));
    until_replicas(&cluster, "scaled/quick", 1);
    Ok(())
}

#[test]
fn what_cannot_be_scaled_is_refused_with_the_reason() -> Result<()> {
    let cluster = Cluster::serving(PIPELINE)?;
    let table: [(&[&str], i32, &str); 6] = [
        (&["scaled/nothing", "--replicas", "2"], 5, "`scaled/quick`, `scaled/slow`"),
        (&["quick", "--replicas", "2"], 5, "PIPELINE/DEPLOYMENT"),
        (&["scaled/quick", "--min", "3", "--max", "2"], 2, "--min 3 is more than --max 2"),
        (&["scaled/quick", "--min", "9"], 5, "add --max 9 or more, which is 4 now"),
        (&["scaled/quick", "--replicas", "0"], 5, "would answer no request"),
        (&["scaled/quick"], 2, "--replicas"),
    ];
    for (args, code, text) in table {
        let output = cluster.command(&[&["scale"], args].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(text), "{args:?}: {stderr}");
    }
    assert_eq!(cluster.deployment("scaled/quick")["max_replicas"], 4, "nothing has changed");
    Ok(())
}

fn trace() -> String {
    root().join("tests/data/llm-trace/conv.csv").display().to_string()
}

fn simulate(args: &[&str]) -> std::process::Output {
    run_cluster(&[&["simulate", "autoscaling", "--start-time", "5s"], args].concat())
}

#[test]
fn the_simulation_prints_what_it_costs() -> Result<()> {
    let run = |policy| -> Result<Value> {
        let output = simulate(&[
            "--trace",
            &trace(),
            "--service-time",
            "0.05 + 0.0002*prompt + 0.02*generated",
            "--autoscaling",
            "{ min_replicas = 1, max_replicas = 40, target_ongoing_requests = 6 }",
            "--policy",
            policy,
            "--json",
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let ours = run("ours")?;
    for key in ["replica_seconds", "wait_p50_ms", "wait_p95_ms", "wait_p99_ms", "shed", "scale_events"] {
        assert!(ours[key].is_number(), "{key}: {ours}");
    }
    assert_eq!(ours["requests"], 19_366);
    assert_eq!(ours, run("ours")?, "the same every time");
    assert_ne!(ours["replica_seconds"], run("peer")?["replica_seconds"]);
    Ok(())
}

#[test]
fn the_simulation_refuses_bad_input_with_place_and_fix() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let bad = folder.path().join("bad.csv");
    std::fs::write(&bad, "TIMESTAMP,ContextTokens,GeneratedTokens\nnever,1,2\n5,many,-1\n")?;
    let (bad, trace) = (bad.display().to_string(), &*trace());
    let table: [([&str; 3], i32, &[&str]); 6] = [
        ([&*bad, "1", "auto"], 3, &["bad.csv:2:1", "`never` is not a time", "bad.csv:3:3", "bad.csv:3:8"]),
        ([trace, "0.1 + promt", "auto"], 2, &["column 7", "promt"]),
        ([trace, "-1", "auto"], 2, &["line 2", "-1"]),
        (
            [trace, "1", "{ min_replicas = 5, max_replicas = 2, look_back = 1 }"],
            3,
            &["less than `min_replicas`", "look_back", "2 faults"],
        ),
        ([trace, "1", "{ target_ongoing_requests = nan }"], 3, &["target_ongoing_requests"]),
        (["missing.csv", "1", "auto"], 1, &["missing.csv"]),
    ];
    for ([trace, service_time, autoscaling], code, texts) in table {
        let args = ["--trace", trace, "--service-time", service_time, "--autoscaling", autoscaling];
        let output = simulate(&args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        for text in texts {
            assert!(stderr.contains(text), "{args:?} lacks `{text}`: {stderr}");
        }
    }
    Ok(())
}
