//! Nodes that fall silent, come back, empty themselves or never tell.

use super::*;

#[test]
fn a_silent_node_gets_no_traffic_after_3_s_and_is_replaced_after_15_s() {
    let mut cluster = serving(2);
    cluster.leave("n1");
    cluster.pass(3.0);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.routed("p").len(), 2);
    cluster.pass(0.1);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.routed("p"), ["p-model-1-2"]);
    assert_eq!(cluster.status().nodes[0].state, NodeState::Unreachable);
    cluster.pass(11.9);
    assert!(cluster.short().is_empty());
    cluster.pass(0.1);
    assert_eq!(cluster.short(), ["start p/model@1 n2", "give up n1"]);
    cluster.pass(3600.0);
    assert_eq!(cluster.short(), ["forget n1"]);
}

#[test]
fn a_node_that_comes_back_in_time_keeps_its_replicas_and_later_they_are_surplus() {
    for (away, expected) in [(14.0, &[][..]), (16.0, &["retire p-model-1-1", "stop p-model-1-1"][..])] {
        let mut cluster = serving(2);
        let report = cluster.find("p-model-1-1").2;
        cluster.leave("n1");
        cluster.pass(away);
        cluster.obey();
        cluster.join_with("n1", 64, 0, vec![report]);
        let commands = cluster.short();
        assert_eq!(commands, expected, "away for {away} s");
        assert!(cluster.routed("p").len() == 2);
    }
}

#[test]
fn a_node_that_empties_itself_gets_nothing_new_until_it_joins_again() {
    let mut cluster = serving(2);
    cluster.set("p-model-1-1", ReplicaState::Draining);
    assert_eq!(cluster.short(), ["start p/model@1 n2"], "replaced at once, elsewhere");
    assert_eq!(cluster.routed("p"), ["p-model-1-2"]);
    assert_eq!(cluster.status().nodes[0].state, NodeState::Draining);
    cluster.leave("n1");
    assert!(cluster.state.nodes[&NodeId::from("n1")].replicas.is_empty(), "it has ended, with all it had");
    cluster.obey();
    cluster.deploy("q", &[model(1, 1)]);
    assert_eq!(cluster.short(), ["serve q@1 soon", "start q/model@1 n2"]);
    cluster.join("n1");
    assert_eq!(cluster.status().nodes[0].state, NodeState::Ready);
    cluster.deploy("r", &[model(1, 1)]);
    assert_eq!(cluster.short(), ["serve r@1 soon", "start r/model@1 n1"]);
}

#[test]
fn what_a_node_does_not_report_is_gone_and_starts_again() {
    let mut cluster = serving(2);
    cluster.leave("n1");
    cluster.join("n1");
    assert_eq!(cluster.short(), ["start p/model@1 n1"]);
}

#[test]
fn messages_of_an_older_stream_change_nothing() {
    let mut cluster = serving(1);
    let (node, session, report) = cluster.find("p-model-1-1");
    cluster.join_with(node.as_str(), 64, 0, vec![report.clone()]);
    let before = cluster.state.clone();
    let failed = Report { state: ReplicaState::Failed, ..report };
    cluster.see(Observation::ReplicaChanged(node.clone(), session, failed));
    cluster.see(Observation::NodeLeft(node.clone(), session));
    cluster.pass(0.0);
    assert_eq!(cluster.state, before);
}

#[test]
fn half_of_the_nodes_dead_at_once_stops_replacing() {
    let mut cluster = serving(4);
    cluster.join("n3");
    cluster.join("n4");
    cluster.deploy("q", &[model(4, 1)]);
    cluster.obey();
    for node in ["n1", "n2"] {
        cluster.leave(node);
    }
    cluster.pass(3.1);
    assert_eq!(cluster.short(), ["alarm true"]);
    cluster.pass(20.0);
    assert!(cluster.short().is_empty(), "nothing is placed elsewhere");
    assert!(cluster.routed("p").is_empty(), "but they get no traffic");
    cluster.join("n1");
    let commands = cluster.short();
    assert!(commands.contains(&"alarm false".to_owned()), "{commands:?}");
    assert!(commands.contains(&"give up n2".to_owned()), "one dead node is replaced: {commands:?}");
}

#[test]
fn surplus_leaves_from_a_node_that_is_not_heard_before_it_leaves_from_another() {
    let mut cluster = serving(2);
    let on_1 = cluster.state.nodes[&NodeId::from("n1")].replicas.keys().next().unwrap().to_string();
    cluster.leave("n1");
    cluster.deploy("p", &[model(1, 1)]);
    let commands = cluster.short();
    assert!(commands.contains(&format!("retire {on_1}")), "{commands:?}");
}

#[test]
fn a_node_with_a_replica_of_unknown_demand_gets_nothing_new() {
    let mut cluster = serving(1);
    let (node, _, report) = cluster.find("p-model-1-1");
    cluster.restart_head();
    cluster.desired.remove(&name("p"), 1);
    cluster.deploy("q", &[model(1, 1)]);
    cluster.join_with(node.as_str(), 64, 0, vec![report]);
    cluster.pass(6.0);
    let commands = cluster.short();
    assert!(commands.contains(&"stop p-model-1-1".to_owned()), "{commands:?}");
    assert!(!commands.iter().any(|command| command.starts_with("start")), "{commands:?}");
    cluster.set("p-model-1-1", ReplicaState::Stopped);
    assert_eq!(cluster.short(), [format!("start q/model@1 {node}")]);
}

#[test]
fn a_node_that_was_lost_twice_under_one_name_is_one_lost_node() {
    let mut cluster = serving(2);
    cluster.join("n3");
    let mut old = cluster.state.nodes[&NodeId::from("n1")].clone();
    old.edit().session = None;
    // It came back without its disk while its old stream was not known to be broken, and was lost again.
    cluster.pass(4.0);
    cluster.state_mut().nodes.insert("n1-again".into(), old.clone());
    cluster.state_mut().nodes.insert("n1".into(), old);
    assert!(!cluster.short().contains(&"alarm true".to_owned()), "one of three");
}

#[test]
fn members_that_are_gone_are_forgotten_also_when_another_head_saw_them_last() {
    let mut cluster = Cluster::new();
    let absent = AbsentMember { forget_at: cluster.now + Duration::from_secs(3600), asked_at: None };
    cluster.state_mut().absent_members.insert("gone".into(), absent);
    cluster.state_mut().absent_members.insert("n1".into(), absent);
    cluster.join("n1");
    cluster.settle();
    cluster.pass(3599.0);
    assert_eq!(cluster.short(), [] as [&str; 0]);
    cluster.pass(1.0);
    assert_eq!(cluster.short(), ["forget gone"], "the one that came back is a member");
    cluster.pass(9.0);
    assert_eq!(cluster.short(), [] as [&str; 0]);
    cluster.pass(1.0);
    assert_eq!(cluster.short(), ["forget gone"], "the store did not say that it has");
    cluster.head.handle(reconciler::Event::MemberForgotten("gone".into()), cluster.now);
    cluster.pass(60.0);
    assert_eq!(cluster.short(), [] as [&str; 0]);
}

#[test]
fn a_node_that_comes_back_without_its_disk_takes_its_old_ids_place_in_the_store() {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.leave("n1");
    let session = SessionId(77);
    let mut registration = cluster.registration("n1-again", 4, 0, vec![]);
    registration.name = "n1".into();
    cluster.see(Observation::NodeJoined(session, registration));
    assert_eq!(cluster.short(), ["forget n1"]);
}

#[test]
fn nodes_that_somebody_removes_end_the_alarm_and_are_replaced() {
    let mut cluster = serving(4);
    for node in ["n3", "n4"] {
        cluster.join(node);
    }
    cluster.deploy("q", &[model(4, 1)]);
    cluster.obey();
    for node in ["n1", "n2"] {
        cluster.leave(node);
    }
    cluster.pass(20.0);
    assert_eq!(cluster.short(), ["alarm true"]);
    assert_eq!(cluster.removable("n3", cluster.now), Err(NotRemovable::Live("n3".into())));
    assert_eq!(cluster.removable("n9", cluster.now), Err(NotRemovable::Unknown("n9".into())));
    for node in ["n1", "n2"] {
        let id = cluster.removable(node, cluster.now).unwrap();
        let done = commands(cluster.head.handle(reconciler::Event::NodeRemoved(id), cluster.now));
        assert_eq!(done.iter().map(Command::kind).collect::<Vec<_>>(), ["replace_node", "forget_node"]);
    }
    let follows = cluster.short();
    assert!(follows.contains(&"alarm false".to_owned()), "{follows:?}");
    assert!(follows.iter().any(|command| command.starts_with("start p/model@1")), "{follows:?}");
    cluster.obey();
    assert_eq!(cluster.routed("p").len(), 4);
}

#[test]
fn a_copy_of_a_live_nodes_disk_is_not_let_in_and_a_process_that_dials_again_is() {
    let mut cluster = serving(1);
    let again = cluster.registration("n1", 64, 0, vec![]);
    assert_eq!(cluster.admit(&again, cluster.now), Ok(()));
    let copy = Registration { pid: 2, ..again.clone() };
    let in_use = JoinError::IdInUse { id: "n1".into(), pid: 1, address: "n1:1".into() };
    assert_eq!(cluster.admit(&copy, cluster.now), Err(in_use));
    cluster.leave("n1");
    assert_eq!(cluster.admit(&copy, cluster.now), Ok(()), "the process before it has ended");
}
