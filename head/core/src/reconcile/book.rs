//! Books commands in the state, so that the next step sees them as under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_pipelines::Demand;
use millstream_status::status::ReplicaState;

use crate::model::{
    AbsentMember, Booking, Command, Conclusion, Leaving, NodeEntry, Order, Replica, Serving, Settling,
    Starts, State, TableVersion,
};
use crate::rollout::{Change, ChangeKind, Rollout};

impl Booking {
    /// What a demand books beside shares of devices.
    #[must_use]
    pub fn of(demand: &Demand) -> Self {
        Self {
            cpu_milli: demand.cpu_milli,
            memory_bytes: demand.memory_bytes,
            gpu_memory_bytes: demand.gpu_memory_bytes,
        }
    }
}

impl State {
    /// Whether every node that the head before knew has said what runs on it.
    #[must_use]
    pub(super) fn all_are_back(&self) -> bool {
        let is_back = |id| self.nodes.get(id).is_some_and(|node| node.session.is_some());
        !self.settling.awaited.is_empty() && self.settling.awaited.iter().all(is_back)
    }

    /// A head that has just come to lead and knows nobody yet. Nothing is decided before `settle_until`, unless all
    /// that is wanted turns out to run.
    #[must_use]
    pub fn new(epoch: u64, settle_until: Duration) -> Self {
        let settling =
            Settling { is_over: settle_until.is_zero(), until: settle_until, ..Settling::default() };
        Self { epoch, settling, ..Self::default() }
    }

    /// The head itself did not run for that long: what others would have said meanwhile is on its way, so nobody is taken
    /// for silent on that account.
    pub(super) fn was_absent(&mut self, gap: Duration, now: Duration) {
        for node in self.nodes.values_mut().filter(|node| node.session.is_some()) {
            node.last_seen = (node.last_seen + gap).min(now);
        }
    }

    /// Whether every ingress has put that route table, or a newer one, in force.
    pub(super) fn is_confirmed(&self, version: TableVersion) -> bool {
        self.ingresses.values().all(|ingress| ingress.acked >= version)
    }

    /// The oldest route table whose confirmation a replica on its way out waits for.
    pub(super) fn awaited_version(&self) -> Option<TableVersion> {
        let replicas = self.nodes.values().flat_map(|node| node.replicas.values());
        let versions = replicas.filter_map(|replica| match replica.leaving {
            Some(Leaving::Retiring { gone_from, .. }) => gone_from,
            _ => None,
        });
        versions.min()
    }

    /// What is shown of it: all but the histories of requests, which only the autoscaler reads.
    pub(super) fn shown(&self) -> Self {
        Self {
            epoch: self.epoch,
            last_replica: self.last_replica,
            nodes: self.nodes.clone(),
            ingresses: self.ingresses.clone(),
            serving: self.serving.clone(),
            rollouts: self.rollouts.clone(),
            draining: BTreeMap::new(),
            conclusions: self.conclusions.clone(),
            checked: self.checked.clone(),
            targets: self.targets.clone(),
            scalers: BTreeMap::new(),
            counts: BTreeMap::new(),
            ended: self.ended.clone(),
            routes: self.routes.clone(),
            settling: Settling { awaited: BTreeSet::new(), ..self.settling.clone() },
            absent_members: BTreeMap::new(),
            stopping: self.stopping,
            alarm: self.alarm,
            pending: self.pending.clone(),
            unplaced: self.unplaced.clone(),
        }
    }

    /// Books a command that is being carried out.
    pub(super) fn book(&mut self, command: &Command, now: Duration) {
        match command {
            Command::Settle => {
                self.settling.is_over = true;
                self.drain_all(now);
            }
            Command::Serve { pipeline, revision, complete } => {
                self.serving.insert(pipeline.clone(), Serving { revision: *revision, complete: *complete });
            }
            Command::Rollout(change) => self.change_rollout(change, now),
            Command::ForgetPipeline { pipeline } => {
                self.serving.remove(pipeline);
                self.rollouts.remove(pipeline);
                self.draining.remove(pipeline);
                self.ended.remove(pipeline);
                self.conclusions.remove(pipeline);
                self.targets.retain(|deployment, _| deployment.pipeline != *pipeline);
                self.scalers.retain(|deployment, _| deployment.pipeline != *pipeline);
                self.counts.retain(|deployment, _| deployment.pipeline != *pipeline);
            }
            Command::Start(order) => self.start(order, now),
            Command::Update(order) => {
                if let Some(replica) = self.replica(&order.node, &order.replica) {
                    replica.settings_of = order.revision;
                }
            }
            Command::Retire { node, replica, reason } => {
                if let Some(replica) = self.replica(node, replica) {
                    replica.leaving =
                        Some(Leaving::Retiring { since: now, gone_from: None, reason: *reason });
                }
            }
            Command::Stop { node, replica, reason, .. } => {
                if let Some(replica) = self.replica(node, replica) {
                    replica.leaving = Some(Leaving::Stopping { since: now, reason: *reason });
                }
            }
            Command::ReplaceNode { node } => {
                if let Some(node) = self.nodes.get_mut(node).map(NodeEntry::edit) {
                    node.replicas.clear();
                    // Only a new stream, which begins with all that runs there, counts from now on.
                    node.session = None;
                }
            }
            Command::ForgetNode { node } => {
                self.nodes.remove(node);
                let member = AbsentMember { forget_at: now, asked_at: Some(now) };
                self.absent_members.insert(node.clone(), member);
            }
            Command::ForgetIngress { ingress } => {
                self.ingresses.remove(ingress);
            }
            Command::Alarm { raised } => self.alarm = *raised,
            Command::Scale(scale) => self.book_scale(scale, now),
        }
    }

    fn change_rollout(&mut self, change: &Change, now: Duration) {
        let Change { pipeline, revision, baseline, kind } = change;
        let conclude = |back| Conclusion { revision: *revision, back, since: now };
        match kind {
            ChangeKind::Begin(phase) => {
                let rollout = Rollout::begin(*revision, *baseline, *phase, now);
                self.rollouts.insert(pipeline.clone(), rollout);
            }
            ChangeKind::Enter(phase) => {
                if let Some(rollout) = self.rollouts.get_mut(pipeline) {
                    rollout.phase = *phase;
                    rollout.since = now;
                }
            }
            ChangeKind::Part(permille) => {
                if let Some(rollout) = self.rollouts.get_mut(pipeline) {
                    rollout.part = Some(*permille);
                    rollout.since = now;
                }
            }
            ChangeKind::Advance(permille) => {
                if let Some(rollout) = self.rollouts.get_mut(pipeline) {
                    rollout.asked = Some((*permille, now));
                }
            }
            ChangeKind::Complete => drop(self.conclusions.insert(pipeline.clone(), conclude(None))),
            ChangeKind::RollBack { reason } => {
                let back = Some((*baseline, reason.clone()));
                self.conclusions.insert(pipeline.clone(), conclude(back));
            }
            ChangeKind::End => drop(self.rollouts.remove(pipeline)),
        }
    }

    fn start(&mut self, order: &Order, now: Duration) {
        self.last_replica += 1;
        let Some(node) = self.nodes.get_mut(&order.node) else { return };
        let replica = Replica {
            deployment: order.deployment.clone(),
            revision: order.revision,
            settings_of: order.revision,
            state: ReplicaState::Starting,
            doing: "waiting for the worker".into(),
            error: String::new(),
            pid: 0,
            starts: Starts { since: now, ..Starts::default() },
            gpus: order.gpus.clone(),
            signature: None,
            booking: Booking::of(&order.spec.demand),
            leaving: None,
        };
        node.edit().replicas.insert(order.replica.clone(), replica);
    }

    pub(super) fn replica(
        &mut self,
        node: &millstream_status::NodeId,
        replica: &millstream_status::ReplicaId,
    ) -> Option<&mut Replica> {
        self.nodes.get_mut(node)?.edit().replicas.get_mut(replica)
    }
}
