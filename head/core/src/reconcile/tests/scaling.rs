//! Autoscaling in the miniature cluster: loads in, targets and replicas out.

use super::*;
use crate::desired::{Mode, change};

/// An echo deployment that scales: at most 8 replicas, two requests each.
fn elastic(deployment: &str, min: u32) -> DeploymentSpec {
    let mut spec = spec(deployment);
    spec.autoscaling.min_replicas = min;
    spec.autoscaling.max_replicas = 8;
    spec
}

fn full(deployment: &str) -> FullName {
    format!("p/{deployment}").parse().unwrap()
}

impl Cluster {
    /// A ready cluster with these deployments of `p`, one node and one ingress.
    fn scaling(specs: &[DeploymentSpec]) -> (Self, IngressId, SessionId) {
        let mut cluster = Self::new();
        cluster.join("n1");
        let (ingress, session) = cluster.join_ingress();
        cluster.deploy("p", specs);
        cluster.grow();
        (cluster, ingress, session)
    }

    fn load(&mut self, (id, session): (&IngressId, SessionId), loads: &[(&str, u64, u64)]) -> bool {
        let loads = loads.iter().map(|&(deployment, ongoing, queued)| {
            (full(deployment), Load { ongoing, queued, arrived: ongoing + queued })
        });
        let is_due = |head: &Reconciler| head.next_wake() == Some(Duration::ZERO);
        self.tell_desired();
        let was_due = is_due(&self.head);
        self.see(Observation::Loaded(id.clone(), session, loads.collect()));
        is_due(&self.head) && !was_due
    }

    /// Does all that follows until nothing does; returns the changes of targets.
    fn grow(&mut self) -> Vec<(String, u32, Rule)> {
        self.decided.clear();
        self.obey();
        let scales = self.decided.iter().filter_map(|command| match command {
            Command::Scale(scale) => Some((scale.deployment.deployment.to_string(), scale.to, scale.rule)),
            _ => None,
        });
        scales.collect()
    }

    /// Steps of 100 ms with the same load; returns the changes.
    fn hold(
        &mut self,
        from: (&IngressId, SessionId),
        seconds: f64,
        loads: &[(&str, u64, u64)],
    ) -> Vec<(String, u32, Rule)> {
        let end = self.now + Duration::from_secs_f64(seconds);
        let mut changes = Vec::new();
        while self.now < end {
            self.pass(0.1);
            self.load(from, loads);
            changes.extend(self.grow());
        }
        changes
    }

    fn num_replicas(&self, deployment: &str) -> usize {
        let replicas = self.state.nodes.values().flat_map(|node| node.replicas.values());
        replicas.filter(|replica| replica.deployment == full(deployment)).count()
    }
}

#[test]
fn from_zero_at_the_first_waiting_request_and_back_to_zero_when_idle() {
    let (mut cluster, ingress, session) = Cluster::scaling(&[elastic("model", 0)]);
    let from = (&ingress, session);
    assert_eq!(
        (cluster.num_replicas("model"), cluster.status().pipelines[0].state),
        (0, PipelineState::Ready)
    );
    assert!(cluster.state.scalers.is_empty(), "nothing to watch");
    assert!(cluster.load(from, &[("model", 0, 1)]), "looked at at once");
    assert_eq!(cluster.grow(), [("model".to_owned(), 1, Rule::FromZero)]);
    assert_eq!(cluster.routed("p").len(), 1);
    assert!(!cluster.load(from, &[("model", 1, 0)]));
    assert_eq!(cluster.hold(from, 3.0, &[("model", 1, 0)]), []);
    assert_eq!(cluster.hold(from, 299.0, &[]), []);
    assert_eq!(cluster.hold(from, 4.0, &[]), [("model".to_owned(), 0, Rule::IdleToZero)]);
    assert_eq!(cluster.num_replicas("model"), 0);
    assert!(cluster.state.scalers.is_empty(), "nothing to watch again");
    assert_eq!(cluster.state.next_scale(), None);
}

#[test]
fn a_target_above_the_minimum_is_watched_until_its_replicas_are_counted_again() {
    let (mut cluster, ingress, session) = Cluster::scaling(&[elastic("model", 0)]);
    let from = (&ingress, session);
    cluster.hold(from, 4.0, &[("model", 6, 0)]);
    assert_eq!(cluster.num_replicas("model"), 3);
    cluster.load(from, &[]);
    cluster.pass(3.0);
    cluster.settle();
    cluster.pass(60.0);
    assert_eq!(cluster.grow(), [("model".to_owned(), 1, Rule::Downscale)]);
    assert_eq!(cluster.grow(), [], "idle from here on");
    cluster.pass(301.0);
    assert_eq!(cluster.grow(), [("model".to_owned(), 0, Rule::IdleToZero)]);
}

#[test]
fn a_step_of_load_scales_within_a_second_and_its_end_after_a_minute() {
    let (mut cluster, ingress, session) = Cluster::scaling(&[elastic("model", 1)]);
    let from = (&ingress, session);
    assert_eq!(cluster.hold(from, 5.0, &[("model", 1, 0)]), []);
    let changes = cluster.hold(from, 1.0, &[("model", 8, 4)]);
    assert!(changes.iter().all(|(_, _, rule)| *rule == Rule::Upscale) && !changes.is_empty(), "{changes:?}");
    cluster.hold(from, 3.0, &[("model", 12, 0)]);
    assert_eq!(cluster.num_replicas("model"), 6);
    assert_eq!(cluster.hold(from, 59.0, &[]), []);
    let changes = cluster.hold(from, 4.0, &[]);
    assert_eq!(changes, [("model".to_owned(), 1, Rule::Downscale)]);
    assert_eq!(cluster.num_replicas("model"), 1);
}

#[test]
fn what_waits_in_front_of_one_stage_does_not_inflate_the_others() {
    let (mut cluster, ingress, session) = Cluster::scaling(&[elastic("first", 1), elastic("second", 1)]);
    let from = (&ingress, session);
    cluster.hold(from, 10.0, &[("first", 1, 0), ("second", 8, 40)]);
    assert_eq!((cluster.num_replicas("first"), cluster.num_replicas("second")), (1, 8));
}

#[test]
fn loads_of_all_ingresses_count_and_those_of_one_that_left_do_not() {
    let (mut cluster, ingress, session) = Cluster::scaling(&[elastic("model", 1)]);
    let (other, other_session) = (IngressId::from("other"), SessionId(99));
    let (name, entrance) = ("o".into(), "o:1".into());
    cluster.see(Observation::IngressJoined {
        id: other.clone(),
        session: other_session,
        name,
        entrance,
        pid: 2,
    });
    for _ in 0..40 {
        cluster.load((&other, other_session), &[("model", 6, 0)]);
        cluster.hold((&ingress, session), 0.1, &[("model", 4, 0)]);
    }
    assert_eq!(cluster.num_replicas("model"), 5);
    cluster.see(Observation::IngressLeft(other, other_session));
    cluster.hold((&ingress, session), 61.0, &[("model", 4, 0)]);
    assert_eq!(cluster.num_replicas("model"), 2);
}

#[test]
fn a_restarted_head_goes_on_with_what_runs() {
    let (mut cluster, ingress, session) = Cluster::scaling(&[elastic("model", 1)]);
    cluster.hold((&ingress, session), 4.0, &[("model", 8, 0)]);
    let node = &cluster.state.nodes[&NodeId::from("n1")];
    let reports: Vec<_> = node.replicas.iter().map(|(id, replica)| as_report(id, replica)).collect();
    assert_eq!(reports.len(), 4);
    cluster.restart_head();
    cluster.state_mut().settling.awaited = ["n1".into()].into();
    assert!(cluster.short().is_empty(), "how many there are is not known yet");
    cluster.join_with("n1", 64, 0, reports);
    assert_eq!(cluster.short(), ["scale p/model 1-4", "settle", "serve p@1"]);
    assert_eq!(cluster.state.routes.version.number, 1, "the first table is whole");
    let (ingress, session) = cluster.join_ingress();
    assert_eq!(cluster.grow(), [], "no load is known for a moment");
    assert_eq!(cluster.hold((&ingress, session), 70.0, &[("model", 8, 0)]), []);
    assert_eq!(cluster.num_replicas("model"), 4);
}

#[test]
fn a_head_that_is_restarted_during_a_rollout_counts_no_replica_twice() {
    let (canary, shadow) = (Mode::Canary { permille: 500 }, Mode::Shadow { permille: 1000 });
    // Old and new replicas, at most two more than wanted at a time; how many were wanted.
    let table = [
        (Mode::Rolling, 4, 2, 4),
        (Mode::Rolling, 3, 3, 4),
        (Mode::Rolling, 1, 4, 4),
        (Mode::Rolling, 0, 4, 4),
        (canary, 4, 2, 4),
        (shadow, 4, 4, 4),
    ];
    for (mode, old, new, expected) in table {
        let (mut cluster, ..) = Cluster::scaling(&[elastic("model", 1)]);
        let report = cluster.find("p-model-1-1").2;
        let mut spec = elastic("model", 1);
        spec.demand.cpu_milli += 1;
        spec.limits.max_surge = 2;
        cluster.deploy("p", &[spec]);
        desired::rollout::set_mode(&mut cluster.desired, &name("p"), mode).unwrap();
        let of = |revision: u64, count: u64| {
            let report = report.clone();
            (0..count).map(move |nth| Report {
                id: ReplicaId::new(format!("p-model-{revision}-{nth}")),
                revision,
                ..report.clone()
            })
        };
        cluster.restart_head();
        cluster.state.settling.awaited = ["n1".into()].into();
        cluster.join_with("n1", 64, 0, of(1, old).chain(of(2, new)).collect());
        let first = cluster.short().remove(0);
        assert_eq!(first, format!("scale p/model 1-{expected}"), "{mode:?}: {old} old, {new} new");
    }
}

#[test]
fn bounds_change_in_place_without_new_replicas() {
    let (mut cluster, ingress, session) = Cluster::scaling(&[elastic("model", 1)]);
    cluster.hold((&ingress, session), 4.0, &[("model", 8, 0)]);
    for (min, max, replicas) in [(1, 3, 3), (5, 9, 5), (1, 9, 5)] {
        let mut spec = elastic("model", min);
        spec.autoscaling.max_replicas = max;
        cluster.deploy("p", &[spec]);
        let commands = cluster.obey();
        assert!(!commands.iter().any(|command| command.starts_with("start") && min < 5), "{commands:?}");
        assert_eq!(cluster.num_replicas("model"), replicas, "{min} to {max}");
    }
}

#[test]
fn a_lower_minimum_does_not_drop_replicas_at_once() {
    let (mut cluster, ..) = Cluster::scaling(&[elastic("model", 4)]);
    cluster.deploy("p", &[elastic("model", 1)]);
    assert_eq!(cluster.tell_desired(), []);
    cluster.grow();
    assert_eq!(cluster.num_replicas("model"), 4);
    cluster.pass(61.0);
    assert_eq!(cluster.grow(), [("model".to_owned(), 1, Rule::Downscale)]);
}

#[test]
fn a_deleted_pipeline_leaves_nothing_behind() {
    let (mut cluster, ingress, session) = Cluster::scaling(&[elastic("model", 1)]);
    cluster.hold((&ingress, session), 4.0, &[("model", 8, 0)]);
    change::delete(&cluster.desired, &name("p")).unwrap();
    cluster.desired.remove(&name("p"), 1);
    cluster.tell_desired();
    let State { targets, scalers, counts, .. } = &cluster.state;
    assert!(targets.is_empty() && scalers.is_empty() && counts.is_empty());
    assert!(!cluster.load((&ingress, session), &[("model", 8, 0)]), "late reports are ignored");
    assert!(cluster.state.scalers.is_empty());
}

#[test]
fn every_change_says_all_that_led_to_it() {
    let (mut cluster, ingress, session) = Cluster::scaling(&[elastic("model", 0)]);
    cluster.load((&ingress, session), &[("model", 0, 1)]);
    let event = serde_json::to_value(&cluster.settle()[0]).unwrap();
    assert_eq!(event["Scale"]["rule"], "from_zero");
    assert_eq!((&event["Scale"]["from"], &event["Scale"]["to"]), (&0.into(), &1.into()));
    assert_eq!(event["Scale"]["inputs"]["queued"], 1);
    assert_eq!(event["Scale"]["settings"]["max_replicas"], 8);
}
