//! Deployments that only requests under way still call: they stay, ready and routed, until such requests are over.

use super::*;
use crate::desired::Mode;
use crate::rollout::Phase;

/// A cluster that serves `p` with the deployments `model` and `second`, an ingress included.
fn two_stages() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.join("n2");
    cluster.join_ingress();
    cluster.deploy("p", &[model(1, 1), spec("second")]);
    cluster.obey();
    cluster
}

/// The same, just moved to a revision without `second`.
fn second_dropped() -> Cluster {
    let mut cluster = two_stages();
    cluster.deploy("p", &[model(1, 1)]);
    cluster.obey();
    assert_eq!((cluster.serving_revision(), cluster.phase()), (2, Some(Phase::Watching)));
    cluster
}

impl Cluster {
    fn serving_revision(&self) -> u64 {
        self.state.serving[&name("p")].revision
    }

    fn phase(&self) -> Option<Phase> {
        self.state.rollouts.get(&name("p")).map(|rollout| rollout.phase)
    }

    /// Replicas of a deployment of `p` that the routes name; `None` when they do not name the deployment.
    fn routed_of(&self, deployment: &str) -> Option<Vec<String>> {
        let name = FullName { pipeline: name("p"), deployment: name(deployment) };
        let route = self.state.routes.deployment(&name)?;
        Some(route.replicas.iter().map(|replica| replica.replica.to_string()).collect())
    }

    fn reports(&self, node: &str) -> Vec<Report> {
        let node = &self.state.nodes[&NodeId::from(node)];
        node.replicas.iter().map(|(id, replica)| as_report(id, replica)).collect()
    }

    fn back_to(&mut self, outcome: Outcome) {
        let pipeline = &self.desired.pipelines[&name("p")];
        let verdict = Verdict { outcome, reason: "by hand".into(), at_ms: 1 };
        let (revision, to) = (pipeline.wanted, 1);
        desired::rollout::go_back(&mut self.desired, &name("p"), revision, to, verdict);
    }
}

#[test]
fn a_dropped_deployment_stays_routed_until_errors_are_no_longer_watched() {
    let mut cluster = second_dropped();
    let second = cluster.routed_of("second").unwrap();
    assert_eq!(second.len(), 1);
    cluster.pass(29.9);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.routed_of("second"), Some(second.clone()));
    cluster.pass(0.2);
    assert_eq!(cluster.short(), [format!("retire {}", second[0])]);
    assert_eq!(cluster.routed_of("second"), None);
    assert!(cluster.state.draining.is_empty(), "nothing is remembered of it");
    assert!(cluster.obey().is_empty(), "until the ingress has confirmed that it sends nothing there");
    assert_eq!(cluster.obey(), [format!("stop {}", second[0])]);
}

#[test]
fn it_stays_for_as_long_as_requests_may_move_back_however_long_that_takes() {
    let mut cluster = two_stages();
    cluster.deploy("p", &[model(2, 2)]);
    cluster.short();
    let first = cluster.state.last_replica;
    cluster.set(&format!("p-model-1-{first}"), ReplicaState::Ready);
    cluster.short();
    cluster.pass(0.3);
    cluster.short();
    assert_eq!((cluster.serving_revision(), cluster.phase()), (2, Some(Phase::Moving)));
    // The second replica takes its time.
    cluster.pass(100.0);
    cluster.short();
    assert_eq!(cluster.routed_of("second").map(|there| there.len()), Some(1));
    cluster.obey();
    assert_eq!(cluster.phase(), Some(Phase::Watching));
    cluster.pass(29.9);
    cluster.short();
    assert_eq!(cluster.routed_of("second").map(|there| there.len()), Some(1));
    cluster.pass(0.2);
    cluster.obey();
    assert_eq!(cluster.routed_of("second"), None);
}

#[test]
fn whoever_goes_back_meanwhile_finds_it_alive() {
    for outcome in [Outcome::RolledBack, Outcome::Aborted] {
        let mut cluster = second_dropped();
        let second = cluster.routed_of("second");
        cluster.pass(20.0);
        cluster.back_to(outcome);
        let commands = ["serve p@1", "update p-model-1-1@1"];
        assert_eq!(cluster.obey(), commands, "nothing starts, nothing leaves");
        assert_eq!((cluster.serving_revision(), cluster.routed_of("second")), (1, second));
        cluster.pass(60.0);
        assert!(cluster.obey().is_empty());
    }
}

#[test]
fn another_update_on_top_changes_nothing_for_requests_of_the_first_revision() {
    let mut cluster = second_dropped();
    cluster.pass(10.0);
    cluster.deploy("p", &[model(1, 2)]);
    cluster.obey();
    cluster.pass(0.3);
    cluster.obey();
    assert_eq!(cluster.serving_revision(), 3);
    assert_eq!(cluster.routed_of("second").map(|there| there.len()), Some(1));
    cluster.pass(20.0);
    assert_eq!(cluster.short().len(), 1, "30 s after requests left the revision that has it");
    assert_eq!(cluster.routed_of("second"), None);
}

#[test]
fn what_only_an_aborted_canary_has_stays_for_its_requests() {
    let mut cluster = two_stages();
    cluster.deploy("p", &[model(1, 1), spec("second"), spec("third")]);
    let mode = Mode::Canary { permille: 300 };
    desired::rollout::set_mode(&mut cluster.desired, &name("p"), mode).unwrap();
    cluster.obey();
    assert_eq!(cluster.phase(), Some(Phase::Trial));
    let third = cluster.routed_of("third").unwrap();
    cluster.back_to(Outcome::Aborted);
    assert!(cluster.obey().is_empty());
    assert_eq!(cluster.routed_of("third"), Some(third.clone()));
    cluster.set(&third[0], ReplicaState::Failed);
    assert!(cluster.short().is_empty(), "its worker starts it again");
    cluster.pass(30.0);
    assert_eq!(cluster.short(), [format!("retire {}", third[0])]);
}

#[test]
fn a_restarted_head_knows_no_rollout_and_keeps_it_all_the_same() {
    let mut cluster = second_dropped();
    let second = cluster.routed_of("second");
    let reports = ["n1", "n2"].map(|node| (node, cluster.reports(node)));
    cluster.restart_head();
    for (node, reports) in reports {
        cluster.join_with(node, 64, 0, reports);
    }
    cluster.pass(4.0);
    assert_eq!(cluster.short(), ["settle", "serve p@2", "update p-model-1-1@2"]);
    assert_eq!(cluster.routed_of("second"), second);
    cluster.pass(30.0);
    assert_eq!(cluster.short().len(), 2, "it is retired and stops: no ingress has come back");
    assert_eq!(cluster.routed_of("second"), None);
}

#[test]
fn the_last_replica_is_replaced_when_its_node_is_lost() {
    let mut cluster = second_dropped();
    let second = cluster.routed_of("second").unwrap().remove(0);
    let (node, ..) = cluster.find(&second);
    cluster.leave(&node.to_string());
    cluster.pass(15.1);
    let commands = cluster.short();
    assert!(commands.iter().any(|command| command.starts_with("start p/second@1")), "{commands:?}");
}

#[test]
fn one_that_scaled_to_none_starts_for_a_request_that_comes_to_it() {
    let elastic = || {
        let mut second = spec("second");
        (second.autoscaling.min_replicas, second.autoscaling.max_replicas) = (0, 4);
        second
    };
    let mut cluster = Cluster::new();
    cluster.join("n1");
    let (ingress, session) = cluster.join_ingress();
    cluster.deploy("p", &[model(1, 1), elastic()]);
    cluster.obey();
    cluster.deploy("p", &[model(1, 1)]);
    cluster.obey();
    assert_eq!((cluster.serving_revision(), cluster.routed_of("second")), (2, Some(vec![])));
    let loads = [("p/second".parse().unwrap(), Load { ongoing: 0, queued: 1, arrived: 1 })];
    cluster.see(Observation::Loaded(ingress, session, loads.into()));
    assert_eq!(cluster.short(), ["scale p/second 0-1", "start p/second@1 n1"]);
    cluster.obey();
    assert_eq!(cluster.routed_of("second").map(|there| there.len()), Some(1));
    cluster.pass(30.1);
    cluster.obey();
    assert_eq!(cluster.routed_of("second"), None);
    assert_eq!(cluster.state.next_scale(), None, "nothing is left to decide");
}
