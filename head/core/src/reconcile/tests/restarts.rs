//! Heads that come back: what they adopt, and whom they wait for.

use super::*;

#[test]
fn a_restarted_head_adopts_what_runs_and_restarts_none() {
    let mut cluster = serving(2);
    let replicas = |cluster: &Cluster, node: &str| {
        let node = &cluster.state.nodes[&NodeId::from(node)];
        node.replicas.iter().map(|(id, replica)| as_report(id, replica)).collect::<Vec<_>>()
    };
    let (on_1, on_2) = (replicas(&cluster, "n1"), replicas(&cluster, "n2"));
    let before = cluster.state.routes.version;
    cluster.restart_head();
    assert!(cluster.short().is_empty(), "it waits for reports");
    cluster.join_with("n1", 64, 0, on_1);
    assert!(cluster.short().is_empty(), "half is not all");
    assert_eq!(cluster.state.routes.version.number, 0, "no ingress gets half a table");
    cluster.join_with("n2", 64, 0, on_2);
    assert_eq!(cluster.short(), ["settle", "serve p@1"]);
    assert_eq!(cluster.routed("p").len(), 2);
    assert!(cluster.state.routes.version > before);
    let node = &cluster.state.nodes[&NodeId::from("n1")];
    assert_eq!(node.replicas.values().next().unwrap().booking.cpu_milli, 101, "booked as before");
}

#[test]
fn a_restarted_head_waits_only_so_long() {
    let mut cluster = serving(2);
    cluster.restart_head();
    cluster.join("n1");
    cluster.pass(3.9);
    assert!(cluster.short().is_empty());
    cluster.pass(0.2);
    assert_eq!(cluster.short(), ["settle", "serve p@1 soon", "start p/model@1 n1", "start p/model@1 n1"]);
    assert!(
        cluster.state.nodes[&NodeId::from("n1")].replicas.contains_key(&"p-model-2-1".into()),
        "ids are new"
    );
}

#[test]
fn a_restarted_head_waits_no_longer_than_for_the_nodes_there_were() {
    let mut cluster = serving(2);
    cluster.restart_head();
    cluster.state_mut().settling.awaited = ["n1".into(), "n2".into()].into();
    cluster.join("n1");
    assert!(cluster.short().is_empty(), "the other node may have replicas");
    cluster.join("n2");
    assert_eq!(cluster.short(), ["settle", "serve p@1 soon", "start p/model@1 n1", "start p/model@1 n2"]);
}

#[test]
fn a_restart_amid_a_rollout_serves_the_revision_that_can() {
    let mut cluster = serving(1);
    let report = cluster.find("p-model-1-1").2;
    cluster.deploy("p", &[model(1, 2)]);
    cluster.restart_head();
    cluster.join_with("n1", 64, 0, vec![report]);
    cluster.pass(4.0);
    assert_eq!(cluster.short(), ["settle", "serve p@1", "start p/model@2 n1"]);
    assert_eq!(cluster.routed("p"), ["p-model-1-1"]);
}

#[test]
fn a_head_that_was_stopped_takes_nobody_for_silent_on_that_account() {
    let mut cluster = serving(2);
    cluster.now += Duration::from_secs(60);
    cluster.head.handle(reconciler::Event::Absent(Duration::from_secs(60)), cluster.now);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.routed("p").len(), 2);
    cluster.now += Duration::from_secs_f64(3.1);
    assert_eq!(cluster.short(), ["alarm true"]);
    assert!(cluster.routed("p").is_empty(), "who is silent from now on is");
}

#[test]
fn a_restarted_head_waits_for_ingresses_that_have_not_dialled_yet() {
    let mut cluster = serving(1);
    let settle_until = cluster.now + cluster.timing.settle;
    cluster.state_mut().settling.until = settle_until;
    cluster.desired.remove(&name("p"), 1);
    assert_eq!(cluster.short(), ["retire p-model-1-1"]);
    cluster.pass(4.9);
    assert!(cluster.short().is_empty(), "an ingress of the head before may still send to it");
    cluster.pass(0.1);
    assert_eq!(cluster.short(), ["stop p-model-1-1"]);
}

#[test]
fn a_replica_that_the_head_before_stopped_does_not_make_its_node_one_that_leaves() {
    let mut cluster = serving(1);
    let (node, _, mut report) = cluster.find("p-model-1-1");
    report.state = ReplicaState::Draining;
    cluster.restart_head();
    cluster.join_with(node.as_str(), 64, 0, vec![report]);
    cluster.set("p-model-1-1", ReplicaState::Stopped);
    assert!(!cluster.state.nodes[&node].draining);
}
