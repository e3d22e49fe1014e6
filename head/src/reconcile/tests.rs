//! A cluster in miniature: tables of what happens and the commands that must follow. The clock is a number, the workers
//! are values.

use std::collections::BTreeMap;

use millstream_pipelines::{DeploymentSpec, Device as On, GpuDemand, Task};
use millstream_proto::status::{NodeState, PipelineState, ReplicaState};
use proptest::prelude::*;

use super::observe::{Event, Registration, Report, admit, observe};
use super::*;
use crate::desired::change::{Candidate, Deployed, deploy};
use crate::desired::{self, Desired, Outcome, Verdict};
use crate::rollout::ChangeKind;
use crate::testing::{compiled, name, spec};
use crate::timing::Timing;

mod linger;
mod rehearsal;
mod rollouts;
mod scaling;

/// What people ask for, what is observed, and a clock.
struct Cluster {
    desired: Desired,
    state: State,
    timing: Timing,
    now: Duration,
    sessions: u64,
}

impl Cluster {
    fn new() -> Self {
        let state = State::new(1, Duration::ZERO);
        let now = Duration::from_secs(1000);
        Self { desired: Desired::default(), state, timing: Timing::default(), now, sessions: 0 }
    }

    /// A head that comes back: everything observed is forgotten.
    fn restart_head(&mut self) {
        self.state = State::new(self.state.epoch + 1, self.now + self.timing.settle);
    }

    fn deploy(&mut self, pipeline: &str, specs: &[DeploymentSpec]) {
        let source = format!("{specs:?}");
        let compiled = compiled(pipeline, specs.iter().cloned());
        let candidate = Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled };
        if let Deployed::New(revision) = deploy(&self.desired, candidate, 1).unwrap() {
            self.desired.add(&name(pipeline), revision);
        }
    }

    fn see(&mut self, event: Event) {
        observe(&mut self.state, &self.desired, event, self.now);
    }

    fn join_with(&mut self, node: &str, cores: u64, gpus: u32, replicas: Vec<Report>) {
        self.sessions += 1;
        let gpus = (0..gpus).map(|index| Device { index, model: "A100".into(), memory_bytes: 40 << 30 });
        let registration = Registration {
            id: node.into(),
            name: node.to_owned(),
            address: format!("{node}:1"),
            pid: 1,
            version: String::new(),
            labels: BTreeMap::new(),
            resources: Resources { cpu_milli: cores * 1000, memory_bytes: 8 << 30, gpus: gpus.collect() },
            replicas,
        };
        admit(&self.state, &registration, &self.timing, self.now).unwrap();
        self.see(Event::NodeJoined(SessionId(self.sessions), registration));
    }

    fn join(&mut self, node: &str) {
        self.join_with(node, 64, 0, vec![]);
    }

    fn leave(&mut self, node: &str) {
        let session = self.state.nodes[&NodeId::from(node)].session.unwrap();
        self.see(Event::NodeLeft(node.into(), session));
    }

    /// Time goes by; nodes with a stream beat.
    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        let live = self.state.nodes.iter().filter_map(|(id, node)| Some((id.clone(), node.session?)));
        for (id, session) in live.collect::<Vec<_>>() {
            self.see(Event::Heartbeat(id, session, BTreeMap::new()));
        }
    }

    /// Steps until nothing more follows; gives all commands. Routes are published after each step.
    fn settle(&mut self) -> Vec<Command> {
        let mut all = Vec::new();
        for _ in 0..20 {
            let step = step(&self.desired, &self.state, &self.timing, self.now);
            for command in &step.commands {
                self.state.carry_out(command, self.now);
                self.store(command);
            }
            self.state.pending = step.pending;
            routes::publish(&mut self.state, &self.desired, &self.timing, self.now);
            if step.commands.is_empty() {
                return all;
            }
            all.extend(step.commands);
        }
        panic!("commands follow commands without end: {all:#?}");
    }

    /// What the actor around the decisions stores.
    fn store(&mut self, command: &Command) {
        let Command::Rollout(rollout::Change { pipeline, revision, baseline, kind }) = command else {
            return;
        };
        match kind {
            ChangeKind::Complete => desired::rollout::complete(&mut self.desired, pipeline, *revision),
            ChangeKind::RollBack { reason } => {
                let verdict = Verdict { outcome: Outcome::RolledBack, reason: reason.clone(), at_ms: 1 };
                desired::rollout::go_back(&mut self.desired, pipeline, *revision, *baseline, verdict);
            }
            _ => {}
        }
    }

    /// The commands in short, without the book-keeping of rollouts: `start p/model@1 n1`, `retire ID`, `stop ID`, `serve p@1`.
    fn short(&mut self) -> Vec<String> {
        let text = |command| match command {
            Command::Rollout(_) | Command::ForgetPipeline { .. } => String::new(),
            Command::Settle => "settle".to_owned(),
            Command::Serve { pipeline, revision, complete } => {
                format!("serve {pipeline}@{revision}{}", if complete { "" } else { " soon" })
            }
            Command::Start(order) => format!("start {}@{} {}", order.deployment, order.revision, order.node),
            Command::Update(order) => format!("update {}@{}", order.replica, order.revision),
            Command::Retire { replica, .. } => format!("retire {replica}"),
            Command::Stop { replica, .. } => format!("stop {replica}"),
            Command::GiveUp { node } => format!("give up {node}"),
            Command::ForgetNode { node } => format!("forget {node}"),
            Command::ForgetIngress { ingress } => format!("forget {ingress}"),
            Command::Alarm { raised } => format!("alarm {raised}"),
            Command::Scale(scale) => format!("scale {} {}-{}", scale.deployment, scale.from, scale.to),
        };
        self.settle().into_iter().map(text).filter(|text| !text.is_empty()).collect()
    }

    fn set(&mut self, replica: &str, state: ReplicaState) {
        self.report(replica, state, 0);
    }

    fn report(&mut self, replica: &str, state: ReplicaState, restarts: u32) {
        let (node, session, mut report) = self.find(replica);
        report.state = state;
        report.restarts = restarts;
        self.see(Event::ReplicaChanged(node, session, report));
    }

    fn find(&self, replica: &str) -> (NodeId, SessionId, Report) {
        let id = ReplicaId::from(replica);
        let (node_id, node) =
            self.state.nodes.iter().find(|(_, node)| node.replicas.contains_key(&id)).unwrap();
        (node_id.clone(), node.session.unwrap_or(SessionId(0)), as_report(&id, &node.replicas[&id]))
    }

    /// Every replica that starts gets ready, every one that stops is gone, every ingress confirms; until all is calm.
    fn obey(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..200 {
            let commands = self.short();
            let replicas = self.state.nodes.values().flat_map(|node| &node.replicas);
            let replicas: Vec<_> =
                replicas.map(|(id, replica)| (id.to_string(), replica.state, replica.leaving)).collect();
            let version = self.state.routes.version;
            for ingress in self.state.ingresses.values_mut() {
                ingress.acked = version;
            }
            let mut calm = commands.is_empty();
            for (id, state, leaving) in replicas {
                match (state, leaving) {
                    (_, Some(Leaving::Stopping { .. })) => self.set(&id, ReplicaState::Stopped),
                    (ReplicaState::Starting, None) => self.set(&id, ReplicaState::Ready),
                    _ => continue,
                }
                calm = false;
                // One thing at a time.
                break;
            }
            all.extend(commands);
            if calm {
                return all;
            }
        }
        panic!("never calm: {all:#?}");
    }

    fn routed(&self, pipeline: &str) -> Vec<String> {
        let routes = self.state.routes.pipelines.iter().filter(|route| route.name.as_str() == pipeline);
        let replicas = routes.flat_map(|route| &route.deployments).flat_map(|route| &route.replicas);
        replicas.map(|replica| replica.replica.to_string()).collect()
    }

    fn status(&self) -> millstream_proto::status::ClusterStatus {
        status::status("head", &self.desired, &self.state, &self.timing, self.now)
    }

    fn join_ingress(&mut self) -> (IngressId, SessionId) {
        self.sessions += 1;
        let (id, session) = (IngressId::from("ingress"), SessionId(self.sessions));
        let (name, address) = ("i".into(), "i:1".into());
        self.see(Event::IngressJoined { id: id.clone(), session, name, address, pid: 1 });
        (id, session)
    }
}

fn as_report(id: &ReplicaId, replica: &Replica) -> Report {
    Report {
        id: id.clone(),
        deployment: replica.deployment.clone(),
        revision: replica.revision,
        state: replica.state,
        doing: String::new(),
        error: String::new(),
        pid: 1,
        restarts: replica.restarts,
        gpus: replica.gpus.clone(),
    }
}

/// An echo deployment of that many replicas; `version` makes it need new ones.
fn model(replicas: u32, version: u64) -> DeploymentSpec {
    let mut spec = spec("model");
    spec.autoscaling.min_replicas = replicas;
    spec.demand.cpu_milli = 100 + version;
    spec
}

/// A cluster on two nodes that serves revision 1 of `p`.
fn serving(replicas: u32) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.join("n1");
    cluster.join("n2");
    cluster.deploy("p", &[model(replicas, 1)]);
    cluster.obey();
    cluster
}

#[test]
fn missing_replicas_start_spread_and_serve_when_ready() {
    let mut cluster = Cluster::new();
    cluster.deploy("p", &[model(2, 1)]);
    assert_eq!(cluster.short(), ["serve p@1 soon"]);
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Starting);
    cluster.join("n1");
    cluster.join("n2");
    assert_eq!(cluster.short(), ["start p/model@1 n1", "start p/model@1 n2"]);
    assert!(cluster.short().is_empty(), "a replica on its way is not started again");
    cluster.set("p-model-1-1", ReplicaState::Ready);
    assert_eq!(cluster.short(), ["serve p@1"]);
    assert_eq!(cluster.routed("p"), ["p-model-1-1"]);
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Degraded);
    cluster.set("p-model-1-2", ReplicaState::Ready);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Ready);
}

#[test]
fn surplus_leaves_not_ready_ones_first_then_those_on_the_emptiest_node() {
    let mut cluster = serving(4);
    cluster.deploy("q", &[model(1, 1)]);
    cluster.obey();
    let crowd = |cluster: &Cluster, node: &str| cluster.state.nodes[&NodeId::from(node)].replicas.len();
    assert_eq!((crowd(&cluster, "n1"), crowd(&cluster, "n2")), (3, 2));
    cluster.set("p-model-1-1", ReplicaState::Starting);
    cluster.deploy("p", &[model(2, 1)]);
    let commands = cluster.short();
    let retired: Vec<_> = commands.iter().filter(|command| command.starts_with("retire")).collect();
    assert_eq!(retired, ["retire p-model-1-1", "retire p-model-1-4"], "{commands:?}");
}

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
    assert_eq!(cluster.state.routes.version, 0, "no ingress gets half a table");
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
    cluster.state.awaited = ["n1".into(), "n2".into()].into();
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
fn a_silent_node_gets_no_traffic_after_3_s_and_is_replaced_after_15_s() {
    let mut cluster = serving(2);
    cluster.leave("n1");
    cluster.pass(3.0);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.routed("p").len(), 2);
    cluster.pass(0.1);
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.routed("p"), ["p-model-1-2"]);
    assert_eq!(cluster.status().nodes[0].state, NodeState::Lost);
    cluster.pass(11.9);
    assert!(cluster.short().is_empty());
    cluster.pass(0.1);
    assert_eq!(cluster.short(), ["start p/model@1 n2", "give up n1"]);
    cluster.pass(3600.0);
    assert_eq!(cluster.short(), ["forget n1"]);
}

#[test]
fn a_head_that_was_stopped_takes_nobody_for_silent_on_that_account() {
    let mut cluster = serving(2);
    cluster.now += Duration::from_secs(60);
    cluster.state.was_absent(Duration::from_secs(60));
    assert!(cluster.short().is_empty());
    assert_eq!(cluster.routed("p").len(), 2);
    cluster.now += Duration::from_secs_f64(3.1);
    assert_eq!(cluster.short(), ["alarm true"]);
    assert!(cluster.routed("p").is_empty(), "who is silent from now on is");
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
    cluster.see(Event::ReplicaChanged(node.clone(), session, failed));
    cluster.see(Event::NodeLeft(node.clone(), session));
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
        let version = cluster.state.routes.version;
        cluster.state.ingresses.values_mut().for_each(|ingress| ingress.acked = version);
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
    assert_eq!(cluster.routed("p"), ["p-model-1-3", "p-model-1-4"]);
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
        cluster.see(Event::Acked(id.clone(), session, version));
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
            cluster.see(Event::Acked(id, session, version));
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
    cluster.see(Event::IngressLeft(id, session));
    cluster.deploy("q", &[model(1, 1)]);
    cluster.obey();
    cluster.desired.remove(&name("p"));
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
fn surplus_leaves_from_a_node_that_is_not_heard_before_it_leaves_from_another() {
    let mut cluster = serving(2);
    let on_1 = cluster.state.nodes[&NodeId::from("n1")].replicas.keys().next().unwrap().to_string();
    cluster.leave("n1");
    cluster.deploy("p", &[model(1, 1)]);
    let commands = cluster.short();
    assert!(commands.contains(&format!("retire {on_1}")), "{commands:?}");
}

#[test]
fn a_restarted_head_waits_for_ingresses_that_have_not_dialled_yet() {
    let mut cluster = serving(1);
    cluster.state.settle_until = cluster.now + cluster.timing.settle;
    cluster.desired.remove(&name("p"));
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

#[test]
fn a_node_with_a_replica_of_unknown_demand_gets_nothing_new() {
    let mut cluster = serving(1);
    let (node, _, report) = cluster.find("p-model-1-1");
    cluster.restart_head();
    cluster.desired.remove(&name("p"));
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
    let name = "n1".to_owned();
    let old = cluster.state.nodes[&NodeId::from("n1")].clone();
    // It came back without its disk while its old stream was not known to be broken, and was lost again.
    cluster.pass(4.0);
    cluster.state.nodes.insert("n1-again".into(), Node { name, session: None, ..old.clone() });
    cluster.state.nodes.insert("n1".into(), Node { session: None, ..old });
    assert!(!cluster.short().contains(&"alarm true".to_owned()), "one of three");
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

#[test]
fn a_deleted_pipeline_leaves_the_routes_and_stops() {
    let mut cluster = serving(1);
    cluster.desired.remove(&name("p"));
    assert_eq!(cluster.short(), ["retire p-model-1-1", "stop p-model-1-1"]);
    assert!(cluster.state.routes.pipelines.is_empty());
    cluster.set("p-model-1-1", ReplicaState::Stopped);
    assert!(cluster.status().nodes.iter().all(|node| node.free_cpu_milli == 64_000));
}

#[test]
fn gpu_shares_are_booked_and_what_has_no_place_says_why() {
    let mut cluster = Cluster::new();
    cluster.join_with("n1", 8, 1, vec![]);
    let mut wanted = model(3, 1);
    wanted.device = On::Gpu;
    wanted.demand.gpus = GpuDemand::Share(400);
    cluster.deploy("p", &[wanted]);
    cluster.obey();
    let status = cluster.status();
    let gpu = &status.nodes[0].gpus[0];
    assert_eq!(gpu.holders.iter().map(|holder| holder.share).collect::<Vec<_>>(), [0.4, 0.4]);
    assert!((gpu.free_share - 0.2).abs() < 1e-9);
    let deployment = &status.pipelines[0].deployments[0];
    assert_eq!(deployment.pending, ["n1: needs 0.4 of one GPU, at most 0.2 of one is free"]);
    assert_eq!((status.pipelines[0].state, deployment.ready_replicas), (PipelineState::Degraded, 2));
    cluster.join_with("n2", 8, 1, vec![]);
    cluster.obey();
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Ready);
    assert!(cluster.status().pipelines[0].deployments[0].pending.is_empty());
}

#[test]
fn an_all_or_nothing_pipeline_starts_when_all_of_it_fits_and_later_losses_are_replaced_one_by_one() {
    let mut cluster = Cluster::new();
    cluster.join_with("n1", 3, 0, vec![]);
    let mut wanted = model(2, 1);
    wanted.demand.cpu_milli = 2000;
    let mut compiled = compiled("p", [wanted]);
    compiled.all_or_nothing = true;
    let candidate =
        Candidate { file_name: "p.toml".into(), source: "p".into(), source_dir: "/".into(), compiled };
    let Deployed::New(revision) = deploy(&cluster.desired, candidate, 1).unwrap() else { panic!("not new") };
    cluster.desired.add(&name("p"), revision);
    cluster.obey();
    let deployment = cluster.status().pipelines[0].deployments[0].clone();
    assert!(deployment.replicas.is_empty());
    assert_eq!(
        deployment.pending,
        [
            "all or nothing: the 2 replicas of `p` start together, and `p/model` has no place",
            "n1: needs 2 cores, 1 free",
        ]
    );
    cluster.join_with("n2", 3, 0, vec![]);
    cluster.obey();
    assert_eq!(cluster.status().pipelines[0].state, PipelineState::Ready);
    // One lost replica does not take the other along.
    cluster.leave("n2");
    cluster.pass(20.0);
    cluster.obey();
    let deployment = cluster.status().pipelines[0].deployments[0].clone();
    assert_eq!(
        (deployment.ready_replicas, deployment.pending),
        (1, vec!["n1: needs 2 cores, 1 free".to_owned()])
    );
}

#[test]
fn nothing_is_decided_while_the_cluster_shuts_down() {
    let mut cluster = serving(1);
    cluster.state.stopping = true;
    cluster.set("p-model-1-1", ReplicaState::Stopped);
    assert!(cluster.short().is_empty());
}

#[test]
fn one_change_among_10_000_replicas_on_1_000_nodes_is_decided_quickly() {
    let mut cluster = Cluster::new();
    for n in 0..1000 {
        cluster.join(&format!("n{n:04}"));
    }
    for p in 0..100 {
        cluster.deploy(&format!("p{p}"), &[model(100, 1)]);
    }
    let starts = cluster.settle().into_iter().filter(|command| matches!(command, Command::Start(_))).count();
    assert_eq!(starts, 10_000);
    for node in cluster.state.nodes.values_mut() {
        node.replicas.values_mut().for_each(|replica| replica.state = ReplicaState::Ready);
    }
    cluster.settle();
    cluster.deploy("p7", &[model(101, 1)]);
    let begun = std::time::Instant::now();
    let decided = step(&cluster.desired, &cluster.state, &cluster.timing, cluster.now);
    let took = begun.elapsed();
    println!(
        "one change among 10,000 replicas on 1,000 nodes: {took:?} (unoptimised: {})",
        cfg!(debug_assertions)
    );
    let starts: Vec<_> = decided.commands.iter().filter(|c| matches!(c, Command::Start(_))).collect();
    assert_eq!(starts.len(), 1);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// Things that may happen, in any order.
#[derive(Debug, Clone)]
enum Happening {
    Deploy(u32, u64),
    Delete,
    Join(u8),
    Leave(u8),
    Ready(usize),
    Fail(usize),
    Stop(usize),
    Ack,
    Pass(f64),
}

fn happening() -> impl proptest::strategy::Strategy<Value = Happening> {
    prop_oneof![
        (1..4u32, 1..4u64).prop_map(|(replicas, version)| Happening::Deploy(replicas, version)),
        Just(Happening::Delete),
        (0..3u8).prop_map(Happening::Join),
        (0..3u8).prop_map(Happening::Leave),
        (0..8usize).prop_map(Happening::Ready),
        (0..8usize).prop_map(Happening::Fail),
        (0..8usize).prop_map(Happening::Stop),
        Just(Happening::Ack),
        (0.0..20.0f64).prop_map(Happening::Pass),
    ]
}

fn happen(cluster: &mut Cluster, happening: &Happening) {
    let nth = |cluster: &Cluster, n: usize| {
        let connected = cluster.state.nodes.values().filter(|node| node.session.is_some());
        connected.flat_map(|node| node.replicas.keys()).nth(n).map(ToString::to_string)
    };
    match *happening {
        Happening::Deploy(replicas, version) => cluster.deploy("p", &[model(replicas, version)]),
        Happening::Delete => cluster.desired.remove(&name("p")),
        Happening::Join(n) => {
            let id = format!("n{n}");
            let node = cluster.state.nodes.get(&NodeId::from(id.as_str()));
            let there: Vec<_> = node
                .into_iter()
                .flat_map(|node| node.replicas.iter().map(|(id, r)| as_report(id, r)))
                .collect();
            cluster.join_with(&id, 1, 0, there);
        }
        Happening::Leave(n) => {
            let id = format!("n{n}");
            if cluster.state.nodes.get(&NodeId::from(id.as_str())).is_some_and(|node| node.session.is_some())
            {
                cluster.leave(&id);
            }
        }
        Happening::Ready(n) | Happening::Fail(n) | Happening::Stop(n) => {
            let state = match happening {
                Happening::Ready(_) => ReplicaState::Ready,
                Happening::Fail(_) => ReplicaState::Failed,
                _ => ReplicaState::Stopped,
            };
            if let Some(replica) = nth(cluster, n) {
                cluster.set(&replica, state);
            }
        }
        Happening::Ack => {
            let version = cluster.state.routes.version;
            cluster.state.ingresses.values_mut().for_each(|ingress| ingress.acked = version);
        }
        Happening::Pass(seconds) => cluster.pass(seconds),
    }
}

proptest! {
    /// Whatever happens: steps come to an end, a second look changes nothing, nodes are never overbooked; and once
    /// nothing bad happens any more, what people ask for comes about.
    #[test]
    fn any_history_ends_in_what_was_asked(happenings in prop::collection::vec(happening(), 0..40)) {
        let mut cluster = Cluster::new();
        cluster.join_ingress();
        for happening in &happenings {
            happen(&mut cluster, happening);
            cluster.settle();
            prop_assert!(step(&cluster.desired, &cluster.state, &cluster.timing, cluster.now).commands.is_empty());
            for node in cluster.state.nodes.values() {
                let booked: u64 = node.replicas.values().map(|replica| replica.booking.cpu_milli).sum();
                prop_assert!(booked <= node.resources.cpu_milli);
            }
        }
        for n in 0..3 {
            happen(&mut cluster, &Happening::Join(n));
        }
        cluster.deploy("p", &[model(3, 9)]);
        for _ in 0..4 {
            cluster.obey();
            cluster.pass(5.0);
            for (id, _) in cluster.state.nodes.values().flat_map(|n| &n.replicas).map(|(id, r)| (id.to_string(), r.state))
                .collect::<Vec<_>>() {
                if cluster.find(&id).2.state == ReplicaState::Failed {
                    cluster.set(&id, ReplicaState::Ready);
                }
            }
        }
        cluster.obey();
        let status = cluster.status();
        prop_assert_eq!(status.pipelines[0].state, PipelineState::Ready);
        prop_assert_eq!(status.pipelines[0].serving_revision, Some(cluster.desired.pipelines[&name("p")].wanted));
        prop_assert_eq!(cluster.routed("p").len(), 3);
        let num_replicas: usize = cluster.state.nodes.values().map(|node| node.replicas.len()).sum();
        prop_assert_eq!(num_replicas, 3);
    }
}

/// One deployment that wants three replicas, one to a node, each with a quarter of a device; two nodes have one.
#[test]
fn the_numbers_are_those_of_the_status() {
    let mut cluster = Cluster::new();
    let mut wants = spec("model");
    wants.demand.gpus = GpuDemand::Share(250);
    wants.device = On::Gpu;
    wants.demand.max_replicas_per_node = Some(1);
    (wants.autoscaling.min_replicas, wants.autoscaling.max_replicas) = (3, 5);
    cluster.deploy("p", &[wants]);
    for node in ["a", "b"] {
        cluster.join_with(node, 4, 2, vec![]);
    }
    let step = step(&cluster.desired, &cluster.state, &cluster.timing, cluster.now);
    for command in &step.commands {
        cluster.state.carry_out(command, cluster.now);
    }
    (cluster.state.pending, cluster.state.unplaced) = (step.pending, step.unplaced);
    cluster.now += Duration::from_millis(1500);

    let Cluster { desired, state, timing, now, .. } = &cluster;
    let numbers = numbers::numbers(desired, state, timing, *now);
    let status = status::status("head", desired, state, timing, *now);
    let (deployment, shown) = (&numbers.deployments[0], &status.pipelines[0].deployments[0]);
    assert_eq!(
        (deployment.target_replicas, deployment.desired_replicas, deployment.ready_replicas),
        (3, 3, 0)
    );
    assert_eq!((shown.target_replicas, shown.desired_replicas, shown.ready_replicas), (3, 3, 0));
    assert_eq!(deployment.replicas, BTreeMap::from([(ReplicaState::Starting, 2)]));
    assert_eq!(deployment.unplaced, BTreeMap::from([(crate::scheduler::Lack::ReplicasPerNode, 1)]));
    assert_eq!(numbers.pipelines[0].state, status.pipelines[0].state);
    for (node, shown) in numbers.nodes.iter().zip(&status.nodes) {
        assert_eq!(node.silence, Duration::from_millis(shown.last_seen_ms_ago));
        let booked: Vec<_> = shown.gpus.iter().map(|gpu| (gpu.index, gpu.booked_share)).collect();
        assert_eq!((&node.devices, node.silence.as_millis()), (&booked, 1500));
        assert_eq!(booked, [(0, 0.25), (1, 0.0)]);
    }
}

#[test]
fn a_new_table_tells_of_keys_and_of_ingresses_that_come_and_go() {
    let mut cluster = Cluster::new();
    cluster.settle();
    let told = |cluster: &mut Cluster| {
        cluster.settle();
        let routes = &cluster.state.routes;
        (routes.version, routes.num_ingresses, routes.keys.len())
    };
    let (first, ..) = told(&mut cluster);
    assert_eq!(told(&mut cluster), (first, 1, 0), "nobody is there yet, and whoever comes has it all");
    let (one, session) = cluster.join_ingress();
    assert_eq!(told(&mut cluster), (first, 1, 0));
    let (id, name, address) = ("other".into(), "o".into(), "o:1".into());
    cluster.see(Event::IngressJoined { id, session: SessionId(90), name, address, pid: 2 });
    assert_eq!(told(&mut cluster), (first + 1, 2, 0));
    cluster.see(Event::IngressLeft(one, session));
    assert_eq!(told(&mut cluster), (first + 2, 1, 0));

    let asked = millstream_proto::v1::KeySettings::default();
    let (keys, _) = desired::keys::create(&cluster.desired.keys, "a", &[1; 32], &asked, 1).unwrap();
    cluster.desired.keys = keys.clone();
    assert_eq!(told(&mut cluster), (first + 3, 1, 1));
    let (same, _) = desired::keys::set(&keys, "a", &asked).unwrap();
    cluster.desired.keys = same;
    assert_eq!(told(&mut cluster), (first + 3, 1, 1), "nothing changed");
}
