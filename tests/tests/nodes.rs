//! Nodes that are cordoned, drained and taken in again while they serve.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use millstream_tests::chat_client::ChatClient;
use millstream_tests::{Cluster, Echo, Load, UpOptions, cluster_binary, eventually, run_cluster};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Streams of a token a second.
const TALK: &str = r#"
name = "talk"
[deployments.writer]
engine = "sim"
cpus = 0.01
memory = "1MiB"
replicas = 2
batch = { max_size = 16 }
max_ongoing_requests = 100
[deployments.writer.sim]
first_token = { base = "20ms" }
next_token = { base = "1s" }
"#;
const NUM_STREAMS: usize = 16;
/// They take 10 s.
const NUM_TOKENS: usize = 11;

/// A cluster of a process with head and ingress, and the workers `left` and `right` with a replica of each deployment.
fn two_workers(pipelines: &[&str]) -> Result<Cluster> {
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--roles", "head,ingress", "--empty"]))?;
    cluster.join("left", &[])?;
    cluster.join("right", &[])?;
    for pipeline in pipelines {
        cluster.deploy(*pipeline, &[])?;
    }
    Ok(cluster)
}

fn echo(name: &str) -> Echo {
    Echo::new(name).replicas(2).deployment("delay = \"20ms\"\ncpus = 0.01\nmemory = \"1MiB\"")
}

/// The nodes that a deployment's replicas are on, sorted.
fn nodes_of(cluster: &Cluster, deployment: &str) -> Vec<String> {
    let deployment = cluster.deployment(deployment);
    let replicas = deployment["replicas"].as_array().into_iter().flatten();
    let mut nodes: Vec<_> = replicas.filter_map(|it| it["node"].as_str().map(str::to_owned)).collect();
    nodes.sort();
    nodes
}

fn node_state(cluster: &Cluster, name: &str) -> Value {
    let status = cluster.status();
    let mut nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.find(|node| node["name"] == name).map(|node| node["state"].clone()).unwrap_or_default()
}

/// Runs a command of `cluster node` to its end; what it says on stdout and stderr.
fn node(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let output = cluster.command(&[&["node"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    Ok(text(&output.stdout) + &text(&output.stderr))
}

/// What became of a node is among the events that the dashboard shows.
fn has_events(cluster: &Cluster, changes: &[&str]) -> Result<()> {
    let events = cluster.rest("/api/events?target=")?.to_string();
    for change in changes {
        ensure!(events.contains(&format!("\"change\":\"{change}\"")), "no {change}: {events}");
    }
    Ok(())
}

/// Streams that have all begun; then whether each came to its end with all its tokens.
fn streams(cluster: &Cluster, begun: std::sync::mpsc::Sender<()>) -> Result<thread::JoinHandle<Result<()>>> {
    let address = cluster.ingress()?;
    Ok(thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let connect = (0..NUM_STREAMS).map(|_| ChatClient::connect(address, "talk/writer", NUM_TOKENS));
            let mut clients = try_join_all(connect).await?;
            let timer = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                begun.send(()).context("nobody waits for the streams")
            };
            let streams = try_join_all(clients.iter_mut().map(ChatClient::stream));
            let (streamed, ()) = tokio::try_join!(streams, timer)?;
            let short = streamed.iter().filter(|it| it.num_tokens != NUM_TOKENS).count();
            ensure!(short == 0, "{short} of {NUM_STREAMS} streams were cut: {streamed:?}");
            Ok(())
        })
    }))
}

#[test]
fn a_drained_node_fails_no_call_and_cuts_no_stream() -> Result<()> {
    let cluster = two_workers(&[TALK, &echo("slow").to_string()])?;
    for deployment in ["talk/writer", "slow/model"] {
        assert_eq!(nodes_of(&cluster, deployment), ["left", "right"]);
    }
    let load = Load::on(&cluster, "/slow").start(4);
    load.until_answered(20);
    let (begun, has_begun) = std::sync::mpsc::channel();
    let streams = streams(&cluster, begun)?;
    has_begun.recv()?;

    let said = node(&cluster, &["drain", "left", "--timeout", "60s"])?;
    assert!(said.contains("left is drained: its 2 replicas have left"), "{said}");
    assert!(said.contains("talk/writer: 0 of 1 moved; finishing its calls"), "{said}");
    assert!(said.contains("slow/model: 1 of 1 moved"), "{said}");
    assert_eq!(node_state(&cluster, "left"), "cordoned");
    for deployment in ["talk/writer", "slow/model"] {
        assert_eq!(nodes_of(&cluster, deployment), ["right", "right"]);
    }
    streams.join().expect("the streams end")?;
    load.until_answered(20);
    let ended = load.stop();
    assert_eq!((ended.failed, ended.shed), (0, 0), "of {}: {:?}", ended.answered, ended.texts);
    Ok(())
}

#[test]
fn a_cordon_keeps_new_deploys_away_over_a_restart_of_the_head_until_it_is_taken_back() -> Result<()> {
    let mut cluster = two_workers(&[&echo("slow").to_string()])?;
    node(&cluster, &["drain", "left"])?;
    has_events(&cluster, &["drain_begun", "drained"])?;
    let why = cluster.command(&["explain", "left"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("node left is being drained: its replicas move to other nodes"), "{why}");
    assert!(why.contains("its node is drained"), "{why}");
    cluster.restart_leader(UpOptions::new().args(&["--roles", "head,ingress"]))?;
    cluster.wait_ready();
    eventually("both are back", || {
        (node_state(&cluster, "left") == "cordoned" && node_state(&cluster, "right") == "ready").then_some(())
    });
    cluster.deploy(&echo("more"), &[])?;
    assert_eq!(nodes_of(&cluster, "more/model"), ["right", "right"]);
    let again = node(&cluster, &["cordon", "left"])?;
    assert!(again.contains("left is cordoned: nothing new"), "it is no longer drained: {again}");
    let already = node(&cluster, &["cordon", "left"])?;
    assert!(already.contains("left is cordoned already"), "{already}");
    assert!(node(&cluster, &["list"])?.contains("cordoned"));
    node(&cluster, &["uncordon", "left"])?;
    assert_eq!(node_state(&cluster, "left"), "ready");
    cluster.deploy(&echo("last"), &[])?;
    assert!(nodes_of(&cluster, "last/model").contains(&"left".to_owned()));
    has_events(&cluster, &["cordoned", "uncordoned"])
}

#[test]
fn what_has_no_other_place_keeps_serving_and_the_command_says_why() -> Result<()> {
    let cluster = two_workers(&[&echo("slow").deployment("max_replicas_per_node = 1").to_string()])?;
    let load = Load::on(&cluster, "/slow").start(2);
    let output = cluster.command(&["node", "drain", "left", "--timeout", "2s", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(output.status.code(), Some(1), "{answer}");
    let left = &answer["error"]["left"][0];
    assert_eq!((&left["deployment"], &left["replicas"]), (&json!("slow/model"), &json!(1)), "{answer}");
    let reasons =
        json!(["right: has the 1 replicas that `max_replicas_per_node` allows", "left: being drained"]);
    assert_eq!(left["reasons"], reasons);
    assert_eq!(node_state(&cluster, "left"), "draining");

    // Ctrl-C ends the command and not the drain.
    let mut waiting = Command::new(cluster_binary())
        .args(["node", "drain", "left", "--data-dir"])
        .arg(cluster.leader.data_dir())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    thread::sleep(Duration::from_secs(1));
    kill_process(Pid::from_child(&waiting), Signal::INT)?;
    let code = eventually("the command has ended", || waiting.try_wait().unwrap()).code();
    let said = std::io::read_to_string(waiting.stderr.take().context("no stderr")?)?;
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("the drain of left goes on; `cluster node uncordon left` ends it"), "{said}");
    assert_eq!(node_state(&cluster, "left"), "draining");
    assert_eq!(nodes_of(&cluster, "slow/model"), ["left", "right"]);

    node(&cluster, &["uncordon", "left"])?;
    assert_eq!(node_state(&cluster, "left"), "ready");
    assert!(cluster.deployment("slow/model")["pending"].as_array().is_some_and(Vec::is_empty));
    let ended = load.stop();
    assert_eq!((ended.failed, ended.shed), (0, 0), "of {}: {:?}", ended.answered, ended.texts);
    Ok(())
}

#[test]
fn a_drained_node_can_end_and_be_removed_and_wrong_names_are_errors() -> Result<()> {
    let mut cluster = two_workers(&[&echo("slow").to_string()])?;
    for command in ["cordon", "uncordon", "drain"] {
        let output = cluster.command(&["node", command, "nobody"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains("there is no node `nobody`; `cluster node list` shows"), "{said}");
    }
    let token = std::fs::read_to_string(cluster.leader.data_dir().join("admin.token"))?;
    let post = |path: &str| -> Result<(u16, Value)> {
        let url = format!("http://{}/api/nodes/{path}", cluster.dashboard());
        let answer = cluster.http().post(url).bearer_auth(token.trim()).send()?;
        Ok((answer.status().as_u16(), answer.json()?))
    };
    assert_eq!(post("nobody/drain")?.0, 404);
    assert_eq!(post("left/drain")?, (200, json!({"node": "left", "changed": true})));
    assert_eq!(post("left/drain")?, (200, json!({"node": "left", "changed": false})));
    eventually("nothing runs on left", || (node_state(&cluster, "left") == "cordoned").then_some(()));

    let refused = cluster.command(&["node", "remove", "left"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("node `left` is connected; stop its worker first"), "{said}");
    let load = Load::on(&cluster, "/slow").start(2);
    load.until_answered(10);
    let dir = cluster.joined[0].data_dir().to_owned();
    cluster.joined[0].signal(Signal::TERM);
    assert_eq!(cluster.joined[0].wait(), Some(0));
    node(&cluster, &["remove", "left"])?;
    load.until_answered(10);
    let ended = load.stop();
    assert_eq!((ended.failed, ended.shed), (0, 0), "of {}: {:?}", ended.answered, ended.texts);
    // Whoever comes under that name is not cordoned.
    std::fs::remove_dir_all(dir)?;
    cluster.join("left", &[])?;
    let unreachable = run_cluster(&["node", "drain", "left", "--cluster", "127.0.0.1:1"]);
    assert_eq!(unreachable.status.code(), Some(4));
    Ok(())
}
