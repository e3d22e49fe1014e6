//! What people asked for, out of one cluster and into the next.

use std::fs;
use std::process::Output;

use anyhow::Result;
use millstream_tests::{Cluster, Echo, Node, UpOptions, eventually, run_cluster};
use serde_json::json;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_backup_is_put_into_an_empty_store_and_serves() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p"))?;
    let folder = tempfile::tempdir()?;
    let backup = folder.path().join("backup.jsonl").display().to_string();
    let key = String::from_utf8(cluster.command(&["key", "create", "k"]).stdout)?.trim().to_owned();
    let exported = cluster.command(&["state", "export", &backup]);
    assert!(exported.status.success(), "{}", text(&exported));
    assert!(!fs::read_to_string(&backup)?.contains(&key), "keys are there as hashes alone");
    let in_use = run_cluster(&[
        "state",
        "import",
        &backup,
        "--data-dir",
        &cluster.leader.data_dir().display().to_string(),
    ]);
    assert!(text(&in_use).contains("is held by process"), "{}", text(&in_use));
    drop(cluster);

    let data_dir = folder.path().join("data");
    let dir = data_dir.display().to_string();
    let damaged = folder.path().join("damaged.jsonl");
    let whole = fs::read_to_string(&backup)?;
    fs::write(&damaged, &whole[..whole.len() / 2])?;
    let refused = run_cluster(&["state", "import", &damaged.display().to_string(), "--data-dir", &dir]);
    assert!(!refused.status.success() && text(&refused).contains("damaged"), "{}", text(&refused));
    let imported = run_cluster(&["state", "import", &backup, "--data-dir", &dir]);
    assert!(imported.status.success(), "{}", text(&imported));
    let again = run_cluster(&["state", "import", &backup, "--data-dir", &dir]);
    assert!(text(&again).contains("the store is not empty"), "{}", text(&again));

    let mut node = Node::start(&data_dir, &UpOptions::new().args(&["--require-api-key"]))?;
    let ingress = node.endpoints()["ingress"].as_str().unwrap_or_default().to_owned();
    let http = reqwest::blocking::Client::new();
    eventually("the pipeline serves with the key of before", || {
        let call = http.post(format!("http://{ingress}/p")).bearer_auth(&key).json(&json!({"text": "x"}));
        call.send().ok()?.status().is_success().then_some(())
    });
    Ok(())
}
