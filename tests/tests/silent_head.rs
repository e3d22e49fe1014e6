//! Heads that do not answer: stopped, killed, or something else that took their port. Every command ends, soon, and says so.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use millstream_tests::{Cluster, Echo, cluster_binary, eventually, run_cluster};
use rustix::process::Signal;
use serde_json::json;

/// A head that is silent is given up after 1 s; the rest is for starting the command on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// A stream outlives hiccups of the network: it is given up after 5 s.
const STREAM_ENDS: Duration = Duration::from_secs(15);

fn echo() -> Echo {
    Echo::new("slow")
}

fn timed(command: impl FnOnce() -> Output) -> (Output, Duration) {
    let start = Instant::now();
    (command(), start.elapsed())
}

/// Checks that a command ended soon, with the code for "no cluster in reach".
fn assert_given_up(what: &str, (output, took): (Output, Duration)) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{what}: {stderr}");
    assert!(stderr.contains("does not answer"), "{what}: {stderr}");
    assert!(took < SOON, "{what}: given up after {took:?}");
}

/// `cluster status --watch`, once it has shown the first status.
struct Watch {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Watch {
    fn start(cluster: &Cluster) -> Result<Self> {
        let mut child = Command::new(cluster_binary())
            .args(["status", "--watch", "--data-dir"])
            .arg(cluster.leader.data_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut first = String::new();
        stdout.read_line(&mut first)?;
        assert_eq!(first, "pipelines\n", "no escape codes where nobody watches");
        Ok(Self { child, stdout })
    }

    /// The exit code and what it wrote, once it has ended by itself.
    fn end(mut self) -> Result<(Option<i32>, String)> {
        let code = eventually("the watch has ended", || self.child.try_wait().unwrap()).code();
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        assert!(!text.contains('\x1b'), "{text:?}");
        self.child.stderr.take().context("stderr is piped")?.read_to_string(&mut text)?;
        Ok((code, text))
    }
}

#[test]
fn a_stopped_head_is_given_up_soon_and_answers_again_when_it_goes_on() -> Result<()> {
    let cluster = Cluster::serving(&echo())?;
    let file = cluster.folder().join("changed.toml");
    std::fs::write(&file, echo().top("timeout = \"9s\"").to_string())?;
    let file = file.display().to_string();
    cluster.leader.signal(Signal::STOP);
    let commands: [&[&str]; 10] = [
        &["status"],
        &["status", "--watch"],
        &["deploy", &file],
        &["deploy", "--dry-run", &file],
        &["delete", "slow"],
        &["scale", "slow/model", "--replicas", "2"],
        &["rollout", "undo", "slow"],
        &["explain"],
        &["key", "list"],
        &["down"],
    ];
    thread::scope(|scope| {
        for command in commands {
            let cluster = &cluster;
            scope.spawn(move || assert_given_up(&command.join(" "), timed(|| cluster.command(command))));
        }
    });
    cluster.leader.signal(Signal::CONT);
    let status = eventually("the head answers again", || {
        let output = cluster.command(&["status", "--json"]);
        output.status.success().then_some(output.stdout)
    });
    let status: serde_json::Value = serde_json::from_slice(&status)?;
    assert_eq!(status["pipelines"][0]["revision"], 1, "what was given up is not done later");
    Ok(())
}

#[test]
fn a_listener_that_never_answers_is_given_up_soon() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, "x")?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    // The kernel accepts; nobody reads.
    let line = ["status", "--cluster", &address, "--token-file", &token.display().to_string()];
    assert_given_up("status", timed(|| run_cluster(&line)));
    Ok(())
}

#[test]
fn an_address_where_nobody_is_is_given_up_soon() {
    // An address of a documentation's network: packets to it are lost, or refused by this machine.
    let (output, took) = timed(|| run_cluster(&["status", "--cluster", "192.0.2.1:7400", "--insecure"]));
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(took < SOON, "{took:?}");
}

#[test]
fn a_watch_ends_with_a_failure_when_the_head_dies_or_stops() -> Result<()> {
    let mut cluster = Cluster::serving(&echo())?;
    let watch = Watch::start(&cluster)?;
    cluster.leader.signal(Signal::STOP);
    let start = Instant::now();
    let (code, text) = watch.end()?;
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("does not answer"), "{text}");
    assert!(start.elapsed() < STREAM_ENDS, "{:?}", start.elapsed());
    cluster.leader.signal(Signal::CONT);

    let watch = Watch::start(&cluster)?;
    cluster.leader.kill();
    let (code, text) = watch.end()?;
    assert_eq!(code, Some(4), "{text}");
    Ok(())
}

#[test]
fn a_watch_says_that_the_cluster_has_stopped() -> Result<()> {
    let cluster = Cluster::serving(&echo())?;
    let watch = Watch::start(&cluster)?;
    assert_eq!(cluster.command(&["down"]).status.code(), Some(0));
    let (code, text) = watch.end()?;
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("has stopped"), "{text}");
    Ok(())
}

#[test]
fn down_does_not_take_a_broken_connection_for_a_stopped_cluster() -> Result<()> {
    let mut cluster = Cluster::serving(&echo().top("timeout = \"600s\"").deployment("delay = \"10m\""))?;
    let _client = cluster.send("/slow", &json!({"text": "x"}))?;
    eventually("a request is under way", || (cluster.deployment("slow/model")["ongoing"] == 1).then_some(()));
    let down = Command::new(cluster_binary())
        .args(["down", "--data-dir"])
        .arg(cluster.leader.data_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // While a request is under way, others are told that the ingress shuts down.
    eventually("the cluster drains", || {
        let (status, _) = cluster.post("/slow", &json!({})).ok()?;
        (status == 503).then_some(())
    });
    cluster.leader.kill();
    let output = down.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("was asked to stop"), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
