//! Folds what workers and ingresses say into the state. Messages of a stream that was replaced change nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::FullName;
use millstream_status::status::ReplicaState;
use millstream_status::{IngressId, NodeId, ReplicaId};

use super::scale;
use super::scope::Change;
use crate::Timing;
use crate::desired::Desired;
use crate::model::{
    AbsentMember, Booking, Counted, Ingress, Leaving, Node, NodeEntry, Observation, Registration, Replica,
    Report, SessionId, Starts, State, TableVersion,
};
use crate::rollout::Phase;

/// Why a worker is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Another node that lives has its name.
    #[error(
        "node name `{name}` is taken by the live node `{id}` at `{address}`; start this one with another --node-name, or \
         stop that one first"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The node that has it.
        id: NodeId,
        /// Where that is.
        address: String,
    },
    /// Another process that lives has its id: a copy of its data directory, or the process before it, which may be gone in
    /// a moment.
    #[error(
        "node id `{id}` is in use by process {pid} at `{address}`; if its data directory is a copy, delete the file with \
         the id in it, otherwise try again in a moment"
    )]
    IdInUse {
        /// The id.
        id: NodeId,
        /// The process that has it.
        pid: u32,
        /// Where that is.
        address: String,
    },
}

/// Whether a worker may join: no other live node has its name, and no other live process its id.
///
/// # Errors
/// [`JoinError`].
pub(super) fn admit(
    state: &State,
    registration: &Registration,
    timing: &Timing,
    now: Duration,
) -> Result<(), JoinError> {
    let live = |node: &NodeEntry| {
        node.session.is_some() && now.saturating_sub(node.last_seen) <= timing.silent_after()
    };
    for (id, node) in state.nodes.iter().filter(|(_, node)| live(node)) {
        let (id, address) = (id.clone(), node.address.clone());
        if id != registration.id && node.name == registration.name {
            return Err(JoinError::NameTaken { name: node.name.clone(), id, address });
        }
        if id == registration.id && (node.pid, &address) != (registration.pid, &registration.address) {
            return Err(JoinError::IdInUse { id, pid: node.pid, address });
        }
    }
    Ok(())
}

/// Folds one observation into the state.
pub(super) fn observe(
    state: &mut State,
    desired: &Desired,
    observation: Observation,
    now: Duration,
) -> Change {
    match observation {
        Observation::NodeJoined(session, registration) => {
            join(state, desired, session, registration, now);
            Change::Structure
        }
        Observation::Heartbeat(id, session, ongoing) => heartbeat(state, &id, session, ongoing, now),
        Observation::ReplicaChanged(id, session, report) => {
            let Some(node) = node_of(state, &id, session) else { return Change::Nothing };
            node.last_seen = node.last_seen.max(now);
            change_replica(node.edit(), desired, report, now)
        }
        Observation::NodeLeft(id, session) => {
            let Some(node) = node_of(state, &id, session) else { return Change::Nothing };
            let node = node.edit();
            node.session = None;
            if node.draining {
                // It ended as it was asked to; should it come back, it says what runs there.
                node.replicas.clear();
            }
            Change::Structure
        }
        Observation::IngressJoined { id, session, name, entrance, pid } => {
            state.forget_loads(&id, now);
            let (session, acked) = (Some(session), TableVersion::default());
            let ingress = Ingress { name, entrance, pid, session, since: now, acked, loads: BTreeMap::new() };
            state.ingresses.insert(id, Arc::new(ingress));
            Change::Structure
        }
        Observation::Acked(id, session, version) => {
            let Some(ingress) = ingress_of(state, &id, session) else { return Change::Nothing };
            ingress.acked = ingress.acked.max(version);
            Change::Confirmed
        }
        Observation::Loaded(id, session, loads) => scale::load(state, desired, (&id, session), loads, now),
        Observation::Counted(id, session, counted) => match ingress_of(state, &id, session) {
            Some(_) => count(state, desired, &counted, now),
            None => Change::Nothing,
        },
        Observation::IngressLeft(id, session) => {
            let Some(ingress) = ingress_of(state, &id, session) else { return Change::Nothing };
            ingress.session = None;
            ingress.since = now;
            ingress.loads.clear();
            state.forget_loads(&id, now);
            Change::Structure
        }
    }
}

/// Counts what ended, and what concerns rollouts under way, once their new revision has been given anything.
fn count(state: &mut State, desired: &Desired, counted: &Counted, now: Duration) -> Change {
    let mut change = Change::Numbers;
    for ((pipeline, revision), tally) in counted {
        // An ingress may not have heard yet of what is gone.
        if desired.pipelines.contains_key(pipeline) {
            let ended = state.ended.entry(pipeline.clone()).or_default();
            ended.requests += tally.requests.total();
            Arc::make_mut(&mut ended.traffic).count(*revision, tally, now);
            for (deployment, outcomes) in &tally.deployments {
                *ended.calls.entry(deployment.clone()).or_default() += outcomes.total();
            }
        }
        let rollout = state.rollouts.get_mut(pipeline).filter(|rollout| {
            rollout.phase > Phase::Starting && [rollout.revision, rollout.baseline].contains(revision)
        });
        if let Some(rollout) = rollout {
            rollout.count(*revision, tally, now);
            change = Change::Outcomes;
        }
    }
    change
}

fn node_of<'a>(state: &'a mut State, id: &NodeId, session: SessionId) -> Option<&'a mut NodeEntry> {
    state.nodes.get_mut(id).filter(|node| node.session == Some(session))
}

fn ingress_of<'a>(state: &'a mut State, id: &IngressId, session: SessionId) -> Option<&'a mut Ingress> {
    state.ingresses.get_mut(id).filter(|ingress| ingress.session == Some(session)).map(Arc::make_mut)
}

/// A node comes, or comes back: what it reports is what runs there; what it does not report is not.
fn join(state: &mut State, desired: &Desired, session: SessionId, registration: Registration, now: Duration) {
    // A dead node of that name gave way to this one.
    let superseded = |id: &NodeId, node: &mut NodeEntry| {
        *id != registration.id && node.name == registration.name && node.session.is_none()
    };
    for (id, _) in state.nodes.extract_if(.., superseded) {
        state.absent_members.insert(id, AbsentMember { forget_at: now, asked_at: None });
    }
    state.absent_members.remove(&registration.id);
    let mut known =
        state.nodes.remove(&registration.id).map(|node| node.replicas.clone()).unwrap_or_default();
    let mut replicas = BTreeMap::new();
    for report in registration.replicas {
        if report.state == ReplicaState::Stopped {
            continue;
        }
        let id = report.id.clone();
        let mut replica = known.remove(&id).unwrap_or_else(|| adopt(desired, &report, now));
        update(&mut replica, report);
        if let Some(Leaving::Stopping { since, reason }) = replica.leaving {
            // The order to stop may be lost: give it again.
            replica.leaving =
                Some(Leaving::Retiring { since, gone_from: Some(TableVersion::default()), reason });
        }
        replicas.insert(id, replica);
    }
    let node = Node {
        name: registration.name,
        address: registration.address,
        pid: registration.pid,
        version: registration.version,
        labels: registration.labels,
        resources: registration.resources,
        session: Some(session),
        draining: false,
        replicas,
    };
    state.nodes.insert(registration.id, NodeEntry::new(node, now));
}

fn heartbeat(
    state: &mut State,
    id: &NodeId,
    session: SessionId,
    ongoing: BTreeMap<ReplicaId, u64>,
    now: Duration,
) -> Change {
    let Some(node) = node_of(state, id, session) else { return Change::Nothing };
    node.last_seen = node.last_seen.max(now);
    if *node.ongoing == ongoing {
        return Change::Nothing;
    }
    node.ongoing = Arc::new(ongoing);
    Change::Numbers
}

fn change_replica(node: &mut Node, desired: &Desired, report: Report, now: Duration) -> Change {
    // One that drained already when its node joined was told to by the head before.
    let known = node.replicas.get(&report.id);
    let unasked = known.is_some_and(|it| it.leaving.is_none() && it.state != ReplicaState::Draining);
    let ends = unasked && matches!(report.state, ReplicaState::Draining | ReplicaState::Stopped);
    // Workers stop replicas by themselves only when they are about to end.
    node.draining |= ends;
    let concerns_all = ends || known.is_none();
    if report.state == ReplicaState::Stopped {
        let known = node.replicas.remove(&report.id);
        return known.filter(|_| !concerns_all).map_or(Change::Structure, Change::of);
    }
    let replica = node.replicas.entry(report.id.clone()).or_insert_with(|| adopt(desired, &report, now));
    let before = (replica.state, replica.starts.restarts);
    update(replica, report);
    match before == (replica.state, replica.starts.restarts) {
        _ if concerns_all => Change::Structure,
        true => Change::Numbers,
        false => Change::Pipeline(replica.deployment.pipeline.clone()),
    }
}

fn update(replica: &mut Replica, report: Report) {
    match (replica.state, report.state) {
        (_, ReplicaState::Ready) => replica.starts.failed_in_a_row = 0,
        (ReplicaState::Starting, ReplicaState::Failed) => replica.starts.failed_in_a_row += 1,
        _ => {}
    }
    if !report.error.is_empty() {
        replica.starts.last_error.clone_from(&report.error);
    }
    replica.state = report.state;
    replica.doing = report.doing;
    replica.error = report.error;
    replica.pid = report.pid;
    replica.starts.restarts = report.restarts;
    replica.starts.is_unloadable = report.is_unloadable;
    replica.signature = report.signature;
    if !report.gpus.is_empty() {
        replica.gpus = report.gpus;
    }
}

/// A replica that this head did not start: one of the head before it, most likely.
fn adopt(desired: &Desired, report: &Report, now: Duration) -> Replica {
    Replica {
        deployment: report.deployment.clone(),
        revision: report.revision,
        settings_of: report.revision,
        state: report.state,
        doing: String::new(),
        error: String::new(),
        pid: report.pid,
        starts: Starts { since: now, ..Starts::default() },
        gpus: Vec::new(),
        signature: None,
        booking: booking(desired, &report.deployment, report.revision),
        leaving: None,
    }
}

/// What a replica of that revision was placed with; nothing when the revision is no longer known.
fn booking(desired: &Desired, deployment: &FullName, revision: u64) -> Booking {
    spec_of(desired, deployment, revision).map_or_else(Booking::default, |spec| Booking::of(&spec.demand))
}

/// The settings that a replica of that revision was placed with, as far as they matter for what it holds.
pub(super) fn spec_of<'a>(
    desired: &'a Desired,
    deployment: &FullName,
    revision: u64,
) -> Option<&'a std::sync::Arc<millstream_pipelines::DeploymentSpec>> {
    let revisions = desired.pipelines.get(&deployment.pipeline).map(|pipeline| &pipeline.revisions);
    let by_number = revisions.and_then(|revisions| revisions.get(&revision));
    let serving = || {
        let served = |candidate: &&_| {
            crate::desired::Revision::is_served_by(candidate, &deployment.deployment, revision)
        };
        revisions?.values().map(AsRef::as_ref).find(served)
    };
    by_number.map(AsRef::as_ref).or_else(serving).and_then(|revision| revision.spec(&deployment.deployment))
}
