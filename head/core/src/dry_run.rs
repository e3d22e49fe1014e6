//! What a deploy would come to, found out by doing it on a copy: the same decisions, on workers that do at once what they
//! are told. What `cluster deploy --dry-run` prints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{FullName, Name, Plan};
use millstream_status::deploy_plan::{DeployPlan, DeploymentChange, DeploymentPlan, PlannedReplica};
use millstream_status::status::ReplicaState;
use millstream_status::{NodeId, ReplicaId};

use crate::desired::{self, Desired, Pipeline};
use crate::model::{Command, Leaving, Settling, State};
use crate::model::{Observation, Report};
use crate::reconcile::{Effect, Event, Reconciler};
use crate::rollout::{Change, ChangeKind};
use crate::scheduler::Share;

/// Most passes of a dry run. What is longer is cut off, and the plan says so.
const MAX_ROUNDS: usize = 10_000;

/// The plan of bringing about `desired`, in which `name` has just been changed, from where this reconciler is now.
#[must_use]
pub fn plan(reconciler: &Reconciler, desired: &Desired, name: &Name, now: Duration) -> DeployPlan {
    let (old, new) = (reconciler.desired.pipelines.get(name), desired.pipelines.get(name));
    let done = DryRun::new(reconciler, desired, now).run();
    let names = |pipeline: Option<&Pipeline>| -> BTreeSet<Name> {
        let compiled = pipeline.and_then(Pipeline::wanted).and_then(|wanted| wanted.compiled.as_ref().ok());
        compiled.into_iter().flat_map(|compiled| compiled.deployments.keys().cloned()).collect()
    };
    let mut all = names(old);
    all.extend(names(new));
    let deployments = all.into_iter().map(|deployment| DeploymentPlan {
        change: change_of(old, new, &deployment),
        ..done.plan_of(&FullName { pipeline: name.clone(), deployment }, &reconciler.state)
    });
    let deployments = deployments.collect();
    let revision = new.map_or(0, |pipeline| pipeline.wanted);
    let changed = old.map(|pipeline| pipeline.wanted) != new.map(|pipeline| pipeline.wanted);
    let compiled = |pipeline: Option<&Pipeline>| {
        let stored = &pipeline?.wanted()?.stored;
        Plan::compile(&stored.file_name, &stored.source).ok()
    };
    let (old, new) = (compiled(old), compiled(new));
    DeployPlan {
        pipeline: name.to_string(),
        revision,
        changed,
        // What callers lose by the change.
        breaking: old.zip(new.as_ref()).map(|(old, new)| new.breaks(&old)).unwrap_or_default(),
        captures: new.and_then(|new| new.capture().map(ToString::to_string)),
        deployments,
        is_cut_off: done.is_cut_off,
    }
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

/// What a dry run came to.
struct Done {
    commands: Vec<Command>,
    pending: BTreeMap<FullName, Vec<String>>,
    is_cut_off: bool,
}

impl Done {
    /// What becomes of a deployment, by the state from which it began.
    fn plan_of(&self, deployment: &FullName, before: &State) -> DeploymentPlan {
        let mut plan = DeploymentPlan {
            full_name: deployment.to_string(),
            change: DeploymentChange::Unchanged,
            starts: Vec::new(),
            stops: Vec::new(),
            updates: Vec::new(),
            pending: self.pending.get(deployment).cloned().unwrap_or_default(),
        };
        let replica = |id: &ReplicaId, node: &NodeId, gpus: &[Share]| PlannedReplica {
            replica: id.to_string(),
            node: before.nodes.get(node).map_or_else(|| node.to_string(), |node| node.name.clone()),
            gpus: gpus.iter().map(|share| (share.index, share.milli)).collect(),
        };
        for command in &self.commands {
            match command {
                Command::Start(order) if order.deployment == *deployment => {
                    plan.starts.push(replica(&order.replica, &order.node, &order.gpus));
                }
                Command::Update(order) if order.deployment == *deployment => {
                    plan.updates.push(replica(&order.replica, &order.node, &order.gpus));
                }
                Command::Retire { node, replica: id, .. } => {
                    let known = before.nodes.get(node).and_then(|node| node.replicas.get(id));
                    if known.is_some_and(|known| known.deployment == *deployment) {
                        plan.stops.push(replica(id, node, &[]));
                    }
                }
                _ => {}
            }
        }
        plan
    }
}

/// A copy of the cluster in which everything works at once.
struct DryRun {
    reconciler: Reconciler,
    now: Duration,
}

impl DryRun {
    /// All nodes that are connected have just been heard, nobody sends requests.
    fn new(before: &Reconciler, desired: &Desired, now: Duration) -> Self {
        let mut reconciler = before.clone();
        // No request is under way: what nobody asks for any more leaves at once.
        reconciler.timing.rollout.watch = Duration::ZERO;
        let state = &mut reconciler.state;
        state.settling = Settling { is_over: true, ..Settling::default() };
        state.ingresses.clear();
        for node in state.nodes.values_mut().filter(|node| node.session.is_some()) {
            node.last_seen = now;
        }
        let mut dry_run = Self { reconciler, now };
        dry_run.ask_for(desired.clone());
        dry_run
    }

    fn ask_for(&mut self, mut desired: Desired) {
        desired.generation = self.reconciler.desired.generation + 1;
        // What it gives are new targets, which are booked already.
        self.reconciler.handle(Event::Desired(Arc::new(desired)), self.now);
    }

    fn run(mut self) -> Done {
        let mut commands = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let is_due = self.reconciler.next_wake().is_some_and(|at| at <= self.now);
            if !is_due && !self.obey() {
                let pending = std::mem::take(&mut self.reconciler.state.pending);
                return Done { commands, pending, is_cut_off: false };
            }
            for effect in self.reconciler.handle(Event::Wake, self.now) {
                if let Effect::Command(command) = effect {
                    self.conclude(&command);
                    commands.push(command);
                }
            }
        }
        let pending = std::mem::take(&mut self.reconciler.state.pending);
        Done { commands, pending, is_cut_off: true }
    }

    /// The store takes at once how a rollout ends.
    fn conclude(&mut self, command: &Command) {
        if let Command::Rollout(Change { pipeline, revision, kind: ChangeKind::Complete, .. }) = command {
            let mut desired = Desired::clone(&self.reconciler.desired);
            desired::rollout::complete(&mut desired, pipeline, *revision);
            self.ask_for(desired);
        }
    }

    /// Workers do what they were told; returns whether there was anything to do.
    fn obey(&mut self) -> bool {
        let mut reports = Vec::new();
        for (id, node) in &self.reconciler.state.nodes {
            let Some(session) = node.session else { continue };
            reports.extend(node.replicas.iter().filter_map(|(replica_id, replica)| {
                let state = match (replica.leaving, replica.state) {
                    (Some(Leaving::Stopping { .. }), _) => ReplicaState::Stopped,
                    (None, ReplicaState::Starting | ReplicaState::Failed) => ReplicaState::Ready,
                    _ => return None,
                };
                let report = Report { state, restarts: 0, ..Report::of(replica_id, replica) };
                Some(Observation::ReplicaChanged(id.clone(), session, report))
            }));
        }
        let is_any = !reports.is_empty();
        for report in reports {
            self.reconciler.handle(report.into(), self.now);
        }
        is_any
    }
}
