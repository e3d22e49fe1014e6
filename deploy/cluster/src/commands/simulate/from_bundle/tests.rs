use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::cli::{Cli, Command};
use crate::debug_bundle::{Bundle, Redaction};

/// Begins at a whole second of 2025.
const START: u64 = 1_764_000_000_000;

const FILE: &str = "name = \"p\"\n[deployments.model]\nengine = \"echo\"\nautoscaling = { min_replicas = 1, max_replicas = 4, \
                    downscale_delay = \"12s\" }\n[deployments.fixed]\nengine = \"echo\"\n";

/// So many seconds of each value.
fn series(metric: &str, runs: &[(usize, f32)]) -> Value {
    let values: Vec<_> = runs.iter().flat_map(|&(seconds, value)| vec![value; seconds]).collect();
    json!({ "metric": metric, "pipeline": "p", "deployment": "p/model", "values": values })
}

fn event(second: u64, from: u32, to: u32, rule: &str) -> Value {
    json!({
        "sequence": second, "at_ms": START + second * 1000, "pipeline": "p", "deployment": "model",
        "kind": "scaled", "from": from, "to": to, "rule": rule,
        "inputs": {
            "ongoing": 6.0, "queued": 0, "ready": 1, "starting": 0, "target_ongoing_requests": 2.0,
            "wanted": to, "bounded_by": null
        }
    })
}

/// A minute with twenty busy seconds; `change` is done to its documents.
fn recorded(change: impl Fn(&mut Value)) -> Result<Recorded, Failure> {
    let deployment = |name: &str| {
        json!({
            "name": name, "full_name": format!("p/{name}"), "target_replicas": 1, "ready_replicas": 1, "ongoing": 0,
            "queued": 0, "replicas": [], "pending": [], "min_replicas": 1, "max_replicas": 4,
        })
    };
    let mut all = json!({
        "status": {
            "leader": "a", "epoch": 1, "nodes": [], "ingresses": [],
            "pipelines": [{
                "name": "p", "route": null, "revision": 1, "serving_revision": 1, "state": "ready",
                "deployments": [deployment("model"), deployment("fixed")],
            }]
        },
        "series": { "start_unix_ms": START, "step_ms": 1000, "series": [
            series("ongoing", &[(10, 0.0), (20, 6.0), (30, 0.0)]),
            series("queued", &[(60, 0.0)]),
            series("ready", &[(14, 1.0), (30, 3.0), (16, 1.0)]),
            series("target", &[(12, 1.0), (32, 3.0), (16, 1.0)]),
            series("calls_per_second", &[(10, 0.0), (20, 30.0), (30, 0.0)]),
        ] },
        "events": { "events": [
            event(11, 1, 3, "more replicas were wished for during upscale_delay"),
            event(30, 3, 4, "more replicas were wished for during upscale_delay"),
            event(44, 3, 1, "fewer replicas were wished for during downscale_delay"),
        ] },
    });
    change(&mut all);
    let mut bundle = Bundle::new(Redaction::default());
    for (path, key) in [(file::STATUS, "status"), (file::SERIES, "series"), (file::EVENTS, "events")] {
        bundle.add_json(path, "", Ok(&all[key]));
    }
    bundle.add(file::pipeline("p", 1), "", FILE.as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar.gz");
    std::fs::write(&path, bundle.pack("x", START).unwrap().1).unwrap();
    Recorded::read(&Contents::read(&path).unwrap())
}

fn args(more: &[&str]) -> FromArgs {
    let line = [&["cluster", "simulate", "--from", "x"], more].concat();
    match Cli::try_parse_from(line).unwrap().command {
        Command::Simulate(args) => args.from.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_decided_stands_beside_what_is_decided_again() {
    owo_colors::set_override(false);
    let recorded = recorded(|_| ()).unwrap();
    let text = render(&recorded.answer(&args(&[])).unwrap());
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("p/model  3 decisions by load in 60s since 2025-11-2"), "{text}");
    assert!(
        lines[0].ends_with("2 the same again, 0 with another number, 1 not again; 0 only again"),
        "{text}"
    );
    assert!(lines[2].starts_with("TIME "), "{text}");
    assert!(
        lines[3].contains("1 → 3  1 → 3  same, 0.") && lines[4].contains("3 → 4  -      not again"),
        "{text}"
    );
    assert!(text.contains("p/fixed  left out: its number is fixed: 1\n"), "{text}");
    assert!(text.contains("p/model waits for a place"), "no node is there: {text}");
}

#[test]
fn other_bounds_are_compared_with_what_was() {
    owo_colors::set_override(false);
    let recorded = recorded(|_| ()).unwrap();
    let answer = recorded.answer(&args(&["--deployment", "p/model", "--max", "1"])).unwrap();
    let found = answer.otherwise.as_ref().unwrap();
    assert_eq!((found.actual.max_ready, found.simulated.replicas.max_ready), (3, 1));
    assert!(answer.places.is_none());
    assert!(render(&answer).contains("with these bounds  60"), "{}", render(&answer));
    let bad = ["--deployment", "p/model", "--min", "3", "--max", "2"];
    let refused = recorded.answer(&args(&bad)).err().unwrap();
    assert_eq!(refused.code(), 2);
    let unknown = recorded.answer(&args(&["--deployment", "p/other"])).err().unwrap().message();
    assert_eq!(unknown, "the bundle has no deployment `p/other`; there are p/fixed, p/model");
}

#[test]
fn what_is_too_coarse_or_has_no_file_is_said() {
    let coarse = recorded(|all| all["series"]["step_ms"] = json!(10_000)).err().unwrap().message();
    assert!(coarse.contains("a number each 10000 ms"), "{coarse}");
    let newer = recorded(|all| all["status"]["pipelines"][0]["revision"] = json!(2)).unwrap();
    let answer = newer.answer(&args(&[])).unwrap();
    assert!(answer.left_out[0].why.ends_with("has no `pipelines/p/2.toml`"), "{:?}", answer.left_out);
    assert!(answer.places.is_none());
    let refused = newer.answer(&args(&["--deployment", "p/model"])).err().unwrap().message();
    assert!(refused.starts_with("nothing can be decided again about `p/model`: `"), "{refused}");
}
