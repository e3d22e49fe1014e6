//! What a deploy would come to, found out by doing it on a copy: the same decisions, on workers that do at once what they
//! are told. What `cluster deploy --dry-run` prints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_pipelines::{FullName, Name};
use millstream_status::NodeId;
use millstream_status::deploy_plan::{DeployPlan, DeploymentChange, DeploymentPlan, PlannedReplica};
use millstream_status::status::ReplicaState;

use crate::Timing;
use crate::desired::{self, Desired, Pipeline};
use crate::reconcile::{Command, Leaving, State, routes, step};
use crate::rollout::{Change, ChangeKind};

/// Most looks of a rehearsal; each moves every replica on by one state.
const MAX_ROUNDS: usize = 10_000;
/// Rounds in a row without a command after which everything is calm.
const CALM_ROUNDS: usize = 3;

/// The plan of bringing about `desired`, in which `name` has just been changed, from `state`. `before` is what people
/// asked for until now.
#[must_use]
pub fn rehearse(
    (before, desired): (&Desired, &Desired),
    name: &Name,
    state: &State,
    timing: &Timing,
    now: Duration,
) -> DeployPlan {
    let mut play = Play { desired: desired.clone(), state: state.clone(), now };
    // No request is under way: what nobody asks for any more leaves at once.
    let mut timing = timing.clone();
    timing.rollout.watch = Duration::ZERO;
    play.prepare();
    let (commands, pending) = play.run(&timing);
    let (old, new) = (before.pipelines.get(name), desired.pipelines.get(name));
    let names = |pipeline: Option<&Pipeline>| {
        let compiled = pipeline.and_then(Pipeline::wanted).and_then(|wanted| wanted.compiled.as_ref().ok());
        compiled
            .map(|compiled| compiled.deployments.keys().cloned().collect::<BTreeSet<_>>())
            .unwrap_or_default()
    };
    let all: BTreeSet<_> = names(old).union(&names(new)).cloned().collect();
    let deployments = all.into_iter().map(|deployment| {
        let change = change_of(old, new, &deployment);
        let full_name = FullName { pipeline: name.clone(), deployment };
        let mut plan = DeploymentPlan {
            full_name: full_name.to_string(),
            change,
            starts: Vec::new(),
            stops: Vec::new(),
            updates: Vec::new(),
            pending: pending.get(&full_name).cloned().unwrap_or_default(),
        };
        let node_name =
            |id: &NodeId| state.nodes.get(id).map_or_else(|| id.to_string(), |node| node.name.clone());
        for command in &commands {
            match command {
                Command::Start(order) | Command::Update(order) if order.deployment == full_name => {
                    let replica = PlannedReplica {
                        replica: order.replica.to_string(),
                        node: node_name(&order.node),
                        gpus: order.gpus.iter().map(|share| (share.index, share.milli)).collect(),
                    };
                    match command {
                        Command::Start(_) => plan.starts.push(replica),
                        _ => plan.updates.push(replica),
                    }
                }
                Command::Retire { node, replica, .. } => {
                    let mine = state.nodes.get(node).and_then(|node| node.replicas.get(replica));
                    if mine.is_some_and(|mine| mine.deployment == full_name) {
                        let (replica, node) = (replica.to_string(), node_name(node));
                        plan.stops.push(PlannedReplica { replica, node, gpus: Vec::new() });
                    }
                }
                _ => {}
            }
        }
        plan
    });
    let deployments: Vec<_> = deployments.collect();
    let revision = new.map_or(0, |pipeline| pipeline.wanted);
    let changed = old.map(|pipeline| pipeline.wanted) != new.map(|pipeline| pipeline.wanted);
    DeployPlan { pipeline: name.to_string(), revision, changed, deployments }
}

fn change_of(old: Option<&Pipeline>, new: Option<&Pipeline>, deployment: &Name) -> DeploymentChange {
    let wanted = |pipeline: Option<&Pipeline>| pipeline.and_then(Pipeline::wanted).cloned();
    let (Some(new), old) = (wanted(new), wanted(old)) else { return DeploymentChange::Removed };
    let old_spec = old.as_ref().and_then(|old| Some((old, old.spec(deployment)?)));
    match (old_spec, new.spec(deployment)) {
        (_, None) => DeploymentChange::Removed,
        (None, Some(_)) => DeploymentChange::New,
        (Some((_, old)), Some(new)) if old == new => DeploymentChange::Unchanged,
        (Some((old, _)), Some(_)) if new.is_served_by(deployment, old.stored.number) => {
            DeploymentChange::InPlace
        }
        (Some(_), Some(_)) => DeploymentChange::Replaced,
    }
}

/// A copy of the cluster in which everything works.
struct Play {
    desired: Desired,
    state: State,
    now: Duration,
}

impl Play {
    /// All nodes that are connected have just been heard, nobody sends requests.
    fn prepare(&mut self) {
        self.state.settled = true;
        self.state.ingresses.clear();
        let now = self.now;
        for node in self.state.nodes.values_mut().filter(|node| node.session.is_some()) {
            node.last_seen = now;
        }
    }

    fn run(&mut self, timing: &Timing) -> (Vec<Command>, BTreeMap<FullName, Vec<String>>) {
        let (mut all, mut calm) = (Vec::new(), 0);
        for _ in 0..MAX_ROUNDS {
            let decided = step(&self.desired, &self.state, timing, self.now);
            for command in &decided.commands {
                self.state.carry_out(command, self.now);
                self.conclude(command);
            }
            self.state.pending = decided.pending;
            routes::publish(&mut self.state, &self.desired, timing, self.now);
            calm = if self.obey() || !decided.commands.is_empty() { 0 } else { calm + 1 };
            all.extend(decided.commands);
            if calm >= CALM_ROUNDS {
                break;
            }
        }
        (all, std::mem::take(&mut self.state.pending))
    }

    fn conclude(&mut self, command: &Command) {
        if let Command::Rollout(Change { pipeline, revision, kind: ChangeKind::Complete, .. }) = command {
            desired::rollout::complete(&mut self.desired, pipeline, *revision);
        }
    }

    /// Workers do what they were told; gives whether that changed anything.
    fn obey(&mut self) -> bool {
        let mut changed = false;
        for node in self.state.nodes.values_mut() {
            node.replicas.retain(|_, replica| {
                let stopped = matches!(replica.leaving, Some(Leaving::Stopping { .. }));
                changed |= stopped;
                !stopped
            });
            for replica in node.replicas.values_mut().filter(|replica| replica.leaving.is_none()) {
                if matches!(replica.state, ReplicaState::Starting | ReplicaState::Failed) {
                    replica.state = ReplicaState::Ready;
                    replica.restarts = 0;
                    changed = true;
                }
            }
        }
        changed
    }
}
