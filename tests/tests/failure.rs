//! What breaks: workers killed while calls run, clients that leave, heads that come back, a data directory in use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_tests::{Cluster, UpOptions, eventually, run_cluster, within};
use rustix::process::Signal;
use serde_json::{Value, json};

/// An echo that takes its time.
fn echo(delay: &str, extra: &str) -> String {
    format!(
        r#"
name = "slow"
route = "/slow"
timeout = "60s"
[request]
text = "text"
[deployments.mirror]
engine = "echo"
delay = "{delay}"
{extra}
[stages.out]
use = "mirror"
inputs = {{ text = "request.text" }}
[response]
text = "out.text"
"#
    )
}

/// The `ongoing` of the only deployment.
fn ongoing(status: &Value) -> Option<u64> {
    status["pipelines"][0]["deployments"][0]["ongoing"].as_u64()
}

#[test]
fn a_killed_worker_fails_no_call() -> Result<()> {
    let spread = "autoscaling = { min_replicas = 2, max_replicas = 2 }\nmax_replicas_per_node = 1";
    let mut cluster =
        Cluster::up(&UpOptions::new().args(&["--roles", "head,ingress"]).pipeline(echo("20ms", spread)))?;
    cluster.join("left", &[])?;
    cluster.join("right", &[])?;
    cluster.wait_ready();
    let nodes: Vec<String> = cluster.status()["pipelines"][0]["deployments"][0]["replicas"]
        .as_array()
        .expect("replicas")
        .iter()
        .filter_map(|replica| replica["node"].as_str().map(str::to_owned))
        .collect();
    assert!(nodes.contains(&"left".to_owned()) && nodes.contains(&"right".to_owned()), "{nodes:?}");

    let stop = AtomicBool::new(false);
    let (good, bad) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for caller in 0..4 {
            let (cluster, stop, good, bad) = (&cluster, &stop, &good, &bad);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let text = format!("caller {caller}");
                    match cluster.post("/slow", &json!({"text": text})) {
                        Ok((200, answer)) if answer["text"] == text => good.fetch_add(1, Ordering::Relaxed),
                        other => {
                            eprintln!("failed: {other:?}");
                            bad.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            });
        }
        let reach =
            |count| eventually("calls go on", || (good.load(Ordering::Relaxed) >= count).then_some(()));
        reach(50);
        // The kill comes while calls run on both workers.
        let victim = cluster.joined[0].pid();
        rustix::process::kill_process(victim, Signal::KILL).expect("the worker was running");
        reach(good.load(Ordering::Relaxed) + 200);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(bad.into_inner(), 0, "of {} calls", good.into_inner());
    eventually("the head sees that the node is lost", || {
        let status = cluster.status();
        let lost = status["nodes"].as_array()?.iter().find(|node| node["name"] == "left")?;
        (lost["state"] == "lost").then_some(())
    });
    Ok(())
}

#[test]
fn a_client_that_leaves_stops_the_work() -> Result<()> {
    let cluster = Cluster::serving(&echo("30s", ""))?;
    let impatient = reqwest::blocking::Client::builder().timeout(Duration::from_millis(700)).build()?;
    let url = cluster.url("/slow");
    let caller = thread::spawn(move || impatient.post(url).json(&json!({"text": "x"})).send().is_err());
    eventually("the call runs", || (ongoing(&cluster.status()) == Some(1)).then_some(()));
    assert!(caller.join().expect("the caller ends"), "the call must not be answered within its timeout");
    // The replica would work for another 29 s.
    within(Duration::from_secs(5), "the replica has stopped", || {
        (ongoing(&cluster.status()) == Some(0)).then_some(())
    });
    Ok(())
}

#[test]
fn a_deadline_ends_a_call() -> Result<()> {
    let cluster = Cluster::serving(&echo("30s", ""))?;
    let start = Instant::now();
    let request = cluster.http().post(cluster.url("/slow")).header("x-request-timeout", "300ms");
    let answer = request.json(&json!({"text": "x"})).send()?;
    assert_eq!(answer.status(), 504);
    assert!(start.elapsed() < Duration::from_secs(5));
    within(Duration::from_secs(5), "the replica has stopped", || {
        (ongoing(&cluster.status()) == Some(0)).then_some(())
    });
    Ok(())
}

#[test]
fn a_crashing_replica_comes_back_and_its_neighbour_never_notices() -> Result<()> {
    let cluster = Cluster::serving(&echo("0ms", "crash_on = \"boom\"\nidempotent = false"))?;
    assert_eq!(cluster.post("/slow", &json!({"text": "fine"}))?.0, 200);
    let (status, problem) = cluster.post("/slow", &json!({"text": "boom"}))?;
    assert_eq!(status, 503, "{problem}");
    let (status, _) = cluster.post("/slow", &json!({"text": "fine again"}))?;
    assert_eq!(status, 200, "the call waits until the replica is back");
    Ok(())
}

#[test]
fn pipelines_survive_kill_9_of_the_head() -> Result<()> {
    let mut cluster = Cluster::serving(&echo("0ms", ""))?;
    let before = cluster.status();
    cluster.restart_leader(UpOptions::new())?;
    cluster.wait_ready();
    let (status, answer) = cluster.post("/slow", &json!({"text": "still here"}))?;
    assert_eq!((status, &answer["text"]), (200, &json!("still here")));
    let after = cluster.status();
    assert_eq!(after["pipelines"][0]["revision"], before["pipelines"][0]["revision"]);
    assert!(
        after["epoch"].as_u64() > before["epoch"].as_u64(),
        "{} then {}",
        before["epoch"],
        after["epoch"]
    );
    Ok(())
}

#[test]
fn joined_workers_keep_their_replicas_over_a_restart_of_the_head() -> Result<()> {
    let mut cluster =
        Cluster::up(&UpOptions::new().args(&["--roles", "head,ingress"]).pipeline(echo("0ms", "")))?;
    cluster.join("only", &[])?;
    cluster.wait_ready();
    let replica = |cluster: &Cluster| {
        let status = cluster.status();
        let replica = &status["pipelines"][0]["deployments"][0]["replicas"][0];
        (replica["state"] == "ready").then(|| replica["id"].clone())
    };
    let before = eventually("the replica is ready", || replica(&cluster));
    cluster.restart_leader(UpOptions::new().args(&["--roles", "head,ingress"]))?;
    let after = eventually("the replica is adopted", || replica(&cluster));
    assert_eq!(before, after, "a running replica is adopted, not started again");
    let (status, _) = cluster.post("/slow", &json!({"text": "x"}))?;
    assert_eq!(status, 200);
    Ok(())
}

#[test]
fn a_second_up_on_the_same_data_directory_says_who_holds_it() -> Result<()> {
    let mut cluster = Cluster::serving(&echo("0ms", ""))?;
    let pid = cluster.leader.endpoints()["pid"].to_string();
    let directory = cluster.leader.data_dir().display().to_string();
    let output = run_cluster(&["up", "--data-dir", &directory, "--control", "127.0.0.1:0"]);
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&directory) && text.contains(&pid), "{text}");
    assert_eq!(cluster.post("/slow", &json!({"text": "unharmed"}))?.0, 200);
    Ok(())
}

#[test]
fn sigterm_finishes_what_is_under_way() -> Result<()> {
    let mut cluster = Cluster::serving(&echo("1s", ""))?;
    let (client, url) = (cluster.http().clone(), cluster.url("/slow"));
    let caller = thread::spawn(move || client.post(url).json(&json!({"text": "last"})).send());
    eventually("the call runs", || (ongoing(&cluster.status()) == Some(1)).then_some(()));
    cluster.leader.signal(Signal::TERM);
    let answer = caller.join().expect("the caller ends")?;
    assert_eq!(answer.status(), 200, "the request under way is answered");
    assert_eq!(cluster.leader.wait(Duration::from_secs(20)), Some(0));
    Ok(())
}

#[test]
fn down_stops_every_process() -> Result<()> {
    let mut cluster = Cluster::serving(&echo("0ms", ""))?;
    cluster.join("other", &[])?;
    let output = cluster.command(&["down"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cluster.leader.wait(Duration::from_secs(20)), Some(0));
    assert_eq!(cluster.joined[0].wait(Duration::from_secs(20)), Some(0));
    assert_eq!(cluster.command(&["status", "--cluster", cluster.control()]).status.code(), Some(4));
    Ok(())
}
