//! What breaks: workers killed while calls run, clients that leave, heads that come back, a data directory in use.

use std::thread;

use anyhow::{Context as _, Result};
use millstream_tests::{Cluster, Echo, Load, UpOptions, eventually, run_cluster};
use rustix::process::Signal;
use serde_json::json;

/// Longer than any test waits for a state: a call of it ends for another reason.
const NEVER: &str = "10m";

/// An echo that takes its time.
fn echo(delay: &str) -> Echo {
    Echo::new("slow").top("timeout = \"600s\"").deployment(&format!("delay = \"{delay}\""))
}

/// Waits until the only deployment has so many ongoing requests.
fn until_ongoing(cluster: &Cluster, count: u64) {
    eventually(&format!("{count} are ongoing"), || {
        (cluster.deployment("slow/model")["ongoing"] == count).then_some(())
    });
}

#[test]
fn a_killed_worker_fails_no_call() -> Result<()> {
    let spread = echo("20ms").replicas(2).deployment("max_replicas_per_node = 1");
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--roles", "head,ingress"]).pipeline(&spread))?;
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

    let load = Load::on(&cluster, "/slow").start(4);
    load.until_answered(50);
    // The kill comes while calls run on both workers.
    rustix::process::kill_process(cluster.joined[0].pid(), Signal::KILL).expect("the worker was running");
    load.until_answered(200);
    let ended = load.stop();
    assert_eq!((ended.failed, ended.shed), (0, 0), "of {}: {:?}", ended.answered, ended.texts);
    eventually("the head sees that the node is lost", || {
        let status = cluster.status();
        let lost = status["nodes"].as_array()?.iter().find(|node| node["name"] == "left")?;
        (lost["state"] == "unreachable").then_some(())
    });
    Ok(())
}

#[test]
fn a_client_that_leaves_stops_the_work() -> Result<()> {
    let cluster = Cluster::serving(&echo(NEVER))?;
    let client = cluster.send("/slow", &json!({"text": "x"}))?;
    until_ongoing(&cluster, 1);
    drop(client);
    until_ongoing(&cluster, 0);
    Ok(())
}

#[test]
fn a_deadline_ends_a_call() -> Result<()> {
    let cluster = Cluster::serving(&echo(NEVER))?;
    let request = cluster.http().post(cluster.url("/slow")).header("x-request-timeout", "3s");
    let request = request.json(&json!({"text": "x"}));
    let caller = thread::spawn(move || request.send());
    until_ongoing(&cluster, 1);
    assert_eq!(caller.join().expect("the caller ends")?.status(), 504);
    until_ongoing(&cluster, 0);
    Ok(())
}

#[test]
fn a_crashing_replica_comes_back_and_its_neighbour_never_notices() -> Result<()> {
    let cluster = Cluster::serving(&echo("0ms").deployment("crash_on = \"boom\"\nidempotent = false"))?;
    assert_eq!(cluster.post("/slow", &json!({"text": "fine"}))?.0, 200);
    let (status, problem) = cluster.post("/slow", &json!({"text": "boom"}))?;
    assert_eq!(status, 503, "{problem}");
    let (status, _) = cluster.post("/slow", &json!({"text": "fine again"}))?;
    assert_eq!(status, 200, "the call waits until the replica is back");
    Ok(())
}

#[test]
fn pipelines_survive_kill_9_of_the_head() -> Result<()> {
    let mut cluster = Cluster::serving(&echo("0ms"))?;
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
    let options = UpOptions::new().args(&["--roles", "head,ingress"]);
    let mut cluster = Cluster::up(&options.clone().pipeline(&echo("0ms")))?;
    cluster.join("only", &[])?;
    cluster.wait_ready();
    let replica = |cluster: &Cluster| {
        let replica = cluster.deployment("slow/model")["replicas"][0].clone();
        (replica["state"] == "ready").then(|| replica["id"].clone())
    };
    let before = eventually("the replica is ready", || replica(&cluster));
    cluster.restart_leader(options)?;
    let after = eventually("the replica is adopted", || replica(&cluster));
    assert_eq!(before, after, "a running replica is adopted, not started again");
    // The head may know the replica before the ingress, which started with it, has its first routes.
    cluster.wait_ready();
    let (status, answer) = cluster.post("/slow", &json!({"text": "x"}))?;
    assert_eq!(status, 200, "{answer}");
    Ok(())
}

#[test]
fn a_second_up_on_the_same_data_directory_says_who_holds_it() -> Result<()> {
    let mut cluster = Cluster::serving(&echo("0ms"))?;
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
    let mut cluster = Cluster::serving(&echo("3s"))?;
    let (client, url) = (cluster.http().clone(), cluster.url("/slow"));
    let caller = thread::spawn(move || client.post(url).json(&json!({"text": "last"})).send());
    until_ongoing(&cluster, 1);
    cluster.leader.signal(Signal::TERM);
    let answer = caller.join().expect("the caller ends")?;
    assert_eq!(answer.status(), 200, "the request under way is answered");
    assert_eq!(cluster.leader.wait(), Some(0));
    let log = cluster.leader.log();
    let said = |text: &str| log.lines().any(|line| line == text);
    assert!(said("draining: requests under way have 30s to end; Ctrl-C again stops at once"), "{log}");
    assert!(said("stopped"), "{log}");
    Ok(())
}

#[test]
fn a_second_ctrl_c_waits_for_nothing() -> Result<()> {
    let mut cluster = Cluster::serving(&echo("60s"))?;
    let (client, url) = (cluster.http().clone(), cluster.url("/slow"));
    let caller = thread::spawn(move || client.post(url).json(&json!({"text": "last"})).send());
    until_ongoing(&cluster, 1);
    cluster.leader.signal(Signal::INT);
    eventually("it says that it drains", || cluster.leader.log().contains("draining:").then_some(()));
    cluster.leader.signal(Signal::INT);
    assert_eq!(cluster.leader.wait(), Some(130));
    assert!(caller.join().expect("the caller ends").is_err(), "nobody answered it");
    Ok(())
}

#[test]
fn down_stops_every_process() -> Result<()> {
    let mut cluster = Cluster::serving(&echo("0ms"))?;
    cluster.join("other", &[])?;
    let output = cluster.command(&["down"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // It waited: the next one can have the directory at once.
    let lock = std::fs::File::open(cluster.leader.data_dir().join("lock"))?;
    lock.try_lock().context("nobody has the data directory")?;
    drop(lock);
    assert_eq!(cluster.leader.wait(), Some(0));
    assert_eq!(cluster.joined[0].wait(), Some(0));
    assert_eq!(cluster.command(&["status", "--cluster", cluster.control()]).status.code(), Some(4));
    Ok(())
}

#[test]
fn down_does_not_wait_for_a_pipeline_that_never_gets_ready() -> Result<()> {
    let large = Echo::new("large").deployment("cpus = 1000");
    let mut cluster = Cluster::up(&UpOptions::new().pipeline(&large))?;
    eventually("it has no place", || {
        cluster.deployment("large/model")["pending"]
            .as_array()
            .is_some_and(|why| !why.is_empty())
            .then_some(())
    });
    let output = cluster.command(&["down"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cluster.leader.wait(), Some(0));
    Ok(())
}

#[test]
fn a_node_that_is_gone_for_good_is_removed_by_hand_and_one_that_lives_is_not() -> Result<()> {
    let mut cluster =
        Cluster::up(&UpOptions::new().args(&["--roles", "head,ingress"]).pipeline(&echo("0ms")))?;
    cluster.join("left", &[])?;
    cluster.wait_ready();
    let refused = cluster.command(&["node", "remove", "left"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("node `left` is connected"), "{text}");
    rustix::process::kill_process(cluster.joined[0].pid(), Signal::KILL).expect("the worker was running");
    eventually("it is removed", || {
        cluster.command(&["node", "remove", "left"]).status.success().then_some(())
    });
    let nodes: serde_json::Value =
        serde_json::from_slice(&cluster.command(&["node", "list", "--json"]).stdout)?;
    assert_eq!(nodes, json!({"nodes": []}));
    Ok(())
}
