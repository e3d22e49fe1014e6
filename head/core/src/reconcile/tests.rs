//! A cluster in miniature: tables of what happens and the commands that must follow. The clock is a number, the workers
//! are values.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{DeploymentSpec, Device as On, FullName, GpuDemand, Task};
use millstream_status::status::{NodeState, PipelineState, ReplicaState};
use millstream_status::{IngressId, NodeId, ReplicaId};

use super::*;
use crate::Timing;
use crate::autoscaler::Rule;
use crate::desired::change::{Candidate, Deployed, deploy};
use crate::desired::{self, Desired, Outcome, Verdict};
use crate::model::*;
use crate::present::{numbers, status};
use crate::rollout::{self, ChangeKind};
use crate::testing::{compiled, name, spec};

mod cordons;
mod draining;
mod dry_runs;
mod histories;
mod nodes;
mod restarts;
mod rollouts;
mod scaling;
mod signatures;
mod updates;

/// What people ask for, the reconciler, and a clock.
struct Cluster {
    /// What the store has.
    desired: Desired,
    head: Reconciler,
    now: Duration,
    sessions: u64,
    /// What it has decided since a test emptied this.
    decided: Vec<Command>,
}

impl Deref for Cluster {
    type Target = Reconciler;

    fn deref(&self) -> &Reconciler {
        &self.head
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Reconciler {
        &mut self.head
    }
}

/// A head that begins its first term.
fn head(epoch: u64, settle_until: Duration, desired: &Desired) -> Reconciler {
    let start = Start { epoch, settle_until, began_at: Duration::from_secs(1000), members: [].into() };
    Reconciler::new(start, Arc::new(desired.clone()), Timing::default())
}

impl Cluster {
    fn new() -> Self {
        let desired = Desired::default();
        let head = head(1, Duration::ZERO, &desired);
        Self { desired, head, now: Duration::from_secs(1000), sessions: 0, decided: Vec::new() }
    }

    /// A head that comes back: everything observed is forgotten.
    fn restart_head(&mut self) {
        let settle_until = self.now + self.timing.settle;
        self.head = head(self.state.epoch + 1, settle_until, &self.desired);
    }

    /// Tells the head what people ask for, when that has changed; returns the commands that follow at once.
    fn tell_desired(&mut self) -> Vec<Command> {
        let generation = self.head.desired.generation;
        self.desired.generation = generation;
        if self.desired == *self.head.desired {
            return Vec::new();
        }
        self.desired.generation += 1;
        let desired = Arc::new(self.desired.clone());
        commands(self.head.handle(reconciler::Event::Desired(desired), self.now))
    }

    /// To put something into the state that no event brings about.
    fn state_mut(&mut self) -> &mut State {
        self.head.look_again();
        &mut self.head.state
    }

    fn deploy(&mut self, pipeline: &str, specs: &[DeploymentSpec]) {
        let source = format!("{specs:?}");
        let compiled = compiled(pipeline, specs.iter().cloned());
        let candidate = Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled };
        if let Deployed::New(revision) = deploy(&self.desired, candidate, 1).unwrap() {
            self.desired.add(&name(pipeline), revision);
        }
    }

    fn see(&mut self, observation: Observation) {
        self.tell_desired();
        let effects = self.head.handle(observation.into(), self.now);
        assert_eq!(effects, [], "decisions are made when it wakes");
    }

    fn registration(&self, node: &str, cores: u64, gpus: u32, replicas: Vec<Report>) -> Registration {
        let gpus = (0..gpus).map(|index| Device { index, model: "A100".into(), memory_bytes: 40 << 30 });
        Registration {
            id: node.into(),
            name: node.to_owned(),
            address: format!("{node}:1"),
            pid: 1,
            version: String::new(),
            labels: BTreeMap::new(),
            resources: Resources { cpu_milli: cores * 1000, memory_bytes: 8 << 30, gpus: gpus.collect() },
            replicas,
        }
    }

    fn join_with(&mut self, node: &str, cores: u64, gpus: u32, replicas: Vec<Report>) {
        self.sessions += 1;
        let registration = self.registration(node, cores, gpus, replicas);
        self.admit(&registration, self.now).unwrap();
        self.see(Observation::NodeJoined(SessionId(self.sessions), registration));
    }

    fn join(&mut self, node: &str) {
        self.join_with(node, 64, 0, vec![]);
    }

    fn leave(&mut self, node: &str) {
        let session = self.state.nodes[&NodeId::from(node)].session.unwrap();
        self.see(Observation::NodeLeft(node.into(), session));
    }

    /// Time goes by; nodes with a stream beat.
    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        let live = self.state.nodes.iter().filter_map(|(id, node)| Some((id.clone(), node.session?)));
        for (id, session) in live.collect::<Vec<_>>() {
            self.see(Observation::Heartbeat(id, session, BTreeMap::new()));
        }
    }

    /// Wakes it until nothing more follows at this instant; returns all commands.
    fn settle(&mut self) -> Vec<Command> {
        let mut all = self.tell_desired();
        for _ in 0..60 {
            if self.next_wake().is_none_or(|at| at > self.now) {
                self.nothing_is_forgotten();
                self.decided.extend(all.iter().cloned());
                return all;
            }
            for command in commands(self.head.handle(reconciler::Event::Wake, self.now)) {
                self.store(&command);
                all.push(command);
            }
            all.extend(self.tell_desired());
        }
        let kinds: Vec<_> = all.iter().map(Command::kind).collect();
        panic!(
            "commands follow commands without end: {kinds:?}, next {:?} at {:?}",
            self.next_wake(),
            self.now
        );
    }

    /// Every rule has said when it comes to another result: a moment before that, a pass decides nothing.
    fn nothing_is_forgotten(&self) {
        let wake = self.next_wake().unwrap_or(self.now + Duration::from_secs(100_000));
        let effects = self.overlooked(wake - Duration::from_nanos(1));
        assert_eq!(effects, [], "nobody asked to be woken for this before {wake:?}");
    }

    /// What the actor around the decisions stores.
    fn store(&mut self, command: &Command) {
        let Command::Rollout(rollout::Change { pipeline, revision, baseline, kind }) = command else {
            return;
        };
        match kind {
            ChangeKind::Complete => desired::rollout::complete(&mut self.desired, pipeline, *revision),
            ChangeKind::Advance(permille) => {
                desired::rollout::advance(&mut self.desired, pipeline, *revision, *permille);
            }
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
            // What people ask for is not news.
            Command::Scale(scale) if matches!(scale.rule, Rule::Bounds | Rule::ByHand) => String::new(),
            Command::Settle => "settle".to_owned(),
            Command::Serve { pipeline, revision, complete } => {
                format!("serve {pipeline}@{revision}{}", if complete { "" } else { " soon" })
            }
            Command::Start(order) => format!("start {}@{} {}", order.deployment, order.revision, order.node),
            Command::Update(order) => format!("update {}@{}", order.replica, order.revision),
            Command::Retire { replica, .. } => format!("retire {replica}"),
            Command::Stop { replica, .. } => format!("stop {replica}"),
            Command::ReplaceNode { node } => format!("give up {node}"),
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
        self.see(Observation::ReplicaChanged(node, session, report));
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
            self.confirm();
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

    /// Every ingress has the newest table in force.
    fn confirm(&mut self) {
        let version = self.state.routes.version;
        let ingresses = self.state.ingresses.iter();
        let connected = ingresses.filter_map(|(id, ingress)| Some((id.clone(), ingress.session?)));
        for (id, session) in connected.collect::<Vec<_>>() {
            self.see(Observation::Acked(id, session, version));
        }
    }

    fn routed(&self, pipeline: &str) -> Vec<String> {
        let routes = self.state.routes.pipelines.iter().filter(|route| route.name.as_str() == pipeline);
        let replicas = routes.flat_map(|route| &route.deployments).flat_map(|route| &route.replicas);
        replicas.map(|replica| replica.replica.to_string()).collect()
    }

    fn status(&self) -> millstream_status::status::ClusterStatus {
        status::status("head", &self.desired, &self.state, &self.timing, self.now)
    }

    fn join_ingress(&mut self) -> (IngressId, SessionId) {
        self.sessions += 1;
        let (id, session) = (IngressId::from("ingress"), SessionId(self.sessions));
        let (name, entrance) = ("i".into(), "i:1".into());
        self.see(Observation::IngressJoined { id: id.clone(), session, name, entrance, pid: 1 });
        (id, session)
    }
}

/// The commands among the effects.
fn commands(effects: Vec<Effect>) -> Vec<Command> {
    let command = |effect| match effect {
        Effect::Command(command) => Some(command),
        _ => None,
    };
    effects.into_iter().filter_map(command).collect()
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
        restarts: replica.starts.restarts,
        is_unloadable: replica.starts.is_unloadable,
        gpus: replica.gpus.clone(),
        signature: replica.signature.clone(),
    }
}

/// An echo deployment of that many replicas; `version` makes it need new ones.
fn model(replicas: u32, version: u64) -> DeploymentSpec {
    let mut spec = spec("model");
    (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas) = (replicas, replicas);
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
fn a_deleted_pipeline_leaves_the_routes_and_stops() {
    let mut cluster = serving(1);
    cluster.desired.remove(&name("p"), 1);
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
    cluster.head.handle(reconciler::Event::Stopping, cluster.now);
    cluster.set("p-model-1-1", ReplicaState::Stopped);
    assert!(cluster.short().is_empty());
}

#[test]
fn one_change_among_10_000_replicas_on_1_000_nodes_orders_one_start() {
    let mut cluster = Cluster::new();
    for n in 0..1000 {
        cluster.join(&format!("n{n:04}"));
    }
    for p in 0..100 {
        cluster.deploy(&format!("p{p}"), &[model(100, 1)]);
    }
    let starts = cluster.settle().into_iter().filter(|command| matches!(command, Command::Start(_))).count();
    assert_eq!(starts, 10_000);
    for node in cluster.state_mut().nodes.values_mut() {
        node.edit().replicas.values_mut().for_each(|replica| replica.state = ReplicaState::Ready);
    }
    cluster.settle();
    cluster.deploy("p7", &[model(101, 1)]);
    let starts = cluster.settle().into_iter().filter(|command| matches!(command, Command::Start(_)));
    assert_eq!(starts.count(), 1);
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
    cluster.settle();
    cluster.now += Duration::from_millis(1500);

    let Cluster { desired, head, now, .. } = &cluster;
    let numbers = numbers::numbers(desired, &head.state, &head.timing, *now);
    let status = status::status("head", desired, &head.state, &head.timing, *now);
    let (deployment, shown) = (&numbers.deployments[0], &status.pipelines[0].deployments[0]);
    assert_eq!(
        (deployment.target_replicas, deployment.desired_replicas, deployment.ready_replicas),
        (3, 3, 0)
    );
    assert_eq!((shown.target_replicas, shown.autoscaling.desired_replicas, shown.ready_replicas), (3, 3, 0));
    assert_eq!(deployment.replicas, BTreeMap::from([(ReplicaState::Starting, 2)]));
    assert_eq!(
        deployment.unplaced,
        BTreeMap::from([(crate::scheduler::MissingResource::ReplicasPerNode, 1)])
    );
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
    let published = |cluster: &mut Cluster| {
        cluster.settle();
        let routes = &cluster.state.routes;
        (routes.version.number, routes.num_ingresses, routes.keys.len())
    };
    let (first, ..) = published(&mut cluster);
    assert_eq!(published(&mut cluster), (first, 1, 0), "nobody is there yet, and whoever comes has it all");
    let (one, session) = cluster.join_ingress();
    assert_eq!(published(&mut cluster), (first, 1, 0));
    let (id, name, entrance) = ("other".into(), "o".into(), "o:1".into());
    cluster.see(Observation::IngressJoined { id, session: SessionId(90), name, entrance, pid: 2 });
    assert_eq!(published(&mut cluster), (first + 1, 2, 0));
    cluster.see(Observation::IngressLeft(one, session));
    assert_eq!(published(&mut cluster), (first + 2, 1, 0));

    let asked = millstream_status::key::KeyRequest::default();
    let (keys, _) = desired::keys::create(&cluster.desired.keys, "a", &[1; 32], &asked, 1).unwrap();
    cluster.desired.keys = keys.clone();
    assert_eq!(published(&mut cluster), (first + 3, 1, 1));
    let (same, _) = desired::keys::set(&keys, "a", &asked).unwrap();
    cluster.desired.keys = same;
    assert_eq!(published(&mut cluster), (first + 3, 1, 1), "nothing changed");
}
