//! Several heads on one etcd: each of them answers, one leads, another one takes over, and what serves goes on serving.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_test_support::Etcd;
use millstream_tests::{Cluster, Echo, Node, UpOptions, eventually, run_cluster};
use reqwest::blocking::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Heads on one etcd, each with a worker and an ingress.
struct Heads {
    etcd: Etcd,
    nodes: Vec<Node>,
    folder: TempDir,
    http: Client,
}

impl Heads {
    fn start(names: &[&str]) -> Result<Self> {
        let http = Client::builder().timeout(Duration::from_secs(10)).build()?;
        let mut heads = Self { etcd: Etcd::start(), nodes: Vec::new(), folder: tempfile::tempdir()?, http };
        for name in names {
            heads.add(name)?;
        }
        eventually("all nodes are ready", || {
            let status = heads.status(0)?;
            let nodes = status["nodes"].as_array()?.iter().filter(|node| node["state"] == "ready").count();
            (nodes == names.len()).then_some(())
        });
        Ok(heads)
    }

    /// Starts a head, or starts it again on its data directory.
    fn add(&mut self, name: &str) -> Result<()> {
        let store = format!("etcd://{}/test", self.etcd.members());
        let options = UpOptions::new().args(&["--store", &store, "--node-name", name, "--empty"]);
        let mut node = Node::start(&self.folder.path().join(name), &options)?;
        node.endpoints();
        self.nodes.push(node);
        Ok(())
    }

    /// Runs a command with the data directory of one of them.
    fn command(&self, index: usize, args: &[&str]) -> Output {
        let mut line = args.to_vec();
        let dir = self.nodes[index].data_dir().display().to_string();
        line.extend(["--data-dir", &dir]);
        run_cluster(&line)
    }

    fn status(&self, index: usize) -> Option<Value> {
        serde_json::from_slice(&self.command(index, &["status", "--json"]).stdout).ok()
    }

    fn deploy(&self, index: usize, pipeline: &Echo) -> Output {
        let file = self.folder.path().join("p.toml");
        fs::write(&file, pipeline.to_string()).unwrap();
        self.command(index, &["deploy", &file.display().to_string()])
    }

    /// Calls a route at the ingress of one of them.
    fn call(&mut self, index: usize, route: &str) -> bool {
        let ingress = self.nodes[index].endpoints()["ingress"].as_str().unwrap_or_default().to_owned();
        let call = self.http.post(format!("http://{ingress}{route}")).json(&json!({"text": "x"})).send();
        call.is_ok_and(|answer| answer.status().is_success())
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn same_token(one: &Path, other: &Path) -> bool {
    let read = |dir: &Path| fs::read_to_string(dir.join("admin.token")).unwrap();
    read(one) == read(other)
}

#[test]
fn another_head_takes_over_and_nothing_fails_meanwhile() -> Result<()> {
    let mut heads = Heads::start(&["a", "b", "c"])?;
    assert!(
        same_token(heads.nodes[0].data_dir(), heads.nodes[2].data_dir()),
        "heads of one store share their tokens"
    );
    let deployed = heads.deploy(2, &Echo::new("p").replicas(3));
    assert!(
        deployed.status.success(),
        "a head that follows points at the one that leads: {}",
        text(&deployed)
    );
    for index in 0..3 {
        eventually("each ingress serves it", || heads.call(index, "/p").then_some(()));
    }
    heads.nodes[0].kill();
    let (start, mut failed) = (Instant::now(), 0);
    eventually("another head leads", || {
        failed += u32::from(!heads.call(2, "/p"));
        heads.nodes[1..].iter().any(|node| node.log().contains("head leads epoch=2")).then_some(())
    });
    println!("another head leads after {:?}", start.elapsed());
    eventually("it is asked", || (heads.status(2)?["epoch"] == 2).then_some(()));
    println!("and answers after {:?}", start.elapsed());
    assert_eq!(failed, 0, "calls at a node that lives go on");
    let deployed = heads.deploy(1, &Echo::new("q"));
    assert!(deployed.status.success(), "the new leader takes changes: {}", text(&deployed));
    heads.nodes.remove(0);
    heads.add("a")?;
    eventually("the one that was killed follows, and serves", || heads.call(2, "/q").then_some(()));
    let down = heads.command(0, &["down"]);
    assert!(down.status.success(), "{}", text(&down));
    for node in &mut heads.nodes {
        assert_eq!(node.wait(), Some(0), "every head ends");
    }
    Ok(())
}

#[test]
fn the_head_that_leads_gives_way_when_it_is_told_to_or_ends() -> Result<()> {
    let mut heads = Heads::start(&["a", "b"])?;
    assert!(heads.deploy(0, &Echo::new("p").replicas(2)).status.success());
    let list = heads.command(1, &["head", "list"]);
    println!("{}", String::from_utf8_lossy(&list.stdout));
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.lines().any(|line| line.starts_with(" a ") && line.contains("yes")), "{list}");
    assert!(list.lines().any(|line| line.starts_with(" b ") && !line.contains("yes")), "{list}");
    let stepped = heads.command(1, &["head", "step-down", "--json"]);
    assert!(stepped.status.success(), "{}", text(&stepped));
    let stepped: Value = serde_json::from_slice(&stepped.stdout)?;
    println!("{stepped}");
    assert_eq!((stepped["head"].as_str(), stepped["epoch"].as_u64()), (Some("b"), Some(2)));
    assert!(heads.call(0, "/p") && heads.call(1, "/p"));
    // One that ends by itself gives way too.
    heads.nodes[1].signal(rustix::process::Signal::TERM);
    let start = Instant::now();
    eventually("the other one leads", || heads.nodes[0].log().contains("head leads epoch=3").then_some(()));
    println!("after SIGTERM another head leads in {:?}", start.elapsed());
    assert_eq!(heads.nodes[1].wait(), Some(0));
    let alone = heads.command(0, &["head", "step-down"]);
    assert!(text(&alone).contains("no other head"), "{}", text(&alone));
    Ok(())
}

#[test]
fn a_cluster_moves_from_its_data_directory_to_etcd() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("state.jsonl").display().to_string();
    let exported = cluster.command(&["state", "export", &file]);
    assert!(exported.status.success(), "{}", text(&exported));
    drop(cluster);
    let mut heads = Heads { etcd: Etcd::start(), nodes: Vec::new(), folder, http: Client::new() };
    let store = format!("etcd://{}/test", heads.etcd.members());
    let imported = run_cluster(&["state", "import", &file, "--store", &store]);
    assert!(imported.status.success(), "{}", text(&imported));
    let again = run_cluster(&["state", "import", &file, "--store", &store]);
    assert!(text(&again).contains("the store is not empty"), "{}", text(&again));
    heads.add("a")?;
    eventually("it serves", || heads.call(0, "/p").then_some(()));
    Ok(())
}

#[test]
fn without_etcd_serving_goes_on_and_changes_are_refused_until_it_is_back() -> Result<()> {
    let mut heads = Heads::start(&["a"])?;
    assert!(heads.deploy(0, &Echo::new("p")).status.success());
    assert!(heads.call(0, "/p"));
    heads.etcd.kill(0);
    for after in [0, 6] {
        std::thread::sleep(Duration::from_secs(after));
        assert!(heads.call(0, "/p"), "serving goes on");
        let start = Instant::now();
        let refused = heads.deploy(0, &Echo::new("q"));
        println!("refused after {:?}: {}", start.elapsed(), text(&refused));
        assert!(!refused.status.success());
        assert!(text(&refused).contains("store_unavailable"), "{}", text(&refused));
    }
    heads.etcd.restart(0);
    eventually("changes are taken again", || heads.deploy(0, &Echo::new("q")).status.success().then_some(()));
    assert!(heads.call(0, "/p"));
    // The ingress may still be on its way back to the head.
    eventually("what was deployed serves", || heads.call(0, "/q").then_some(()));
    Ok(())
}

#[test]
fn a_store_that_cannot_be_used_is_refused_at_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (dir, token) = (folder.path().join("data").display().to_string(), folder.path().join("token"));
    fs::write(&token, "another-token")?;
    let etcd = Etcd::start();
    let address = format!("etcd://{}/p", etcd.members());
    let token = token.display().to_string();
    let first = Heads { etcd, nodes: Vec::new(), folder: tempfile::tempdir()?, http: Client::new() };
    let options = UpOptions::new().args(&["--store", &address, "--empty"]);
    let mut node = Node::start(&first.folder.path().join("a"), &options)?;
    node.endpoints();
    for (flags, said) in [
        (&["--store", "redis://a:1"][..], "begin with etcd://"),
        (&["--store", "etcd://127.0.0.1:1/p"], "store_unavailable: etcd://127.0.0.1:1/p"),
        (&["--store", &address, "--join", "127.0.0.1:1"], "has no role `head`"),
        (&["--store", &address, "--token-file", &token], "another admin token"),
        (&["--store", &address, "--store-user-file", &token], "USER:PASSWORD"),
        (&["--store", &address, "--store-ca", "/nowhere"], "cannot read"),
    ] {
        let mut line = vec!["up", "--data-dir", &dir, "--ingress", "127.0.0.1:0", "--control", "127.0.0.1:0"];
        line.extend(["--dashboard", "127.0.0.1:0"]);
        line.extend(flags);
        let refused = run_cluster(&line);
        assert!(!refused.status.success() && text(&refused).contains(said), "{flags:?}: {}", text(&refused));
    }
    Ok(())
}
