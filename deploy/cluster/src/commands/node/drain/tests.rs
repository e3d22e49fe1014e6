//! What people see of a drain, status by status.

use millstream_proto::status::ReplicaStatus;

use super::*;
use crate::commands::status::example_cluster as cluster;

/// A cluster in which `rag/embedder` has these replicas: id, node, state.
fn status(state: NodeState, replicas: &[(&str, &str, ReplicaState)], pending: &[&str]) -> ClusterStatus {
    let mut status = cluster();
    status.nodes[0].state = state;
    let deployment = &mut status.pipelines[0].deployments[0];
    let like = deployment.replicas[0].clone();
    let replica = |&(id, node, state): &(&str, &str, ReplicaState)| ReplicaStatus {
        id: id.into(),
        node: node.into(),
        state,
        error: if state == ReplicaState::Failed { "no file".into() } else { String::new() },
        ..like.clone()
    };
    deployment.replicas = replicas.iter().map(replica).collect();
    deployment.pending = pending.iter().map(|&reason| reason.to_owned()).collect();
    status
}

#[test]
fn people_see_how_much_has_moved_and_what_the_rest_waits_for() {
    use NodeState::{Cordoned, Draining as Emptying};
    use ReplicaState::{Draining, Failed, Ready, Starting};
    let mut drain = Drain { node: "a".into(), seen: BTreeMap::new() };
    let table = [
        (
            status(Emptying, &[("1", "a", Ready), ("2", "a", Ready), ("3", "b", Starting)], &[]),
            "0 of 2 moved; its replacement is not ready yet",
            Verdict::Waiting,
        ),
        (
            status(Emptying, &[("1", "a", Ready), ("2", "a", Ready), ("3", "b", Failed)], &[]),
            "0 of 2 moved; its replacement on b failed: no file",
            Verdict::Waiting,
        ),
        (
            status(
                Emptying,
                &[("1", "a", Draining), ("2", "a", Ready), ("3", "b", Ready)],
                &["b: needs 2 cores, 1 free"],
            ),
            "0 of 2 moved; no other place (b: needs 2 cores, 1 free)",
            Verdict::Waiting,
        ),
        (
            status(Emptying, &[("2", "a", Draining), ("3", "b", Ready), ("4", "b", Ready)], &[]),
            "1 of 2 moved; finishing its calls",
            Verdict::Waiting,
        ),
        (status(Cordoned, &[("3", "b", Ready), ("4", "b", Ready)], &[]), "2 of 2 moved", Verdict::Empty),
    ];
    for (status, text, verdict) in table {
        let lines = drain.lines(&status);
        assert_eq!((lines[0].what.as_str(), lines[0].text.as_str()), ("rag/embedder", text));
        assert_eq!((drain.verdict(&status), lines[0].is_over), (verdict, text == "2 of 2 moved"));
    }
}

#[test]
fn a_drain_that_others_end_is_noticed() {
    let drain = Drain { node: "a".into(), seen: BTreeMap::new() };
    let here = [("1", "a", ReplicaState::Ready)];
    let table = [
        (NodeState::Ready, &here[..], Verdict::TakenBack),
        (NodeState::Ready, &[], Verdict::TakenBack),
        (NodeState::Cordoned, &here, Verdict::TakenBack),
        (NodeState::Cordoned, &[], Verdict::Empty),
        (NodeState::Left, &[], Verdict::Empty),
        (NodeState::Unreachable, &here, Verdict::Waiting),
    ];
    for (state, replicas, expected) in table {
        assert_eq!(drain.verdict(&status(state, replicas, &[])), expected, "{state:?} {replicas:?}");
    }
}

#[test]
fn the_end_of_the_time_says_what_is_left_and_why() {
    let drain = Drain { node: "a".into(), seen: BTreeMap::new() };
    let here = [("1", "a", ReplicaState::Ready), ("2", "a", ReplicaState::Ready)];
    let left = drain.left(&status(NodeState::Draining, &here, &["b: needs 2 cores, 1 free"]));
    let failure = too_late("a", Duration::from_secs(90), &left);
    assert_eq!(
        failure.message(),
        "a is not empty after 1m 30s\n  rag/embedder: 2 replicas, no other place (b: needs 2 cores, 1 free)\nthis command no \
         longer waits: the drain of a goes on; `cluster node uncordon a` ends it"
    );
    let json = failure.to_json().unwrap();
    assert_eq!(json["error"]["left"][0]["reasons"][0], "b: needs 2 cores, 1 free");
}
