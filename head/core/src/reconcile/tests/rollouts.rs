//! Rollouts in miniature: trials, canaries, what errors and failed starts lead to, and what a restarted head makes of it.

use millstream_pipelines::TrafficStep;

use super::*;
use crate::desired::{Compiled, Mode};
use crate::rollout::{Outcomes, Phase, Tally};

/// A cluster of two nodes and an ingress that serves revision 1 of `p`, with revision 2 just deployed and ready for its
/// trial.
fn on_trial(replicas: u32, mode: Mode) -> Cluster {
    let mut cluster = serving(replicas);
    cluster.join_ingress();
    cluster.under_way(1);
    cluster.deploy("p", &[model(replicas, 2)]);
    desired::rollout::set_mode(&mut cluster.desired, &name("p"), mode).unwrap();
    let starts = cluster.short();
    assert!(starts.iter().all(|command| command.starts_with("start p/model@2")), "{starts:?}");
    for nth in 1..=starts.len() {
        cluster.set(&format!("p-model-1-{}", replicas as usize + nth), ReplicaState::Ready);
    }
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.state.rollouts[&name("p")].phase, Phase::Trial);
    cluster
}

impl Cluster {
    /// The ingress has so many requests of `p` under way.
    fn under_way(&mut self, ongoing: u64) {
        let (id, session) = self.ingress();
        let loads = [("p/model".parse().unwrap(), Load { ongoing, queued: 0, arrived: 0 })];
        self.see(Observation::Loaded(id, session, loads.into()));
    }

    /// Calls of a revision of `p` ended, and it is time to judge by them.
    fn count(&mut self, revision: u64, answered: u64, failed: u64) {
        let (id, session) = self.ingress();
        let deployments = [(name("model"), Outcomes { answered, failed })].into();
        let tally = Tally { deployments, ..Tally::default() };
        self.see(Observation::Counted(id, session, [((name("p"), revision), tally)].into()));
        self.pass(0.25);
    }

    fn ingress(&self) -> (IngressId, SessionId) {
        let (id, ingress) = self.state.ingresses.iter().next().unwrap();
        (id.clone(), ingress.session.unwrap())
    }

    /// Revision and thousandths of each variant of `p`.
    fn variants(&self) -> Vec<(u64, u16, u16)> {
        let route = self.state.routes.pipelines.iter().find(|route| route.name == name("p")).unwrap();
        let variants = route.variants.iter();
        variants.map(|v| (v.revision.stored.number, v.permille, v.shadow_permille)).collect()
    }
}

#[test]
fn a_trial_keeps_the_old_set_whole_and_ends_by_good_answers() {
    let mut cluster = on_trial(3, Mode::Rolling);
    assert_eq!(cluster.variants(), [(1, 900, 0), (2, 100, 0)]);
    assert_eq!(cluster.routed("p").len(), 4);
    cluster.count(1, 180, 0);
    cluster.count(2, 19, 0);
    assert!(cluster.short().is_empty());
    cluster.count(2, 1, 0);
    assert_eq!(cluster.short(), ["serve p@2", "retire p-model-1-2", "start p/model@2 n1"]);
    assert_eq!(cluster.variants(), [(2, 1000, 0)]);
}

#[test]
fn errors_lead_back_at_once_and_the_verdict_stays() {
    let mut cluster = on_trial(3, Mode::Rolling);
    cluster.count(1, 180, 0);
    cluster.count(2, 10, 10);
    assert_eq!(cluster.short(), ["retire p-model-1-4"]);
    assert_eq!(cluster.variants(), [(1, 1000, 0)]);
    assert_eq!(cluster.routed("p").len(), 3, "the old set is whole");
    cluster.obey();
    let status = &cluster.status().pipelines[0];
    assert_eq!((status.state, status.revision, status.newest_revision), (PipelineState::Ready, 1, 2));
    assert_eq!(status.verdicts[0].reason, "10 of 20 calls of `model` failed, before it 0 of 180");
    assert!(status.rollout.is_none());
    cluster.restart_head();
    assert_eq!(cluster.desired.pipelines[&name("p")].wanted, 1, "it is what is wanted, also later");
}

#[test]
fn a_verdict_is_in_force_before_the_store_has_it_and_told_again() {
    let mut cluster = on_trial(2, Mode::Rolling);
    let desired = cluster.desired.clone();
    cluster.count(2, 0, 20);
    cluster.short();
    cluster.desired = desired;
    assert!(cluster.short().is_empty(), "not yet");
    assert_eq!(cluster.variants(), [(1, 1000, 0)]);
    cluster.pass(2.0);
    cluster.short();
    assert_eq!(cluster.desired.pipelines[&name("p")].wanted, 1, "the store was told again");
}

/// The store has not taken that the head goes back, and somebody deploys a canary over it.
/// The steps that revision 2 of `p` takes over by.
fn with_steps(cluster: &mut Cluster, steps: &[(u16, u64)]) {
    let pipeline = cluster.desired.pipelines.get_mut(&name("p")).unwrap();
    let revision = Arc::make_mut(pipeline.revisions.get_mut(&2).unwrap());
    let compiled = revision.compiled.as_mut().unwrap();
    compiled.rollout.steps = steps
        .iter()
        .map(|&(permille, hold)| TrafficStep { permille, hold: Duration::from_secs(hold) })
        .collect();
    desired::rollout::set_mode(&mut cluster.desired, &name("p"), None).unwrap();
}

#[test]
fn a_revision_takes_over_by_the_steps_of_its_file() {
    let mut cluster = serving(4);
    cluster.join_ingress();
    cluster.under_way(1);
    cluster.deploy("p", &[model(4, 2)]);
    with_steps(&mut cluster, &[(250, 60), (500, 30), (1000, 0)]);
    assert_eq!(cluster.short(), ["start p/model@2 n1"], "a quarter of four");
    cluster.set("p-model-1-5", ReplicaState::Ready);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.variants(), [(1, 750, 0), (2, 250, 0)]);
    cluster.count(2, 30, 0);
    cluster.pass(58.0);
    assert_eq!(cluster.variants(), [(1, 750, 0), (2, 250, 0)]);
    cluster.pass(2.0);
    let mode = |cluster: &Cluster| cluster.desired.pipelines[&name("p")].rollout.unwrap().mode;
    assert_eq!(cluster.short().len(), 1, "another one starts for the larger part");
    assert_eq!(mode(&cluster), Mode::Steps { permille: 500 });
    assert_eq!(cluster.variants(), [(1, 750, 0), (2, 250, 0)], "not before it is ready");
    cluster.set("p-model-1-6", ReplicaState::Ready);
    cluster.short();
    assert_eq!(cluster.variants(), [(1, 500, 0), (2, 500, 0)]);
    // People go back by a step: at once, and it goes on from there.
    assert_eq!(desired::rollout::set_part(&mut cluster.desired, &name("p"), 300).unwrap(), (2, true));
    cluster.short();
    assert_eq!(cluster.variants(), [(1, 700, 0), (2, 300, 0)]);
    cluster.pass(61.0);
    cluster.short();
    assert_eq!(cluster.variants(), [(1, 500, 0), (2, 500, 0)]);
    cluster.pass(31.0);
    cluster.short();
    assert_eq!(mode(&cluster), Mode::Promoted { permille: 500 });
    cluster.obey();
    cluster.pass(3.0);
    cluster.obey();
    assert_eq!(cluster.variants(), [(2, 1000, 0)]);
}

#[test]
fn a_promoted_canary_goes_on_from_where_it_stands() {
    let mut cluster = on_trial(4, Mode::Canary { permille: 300 });
    assert_eq!(cluster.variants(), [(1, 700, 0), (2, 300, 0)]);
    desired::rollout::promote(&mut cluster.desired, &name("p")).unwrap();
    cluster.short();
    assert_eq!(cluster.variants(), [(1, 700, 0), (2, 300, 0)], "no step back");
    cluster.obey();
    cluster.pass(3.0);
    cluster.obey();
    assert_eq!(cluster.variants(), [(2, 1000, 0)]);
}

#[test]
fn a_canary_over_a_revision_that_is_being_rolled_back_stays_a_canary() {
    let mut cluster = serving(2);
    cluster.deploy("p", &[model(2, 2)]);
    cluster.obey();
    cluster.join_ingress();
    let before = cluster.desired.clone();
    cluster.count(2, 10, 10);
    cluster.obey();
    assert_eq!(cluster.variants(), [(1, 1000, 0)]);
    cluster.desired = before;
    cluster.deploy("p", &[model(2, 3)]);
    let canary = Mode::Canary { permille: 100 };
    desired::rollout::set_mode(&mut cluster.desired, &name("p"), canary).unwrap();
    cluster.obey();
    assert_eq!(cluster.variants(), [(1, 900, 0), (3, 100, 0)]);
    // The store takes late what it was told.
    let verdict = Verdict { outcome: Outcome::RolledBack, reason: "errors".into(), at_ms: 1 };
    desired::rollout::go_back(&mut cluster.desired, &name("p"), 2, 1, verdict);
    let stored = &cluster.desired.pipelines[&name("p")];
    assert_eq!((stored.wanted, stored.rollout.unwrap().baseline), (3, 1));
    assert!(stored.verdicts.contains_key(&2));
    cluster.obey();
    assert_eq!(cluster.variants(), [(1, 900, 0), (3, 100, 0)]);
}

#[test]
fn errors_after_everything_has_moved_bring_the_old_revision_back() {
    let mut cluster = serving(2);
    cluster.deploy("p", &[model(2, 2)]);
    cluster.obey();
    cluster.join_ingress();
    assert_eq!(cluster.state.rollouts[&name("p")].phase, Phase::Watching);
    cluster.count(2, 10, 10);
    assert_eq!(cluster.short(), ["start p/model@1 n1"], "the bad one serves until the good one can");
    assert_eq!(cluster.variants(), [(2, 1000, 0)]);
    cluster.obey();
    assert_eq!(cluster.variants(), [(1, 1000, 0)]);
    assert_eq!(cluster.routed("p").len(), 2);
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Ready);
    assert!(cluster.state.rollouts.is_empty());
}

#[test]
fn watching_ends_by_itself() {
    let mut cluster = serving(2);
    cluster.deploy("p", &[model(2, 2)]);
    cluster.obey();
    assert!(
        cluster.desired.pipelines[&name("p")].rollout.is_none(),
        "the store knows that it has taken over"
    );
    let may_serve = |cluster: &Cluster| cluster.desired.pipelines[&name("p")].may_serve().count();
    cluster.pass(29.9);
    cluster.short();
    assert_eq!((cluster.state.rollouts.len(), may_serve(&cluster)), (1, 2), "errors may still lead back");
    cluster.pass(0.2);
    let lost = cluster.desired.clone();
    cluster.short();
    assert_eq!((cluster.state.rollouts.len(), may_serve(&cluster)), (0, 1), "the old one is free to go");
    cluster.desired = lost;
    cluster.short();
    cluster.pass(2.0);
    cluster.short();
    assert_eq!(may_serve(&cluster), 1, "what was not taken is told again");
}

#[test]
fn nobody_takes_the_route_of_a_revision_that_errors_may_bring_back() {
    let route = |pipeline: &str, version, route: &str| {
        let compiled = Compiled { route: Some(route.into()), ..compiled(pipeline, [model(1, version)]) };
        let (file_name, source_dir) = ("p.toml".into(), "/".into());
        Candidate { file_name, source: format!("{version} {route}"), source_dir, compiled }
    };
    let add = |cluster: &mut Cluster, candidate| {
        let deployed = deploy(&cluster.desired, candidate, 1).map_err(|refusal| refusal.to_string())?;
        if let Deployed::New(revision) = deployed {
            let pipeline = revision.compiled.as_ref().unwrap().name.clone();
            cluster.desired.add(&pipeline, revision);
        }
        Ok::<_, String>(())
    };
    let expected = "p.toml: route `/x` is that of revision 1 of pipeline `p` (`/x`), which may serve again until the \
                    rollout of revision 2 is over: see `cluster rollout status p`; wait for that, or choose another `route`";
    for fails in [false, true] {
        let mut cluster = Cluster::new();
        cluster.join("n1");
        add(&mut cluster, route("p", 1, "/x")).unwrap();
        cluster.obey();
        cluster.join_ingress();
        add(&mut cluster, route("p", 2, "/y")).unwrap();
        for seconds in [0.0, 1.0, 10.0] {
            cluster.pass(seconds);
            cluster.obey();
            assert_eq!(add(&mut cluster, route("q", 1, "/x")), Err(expected.to_owned()));
        }
        assert_eq!(cluster.state.rollouts[&name("p")].phase, Phase::Watching);
        cluster.count(2, 0, if fails { 20 } else { 0 });
        cluster.pass(30.0);
        cluster.obey();
        assert_eq!(cluster.desired.pipelines[&name("p")].wanted, if fails { 1 } else { 2 });
        let free = if fails { "/y" } else { "/x" };
        add(&mut cluster, route("q", 1, free)).unwrap();
    }
}

#[test]
fn a_canary_has_its_part_until_it_is_promoted() {
    let mut cluster = on_trial(4, Mode::Canary { permille: 300 });
    assert_eq!(cluster.variants(), [(1, 700, 0), (2, 300, 0)]);
    assert_eq!(cluster.routed("p").len(), 6, "two of four beside four");
    cluster.count(2, 1000, 0);
    cluster.pass(3600.0);
    assert!(cluster.short().is_empty());
    let status = &cluster.status().pipelines[0];
    assert_eq!((status.state, status.serving_revision), (PipelineState::Ready, Some(1)));
    desired::rollout::promote(&mut cluster.desired, &name("p")).unwrap();
    assert!(cluster.short().contains(&"serve p@2".to_owned()));
    cluster.obey();
    assert_eq!(cluster.routed("p").len(), 4);
}

#[test]
fn a_canary_that_is_aborted_leaves_the_old_set_as_it_was() {
    let mut cluster = on_trial(2, Mode::Canary { permille: 100 });
    let (revision, to) = desired::rollout::abortable(&cluster.desired, &name("p")).unwrap();
    assert_eq!((revision, to), (2, 1));
    let verdict = Verdict { outcome: Outcome::Aborted, reason: "by hand".into(), at_ms: 1 };
    desired::rollout::go_back(&mut cluster.desired, &name("p"), revision, to, verdict);
    assert_eq!(cluster.short(), ["retire p-model-1-3"]);
    assert_eq!(cluster.variants(), [(1, 1000, 0)]);
    assert_eq!(cluster.routed("p"), ["p-model-1-1", "p-model-1-2"]);
}

#[test]
fn a_shadow_answers_nobody() {
    let cluster = on_trial(2, Mode::Shadow { permille: 500 });
    assert_eq!(cluster.variants(), [(1, 1000, 0), (2, 0, 500)]);
    let route = &cluster.state.routes.pipelines[0].deployments[0];
    let serves: Vec<_> = route.replicas.iter().map(|replica| replica.serves.clone()).collect();
    assert_eq!(serves, [vec![1], vec![1], vec![2]]);
}

#[test]
fn a_second_update_on_top_replaces_the_first() {
    let mut cluster = on_trial(2, Mode::Rolling);
    cluster.deploy("p", &[model(2, 3)]);
    let commands = cluster.short();
    assert!(commands.contains(&"retire p-model-1-3".to_owned()), "{commands:?}");
    assert!(commands.iter().any(|command| command.starts_with("start p/model@3")), "{commands:?}");
    assert_eq!(cluster.variants(), [(1, 1000, 0)]);
    cluster.under_way(0);
    cluster.obey();
    cluster.pass(0.3);
    cluster.obey();
    assert_eq!(cluster.variants(), [(3, 1000, 0)]);
    assert_eq!(cluster.desired.pipelines[&name("p")].rollout, None);
}

#[test]
fn a_head_restarted_during_a_trial_serves_the_old_revision_and_begins_the_trial_again() {
    let mut cluster = on_trial(2, Mode::Rolling);
    let reports: Vec<_> = ["n1", "n2"]
        .map(|node| {
            let node = &cluster.state.nodes[&NodeId::from(node)];
            node.replicas.iter().map(|(id, replica)| as_report(id, replica)).collect::<Vec<_>>()
        })
        .into();
    cluster.restart_head();
    for (node, reports) in ["n1", "n2"].into_iter().zip(reports) {
        cluster.join_with(node, 64, 0, reports);
    }
    cluster.join_ingress();
    cluster.under_way(1);
    cluster.pass(4.0);
    cluster.short();
    assert_eq!(cluster.variants(), [(1, 900, 0), (2, 100, 0)]);
}

/// The first report after a restart may be that of the canary's node.
#[test]
fn a_head_that_sees_replicas_late_gives_a_canary_no_more_than_its_part() {
    for seen in [&[][..], &["n2"], &["n1", "n2"]] {
        let mut cluster = on_trial(2, Mode::Canary { permille: 100 });
        let of = |node: &str| {
            let node = &cluster.state.nodes[&NodeId::from(node)];
            node.replicas.iter().map(|(id, replica)| as_report(id, replica)).collect::<Vec<_>>()
        };
        let reports: Vec<_> = seen.iter().map(|node| (*node, of(node))).collect();
        cluster.restart_head();
        for (node, reports) in reports {
            let reports = reports.into_iter().filter(|report| seen.len() > 1 || report.revision == 2);
            cluster.join_with(node, 64, 0, reports.collect());
        }
        cluster.join_ingress();
        cluster.pass(4.0);
        cluster.obey();
        let serving = cluster.state.serving[&name("p")];
        assert_eq!(serving.revision, 1, "{seen:?}");
        assert!(cluster.desired.pipelines[&name("p")].rollout.is_some(), "{seen:?}: it goes on");
    }
}

#[test]
fn a_trial_that_nobody_asks_any_more_is_looked_at() {
    let mut cluster = on_trial(1, Mode::Rolling);
    cluster.under_way(1);
    cluster.pass(0.3);
    assert!(cluster.short().is_empty(), "a request is under way");
    cluster.under_way(0);
    cluster.pass(0.25);
    assert_eq!(cluster.short(), ["serve p@2", "retire p-model-1-1"]);
}

#[test]
fn an_idle_pipeline_moves_after_a_moment() {
    let mut cluster = on_trial(1, Mode::Rolling);
    cluster.under_way(0);
    cluster.pass(0.2);
    assert!(cluster.short().is_empty());
    cluster.pass(0.1);
    assert_eq!(cluster.short(), ["serve p@2", "retire p-model-1-1"]);
}

#[test]
fn a_canary_that_answers_other_calls_waits_for_its_part_only_and_for_all_once_promoted() {
    let mut cluster = serving(4);
    cluster.join_ingress();
    let mut other = model(4, 1);
    other.task = Task::Tensor;
    cluster.deploy("p", &[other]);
    let mode = Mode::Canary { permille: 300 };
    desired::rollout::set_mode(&mut cluster.desired, &name("p"), mode).unwrap();
    cluster.obey();
    assert_eq!(cluster.variants(), [(1, 700, 0), (2, 300, 0)]);
    assert_eq!(cluster.routed("p").len(), 6);
    desired::rollout::promote(&mut cluster.desired, &name("p")).unwrap();
    assert_eq!(cluster.short(), ["start p/model@2 n1", "start p/model@2 n2"]);
    assert_eq!(cluster.variants()[0].0, 1, "until all of them can answer");
    cluster.obey();
    cluster.pass(2.1);
    cluster.obey();
    assert_eq!(cluster.variants(), [(2, 1000, 0)]);
}

#[test]
fn a_deployment_that_a_canary_no_longer_has_is_replaced_while_the_old_revision_serves() {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.join("n2");
    cluster.join_ingress();
    cluster.deploy("p", &[spec("model"), spec("second")]);
    cluster.obey();
    cluster.deploy("p", &[spec("model")]);
    desired::rollout::set_mode(&mut cluster.desired, &name("p"), Mode::Canary { permille: 100 }).unwrap();
    cluster.obey();
    let second = cluster.routed("p").into_iter().find(|id| id.contains("second")).unwrap();
    cluster.set(&second, ReplicaState::Stopped);
    let commands = cluster.short();
    assert!(commands.iter().any(|command| command.starts_with("start p/second@1")), "{commands:?}");
}

#[test]
fn on_the_way_back_from_a_sound_revision_its_replicas_help_out_and_those_of_a_convicted_one_leave() {
    for convicted in [false, true] {
        let mut cluster = serving(3);
        cluster.join_ingress();
        cluster.deploy("p", &[model(3, 2)]);
        cluster.obey();
        cluster.pass(0.3);
        cluster.obey();
        assert_eq!((cluster.variants(), cluster.routed("p").len()), (vec![(2, 1000, 0)], 3));
        let pipeline = cluster.desired.pipelines.get_mut(&name("p")).unwrap();
        (pipeline.wanted, pipeline.rollout) = (1, None);
        if convicted {
            let verdict = Verdict { outcome: Outcome::RolledBack, reason: "bad".into(), at_ms: 1 };
            pipeline.verdicts.insert(2, verdict);
        }
        cluster.state_mut().rollouts.clear();
        cluster.short();
        let mut replicas = cluster.state.nodes.values().flat_map(|node| &node.replicas);
        let starting = replicas.find(|(_, replica)| replica.state == ReplicaState::Starting);
        let first = starting.unwrap().0.to_string();
        cluster.set(&first, ReplicaState::Ready);
        cluster.short();
        cluster.pass(2.1);
        cluster.short();
        assert_eq!(cluster.variants(), [(1, 1000, 0)]);
        assert_eq!(cluster.routed("p").len(), if convicted { 1 } else { 3 });
        cluster.obey();
        assert_eq!(cluster.routed("p").len(), 3);
    }
}

#[test]
fn a_verdict_that_the_store_did_not_take_is_told_again_although_the_takeover_was_stored() {
    let mut cluster = serving(2);
    cluster.join_ingress();
    cluster.deploy("p", &[model(2, 2)]);
    cluster.obey();
    cluster.pass(0.3);
    cluster.obey();
    assert!(cluster.desired.pipelines[&name("p")].rollout.is_none());
    let lost = cluster.desired.clone();
    cluster.count(2, 10, 10);
    cluster.short();
    cluster.desired = lost;
    cluster.pass(1.9);
    cluster.short();
    assert_eq!(cluster.desired.pipelines[&name("p")].wanted, 2);
    cluster.pass(0.2);
    cluster.short();
    assert_eq!(cluster.desired.pipelines[&name("p")].wanted, 1);
}

#[test]
fn replicas_that_help_out_go_on_although_a_third_revision_can_use_them() {
    let mut cluster = on_trial(3, Mode::Rolling);
    cluster.pass(2.1);
    assert!(cluster.short().contains(&"serve p@2".to_owned()));
    let answering = |cluster: &Cluster| {
        let replicas = &cluster.state.routes.pipelines[0].deployments[0].replicas;
        replicas.iter().filter(|it| it.serves.is_empty() || it.serves.contains(&2)).count()
    };
    assert_eq!(answering(&cluster), 3);
    cluster.deploy("p", &[model(3, 1)]);
    desired::rollout::set_mode(&mut cluster.desired, &name("p"), Mode::Canary { permille: 100 }).unwrap();
    cluster.short();
    assert_eq!(cluster.variants(), [(2, 900, 0), (3, 100, 0)]);
    assert_eq!(answering(&cluster), 3);
}

#[test]
fn what_ends_is_counted_whether_or_not_a_rollout_is_under_way_and_forgotten_with_its_pipeline() {
    let mut cluster = serving(1);
    let (id, session) = cluster.join_ingress();
    let ended = |cluster: &Cluster| {
        let all = numbers::numbers(&cluster.desired, &cluster.state, &cluster.timing, cluster.now);
        (all.pipelines[0].requests_ended, all.deployments[0].calls_ended)
    };
    assert_eq!(ended(&cluster), (0, 0));
    cluster.count(1, 3, 1);
    let tally = Tally { requests: Outcomes { answered: 2, failed: 1 }, ..Tally::default() };
    let counted = || [((name("p"), 1), tally.clone()), ((name("q"), 1), tally.clone())].into();
    cluster.see(Observation::Counted(id.clone(), session, counted()));
    cluster.count(9, 1, 0);
    assert_eq!(ended(&cluster), (3, 5));
    assert_eq!(cluster.state.ended.len(), 1, "nobody asks for `q`");
    cluster.desired.remove(&name("p"), 1);
    cluster.see(Observation::Counted(id, session, counted()));
    cluster.short();
    assert!(cluster.state.ended.is_empty());
}
