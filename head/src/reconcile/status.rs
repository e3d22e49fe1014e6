//! The cluster as people and scripts see it, from what is desired and observed.

use std::time::Duration;

use millstream_pipelines::{Autoscaling, DeploymentSpec, FullName};
use millstream_proto::status::{
    ClusterStatus, DeploymentStatus, GpuHolder, GpuStatus, IngressStatus, NodeState, NodeStatus,
    PipelineState, PipelineStatus, ReplicaState, ReplicaStatus,
};
use millstream_proto::{IngressId, NodeId};

use super::deployment::target;
use super::state::{Node, State};
use super::view::{Health, Seen, View, free};
use crate::autoscaler::Scaler;
use crate::desired::{Desired, Pipeline, Revision};
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
            holders: holders.collect(),
        }
    });
    let live = node.health(timing, now) == Health::Live;
    NodeStatus {
        name: node.name.clone(),
        id: id.clone(),
        state: match node.draining {
            _ if !live => NodeState::Lost,
            true => NodeState::Draining,
            false => NodeState::Ready,
        },
        address: node.address.clone(),
        pid: node.pid,
        cpu_milli: node.resources.cpu_milli,
        free_cpu_milli: left.free_cpu_milli,
        memory_bytes: node.resources.memory_bytes,
        free_memory_bytes: left.free_memory_bytes,
        labels: node.labels.clone(),
        gpus: gpus.collect(),
    }
}

fn ratio(milli: u32) -> f64 {
    f64::from(milli) / f64::from(WHOLE_DEVICE)
}

/// One pipeline and what surrounds it.
struct Scope<'a> {
    state: &'a State,
    view: &'a View<'a>,
    name: &'a millstream_pipelines::Name,
    pipeline: &'a Pipeline,
}

impl Scope<'_> {
    fn full_name(&self, deployment: &millstream_pipelines::Name) -> FullName {
        FullName { pipeline: self.name.clone(), deployment: deployment.clone() }
    }

    fn pipeline_status(&self) -> PipelineStatus {
        let newest = self.pipeline.newest();
        let serving = self.serving();
        let shown = newest.and_then(|newest| newest.compiled.as_ref().ok());
        let mut deployments: Vec<_> = shown
            .into_iter()
            .flat_map(|compiled| &compiled.deployments)
            .map(|(deployment, spec)| {
                let deployment = self.full_name(deployment);
                let target = target(&self.state.targets, &deployment, spec);
                let status = self.deployment_status(&deployment, newest, target);
                with_scaling(status, self.state.scalers.get(&deployment), &spec.autoscaling)
            })
            .collect();
        // Deployments of older revisions, for as long as they have replicas.
        let others = self.replicas().map(|seen| &seen.replica.deployment);
        let mut gone: Vec<_> =
            others.filter(|name| deployments.iter().all(|d| d.full_name != name.to_string())).collect();
        gone.sort();
        gone.dedup();
        let gone: Vec<_> = gone.into_iter().map(|name| self.deployment_status(name, None, 0)).collect();
        deployments.extend(gone);
        deployments.sort_by(|a, b| a.name.cmp(&b.name));
        PipelineStatus {
            name: self.name.to_string(),
            route: shown.and_then(|compiled| compiled.route.clone()),
            revision: self.pipeline.newest,
            serving_revision: serving,
            state: self.pipeline_state(newest.map(AsRef::as_ref), serving),
            deployments,
        }
    }

    /// The revision that requests run on, when each of its deployments has somebody to answer.
    fn serving(&self) -> Option<u64> {
        let serving = self.state.serving.get(self.name)?.revision;
        let compiled = self.pipeline.revisions.get(&serving)?.compiled.as_ref().ok()?;
        // A deployment that may have no replica answers all the same: its calls wait until one has started.
        let answers = |(deployment, spec): (&millstream_pipelines::Name, &std::sync::Arc<DeploymentSpec>)| {
            if spec.autoscaling.min_replicas == 0 {
                return true;
            }
            let deployment = self.full_name(deployment);
            let routes = self.state.routes.pipelines.iter().find(|route| route.name == *self.name);
            let route = routes.and_then(|route| {
                route.deployments.iter().find(|route| route.deployment == deployment.deployment)
            });
            route.is_some_and(|route| !route.replicas.is_empty())
        };
        compiled.deployments.iter().all(answers).then_some(serving)
    }

    fn pipeline_state(&self, newest: Option<&Revision>, serving: Option<u64>) -> PipelineState {
        let Some((newest, Ok(compiled))) = newest.map(|newest| (newest, &newest.compiled)) else {
            return PipelineState::Failed;
        };
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
    fn replicas(&self) -> impl Iterator<Item = &Seen<'_>> {
        let staying = self.view.of_pipeline(self.name);
        let leaving = self.view.leaving.iter().filter(|seen| seen.replica.deployment.pipeline == *self.name);
        staying.flat_map(|(_, replicas)| replicas).chain(leaving)
    }

    fn deployment_status(
        &self,
        full_name: &FullName,
        newest: Option<&std::sync::Arc<Revision>>,
        target: usize,
    ) -> DeploymentStatus {
        let mut replicas: Vec<_> = self
            .replicas()
            .filter(|seen| seen.replica.deployment == *full_name)
            .map(replica_status)
            .collect();
        replicas.sort_by(|a, b| a.id.cmp(&b.id));
        let ready = newest.map_or(0, |newest| self.view.num_ready(full_name, newest));
        let load = |part: fn(&super::state::Load) -> u64| -> u64 {
            let loads = self.state.ingresses.values().filter_map(|ingress| ingress.loads.get(full_name));
            loads.map(part).sum()
        };
        DeploymentStatus {
            name: full_name.deployment.to_string(),
            full_name: full_name.to_string(),
            target_replicas: u32::try_from(target).unwrap_or(u32::MAX),
            ready_replicas: u32::try_from(ready).unwrap_or(u32::MAX),
            ongoing: load(|load| load.ongoing),
            queued: load(|load| load.queued),
            replicas,
            pending: self.state.pending.get(full_name).cloned().unwrap_or_default(),
            min_replicas: 0,
            max_replicas: 0,
            desired_replicas: u32::try_from(target).unwrap_or(u32::MAX),
        }
    }
}

/// Adds what the autoscaler knows.
fn with_scaling(
    status: DeploymentStatus,
    scaler: Option<&Scaler<IngressId>>,
    settings: &Autoscaling,
) -> DeploymentStatus {
    let wish = scaler.and_then(|scaler| scaler.scaling.wish);
    DeploymentStatus {
        min_replicas: settings.min_replicas,
        max_replicas: settings.max_replicas,
        desired_replicas: wish.map_or(status.target_replicas, |wish| wish.wanted),
        ..status
    }
}

fn replica_status(seen: &Seen<'_>) -> ReplicaStatus {
    let replica = seen.replica;
    let leaving = replica.leaving.is_some() && replica.state != ReplicaState::Failed;
    ReplicaStatus {
        id: seen.id.clone(),
        node: seen.node.name.clone(),
        state: if leaving { ReplicaState::Draining } else { replica.state },
        pid: replica.pid,
        revision: replica.revision,
        ongoing: replica.ongoing,
        doing: replica.doing.clone(),
        error: replica.error.clone(),
        restarts: replica.restarts,
    }
}
