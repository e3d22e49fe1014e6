//! The cluster as people and scripts see it, from what is desired and observed.

use std::time::Duration;

use millstream_pipelines::FullName;
use millstream_proto::NodeId;
use millstream_proto::status::{
    ClusterStatus, DeploymentStatus, GpuHolder, GpuStatus, IngressStatus, NodeState, NodeStatus,
    PipelineState, PipelineStatus, ReplicaState, ReplicaStatus,
};

use super::deployment::target;
use super::numbers::DeploymentNumbers;
use super::state::{Node, State};
use super::view::{Health, Seen, View, free};
use crate::desired::{Desired, Pipeline};
use crate::scheduler::WHOLE_DEVICE;
use crate::timing::Timing;

/// The whole status.
#[must_use]
pub fn status(
    leader: &str,
    desired: &Desired,
    state: &State,
    timing: &Timing,
    now: Duration,
) -> ClusterStatus {
    let view = View::new(state, timing, now);
    let mut nodes: Vec<_> = state.nodes.iter().map(|(id, node)| node_status(id, node, timing, now)).collect();
    nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let connected = state.ingresses.values().filter(|ingress| ingress.session.is_some());
    let mut ingresses: Vec<_> = connected
        .map(|ingress| IngressStatus {
            name: ingress.name.clone(),
            address: ingress.address.clone(),
            routes_version: ingress.acked,
        })
        .collect();
    ingresses.sort_by(|a, b| (&a.name, &a.address).cmp(&(&b.name, &b.address)));
    let pipelines = desired.pipelines.iter().map(|(name, pipeline)| {
        let scope = Scope { state, view: &view, name, pipeline };
        scope.pipeline_status()
    });
    ClusterStatus {
        leader: leader.to_owned(),
        epoch: state.epoch,
        nodes,
        ingresses,
        pipelines: pipelines.collect(),
    }
}

fn node_status(id: &NodeId, node: &Node, timing: &Timing, now: Duration) -> NodeStatus {
    let left = free(id, node);
    let gpus = node.resources.gpus.iter().zip(&left.devices).map(|(gpu, left)| {
        let holders = node.replicas.iter().filter_map(|(id, replica)| {
            let share = replica.gpus.iter().find(|share| share.index == gpu.index)?;
            Some(GpuHolder { replica: id.clone(), share: ratio(share.milli) })
        });
        GpuStatus {
            index: gpu.index,
            model: gpu.model.clone(),
            memory_bytes: gpu.memory_bytes,
            free_share: ratio(left.free_milli),
            booked_share: ratio(WHOLE_DEVICE.saturating_sub(left.free_milli)),
            holders: holders.collect(),
        }
    });
    NodeStatus {
        name: node.name.clone(),
        id: id.clone(),
        state: node_state(node, timing, now),
        address: node.address.clone(),
        pid: node.pid,
        cpu_milli: node.resources.cpu_milli,
        free_cpu_milli: left.free_cpu_milli,
        memory_bytes: node.resources.memory_bytes,
        free_memory_bytes: left.free_memory_bytes,
        labels: node.labels.clone(),
        gpus: gpus.collect(),
        last_seen_ms_ago: u64::try_from(now.saturating_sub(node.last_seen).as_millis()).unwrap_or(u64::MAX),
    }
}

pub(super) fn node_state(node: &Node, timing: &Timing, now: Duration) -> NodeState {
    let live = node.health(timing, now) == Health::Live;
    match node.draining {
        _ if !live => NodeState::Lost,
        true => NodeState::Draining,
        false => NodeState::Ready,
    }
}

pub(super) fn ratio(milli: u32) -> f64 {
    f64::from(milli) / f64::from(WHOLE_DEVICE)
}

/// One pipeline and what surrounds it.
pub(super) struct Scope<'a> {
    pub(super) state: &'a State,
    pub(super) view: &'a View<'a>,
    pub(super) name: &'a millstream_pipelines::Name,
    pub(super) pipeline: &'a Pipeline,
}

impl Scope<'_> {
    pub(super) fn full_name(&self, deployment: &millstream_pipelines::Name) -> FullName {
        FullName { pipeline: self.name.clone(), deployment: deployment.clone() }
    }

    fn pipeline_status(&self) -> PipelineStatus {
        let newest = self.pipeline.newest();
        let serving = self.serving();
        let shown = newest.and_then(|newest| newest.compiled.as_ref().ok());
        let deployments = self.numbers();
        let deployments = deployments.iter().map(|numbers| self.deployment_status(numbers));
        PipelineStatus {
            name: self.name.to_string(),
            route: shown.and_then(|compiled| compiled.route.clone()),
            revision: self.pipeline.newest,
            serving_revision: serving,
            state: self.pipeline_state(),
            deployments: deployments.collect(),
        }
    }

    /// The revision that requests run on, when each of its deployments has somebody to answer.
    fn serving(&self) -> Option<u64> {
        let serving = self.state.serving.get(self.name)?.revision;
        let compiled = self.pipeline.revisions.get(&serving)?.compiled.as_ref().ok()?;
        let answers = |deployment| {
            let deployment = self.full_name(deployment);
            let routes = self.state.routes.pipelines.iter().find(|route| route.name == *self.name);
            let route = routes.and_then(|route| {
                route.deployments.iter().find(|route| route.deployment == deployment.deployment)
            });
            route.is_some_and(|route| !route.replicas.is_empty())
        };
        compiled.deployments.keys().all(answers).then_some(serving)
    }

    /// How its newest revision does.
    pub(super) fn pipeline_state(&self) -> PipelineState {
        let Some((newest, Ok(compiled))) = self.pipeline.newest().map(|newest| (newest, &newest.compiled))
        else {
            return PipelineState::Failed;
        };
        let serving = self.serving();
        let failed = self
            .replicas()
            .any(|seen| seen.replica.leaving.is_none() && seen.serves(newest) && seen.cannot_start());
        let all_ready = compiled.deployments.iter().map(|(name, spec)| (self.full_name(name), spec)).all(
            |(name, spec)| self.view.num_ready(&name, newest) >= target(&self.state.targets, &name, spec),
        );
        match serving {
            Some(serving) if serving == newest.stored.number && all_ready => PipelineState::Ready,
            // Whether or not an older revision serves on: what was asked for does not come.
            _ if failed => PipelineState::Failed,
            Some(_) => PipelineState::Degraded,
            None => PipelineState::Starting,
        }
    }

    /// All replicas of the pipeline, those on their way out included.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &Seen<'_>> {
        let staying = self.view.of_pipeline(self.name);
        let leaving = self.view.leaving.iter().filter(|seen| seen.replica.deployment.pipeline == *self.name);
        staying.flat_map(|(_, replicas)| replicas).chain(leaving)
    }

    fn deployment_status(&self, numbers: &DeploymentNumbers) -> DeploymentStatus {
        let full_name = &numbers.deployment;
        let mut replicas: Vec<_> = self
            .replicas()
            .filter(|seen| seen.replica.deployment == *full_name)
            .map(replica_status)
            .collect();
        replicas.sort_by(|a, b| a.id.cmp(&b.id));
        DeploymentStatus {
            name: full_name.deployment.to_string(),
            full_name: full_name.to_string(),
            target_replicas: numbers.target_replicas,
            desired_replicas: numbers.desired_replicas,
            target_ongoing_requests: numbers.target_ongoing_requests,
            ready_replicas: numbers.ready_replicas,
            ongoing: numbers.ongoing,
            queued: numbers.queued,
            replicas,
            pending: self.state.pending.get(full_name).cloned().unwrap_or_default(),
        }
    }
}

fn replica_status(seen: &Seen<'_>) -> ReplicaStatus {
    let replica = seen.replica;
    ReplicaStatus {
        id: seen.id.clone(),
        node: seen.node.name.clone(),
        state: shown_state(seen),
        pid: replica.pid,
        revision: replica.revision,
        ongoing: replica.ongoing,
        doing: replica.doing.clone(),
        error: replica.error.clone(),
        restarts: replica.restarts,
    }
}

/// A replica on its way out drains, whatever its worker has said last.
pub(super) fn shown_state(seen: &Seen<'_>) -> ReplicaState {
    let leaving = seen.replica.leaving.is_some() && seen.replica.state != ReplicaState::Failed;
    if leaving { ReplicaState::Draining } else { seen.replica.state }
}
