//! More requests than there is room for, and replicas slower than others: who goes first, who is told at once, who is
//! asked twice.

use std::thread;
use std::time::Instant;

use anyhow::Result;
use millstream_tests::{Cluster, Echo, Load, UpOptions, eventually};
use reqwest::blocking::Response;
use rustix::process::Signal;
use serde_json::Value;

fn ask(cluster: &Cluster, header: &str, value: &str) -> Response {
    cluster.ask("/p", &[(header, value)]).unwrap()
}

fn queued(cluster: &Cluster) -> u64 {
    cluster.deployment("p/model")["queued"].as_u64().unwrap_or_default()
}

#[test]
fn the_urgent_pass_those_who_wait() -> Result<()> {
    let cluster =
        Cluster::serving(&Echo::new("p").deployment("delay = \"150ms\"\nmax_ongoing_requests = 1"))?;
    let refused = ask(&cluster, "x-priority", "soon");
    assert_eq!(refused.status(), 400);
    assert!(refused.text()?.contains("give `high`, `normal` or `low`"));
    thread::scope(|scope| {
        let normal: Vec<_> = (0..20)
            .map(|_| {
                let cluster = &cluster;
                scope.spawn(move || {
                    assert_eq!(ask(cluster, "x-priority", "normal").status(), 200);
                    Instant::now()
                })
            })
            .collect();
        eventually("they wait", || (queued(&cluster) >= 10).then_some(()));
        let low = scope.spawn(|| {
            assert_eq!(ask(&cluster, "x-priority", "low").status(), 200);
            Instant::now()
        });
        assert_eq!(ask(&cluster, "x-priority", "high").status(), 200);
        let high = Instant::now();
        let low = low.join().unwrap();
        let ends: Vec<Instant> = normal.into_iter().map(|caller| caller.join().unwrap()).collect();
        assert!(ends.iter().filter(|&&end| end > high).count() >= 5, "the urgent one passed many");
        assert!(ends.iter().all(|&end| end < low), "the one of low priority came last");
    });
    Ok(())
}

#[test]
fn who_makes_room_for_the_urgent_is_told_so() -> Result<()> {
    let settings = "delay = \"1500ms\"\nmax_ongoing_requests = 1\nmax_queued_requests = 1";
    let cluster = Cluster::serving(&Echo::new("p").deployment(settings))?;
    thread::scope(|scope| {
        let running = scope.spawn(|| ask(&cluster, "x-priority", "normal").status());
        eventually("one runs", || (cluster.deployment("p/model")["ongoing"] == 1).then_some(()));
        let low = scope.spawn(|| ask(&cluster, "x-priority", "low"));
        eventually("another one waits", || (queued(&cluster) >= 1).then_some(()));
        let full = ask(&cluster, "x-priority", "low");
        assert_eq!(
            (full.status().as_u16(), &full.headers()["x-millstream-refused"]),
            (503, &"saturated".parse().unwrap())
        );
        assert_eq!(ask(&cluster, "x-priority", "high").status(), 200);
        let low = low.join().unwrap();
        let header = |name: &str| low.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((low.status().as_u16(), &*header("x-millstream-refused")), (503, "displaced"));
        assert_eq!(header("retry-after-ms"), format!("{}000", header("retry-after")));
        assert_eq!(running.join().unwrap(), 200);
    });
    Ok(())
}

#[test]
fn who_would_come_too_late_is_told_so_at_once() -> Result<()> {
    let settings = "delay = \"100ms\"\nmax_ongoing_requests = 1\nmax_queued_requests = 500";
    let cluster = Cluster::serving(&Echo::new("p").deployment(settings))?;
    let patient = Load::on(&cluster, "/p").header("x-request-timeout", "50s").start(60);
    eventually("they wait", || (queued(&cluster) >= 40).then_some(()));
    // After a second of that the rate is known: ten answers a second. Until then it waits for its deadline in vain.
    let answer = eventually("a request is turned away", || {
        let answer = ask(&cluster, "x-request-timeout", "1s");
        assert!(matches!(answer.status().as_u16(), 503 | 504), "{answer:?}");
        (answer.status() == 503).then_some(answer)
    });
    let reason = answer.headers()["x-millstream-refused"].to_str()?;
    assert_eq!(reason, "late");
    let after: u32 = answer.headers()["retry-after"].to_str()?.parse()?;
    assert!((1..=60).contains(&after));
    assert!(answer.text()?.contains("deadline would pass"));
    let ended = patient.stop();
    assert_eq!((ended.failed, ended.shed), (0, 0), "of {}: {:?}", ended.answered, ended.texts);
    Ok(())
}

#[test]
fn a_stuck_replica_is_passed_by_a_second_call() -> Result<()> {
    let spread = Echo::new("p").deployment("delay = \"5ms\"\nmax_replicas_per_node = 1").replicas(2);
    let pipeline = spread.stage("hedge = \"100ms\"");
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--roles", "head,ingress"]).pipeline(&pipeline))?;
    cluster.join("left", &[])?;
    cluster.join("right", &[])?;
    cluster.wait_ready();
    let stuck = cluster.joined[0].pid();
    rustix::process::kill_process(stuck, Signal::STOP)?;
    for _ in 0..10 {
        assert_eq!(ask(&cluster, "x-request-timeout", "2s").status(), 200);
    }
    rustix::process::kill_process(stuck, Signal::CONT)?;
    let hedged = cluster.metrics()?.sum("millstream_retries_total", &[("reason", "hedged")]);
    assert!(hedged >= 1.0, "{hedged}");
    Ok(())
}

#[test]
fn bad_hedges_are_refused_with_a_fix() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    std::fs::write(&file, Echo::new("p").stage("hedge = \"p100\"").to_string()).unwrap();
    let output = millstream_tests::run_cluster(&["validate", file.to_str().unwrap(), "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said.to_string().contains("to `\\\"p99\\\"`, or a time such as"), "{said}");
}
