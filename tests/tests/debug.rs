//! Looking back: what a bundle has of a running cluster and of one whose head is gone, whether the decisions in it are made again by
//! `cluster simulate --from`, and what `cluster explain` says of nodes, replicas and deployments.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use millstream_tests::{Cluster, Echo, Load, UpOptions, eventually, run_cluster};
use serde_json::{Value, json};

/// One number a second is recorded. So the load of the test is the same for longer than that, and more than the bounds let
/// through, and the delays are longer than the average: then what is decided does not depend on moments within a second.
const SCALING: &str = r#"delay = "100ms"
autoscaling = { min_replicas = 1, max_replicas = 3, target_ongoing_requests = 1, look_back = "1s", upscale_delay = "3s", downscale_delay = "4s" }"#;

/// The files of a bundle, without the folder that they are in.
pub(crate) fn files_of(bundle: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(bundle)?));
    let mut files = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let (_, name) = path.split_once('/').context("a folder")?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.insert(name.to_owned(), bytes);
    }
    Ok(files)
}

/// Writes a bundle; returns what the command says of it.
pub(crate) fn bundle(cluster: &Cluster, path: &Path) -> Result<Value> {
    let path = path.display().to_string();
    json_of(&cluster.command(&["debug", "bundle", "--output", &path, "--json"]))
}

fn json_of(output: &std::process::Output) -> Result<Value> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn simulate(bundle: &Path, args: &[&str]) -> std::process::Output {
    let path = bundle.display().to_string();
    run_cluster(&[&["simulate", "--from", &path], args].concat())
}

/// The scaling decisions that the head has told of.
fn scaled(cluster: &Cluster) -> Result<Vec<(u64, u64)>> {
    let events = cluster.rest("/api/events?target=p/model&limit=5000")?["events"].clone();
    let scaled = events.as_array().into_iter().flatten().filter(|event| event["kind"] == "scaled");
    let number = |event: &Value, key: &str| event[key].as_u64().unwrap_or(u64::MAX);
    Ok(scaled.map(|event| (number(event, "from"), number(event, "to"))).collect())
}

#[test]
fn the_decisions_of_a_bundle_are_made_again() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    cluster.join("other", &[])?;
    cluster.deploy(&Echo::new("p").deployment(SCALING), &[])?;
    let load = Load::on(&cluster, "/p").start(12);
    let until = |expected: &[(u64, u64)]| {
        eventually("the number has changed", || (scaled(&cluster).ok()? == expected).then_some(()));
    };
    until(&[(1, 3)]);
    // A few seconds of that, so that what follows is a decision of its own.
    std::thread::sleep(Duration::from_secs(4));
    let ended = load.stop();
    assert_eq!(ended.failed, 0, "{:?}", ended.texts);
    until(&[(1, 3), (3, 1)]);
    std::thread::sleep(Duration::from_secs(2));

    let path = cluster.folder().join("bundle.tar.gz");
    let told = bundle(&cluster, &path)?;
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    let files = files_of(&path)?;
    let expected = [
        "events.json",
        "head.json",
        "local/arguments.json",
        "local/endpoints.json",
        "local/logs/stderr.log",
        "local/logs/stdout.log",
        "local/metrics.txt",
        "manifest.json",
        "pipelines/p/1.toml",
        "revisions.json",
        "series.json",
        "stages.json",
        "status.json",
        "traces.json",
        "versions.json",
    ];
    assert_eq!(files.keys().collect::<Vec<_>>(), expected, "{told}");
    assert_eq!(told["manifest"]["missing"], json!([]));
    let head: Value = serde_json::from_slice(&files["head.json"])?;
    assert_eq!(head["workers"].as_array().map(Vec::len), Some(2), "{head}");
    assert_eq!(head["routes"][0]["deployments"][0]["replicas"].as_array().map(Vec::len), Some(1), "{head}");
    assert!(bundle(&cluster, &path).unwrap_err().to_string().contains("already"), "nothing is replaced");

    let again = json_of(&simulate(&path, &["--json"]))?;
    let decisions = again["deployments"][0]["decisions"].as_array().context("decisions")?;
    let verdicts: Vec<_> = decisions.iter().map(|decision| decision["verdict"].clone()).collect();
    assert_eq!(verdicts, ["same", "same"], "{again}");
    let ratio = again["deployments"][0]["same_target_ratio"].as_f64();
    assert!(ratio.is_some_and(|ratio| ratio > 0.7), "{again}");
    assert_eq!((&again["places"]["placed"], &again["places"]["waiting"]), (&json!(1), &json!([])), "{again}");
    let fewer = json_of(&simulate(&path, &["--deployment", "p/model", "--max", "1", "--json"]))?;
    let most = |which: &Value| which["max_ready"].as_u64();
    let (was, would_be) = (&fewer["otherwise"]["actual"], &fewer["otherwise"]["simulated"]);
    assert_eq!((most(was), most(would_be)), (Some(3), Some(1)), "{fewer}");
    let text = String::from_utf8(simulate(&path, &[]).stdout)?;
    assert!(text.contains("p/model  2 decisions by load") && text.contains("1 → 3  1 → 3  same"), "{text}");
    Ok(())
}

#[test]
fn a_head_that_is_gone_leaves_what_it_wrote_down() -> Result<()> {
    let mut cluster = Cluster::serving(&Echo::new("p"))?;
    let stored = || {
        // Decisions are stored once a second; a copy of the store that is written just then may be torn.
        let path = cluster.folder().join("running.tar.gz");
        let _ = fs::remove_file(&path);
        bundle(&cluster, &path).ok()?;
        Some(())
    };
    eventually("a bundle of the running cluster", stored);
    std::thread::sleep(Duration::from_secs(2));
    cluster.leader.kill();
    let path = cluster.folder().join("after.tar.gz");
    let told = bundle(&cluster, &path)?;
    let files = files_of(&path)?;
    for file in [
        "events.json",
        "pipelines/p/1.toml",
        "local/endpoints.json",
        "local/logs/stderr.log",
        "versions.json",
    ] {
        assert!(files.contains_key(file), "{file}: {told}");
    }
    let events: Value = serde_json::from_slice(&files["events.json"])?;
    let kinds: Vec<_> =
        events["events"].as_array().into_iter().flatten().map(|it| it["kind"].clone()).collect();
    assert!(kinds.contains(&json!("deployed")) && kinds.contains(&json!("placed")), "{events}");
    let missing = told["manifest"]["missing"].as_array().context("what is missing")?;
    assert!(missing.iter().all(|missing| missing["path"] != "events.json"), "{told}");
    let status = missing.iter().find(|missing| missing["path"] == "status.json").context("status")?;
    assert!(status["why"].as_str().is_some_and(|why| why.contains("no cluster answers")), "{told}");
    let refused = simulate(&path, &[]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr.contains("has no `status.json`: no cluster answers"), "{stderr}");
    Ok(())
}

#[test]
fn what_is_no_bundle_is_refused_in_words() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, bytes: &[u8]| -> Result<String> {
        let path = folder.path().join(name);
        fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    };
    let (text, empty) = (file("text.tar.gz", b"no archive")?, file("empty.tar.gz", b"")?);
    let table: [(&[&str], i32, &str); 7] = [
        (&["simulate", "--from", &text], 1, "is not a bundle of `cluster debug bundle`"),
        (&["simulate", "--from", &empty], 1, "is not a bundle of `cluster debug bundle`"),
        (&["simulate", "--from", "/nowhere.tar.gz"], 1, "cannot read bundle `/nowhere.tar.gz`"),
        (&["simulate", "--from", &text, "--max", "3"], 2, "--deployment"),
        (&["simulate", "--from", &text, "--deployment", "p"], 2, "--deployment"),
        (&["debug", "bundle", "--cluster", "127.0.0.1:1", "--data-dir", "/nowhere"], 4, "no cluster answers"),
        (&["debug", "bundle", "--output", "-", "--json"], 2, "leave one out"),
    ];
    for (args, code, expected) in table {
        let output = run_cluster(args);
        let said = [output.stderr, output.stdout].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    Ok(())
}

#[test]
fn explain_says_why_a_replica_moved_what_a_node_holds_and_which_stage_is_slow() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    cluster.join("other", &[])?;
    let slow = Echo::new("p").replicas(2).deployment("delay = \"30ms\"");
    cluster.deploy(&slow, &[])?;
    let load = Load::on(&cluster, "/p").start(2);
    let explain = |target: &str, more: &[&str]| -> Result<(Value, String)> {
        let line = [&["explain", target], more].concat();
        let json = json_of(&cluster.command(&[&line[..], &["--json"]].concat()))?;
        Ok((json, String::from_utf8(cluster.command(&line).stdout)?))
    };
    eventually("there are traces of slow requests", || {
        let (json, _) = explain("p", &[]).ok()?;
        (json["now"]["slow"]["stage"] == "out").then_some(())
    });
    let (json, text) = explain("p/model", &[])?;
    assert_eq!(json["now"]["slow"]["deployment"], "p/model", "{json}");
    assert!(text.contains("stage out (p/model) takes") && text.contains("2 of 2 replicas ready"), "{text}");
    let (json, text) = explain("other", &[])?;
    assert_eq!((&json["now"]["kind"], &json["now"]["holds"][0]["replicas"]), (&json!("node"), &json!(1)));
    assert!(text.contains("node other is ready") && text.contains("node other joined"), "{text}");
    let deployment = cluster.deployment("p/model");
    let on_other = |replica: &&Value| replica["node"] == "other";
    let replica = deployment["replicas"].as_array().into_iter().flatten().find(on_other).cloned();
    let replica =
        replica.and_then(|replica| replica["id"].as_str().map(str::to_owned)).context("a replica")?;
    let (json, text) = explain(&replica, &["--kind", "replica"])?;
    assert_eq!(json["now"]["beside"][0]["node"], "other", "{json}");
    assert!(text.contains(&format!("{replica} has other for itself")), "{text}");
    drop(load);

    cluster.joined[0].kill();
    let moved = eventually("the lost replica is elsewhere", || {
        let told = json_of(&cluster.command(&["explain", "p/model", "--json"])).ok()?;
        told["now"]["moves"].as_array()?.first().cloned()
    });
    assert_eq!((&moved["was"], &moved["from"]), (&json!(replica), &json!("other")), "{moved}");
    assert_eq!(moved["why"], "node other is lost", "{moved}");
    let unknown = cluster.command(&["explain", "nobody"]);
    let stderr = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(5));
    assert!(stderr.contains("no pipeline, deployment, replica or node `nobody`"), "{stderr}");
    Ok(())
}
