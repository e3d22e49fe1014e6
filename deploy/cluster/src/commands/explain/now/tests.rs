use millstream_proto::event::Decision;

use super::*;
use crate::commands::explain::slow::tests::trace;
use crate::commands::explain::target::find;
use crate::commands::status::example_cluster;

fn sentences(status: &ClusterStatus, name: &str, known: &Known) -> Vec<String> {
    let (target, _) = find(status, &known.events, name, None).unwrap();
    Now::of(&target, name, status, known).sentences
}

fn plan() -> Plan {
    let text = "name = \"rag\"\n[deployments.embedder]\nengine = \"echo\"\ncpus = 4\nmemory = \"2GiB\"\ngpus = 0.5\n";
    Plan::compile("rag.toml", text).unwrap()
}

#[test]
fn who_waits_for_a_place_is_told_with_what_it_needs_and_what_is_missing() {
    let status = example_cluster();
    let known = Known { plan: Some(plan()), ..Known::default() };
    let told = sentences(&status, "rag/embedder", &known);
    assert_eq!(
        told,
        [
            "rag/embedder: 0 of 2 replicas ready; 0 ongoing requests, 0 queued; rag-embedder-1 failed: no tokenizer.json",
            "rag/embedder: 2 replicas have no place; each needs 4 cores, 2GiB of memory, 0.5 of a GPU; what is missing: node \
             `a`: 1 GPU wanted, 0.75 free",
        ]
    );
}

#[test]
fn a_node_tells_what_it_holds_and_whom_it_nearly_fits() {
    let mut status = example_cluster();
    status.pipelines[0].deployments[0].pending = vec!["a: needs 4 cores, 1.75 free".into()];
    let told = sentences(&status, "a", &Known::default());
    assert_eq!(
        told,
        [
            "node a is ready; 1.750 of 2 cores and 512.0 MiB of 1.0 GiB memory free",
            "it holds rag/embedder (1 replica, 0 ongoing)",
            "GPU 0 (H100) has 75% free: rag-embedder-1 of rag/embedder has 25%",
            "rag/embedder waits for a place and does not fit here: needs 4 cores, 1.75 free",
        ]
    );
}

#[test]
fn a_slow_replica_is_told_with_what_runs_beside_it() {
    let mut status = example_cluster();
    let pipeline = &mut status.pipelines[0];
    pipeline.name = "p".into();
    let deployment = &mut pipeline.deployments[0];
    (deployment.name, deployment.full_name) = ("generator".into(), "p/generator".into());
    deployment.pending.clear();
    let mut other = deployment.replicas[0].clone();
    other.id = "r2".into();
    deployment.replicas.push(other);
    let calls = |replica: &'static str, run_ms| (0..9).map(move |n| trace(n, "sample", replica, [0, run_ms]));
    let traces = calls("r1", 10).chain(calls("r2", 30)).collect();
    let known = Known { traces, ..Known::default() };
    let told = sentences(&status, "p/generator", &known);
    assert_eq!(
        told[1..],
        [
            "the slowest requests took 33ms on average (by 2 traces): stage answer (p/generator) takes 31ms of that (93.9%), \
             30ms of it in the model's run",
            "r2 is slower than the other replicas of p/generator: half of its calls took 31ms at most, of theirs 11ms (by 9 \
             calls)",
            "beside r2 on a: p/generator (1 replica, 0 ongoing)",
        ]
    );
    let (target, _) = find(&status, &[], "p", None).unwrap();
    let json = serde_json::to_value(Now::of(&target, "p", &status, &known)).unwrap();
    assert_eq!((&json["kind"], &json["slow"]["mostly"]), (&"pipeline".into(), &"run".into()), "{json}");
    assert_eq!(json["beside"][0]["node"], "a");
}

#[test]
fn what_is_gone_says_so_and_its_last_move_is_told() {
    let status = example_cluster();
    let event = |at_ms, decision| Event {
        sequence: at_ms,
        at_ms,
        pipeline: Some("rag".into()),
        deployment: Some("embedder".into()),
        decision,
    };
    let placed = |replica: &str, node: &str| Decision::Placed {
        replica: replica.into(),
        node: node.into(),
        revision: 2,
        gpus: Vec::new(),
    };
    let events = vec![
        event(1, placed("old-1", "gone")),
        event(2, Decision::Evicted { node: "gone".into(), replicas: 1 }),
        event(3, placed("rag-embedder-1", "a")),
    ];
    let known = Known { events, ..Known::default() };
    assert_eq!(
        sentences(&status, "gone", &known),
        ["node gone is gone; what follows is what was decided about it"]
    );
    let told = sentences(&status, "rag-embedder-1", &known);
    assert!(
        told[1].ends_with("rag-embedder-1 on a took the place of old-1 on gone: node gone is lost"),
        "{told:#?}"
    );
    assert_eq!(told[2], "rag-embedder-1 has a for itself");
}
