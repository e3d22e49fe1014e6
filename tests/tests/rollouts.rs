//! New revisions under load: good ones, ones that never get ready, ones that fail; canaries, shadows, going back; and what
//! `cluster explain` and a dry run say about it.

use std::process::Output;
use std::thread;

use anyhow::Result;
use millstream_tests::{
    Cluster, Echo, Load, UpOptions, broken_revision as broken, eventually, failing_revision as failing,
    good_revision as version, revision,
};
use serde_json::{Value, json};

/// Two stages, one after the other: on `model`, which takes its time, and on the deployment of that name. `second` is
/// deployed only when it is called.
fn two_stages(last: &str) -> Echo {
    let last_stage = format!("[stages.last]\nuse = \"{last}\"\ninputs = {{ text = \"out.text\" }}");
    let echo = Echo::new("p").deployment("delay = \"6s\"").answer("last = \"last.text\"").more(&last_stage);
    if last == "second" { echo.more("[deployments.second]\nengine = \"echo\"") } else { echo }
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}{}", text_of(&output.stdout), text_of(&output.stderr));
}

fn text_of(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn call(cluster: &Cluster, headers: &[(&str, &str)]) -> (u16, String, Value) {
    let answer = cluster.ask("/p", headers).unwrap();
    let revision = answer.headers().get("x-revision").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), revision.unwrap_or_default(), answer.json().unwrap())
}

fn rollout(cluster: &Cluster) -> Value {
    cluster.status()["pipelines"][0]["rollout"].clone()
}

fn two_workers(pipeline: &Echo) -> Result<Cluster> {
    let options = UpOptions::new().args(&["--roles", "head,ingress"]).pipeline(pipeline);
    let mut cluster = Cluster::up(&options)?;
    cluster.join("left", &[])?;
    cluster.join("right", &[])?;
    cluster.wait_ready();
    Ok(cluster)
}

#[test]
fn updates_under_load_fail_no_request_and_bad_ones_are_rolled_back() -> Result<()> {
    let cluster = two_workers(&version(1))?;
    let load = Load::on(&cluster, "/p").start(4);
    load.until_answered(50);
    ok(&cluster.try_deploy(&version(2), &[]));

    let failed = cluster.try_deploy(&broken(3), &[]);
    assert_eq!(failed.status.code(), Some(1), "{}", text_of(&failed.stderr));
    let said = text_of(&failed.stderr);
    assert!(
        said.contains("revision 3 of `p` was rolled back")
            && said.contains("a replica of `p/broken` cannot start: model `file:nowhere` is not there"),
        "{said}"
    );

    let failed = cluster.try_deploy(&failing(4), &[]);
    assert_eq!(failed.status.code(), Some(1), "{}", text_of(&failed.stderr));
    assert!(text_of(&failed.stderr).contains("calls of `model` failed"), "{}", text_of(&failed.stderr));

    // On top of each other: the last one counts.
    for number in 5..8 {
        ok(&cluster.try_deploy(&version(number), &["--no-wait"]));
    }
    ok(&cluster.try_deploy(&version(8), &[]));
    load.until_answered(50);
    let ended = load.stop();
    assert_eq!((ended.failed, ended.shed), (0, 0), "of {}: {:?}", ended.answered, ended.texts);
    assert_eq!(call(&cluster, &[]).2["version"], 8);

    let status = &cluster.status()["pipelines"][0];
    assert_eq!(status["serving_revision"], status["revision"]);
    let verdicts: Vec<_> =
        status["verdicts"].as_array().unwrap().iter().map(|v| v["revision"].clone()).collect();
    assert_eq!(verdicts, [4, 3]);
    let output = text_of(&cluster.command(&["explain", "p", "--since", "10m"]).stdout);
    for sentence in [
        "revision 2 is on trial, revision 1 keeps all its replicas",
        "revision 2 has replaced revision 1",
        "revision 3 was rolled back to revision 2: a replica of `p/broken` cannot start",
        "revision 4 was rolled back to revision 2",
        "p/model  replica",
    ] {
        assert!(output.contains(sentence), "`{sentence}` is not in\n{output}");
    }
    Ok(())
}

#[test]
fn a_request_between_two_stages_ends_on_the_revision_that_it_began_with() -> Result<()> {
    let cluster = Cluster::serving(&two_stages("second"))?;
    let request = cluster.http().post(cluster.url("/p")).json(&json!({"text": "x"}));
    let answer = thread::spawn(move || request.send());
    let in_first_stage = || cluster.deployment("p/model")["ongoing"] == 1;
    eventually("the request is in its first stage", || in_first_stage().then_some(()));
    // The second stage's deployment is gone from what is wanted before the request comes to it.
    cluster.deploy(&two_stages("model"), &[])?;
    assert_eq!(cluster.status()["pipelines"][0]["serving_revision"], 2);
    assert!(in_first_stage(), "the request is still in its first stage");
    let answer = answer.join().unwrap()?;
    let (status, revision) = (answer.status(), answer.headers()["x-revision"].to_str()?.to_owned());
    let text = answer.text()?;
    assert_eq!((status.as_u16(), revision.as_str()), (200, "1"), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text)?["last"], "x");
    // Until errors of the new revision lead no longer back, the deployment is there.
    assert_eq!(cluster.deployment("p/second")["replicas"][0]["state"], "ready");
    Ok(())
}

#[test]
fn a_canary_gets_its_part_is_asked_for_by_name_and_promoted() -> Result<()> {
    let cluster = Cluster::serving(&version(1))?;
    ok(&cluster.try_deploy(&version(2), &["--canary", "30%"]));
    let (mut canary, total) = (0, 400);
    for _ in 0..total {
        let (status, revision, answer) = call(&cluster, &[]);
        assert_eq!(status, 200);
        assert_eq!(answer["version"].to_string(), revision, "plan and header agree");
        canary += u32::from(revision == "2");
    }
    assert!((60..180).contains(&canary), "{canary} of {total}");
    assert_eq!(call(&cluster, &[("x-revision", "canary")]).1, "2");
    assert_eq!(call(&cluster, &[("x-revision", "stable")]).1, "1");
    assert_eq!(call(&cluster, &[("x-revision", "2")]).1, "2");
    assert_eq!(call(&cluster, &[("x-revision", "7")]).0, 404);
    assert_eq!(call(&cluster, &[("x-revision", "newest")]).0, 400);
    let sticky = |key: &str| call(&cluster, &[("x-sticky-key", key)]).1;
    let first: Vec<_> = (0..20).map(|user| sticky(&format!("user-{user}"))).collect();
    assert!(first.contains(&"1".to_owned()) && first.contains(&"2".to_owned()), "{first:?}");
    for (user, revision) in first.iter().enumerate() {
        assert_eq!(&sticky(&format!("user-{user}")), revision);
    }
    let shown = text_of(&cluster.command(&["rollout", "status", "p"]).stdout);
    assert!(
        shown.contains("revision 2 is a canary beside 1") && shown.contains("30% of the requests"),
        "{shown}"
    );
    // The same file with another part: the same revision, step by step.
    let again = cluster.try_deploy(&version(2), &["--canary", "60%"]);
    ok(&again);
    let said = text_of(&again.stdout);
    assert!(said.contains("p revision 2 runs beside the one that serves"), "{said}");
    assert_eq!(rollout(&cluster)["traffic_ratio"], 0.6);

    // The file as it was deployed, each revision of it.
    for (number, flags) in [(1, &["--revision", "1"][..]), (2, &[])] {
        let got = cluster.command(&[&["get", "p"][..], flags].concat());
        ok(&got);
        assert_eq!(text_of(&got.stdout).trim_end(), version(number).to_string().trim_end(), "{number}");
    }
    let missing = cluster.command(&["get", "p", "--revision", "7"]);
    assert_eq!(missing.status.code(), Some(5));
    assert!(text_of(&missing.stderr).contains("revision 7 of `p` is not kept; there is 1, 2"));

    ok(&cluster.command(&["rollout", "promote", "p"]));
    eventually("the canary has taken over", || {
        (cluster.status()["pipelines"][0]["serving_revision"] == 2).then_some(())
    });
    eventually("requests run on it", || (call(&cluster, &[]).1 == "2").then_some(()));
    eventually("it is no canary any more", || {
        let late = cluster.try_deploy(&version(2), &["--canary", "10%"]);
        text_of(&late.stderr).contains("is no canary or shadow").then_some(())
    });

    ok(&cluster.command(&["rollout", "undo", "p"]));
    eventually("the revision before serves again", || (call(&cluster, &[]).2["version"] == 1).then_some(()));
    Ok(())
}

#[test]
fn a_shadow_is_compared_and_aborted() -> Result<()> {
    let cluster = Cluster::serving(&version(1))?;
    ok(&cluster.try_deploy(&version(2), &["--shadow"]));
    for _ in 0..50 {
        assert_eq!(call(&cluster, &[]).1, "1", "a shadow answers nobody");
    }
    let compared = eventually("the copies are compared", || {
        let rollout = rollout(&cluster);
        (rollout["compared"].as_u64()? >= 40).then_some(rollout)
    });
    assert_eq!(compared["compared"], compared["different"], "they say another version");
    assert_eq!((&compared["mode"], &compared["shadow_failed"]), (&json!("shadow"), &json!(0)));
    ok(&cluster.command(&["rollout", "abort", "p"]));
    eventually("the shadow is gone", || rollout(&cluster).is_null().then_some(()));
    assert_eq!(cluster.status()["pipelines"][0]["verdicts"][0]["outcome"], "aborted");
    Ok(())
}

#[test]
fn a_verdict_survives_a_kill_of_the_head() -> Result<()> {
    let mut cluster = two_workers(&version(1))?;
    let failed = cluster.try_deploy(&broken(2), &[]);
    assert_eq!(failed.status.code(), Some(1));
    // A replica that cannot start is told before the verdict on its revision is stored.
    eventually("the verdict is there", || {
        (cluster.status()["pipelines"][0]["verdicts"][0]["revision"] == 2).then_some(())
    });
    cluster.restart_leader(UpOptions::new().args(&["--roles", "head,ingress"]))?;
    cluster.wait_ready();
    let status = &cluster.status()["pipelines"][0];
    assert_eq!((&status["revision"], &status["serving_revision"]), (&json!(1), &json!(1)), "{status}");
    assert_eq!(status["verdicts"][0]["revision"], 2);
    let output = cluster.command(&["explain", "p", "--json"]);
    let output: Value = serde_json::from_slice(&output.stdout)?;
    let kinds: Vec<_> =
        output["events"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert!(kinds.contains(&json!("rolled_back")), "{kinds:?}");
    Ok(())
}

#[test]
fn a_dry_run_tells_what_would_happen_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::serving(&version(1))?;
    let plan = |pipeline: &Echo| -> Value {
        let output = cluster.try_deploy(pipeline, &["--dry-run", "--json"]);
        ok(&output);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["plans"][0].clone()
    };
    let replaced = plan(&version(2));
    let model = &replaced["deployments"][0];
    assert_eq!((&replaced["revision"], &model["change"]), (&json!(2), &json!("replaced")), "{replaced}");
    assert_eq!(model["starts"].as_array().unwrap().len(), 2);
    assert_eq!(model["stops"].as_array().unwrap().len(), 2);
    let in_place = plan(&version(1).deployment("max_ongoing_requests = 9"));
    assert_eq!(in_place["deployments"][0]["change"], "in_place", "{in_place}");
    assert_eq!(in_place["deployments"][0]["updates"].as_array().unwrap().len(), 2);
    let huge = plan(&revision(1).deployment("cpus = 1000"));
    assert!(huge["deployments"][0]["pending"][0].to_string().contains("needs 1000 cores"), "{huge}");
    assert_eq!(plan(&version(1))["changed"], false);
    let text = text_of(&cluster.try_deploy(&version(2), &["--dry-run"]).stdout);
    assert!(
        text.contains("p would become revision 2") && text.contains("p/model needs new replicas"),
        "{text}"
    );
    assert_eq!(cluster.status()["pipelines"][0]["newest_revision"], 1);
    Ok(())
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() -> Result<()> {
    let cluster = Cluster::serving(&version(1))?;
    let table: [(&[&str], i32, &str); 7] = [
        (&["rollout", "promote", "p"], 5, "no rollout of `p` is under way"),
        (&["rollout", "abort", "p"], 5, "no rollout of `p` is under way"),
        (&["rollout", "undo", "p"], 5, "no revision before 1"),
        (&["rollout", "undo", "p", "--to", "9"], 5, "revision 9 of `p` is not kept; there are 1"),
        (&["rollout", "status", "q"], 5, "no pipeline `q`"),
        (&["rollout", "promote", "q"], 5, "no pipeline `q`"),
        (&["explain", "p/nothing"], 5, "there are p, p/model"),
    ];
    for (line, code, text) in table {
        let output = cluster.command(line);
        let said = text_of(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line:?}: {said}");
        assert!(said.contains(text), "{line:?}: {said}");
    }
    let over = cluster.try_deploy(&version(2), &["--canary", "101%"]);
    assert_eq!(over.status.code(), Some(2));
    assert!(text_of(&over.stderr).contains("write 0.1% to 100%"), "{}", text_of(&over.stderr));
    let first = cluster.try_deploy(&Echo::new("q"), &["--canary", "5%"]);
    assert_eq!(first.status.code(), Some(5));
    assert!(text_of(&first.stderr).contains("has none yet"), "{}", text_of(&first.stderr));
    let status = cluster.status();
    assert_eq!(status["pipelines"].as_array().unwrap().len(), 1, "nothing was stored");
    Ok(())
}
