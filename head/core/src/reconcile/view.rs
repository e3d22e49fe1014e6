//! The state, seen from the deployments' side: one pass over all replicas per step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use millstream_pipelines::{FullName, Name};
use millstream_status::status::ReplicaState;
use millstream_status::{NodeId, ReplicaId};

use super::scope::Scope;
use crate::Timing;
use crate::desired::{CordonKind, Cordons, Revision};
use crate::model::{Node, NodeEntry, Observation, Replica, State};
use crate::scheduler::{FreeDevice, WHOLE_DEVICE, World};

/// How a node does, by the time since it last said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It may get traffic.
    Live,
    /// It gets none, but keeps what it has.
    Silent,
    /// What it had is placed elsewhere.
    Dead,
}

impl NodeEntry {
    pub(crate) fn health(&self, timing: &Timing, now: Duration) -> Health {
        let silence = now.saturating_sub(self.last_seen);
        if silence > timing.replace_after {
            Health::Dead
        } else if silence > timing.silent_after() {
            Health::Silent
        } else {
            Health::Live
        }
    }
}

/// A replica with its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplicaView<'a> {
    pub(crate) id: &'a ReplicaId,
    pub(crate) node_id: &'a NodeId,
    pub(crate) node: &'a NodeEntry,
    pub(crate) replica: &'a Replica,
    pub(crate) health: Health,
    /// What people keep from its node.
    pub(crate) cordon: Option<CordonKind>,
}

impl ReplicaView<'_> {
    /// Whether it can be sent calls.
    pub(crate) fn is_ready(&self) -> bool {
        self.replica.state == ReplicaState::Ready
            && self.health == Health::Live
            && self.replica.leaving.is_none()
    }

    /// Whether it is on its way out, as ordered or because its worker ends.
    pub(super) fn is_leaving(&self) -> bool {
        self.replica.leaving.is_some() || self.replica.state == ReplicaState::Draining
    }

    /// Whether it is to be replaced elsewhere, as its node is drained.
    pub(super) fn is_moving(&self) -> bool {
        self.cordon == Some(CordonKind::Drained)
    }

    /// Whether it serves that revision of its pipeline.
    pub(crate) fn serves(&self, revision: &Revision) -> bool {
        revision.is_served_by(&self.replica.deployment.deployment, self.replica.revision)
    }

    /// Whether it has failed each time it started, for so long that waiting for it is in vain.
    pub(crate) fn fails_to_start(&self) -> bool {
        let starts = &self.replica.starts;
        starts.is_unloadable && starts.failed_in_a_row > 0 || starts.failed_in_a_row >= MAX_FAILED_STARTS
    }

    /// Whether it cannot start: its model cannot be loaded, or three starts failed.
    pub(crate) fn cannot_start(&self) -> bool {
        match self.replica.state {
            ReplicaState::Failed if self.replica.starts.is_unloadable => true,
            // It is tried again, in vain as far as is known.
            ReplicaState::Starting if self.replica.starts.is_unloadable => self.replica.starts.restarts > 0,
            ReplicaState::Failed => self.replica.starts.restarts + 1 >= MAX_FAILED_STARTS,
            ReplicaState::Starting => self.replica.starts.restarts >= MAX_FAILED_STARTS,
            _ => false,
        }
    }
}

/// Health counts silence that is longer than a bound, not as long.
const LONGER: Duration = Duration::from_nanos(1);

/// Failed starts after which a revision counts as failed. Its worker goes on trying.
const MAX_FAILED_STARTS: u32 = 3;

/// All replicas by deployment, those on their way out apart.
pub(crate) struct View<'a> {
    /// Replicas that stay, by id within their deployment.
    pub(crate) staying: BTreeMap<&'a FullName, Vec<ReplicaView<'a>>>,
    /// Replicas on their way out, as ordered or because their worker ends.
    pub(crate) leaving: Vec<ReplicaView<'a>>,
    /// Whether half of the nodes look dead at once.
    pub(crate) mass_loss: bool,
}

impl<'a> View<'a> {
    /// The whole cluster.
    pub(crate) fn new(state: &'a State, cordons: &Cordons, timing: &Timing, now: Duration) -> Self {
        let mut view = Self::of_nodes(state, timing, now);
        // Ten thousand replicas find their deployment by hash; only the deployments are sorted, once.
        let mut places: HashMap<&FullName, usize> = HashMap::new();
        let mut staying: Vec<(&FullName, Vec<ReplicaView<'a>>)> = Vec::new();
        for (node_id, node) in &state.nodes {
            let (health, cordon) = (node.health(timing, now), cordon_of(node, cordons));
            for (id, replica) in &node.replicas {
                let seen = ReplicaView { id, node_id, node, replica, health, cordon };
                if seen.is_leaving() {
                    view.leaving.push(seen);
                } else {
                    let place = *places.entry(&replica.deployment).or_insert_with(|| {
                        staying.push((&replica.deployment, Vec::new()));
                        staying.len() - 1
                    });
                    staying[place].1.push(seen);
                }
            }
        }
        view.staying = staying.into_iter().collect();
        view
    }

    /// What a pass is about.
    pub(super) fn of_scope(
        scope: &Scope,
        state: &'a State,
        cordons: &Cordons,
        timing: &Timing,
        now: Duration,
    ) -> Self {
        let Scope::Pipelines(pipelines) = scope else { return Self::new(state, cordons, timing, now) };
        let mut view = Self::of_nodes(state, timing, now);
        for (node_id, id) in pipelines.values().flatten() {
            let Some((node_id, node)) = state.nodes.get_key_value(node_id) else { continue };
            let Some((id, replica)) = node.replicas.get_key_value(id) else { continue };
            let (health, cordon) = (node.health(timing, now), cordon_of(node, cordons));
            let seen = ReplicaView { id, node_id, node, replica, health, cordon };
            match seen.is_leaving() {
                true => view.leaving.push(seen),
                false => view.staying.entry(&replica.deployment).or_default().push(seen),
            }
        }
        view
    }

    /// A view without replicas.
    fn of_nodes(state: &State, timing: &Timing, now: Duration) -> Self {
        // A node that came back without its disk has another id; by its name it is one.
        let (mut live, mut lost) = (0, BTreeSet::new());
        for node in state.nodes.values() {
            match node.health(timing, now) {
                Health::Live => live += 1,
                _ if !node.replicas.is_empty() => drop(lost.insert(node.name.as_str())),
                _ => {}
            }
        }
        // One lost node is a lost node; several at once, and half of all, is more likely a fault of the network.
        let mass_loss = lost.len() >= 2 && lost.len() >= live;
        View { staying: BTreeMap::new(), leaving: Vec::new(), mass_loss }
    }

    /// Replicas of a deployment that stay, on nodes that are not given up.
    pub(crate) fn counted(&self, deployment: &FullName) -> impl Iterator<Item = &ReplicaView<'a>> {
        let all = self.mass_loss;
        self.staying
            .get(deployment)
            .into_iter()
            .flatten()
            .filter(move |seen| all || seen.health != Health::Dead)
    }

    /// Replicas of a pipeline that stay, by deployment.
    pub(crate) fn of_pipeline<'b>(
        &'b self,
        name: &'b Name,
    ) -> impl Iterator<Item = (&'a FullName, &'b Vec<ReplicaView<'a>>)> {
        let first = "a".parse().expect("a letter is a name, and no name sorts before it");
        let first = FullName { pipeline: name.clone(), deployment: first };
        let mut from_there = self.staying.range::<FullName, _>((Bound::Included(&first), Bound::Unbounded));
        std::iter::from_fn(move || {
            let (deployment, replicas) = from_there.next()?;
            (deployment.pipeline == *name).then_some((*deployment, replicas))
        })
        .fuse()
    }

    /// Ready replicas of a deployment that serve a revision.
    pub(crate) fn num_ready(&self, deployment: &FullName, revision: &Revision) -> usize {
        self.counted(deployment).filter(|seen| seen.is_ready() && seen.serves(revision)).count()
    }
}

/// When a node may next be found silent or dead, after a pass at `last_pass`. Heartbeats move it. Costs a pass over the nodes,
/// and no memory.
pub(super) fn next_silence(state: &State, timing: &Timing, last_pass: Duration) -> Option<Duration> {
    let bounds = [timing.silent_after(), timing.replace_after];
    let at = state.nodes.values().flat_map(|node| bounds.map(|bound| node.last_seen + bound + LONGER));
    at.filter(|&at| at > last_pass).min()
}

/// Whether an observation brings a node back that was silent: its replicas get requests again.
pub(super) fn revives(state: &State, timing: &Timing, observation: &Observation, now: Duration) -> bool {
    match observation {
        Observation::Heartbeat(id, ..) | Observation::ReplicaChanged(id, ..) => {
            state.nodes.get(id).is_some_and(|node| node.health(timing, now) != Health::Live)
        }
        _ => false,
    }
}

/// What people keep from a node.
pub(crate) fn cordon_of(node: &Node, cordons: &Cordons) -> Option<CordonKind> {
    cordons.get(&node.name).map(|cordon| cordon.kind)
}

/// Whether a node may be given replicas.
pub(crate) fn takes_replicas(node: &NodeEntry, cordons: &Cordons, timing: &Timing, now: Duration) -> bool {
    is_able(node, timing, now) && cordon_of(node, cordons).is_none()
}

/// Whether a node could be given replicas, if people let it.
pub(super) fn is_able(node: &NodeEntry, timing: &Timing, now: Duration) -> bool {
    node.session.is_some() && !node.draining && node.health(timing, now) == Health::Live
}

/// What the nodes that may be given work have free.
pub(crate) fn world(state: &State, cordons: &Cordons, timing: &Timing, now: Duration) -> World {
    let nodes = state.nodes.iter().filter(|(_, node)| takes_replicas(node, cordons, timing, now));
    World { nodes: nodes.map(|(id, node)| free(id, node)).collect() }
}

/// What a node has free.
pub(crate) fn free(id: &NodeId, node: &Node) -> crate::scheduler::Node {
    let mut devices: Vec<_> = node
        .resources
        .gpus
        .iter()
        .map(|gpu| FreeDevice {
            index: gpu.index,
            model: gpu.model.clone(),
            free_milli: WHOLE_DEVICE,
            free_memory_bytes: gpu.memory_bytes,
        })
        .collect();
    let mut cpu_milli = 0;
    let mut memory_bytes = 0;
    let mut replicas = BTreeMap::new();
    for replica in node.replicas.values() {
        cpu_milli += replica.booking.cpu_milli;
        memory_bytes += replica.booking.memory_bytes;
        *replicas.entry(replica.deployment.clone()).or_default() += 1;
        for share in &replica.gpus {
            if let Some(device) = devices.iter_mut().find(|device| device.index == share.index) {
                device.free_milli = device.free_milli.saturating_sub(share.milli);
                device.free_memory_bytes =
                    device.free_memory_bytes.saturating_sub(replica.booking.gpu_memory_bytes);
            }
        }
    }
    crate::scheduler::Node {
        id: id.clone(),
        name: node.name.clone(),
        labels: node.labels.clone(),
        free_cpu_milli: node.resources.cpu_milli.saturating_sub(cpu_milli),
        free_memory_bytes: node.resources.memory_bytes.saturating_sub(memory_bytes),
        devices,
        replicas,
    }
}
