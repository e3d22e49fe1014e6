//! What the status and the numbers have in common: one pipeline and what surrounds it, and how states are shown.

use std::time::Duration;

use millstream_pipelines::{FullName, Name};
use millstream_status::status::{NodeState, ReplicaState, RolloutPhase};

use crate::Timing;
use crate::desired::{CordonKind, Cordons, Desired, Pipeline};
use crate::model::{NodeEntry, State};
use crate::reconcile::view::{Health, ReplicaView, View, cordon_of};
use crate::rollout::Phase;
use crate::scheduler::WHOLE_DEVICE;

/// One pipeline and what surrounds it.
pub(super) struct Scope<'a> {
    pub(super) desired: &'a Desired,
    pub(super) state: &'a State,
    pub(super) view: &'a View<'a>,
    pub(super) name: &'a Name,
    pub(super) pipeline: &'a Pipeline,
    pub(super) now: Duration,
}

impl Scope<'_> {
    pub(super) fn full_name(&self, deployment: &Name) -> FullName {
        FullName { pipeline: self.name.clone(), deployment: deployment.clone() }
    }
}

/// A node that was drained is only cordoned once nothing runs there any more.
pub(super) fn node_state(node: &NodeEntry, cordons: &Cordons, timing: &Timing, now: Duration) -> NodeState {
    let is_heard = node.session.is_some() && node.health(timing, now) == Health::Live;
    match node.draining {
        true if node.session.is_none() && node.replicas.is_empty() => NodeState::Left,
        _ if !is_heard => NodeState::Unreachable,
        true => NodeState::Draining,
        false => match cordon_of(node, cordons) {
            Some(CordonKind::Drained) if !node.replicas.is_empty() => NodeState::Draining,
            Some(_) => NodeState::Cordoned,
            None => NodeState::Ready,
        },
    }
}

pub(super) fn ratio(milli: u32) -> f64 {
    f64::from(milli) / f64::from(WHOLE_DEVICE)
}

/// A phase as people see it.
pub(super) fn shown_phase(phase: Phase) -> RolloutPhase {
    match phase {
        Phase::Starting => RolloutPhase::Starting,
        Phase::Trial | Phase::Half => RolloutPhase::Trial,
        Phase::Moving => RolloutPhase::Moving,
        Phase::Watching => RolloutPhase::Watching,
    }
}

/// A replica on its way out drains, whatever its worker has said last.
pub(super) fn shown_state(seen: &ReplicaView<'_>) -> ReplicaState {
    let leaving = seen.replica.leaving.is_some() && seen.replica.state != ReplicaState::Failed;
    if leaving { ReplicaState::Draining } else { seen.replica.state }
}
