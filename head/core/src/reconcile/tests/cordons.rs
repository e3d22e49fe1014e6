//! Nodes that people keep free: nothing new comes there, and what a drained node has is replaced elsewhere first.

use super::*;
use crate::desired::cordons;
use crate::desired::{Mode, NodeRequest};

impl Cluster {
    fn ask(&mut self, node: &str, request: NodeRequest) {
        self.desired.cordons = cordons::change(&self.desired.cordons, node, request, 1).unwrap();
    }

    fn node_state(&self, node: &str) -> NodeState {
        self.status().nodes.iter().find(|it| it.name == node).unwrap().state
    }

    /// How many replicas a node has, those on their way out included.
    fn num_on(&self, node: &str) -> usize {
        self.state.nodes[&NodeId::from(node)].replicas.len()
    }

    fn pending(&self) -> Vec<String> {
        self.status().pipelines[0].deployments[0].pending.clone()
    }

    /// Like [`Cluster::obey`], and at no instant are fewer replicas of `p` routed than that.
    fn obey_with(&mut self, at_least: usize) {
        let mut all = Vec::new();
        for _ in 0..200 {
            let commands = self.short();
            assert!(self.routed("p").len() >= at_least, "{all:?} {commands:?}");
            self.confirm();
            let of_node = |node: &NodeEntry| node.replicas.clone().into_iter();
            let replicas: Vec<_> = self.state.nodes.values().flat_map(of_node).collect();
            let next =
                replicas.into_iter().find_map(|(id, replica)| match (replica.state, replica.leaving) {
                    (_, Some(Leaving::Stopping { .. })) => Some((id, ReplicaState::Stopped)),
                    (ReplicaState::Starting, None) => Some((id, ReplicaState::Ready)),
                    _ => None,
                });
            let calm = commands.is_empty() && next.is_none();
            all.extend(commands);
            match next {
                Some((id, state)) => self.set(id.as_str(), state),
                None if calm => return,
                None => {}
            }
        }
        panic!("never calm: {all:#?}");
    }
}

/// A cluster with a deployment that scales, and has been scaled to 4 replicas on two nodes.
fn scaled_to_4() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.join("n2");
    let mut wants = model(1, 1);
    wants.autoscaling.max_replicas = 8;
    cluster.deploy("p", &[wants]);
    cluster.state_mut().targets.insert("p/model".parse().unwrap(), 4);
    cluster.obey();
    cluster
}

#[test]
fn a_cordoned_node_keeps_what_it_has_and_gets_nothing_new() {
    let mut cluster = serving(2);
    cluster.ask("n1", NodeRequest::Cordon);
    assert!(cluster.short().is_empty());
    assert_eq!((cluster.node_state("n1"), cluster.routed("p").len()), (NodeState::Cordoned, 2));
    cluster.deploy("q", &[model(2, 1)]);
    assert_eq!(cluster.short(), ["serve q@1 soon", "start q/model@1 n2", "start q/model@1 n2"]);
    cluster.ask("n1", NodeRequest::Uncordon);
    cluster.obey();
    cluster.deploy("r", &[model(1, 1)]);
    assert_eq!(cluster.short(), ["serve r@1 soon", "start r/model@1 n1"]);
    assert_eq!(cluster.node_state("n1"), NodeState::Ready);
}

#[test]
fn a_node_stays_cordoned_when_it_comes_back_and_when_another_head_leads() {
    let mut cluster = serving(2);
    cluster.ask("n1", NodeRequest::Cordon);
    cluster.settle();
    let report = cluster.find("p-model-1-1").2;
    cluster.leave("n1");
    cluster.restart_head();
    cluster.join_with("n1", 64, 0, vec![report]);
    assert_eq!(cluster.node_state("n1"), NodeState::Cordoned);
    // Without its disk it has another id.
    cluster.leave("n1");
    let mut registration = cluster.registration("n1-again", 64, 0, vec![]);
    registration.name = "n1".into();
    cluster.see(Observation::NodeJoined(SessionId(77), registration));
    cluster.join("n2");
    cluster.pass(5.0);
    let commands = cluster.short();
    assert!(commands.iter().any(|command| command == "start p/model@1 n2"), "{commands:?}");
    assert!(!commands.iter().any(|command| command.ends_with("n1-again")), "{commands:?}");
}

#[test]
fn a_drained_nodes_replica_stops_only_once_another_is_ready_in_its_place() {
    let mut cluster = serving(2);
    cluster.join_ingress();
    cluster.confirm();
    cluster.ask("n1", NodeRequest::Drain);
    assert_eq!(cluster.short(), ["start p/model@1 n2"]);
    assert_eq!((cluster.node_state("n1"), cluster.routed("p").len()), (NodeState::Draining, 2));
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Ready);
    cluster.set("p-model-1-3", ReplicaState::Ready);
    assert_eq!(cluster.short(), ["retire p-model-1-1"]);
    assert_eq!(cluster.routed("p"), ["p-model-1-2", "p-model-1-3"]);
    cluster.confirm();
    assert_eq!(cluster.short(), ["stop p-model-1-1"]);
    assert_eq!(cluster.node_state("n1"), NodeState::Draining, "it finishes its calls");
    cluster.set("p-model-1-1", ReplicaState::Stopped);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.node_state("n1"), NodeState::Cordoned);
    cluster.ask("n1", NodeRequest::Uncordon);
    assert!(cluster.short().is_empty(), "what runs elsewhere stays there");
}

/// Whatever the numbers are, at no instant are fewer ready than before, and in the end all is elsewhere.
#[test]
fn nothing_falls_below_what_was_ready_while_a_node_is_drained() {
    for replicas in [1, 2, 3, 5, 8] {
        let mut cluster = serving(replicas);
        cluster.join("n3");
        cluster.join_ingress();
        cluster.confirm();
        cluster.ask("n1", NodeRequest::Drain);
        cluster.obey_with(replicas as usize);
        assert_eq!((cluster.num_on("n1"), cluster.node_state("n1")), (0, NodeState::Cordoned), "{replicas}");
        assert_eq!(cluster.routed("p").len(), replicas as usize);
    }
}

#[test]
fn what_fits_nowhere_stays_and_says_why() {
    let mut cluster = Cluster::new();
    cluster.join_with("n1", 2, 0, vec![]);
    cluster.join_with("n2", 2, 0, vec![]);
    let mut wants = model(3, 1);
    wants.demand.cpu_milli = 1000;
    cluster.deploy("p", &[wants]);
    cluster.obey();
    // One of the two that are on n1 has a place on n2, the other has none.
    assert_eq!((cluster.num_on("n1"), cluster.num_on("n2")), (2, 1));
    cluster.ask("n1", NodeRequest::Drain);
    cluster.obey_with(3);
    assert_eq!((cluster.num_on("n1"), cluster.num_on("n2")), (1, 2));
    assert_eq!(cluster.node_state("n1"), NodeState::Draining);
    assert_eq!(cluster.pending(), ["n2: needs 1 cores, 0 free", "n1: being drained"]);
    cluster.join_with("n3", 2, 0, vec![]);
    cluster.obey_with(3);
    assert_eq!((cluster.num_on("n1"), cluster.node_state("n1")), (0, NodeState::Cordoned));
    assert!(cluster.pending().is_empty());
}

#[test]
fn a_drain_that_is_taken_back_stops_what_was_started_for_it() {
    for request in [NodeRequest::Uncordon, NodeRequest::Cordon] {
        let mut cluster = serving(2);
        cluster.ask("n1", NodeRequest::Drain);
        assert_eq!(cluster.short(), ["start p/model@1 n2"]);
        cluster.ask("n1", request);
        assert_eq!(cluster.short(), ["retire p-model-1-3", "stop p-model-1-3"]);
        cluster.obey();
        assert_eq!((cluster.num_on("n1"), cluster.num_on("n2")), (1, 1));
    }
}

#[test]
fn where_every_node_is_kept_free_nothing_moves() {
    let mut cluster = serving(2);
    cluster.ask("n1", NodeRequest::Drain);
    cluster.ask("n2", NodeRequest::Cordon);
    cluster.obey_with(2);
    assert_eq!((cluster.num_on("n1"), cluster.num_on("n2")), (1, 1));
    assert_eq!(
        cluster.pending(),
        ["none of 2 nodes takes replicas: each is unreachable, stops, or is cordoned"]
    );
}

#[test]
fn fewer_replicas_leave_cordoned_nodes_first() {
    // The request for n2, which has as many as n1; who leaves.
    let table = [
        (None, "p-model-1-4"),
        (Some(("n1", NodeRequest::Cordon)), "p-model-1-3"),
        (Some(("n2", NodeRequest::Cordon)), "p-model-1-4"),
    ];
    for (asked, expected) in table {
        let mut cluster = serving(4);
        if let Some((node, request)) = asked {
            cluster.ask(node, request);
        }
        cluster.deploy("p", &[model(3, 1)]);
        let commands = cluster.short();
        assert!(commands.contains(&format!("retire {expected}")), "{asked:?}: {commands:?}");
    }
    let mut cluster = scaled_to_4();
    cluster.ask("n1", NodeRequest::Drain);
    cluster.state_mut().targets.insert("p/model".parse().unwrap(), 2);
    assert_eq!(cluster.short()[..2], ["retire p-model-1-1", "retire p-model-1-3"], "what stays is enough");
    assert_eq!(cluster.num_on("n2"), 2);
}

#[test]
fn a_replica_that_is_not_ready_leaves_once_its_replacement_has_a_place() {
    let mut cluster = serving(2);
    cluster.report("p-model-1-1", ReplicaState::Failed, 1);
    cluster.ask("n1", NodeRequest::Drain);
    let commands = cluster.short();
    assert_eq!(commands[..2], ["start p/model@1 n2", "retire p-model-1-1"], "{commands:?}");
}

#[test]
fn an_update_while_a_node_is_drained_ends_elsewhere_and_never_has_fewer() {
    for surge in [1, 2] {
        let mut cluster = serving(3);
        cluster.join_ingress();
        cluster.confirm();
        cluster.ask("n1", NodeRequest::Drain);
        cluster.settle();
        let mut update = model(3, 2);
        update.limits.max_surge = surge;
        cluster.deploy("p", &[update]);
        cluster.obey_with(3);
        cluster.pass(120.0);
        cluster.obey_with(3);
        assert_eq!((cluster.num_on("n1"), cluster.num_on("n2")), (0, 3), "surge {surge}");
        assert!(cluster.state.nodes[&NodeId::from("n2")].replicas.values().all(|it| it.revision == 2));
    }
}

#[test]
fn a_canary_moves_with_what_it_is_beside() {
    let mut cluster = serving(4);
    cluster.deploy("p", &[model(4, 2)]);
    cluster.desired.pipelines.get_mut(&name("p")).unwrap().rollout.as_mut().unwrap().mode =
        Mode::Canary { permille: 500 };
    cluster.obey();
    for node in ["n1", "n2"] {
        cluster.ask(node, NodeRequest::Drain);
        cluster.obey_with(6);
        assert_eq!(cluster.num_on(node), 0);
        cluster.ask(node, NodeRequest::Uncordon);
    }
    let of_revision = |revision| {
        let replicas = cluster.state.nodes.values().flat_map(|node| node.replicas.values());
        replicas.filter(|replica| replica.revision == revision).count()
    };
    assert_eq!((of_revision(1), of_revision(2)), (4, 2));
}

#[test]
fn a_new_head_goes_on_with_a_drain_and_does_not_count_replacements_twice() {
    let mut cluster = scaled_to_4();
    cluster.ask("n1", NodeRequest::Drain);
    cluster.settle();
    assert_eq!((cluster.num_on("n1"), cluster.num_on("n2")), (2, 4));
    let reports = |cluster: &Cluster, node: &str| -> Vec<_> {
        let replicas = &cluster.state.nodes[&NodeId::from(node)].replicas;
        replicas.iter().map(|(id, replica)| as_report(id, replica)).collect()
    };
    let (on_1, on_2) = (reports(&cluster, "n1"), reports(&cluster, "n2"));
    cluster.restart_head();
    cluster.join_with("n1", 64, 0, on_1);
    cluster.join_with("n2", 64, 0, on_2);
    cluster.pass(4.1);
    cluster.obey_with(4);
    assert_eq!(cluster.routed("p").len(), 4, "the replacements serve");
    // Ingresses of the head before had time to hear of it.
    cluster.pass(30.0);
    cluster.obey_with(4);
    assert_eq!((cluster.num_on("n1"), cluster.num_on("n2")), (0, 4));
}
