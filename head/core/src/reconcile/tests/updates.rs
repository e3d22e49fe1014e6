//! New revisions: surge, the switch of routes, old replicas' leave, updates on top of updates.

use super::*;

#[test]
fn a_new_revision_surges_by_one_and_ready_ones_never_fall_below_what_was_asked() {
    let mut cluster = serving(3);
    cluster.join_ingress();
    cluster.deploy("p", &[model(3, 2)]);
    assert_eq!(cluster.short(), ["start p/model@2 n2"]);
    cluster.set("p-model-1-4", ReplicaState::Ready);
    assert!(cluster.short().is_empty(), "its trial");
    cluster.pass(0.3);
    let commands = cluster.short();
    assert_eq!(commands, ["serve p@2", "retire p-model-1-2", "start p/model@2 n1"], "one for one");
    assert_eq!(cluster.routed("p").len(), 3);
    for _ in 0..50 {
        cluster.short();
        assert!(cluster.routed("p").len() >= 3, "{:?}", cluster.routed("p"));
        let all = cluster.state.nodes.values().flat_map(|node| &node.replicas);
        let all: Vec<_> = all.map(|(id, replica)| (id.to_string(), replica.state, replica.leaving)).collect();
        let staying = all.iter().filter(|(.., leaving)| leaving.is_none()).count();
        assert!(staying <= 4, "at most one more: {all:?}");
        cluster.confirm();
        let next = all.into_iter().find_map(|(id, state, leaving)| match (state, leaving) {
            (_, Some(Leaving::Stopping { .. })) => Some((id, ReplicaState::Stopped)),
            (ReplicaState::Starting, None) => Some((id, ReplicaState::Ready)),
            _ => None,
        });
        if let Some((id, state)) = next {
            cluster.set(&id, state);
        }
    }
    let status = cluster.status();
    assert_eq!(status.pipelines[0].state, PipelineState::Ready);
    assert!(status.pipelines[0].deployments[0].replicas.iter().all(|replica| replica.revision == 2));
}

#[test]
fn routes_switch_when_every_deployment_of_the_revision_is_ready() {
    let other = |version| {
        let mut other = model(1, version);
        other.name = name("other");
        other
    };
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.deploy("p", &[model(1, 1), other(1)]);
    cluster.obey();
    cluster.deploy("p", &[model(1, 2), other(2)]);
    assert_eq!(cluster.short(), ["start p/model@2 n1", "start p/other@2 n1"]);
    cluster.set("p-model-1-3", ReplicaState::Ready);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.status().pipelines[0].serving_revision, Some(1));
    cluster.set("p-other-1-4", ReplicaState::Ready);
    let commands = cluster.short();
    assert_eq!(commands[0], "serve p@2", "{commands:?}");
    assert_eq!(cluster.routed("p"), ["p-model-1-3", "p-other-1-4"]);
}

#[test]
fn a_changed_task_waits_for_all_new_replicas() {
    let mut cluster = serving(2);
    let changed = DeploymentSpec { task: Task::Embed, ..model(2, 2) };
    cluster.deploy("p", &[changed]);
    assert_eq!(cluster.short(), ["start p/model@2 n1", "start p/model@2 n2"]);
    cluster.set("p-model-1-3", ReplicaState::Ready);
    assert!(cluster.short().is_empty(), "old replicas cannot help the new plan");
    cluster.set("p-model-1-4", ReplicaState::Ready);
    cluster.obey();
    // Requests that began on the old revision still have somebody to go to, and nobody else may answer them.
    let answers = |cluster: &Cluster| {
        let route = &cluster.state.routes.pipelines[0].deployments[0];
        route.replicas.iter().map(|replica| replica.answers.clone()).collect::<Vec<_>>()
    };
    assert_eq!(cluster.routed("p"), ["p-model-1-1", "p-model-1-2", "p-model-1-3", "p-model-1-4"]);
    assert_eq!(answers(&cluster), [[1], [1], [2], [2]]);
    cluster.pass(cluster.timing.rollout.watch.as_secs_f64());
    cluster.obey();
    assert_eq!(cluster.routed("p"), ["p-model-1-3", "p-model-1-4"]);
    assert_eq!(answers(&cluster), [[2], [2]]);
}

#[test]
fn settings_that_apply_in_place_keep_replicas() {
    let mut cluster = serving(2);
    let mut wider = model(3, 1);
    wider.limits.max_ongoing_requests += 1;
    cluster.deploy("p", &[wider]);
    let commands = cluster.short();
    let expected = ["start p/model@2 n1", "serve p@2", "update p-model-1-1@2", "update p-model-1-2@2"];
    assert_eq!(commands, expected);
    assert_eq!(cluster.routed("p").len(), 2, "they serve the new revision at once");
}

#[test]
fn old_replicas_stop_after_the_ack_or_a_bounded_wait() {
    for confirms in [true, false] {
        let mut cluster = serving(1);
        let (id, session) = cluster.join_ingress();
        let version = cluster.state.routes.version;
        cluster.see(Observation::Acked(id.clone(), session, version));
        cluster.deploy("p", &[model(1, 2)]);
        cluster.short();
        cluster.set("p-model-1-2", ReplicaState::Ready);
        cluster.short();
        cluster.pass(0.3);
        assert_eq!(cluster.short(), ["serve p@2", "retire p-model-1-1"]);
        cluster.pass(4.9);
        assert!(cluster.short().is_empty(), "the ingress may still send to it");
        if confirms {
            let version = cluster.state.routes.version;
            cluster.see(Observation::Acked(id, session, version));
        } else {
            cluster.pass(0.1);
        }
        assert_eq!(cluster.short(), ["stop p-model-1-1"]);
        cluster.pass(41.0);
        assert_eq!(cluster.short(), ["stop p-model-1-1"], "told again when it does not stop");
    }
}

#[test]
fn an_ingress_whose_stream_broke_may_still_send_for_a_while() {
    let mut cluster = serving(1);
    let (id, session) = cluster.join_ingress();
    cluster.see(Observation::IngressLeft(id, session));
    cluster.deploy("q", &[model(1, 1)]);
    cluster.obey();
    cluster.desired.remove(&name("p"), 1);
    assert_eq!(cluster.short(), ["retire p-model-1-1"]);
    cluster.pass(5.0);
    assert_eq!(cluster.short(), ["stop p-model-1-1", "forget ingress"]);
}

#[test]
fn a_revision_that_cannot_start_leaves_the_old_one_whole_and_a_third_replaces_it() {
    let mut cluster = serving(2);
    cluster.deploy("p", &[model(2, 2)]);
    cluster.short();
    cluster.report("p-model-1-3", ReplicaState::Failed, 1);
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Degraded, "it may still come");
    cluster.report("p-model-1-3", ReplicaState::Failed, 2);
    assert_eq!(cluster.short(), ["retire p-model-1-3", "stop p-model-1-3"]);
    let status = cluster.status();
    assert_eq!(status.pipelines[0].state, PipelineState::Ready);
    assert_eq!((status.pipelines[0].revision, status.pipelines[0].newest_revision), (1, 2));
    let verdict = "a replica of `p/model` did not start in 3 tries: its process ended";
    assert_eq!(status.pipelines[0].verdicts[0].reason, verdict);
    assert_eq!(cluster.routed("p").len(), 2);
    cluster.deploy("p", &[model(2, 3)]);
    cluster.obey();
    assert_eq!(cluster.status().pipelines[0].serving_revision, Some(3));
    assert_eq!(cluster.routed("p").len(), 2);
}

#[test]
fn an_update_on_top_of_one_that_is_half_way_keeps_as_many_as_were_asked() {
    let mut cluster = serving(2);
    cluster.deploy("p", &[model(2, 2)]);
    cluster.short();
    cluster.set("p-model-1-3", ReplicaState::Ready);
    cluster.short();
    assert_eq!(cluster.routed("p"), ["p-model-1-1", "p-model-1-3"], "one of each");
    cluster.deploy("p", &[model(2, 3)]);
    cluster.short();
    assert_eq!(cluster.routed("p"), ["p-model-1-1", "p-model-1-3"], "the first one still stands in");
    cluster.obey();
    let status = cluster.status();
    assert!(status.pipelines[0].deployments[0].replicas.iter().all(|replica| replica.revision == 3));
    assert_eq!(cluster.routed("p").len(), 2);
}

#[test]
fn what_serves_both_revisions_is_neither_started_twice_nor_given_up() {
    let other = |version| DeploymentSpec { name: name("other"), ..model(1, version) };
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.deploy("p", &[model(2, 1), other(1)]);
    cluster.obey();
    cluster.deploy("p", &[model(2, 1), other(2)]);
    assert_eq!(cluster.short(), ["start p/other@2 n1"]);
    cluster.set("p-model-1-1", ReplicaState::Stopped);
    cluster.join_with("n2", 64, 0, vec![]);
    assert_eq!(cluster.short(), ["start p/model@1 n2"], "one, which serves both");
}

#[test]
fn replicas_of_a_revision_that_is_no_longer_kept_stay_until_others_are_ready() {
    let mut cluster = serving(2);
    for limit in 9..20 {
        let mut wider = model(2, 1);
        wider.limits.max_ongoing_requests = limit;
        cluster.deploy("p", &[wider]);
        cluster.short();
    }
    cluster.deploy("p", &[model(2, 2)]);
    cluster.short();
    assert!(!cluster.desired.pipelines[&name("p")].revisions.contains_key(&1));
    let started = cluster.state.nodes.values().flat_map(|node| &node.replicas);
    let started = started.filter(|(_, it)| it.state == ReplicaState::Starting).map(|(id, _)| id.to_string());
    let started: Vec<_> = started.collect();
    cluster.set(&started[0], ReplicaState::Ready);
    cluster.short();
    assert_eq!(cluster.routed("p").len(), 2, "{:?}", cluster.routed("p"));
}

#[test]
fn a_revision_that_never_worked_gives_way_at_once() {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.deploy("p", &[model(1, 1)]);
    cluster.short();
    cluster.report("p-model-1-1", ReplicaState::Failed, 5);
    cluster.deploy("p", &[model(1, 2)]);
    let commands = cluster.short();
    assert!(commands.contains(&"serve p@2 soon".to_owned()), "{commands:?}");
    assert!(commands.contains(&"retire p-model-1-1".to_owned()), "{commands:?}");
    assert!(commands.contains(&"start p/model@2 n1".to_owned()), "{commands:?}");
}

/// The same without room for one more while it is replaced.
fn in_place(replicas: u32, version: u64) -> DeploymentSpec {
    let mut spec = model(replicas, version);
    spec.limits.max_surge = 0;
    spec
}

#[test]
fn without_a_surge_one_stops_before_another_starts() {
    for replicas in [1, 3] {
        let mut cluster = Cluster::new();
        cluster.join("n1");
        cluster.join_ingress();
        cluster.deploy("p", &[in_place(replicas, 1)]);
        cluster.obey();
        cluster.deploy("p", &[in_place(replicas, 2)]);
        for _ in 0..200 {
            let commands = cluster.obey();
            cluster.pass(1.0);
            if commands.is_empty() && cluster.state.rollouts.is_empty() {
                break;
            }
        }
        assert_eq!(cluster.routed("p").len(), replicas as usize, "all are of the new revision");
        let replicas_of = |revision| {
            let all = cluster.state.nodes.values().flat_map(|node| node.replicas.values());
            all.filter(|replica| replica.revision == revision).count()
        };
        assert_eq!((replicas_of(1), replicas_of(2)), (0, replicas as usize));
        let counted = cluster.decided.iter().scan(0_i64, |running, command| {
            match command {
                Command::Start(_) => *running += 1,
                Command::Retire { .. } => *running -= 1,
                _ => {}
            }
            Some(*running)
        });
        assert_eq!(counted.max(), Some(i64::from(replicas)), "never more than asked for");
    }
}

#[test]
fn what_gave_way_comes_back_when_the_new_one_cannot_start() {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.join_ingress();
    cluster.deploy("p", &[in_place(1, 1)]);
    cluster.obey();
    cluster.deploy("p", &[in_place(1, 2)]);
    let started = cluster.short();
    assert!(started.contains(&"start p/model@2 n1".to_owned()), "{started:?}");
    cluster.report("p-model-1-2", ReplicaState::Failed, 2);
    cluster.obey();
    cluster.pass(1.0);
    cluster.obey();
    assert_eq!(cluster.routed("p").len(), 1);
    assert_eq!(cluster.desired.pipelines[&name("p")].wanted, 1, "it is taken back");
    let running = cluster.state.nodes.values().flat_map(|node| node.replicas.values());
    assert!(running.into_iter().all(|replica| replica.revision == 1));
}
