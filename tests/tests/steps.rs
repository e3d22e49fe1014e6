//! Revisions that take over by steps, that are too slow, that people give another part of the requests; what is deployed, what was
//! before, and how to get back to it.

use std::process::Output;

use anyhow::Result;
use millstream_tests::{Cluster, Echo, Load, eventually, good_revision as version};
use serde_json::{Value, json};

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

fn pipeline(cluster: &Cluster) -> Value {
    cluster.status()["pipelines"][0].clone()
}

fn with_rollout(echo: Echo, rollout: &str) -> Echo {
    echo.more(&format!("[rollout]\n{rollout}"))
}

#[test]
fn a_revision_takes_over_by_the_steps_of_its_file_and_fails_no_request() -> Result<()> {
    let cluster = Cluster::serving(&version(1))?;
    let load = Load::on(&cluster, "/p").start(4);
    load.until_answered(50);
    let steps = "steps = [\"20% 1s\", \"60% 1s\", \"100%\"]\nmax_p95 = \"10s\"";
    let said = ok(&cluster.try_deploy(&with_rollout(version(2), steps), &[]));
    assert!(said.contains("p revision 2 takes over by the steps of its file"), "{said}");
    eventually("revision 2 serves", || (pipeline(&cluster)["serving_revision"] == 2).then_some(()));
    let ended = load.stop();
    assert_eq!((ended.failed, ended.shed), (0, 0), "{:?}", ended.texts);
    let decisions = ok(&cluster.command(&["explain", "p"]));
    assert!(decisions.contains("revision 2 gets 60% of the requests"), "{decisions}");
    // Numbers of the last minute are there to look at.
    let traffic = pipeline(&cluster)["traffic"].clone();
    assert!(traffic["requests_per_second"].as_f64().is_some_and(|rate| rate > 1.0), "{traffic}");
    assert!(
        traffic["p50_ms"].as_f64() <= traffic["p95_ms"].as_f64() && traffic["p50_ms"].as_f64() > Some(4.0)
    );
    Ok(())
}

#[test]
fn a_revision_that_is_slower_than_its_file_allows_is_taken_back() -> Result<()> {
    let cluster = Cluster::serving(&version(1))?;
    let load = Load::on(&cluster, "/p").start(8);
    load.until_answered(50);
    let slow = Echo::new("p").deployment("delay = \"400ms\"").replicas(2).echoes("version", "2");
    let slow = with_rollout(slow, "steps = [\"50% 10m\", \"100%\"]\nmax_p95 = \"200ms\"");
    ok(&cluster.try_deploy(&slow, &[]));
    eventually("it is taken back", || (pipeline(&cluster)["revision"] == 1).then_some(()));
    let verdict = pipeline(&cluster)["verdicts"][0].clone();
    let reason = verdict["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("95% of its requests take up to") && reason.contains("`max_p95` of 200ms"),
        "{verdict}"
    );
    assert_eq!(load.stop().failed, 0);
    Ok(())
}

#[test]
fn a_canary_gets_another_part_and_goes_on_from_it() -> Result<()> {
    let cluster = Cluster::serving(&version(1))?;
    ok(&cluster.try_deploy(&version(2), &["--canary", "20%"]));
    let refused = cluster.command(&["rollout", "set", "q", "--percent", "60%", "--json"]);
    assert_eq!((refused.status.code(), &json_of(&refused)["error"]["code"]), (Some(5), &json!("refused")));
    let said = ok(&cluster.command(&["rollout", "set", "p", "--percent", "60%"]));
    assert!(said.contains("p revision 2 gets 60%"), "{said}");
    eventually("the part is in force", || {
        (pipeline(&cluster)["rollout"]["traffic_ratio"] == json!(0.6)).then_some(())
    });
    let shown = ok(&cluster.command(&["status"]));
    assert!(shown.contains("canary 60%"), "{shown}");
    let shown = ok(&cluster.command(&["rollout", "status", "p"]));
    assert!(shown.contains("is a canary beside 1") && shown.contains("verdict so far:"), "{shown}");
    ok(&cluster.command(&["rollout", "promote", "p"]));
    let least = std::cell::Cell::new(1.0_f64);
    eventually("it serves", || {
        let pipeline = pipeline(&cluster);
        let ratio = pipeline["rollout"]["traffic_ratio"].as_f64().unwrap_or(1.0);
        least.set(least.get().min(ratio));
        (pipeline["serving_revision"] == 2).then_some(())
    });
    assert!(least.get() >= 0.6, "it never goes back by a step: {least:?}");
    Ok(())
}

#[test]
fn what_is_deployed_what_was_and_how_to_get_back() -> Result<()> {
    let cluster = Cluster::serving(&version(1))?;
    ok(&cluster.try_deploy(&version(2), &[]));
    let file = cluster.folder().join("next.toml");
    std::fs::write(&file, version(3).to_string())?;
    let diff = ok(&cluster.command(&["diff", &file.display().to_string()]));
    for part in ["--- p revision 2", "-cpus = 0.012", "+cpus = 0.013", "p would become revision 3"] {
        assert!(diff.contains(part), "`{part}` in {diff}");
    }
    let history = json_of(&cluster.command(&["rollout", "history", "p", "--json"]));
    let revisions = history["revisions"].as_array().expect("revisions");
    assert_eq!(
        (&revisions[0]["revision"], &revisions[0]["state"]),
        (&json!(2), &json!("serves")),
        "{history}"
    );
    assert!(revisions[0]["lines_added"].as_u64() >= Some(1) && revisions[1]["lines_added"].is_null());
    assert!(ok(&cluster.command(&["rollout", "history", "p"])).contains("admin"));

    let failed = cluster.try_deploy(&millstream_tests::broken_revision(4), &[]);
    assert_eq!(failed.status.code(), Some(1));
    let said = ok(&cluster.command(&["rollout", "undo", "p", "--to", "1"]));
    assert!(said.contains("p is back to what revision 1 was, as revision 4"), "{said}");
    assert_eq!(cluster.ask("/p", &[])?.json::<Value>()?["version"], 1);
    let warned = cluster.command(&["rollout", "undo", "p", "--to", "3", "--no-wait"]);
    assert!(text(&warned.stderr).contains("revision 3 did not serve before"), "{}", text(&warned.stderr));
    eventually("it is taken back again", || (pipeline(&cluster)["revision"] == 4).then_some(()));

    let said = ok(&cluster.command(&["delete", "p"]));
    assert!(said.contains("`cluster rollout undo p` brings it back"), "{said}");
    eventually("it is gone", || (cluster.ask("/p", &[]).ok()?.status() == 404).then_some(()));
    ok(&cluster.command(&["rollout", "undo", "p"]));
    assert_eq!(cluster.ask("/p", &[])?.json::<Value>()?["version"], 1);
    Ok(())
}

#[test]
fn one_thing_is_described_by_its_name() -> Result<()> {
    let cluster = Cluster::serving(&version(1))?;
    let node = cluster.status()["nodes"][0]["name"].as_str().unwrap_or_default().to_owned();
    for (name, part) in
        [("p", "requests to"), ("p/model", "range"), ("p-model-1-1", "process"), (&node, "labels")]
    {
        let shown = ok(&cluster.command(&["describe", name]));
        assert!(shown.contains(part) || name == node, "{name}: {shown}");
    }
    let json = json_of(&cluster.command(&["status", "p/model", "--json"]));
    assert_eq!(json["deployment"]["full_name"], "p/model", "{json}");
    let unknown = cluster.command(&["status", "nothing"]);
    assert_eq!(unknown.status.code(), Some(5));
    assert!(text(&unknown.stderr).contains("the pipelines are p"), "{}", text(&unknown.stderr));
    Ok(())
}

#[test]
fn a_full_node_is_updated_in_place_and_fails_no_request() -> Result<()> {
    let cluster = Cluster::serving(&Echo::new("p").echoes("version", "1").deployment("cpus = 0.01"))?;
    let cores = cluster.status()["nodes"][0]["cpu_milli"].as_f64().unwrap_or_default() / 1000.0;
    let half = format!("cpus = {:.3}", cores * 0.6);
    let large = |version: &str| Echo::new("p").echoes("version", version).deployment(&half);
    ok(&cluster.try_deploy(&large("2").deployment("max_surge = 0"), &[]));
    let load = Load::on(&cluster, "/p").start(4);
    load.until_answered(20);
    // Beside it there is no room.
    let other = large("3").deployment("lanes = 1");
    let waits = cluster.try_deploy(&other, &["--timeout", "2s"]);
    assert_eq!(waits.status.code(), Some(1));
    let said = text(&waits.stderr);
    assert!(said.contains("waits for a place") && said.contains("`max_surge = 0`"), "{said}");
    ok(&cluster.command(&["rollout", "abort", "p"]));
    ok(&cluster.try_deploy(&large("4").deployment("max_surge = 0").deployment("lanes = 1"), &[]));
    load.until_answered(20);
    let ended = load.stop();
    assert_eq!((ended.failed, ended.shed), (0, 0), "{:?}", ended.texts);
    assert_eq!(cluster.ask("/p", &[])?.json::<Value>()?["version"], 4);
    Ok(())
}
