//! The cluster as people and scripts see it, from what is desired and observed.

use std::time::Duration;

use millstream_pipelines::DeploymentSpec;
use millstream_status::NodeId;
use millstream_status::status::{
    AutoscalingStatus, BoundsStatus, ClusterStatus, DeploymentStatus, GpuHolder, GpuStatus, IngressStatus,
    NodeState, NodeStatus, PipelineState, PipelineStatus, ReplicaCounts, ReplicaStatus, VerdictStatus,
};

use super::numbers::DeploymentNumbers;
use super::shown::{Scope, node_state, ratio, shown_state};
use crate::Timing;
use crate::desired::Desired;
use crate::model::{NodeEntry, Serving, State};
use crate::reconcile::context::target;
use crate::reconcile::view::{Health, ReplicaView, View, free};
use crate::rollout::Phase;
use crate::scheduler::WHOLE_DEVICE;

/// The whole status.
#[must_use]
pub fn status(
    leader: &str,
    desired: &Desired,
    state: &State,
    timing: &Timing,
    now: Duration,
) -> ClusterStatus {
    let view = View::new(state, &desired.cordons, timing, now);
    let shown = |node| node_state(node, &desired.cordons, timing, now);
    let nodes = state.nodes.iter().map(|(id, node)| node_status(id, node, shown(node), now));
    let mut nodes: Vec<_> = nodes.collect();
    nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let connected = state.ingresses.values().filter(|ingress| ingress.session.is_some());
    let mut ingresses: Vec<_> = connected
        .map(|ingress| IngressStatus {
            name: ingress.name.clone(),
            entrance: ingress.entrance.clone(),
            routes_version: ingress.acked.number,
        })
        .collect();
    ingresses.sort_by(|a, b| (&a.name, &a.entrance.address).cmp(&(&b.name, &b.entrance.address)));
    let pipelines = desired.pipelines.iter().map(|(name, pipeline)| {
        let scope = Scope { desired, state, view: &view, name, pipeline, now };
        scope.pipeline_status()
    });
    ClusterStatus {
        leader: leader.to_owned(),
        epoch: state.epoch,
        routes_version: state.routes.version.number,
        nodes,
        ingresses,
        pipelines: pipelines.collect(),
    }
}

fn node_status(id: &NodeId, node: &NodeEntry, state: NodeState, now: Duration) -> NodeStatus {
    let left = free(id, node);
    let gpus = node.resources.gpus.iter().zip(&left.devices).map(|(gpu, left)| {
        let holders = node.replicas.iter().filter_map(|(id, replica)| {
            let share = replica.gpus.iter().find(|share| share.index == gpu.index)?;
            let deployment = replica.deployment.to_string();
            Some(GpuHolder { replica: id.clone(), deployment, share: ratio(share.milli), replicas: 1 })
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
        state,
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

impl Scope<'_> {
    fn pipeline_status(&self) -> PipelineStatus {
        let wanted = self.pipeline.wanted();
        let serving = self.serving();
        let shown = wanted.and_then(|wanted| wanted.compiled.as_ref().ok());
        let deployments = self.numbers();
        let deployments = deployments.iter().map(|numbers| self.deployment_status(numbers));
        PipelineStatus {
            name: self.name.to_string(),
            route: shown.and_then(|compiled| compiled.route.clone()),
            revision: self.pipeline.wanted,
            newest_revision: self.pipeline.newest,
            serving_revision: serving,
            state: self.pipeline_state(),
            mismatch: self.mismatch().map(str::to_owned),
            traffic: self.traffic(None),
            deployed_at_ms: wanted.map_or(0, |wanted| wanted.stored.created_at_ms),
            rollout: self.rollout_status(),
            verdicts: self.verdicts(),
            deployments: deployments.collect(),
        }
    }

    /// The revision that requests run on, when each of its deployments has somebody to answer.
    fn serving(&self) -> Option<u64> {
        let Serving { revision: serving, complete } = *self.state.serving.get(self.name)?;
        let compiled = self.pipeline.revisions.get(&serving)?.compiled.as_ref().ok()?;
        // A deployment that may have no replica answers all the same once it has had one: its calls wait until another has started.
        let answers = |(deployment, spec): (&millstream_pipelines::Name, &std::sync::Arc<DeploymentSpec>)| {
            if spec.autoscaling.min_replicas == 0 {
                return complete;
            }
            let route = self.state.routes.deployment(&self.full_name(deployment));
            route.is_some_and(|route| !route.replicas.is_empty())
        };
        compiled.deployments.iter().all(answers).then_some(serving)
    }

    /// Whether a canary or a shadow stands where people wanted it: that is as it should be.
    fn stands_beside(&self) -> bool {
        let rollout = self.state.rollouts.get(self.name);
        let asked = self.pipeline.rollout.is_some_and(|stored| !stored.mode.is_rolling());
        asked && rollout.is_some_and(|rollout| rollout.phase == Phase::Trial)
    }

    /// Why its wanted revision does not fit its models.
    fn mismatch(&self) -> Option<&str> {
        self.state.mismatch(self.name, self.pipeline.wanted)
    }

    /// How its wanted revision does.
    pub(super) fn pipeline_state(&self) -> PipelineState {
        let Some((newest, Ok(compiled))) = self.pipeline.wanted().map(|wanted| (wanted, &wanted.compiled))
        else {
            return PipelineState::Failed;
        };
        let serving = self.serving();
        let failed = self
            .replicas()
            .any(|seen| seen.replica.leaving.is_none() && seen.serves(newest) && seen.cannot_start());
        let failed = failed || self.mismatch().is_some();
        let all_ready = compiled.deployments.iter().map(|(name, spec)| (self.full_name(name), spec)).all(
            |(name, spec)| self.view.num_ready(&name, newest) >= target(&self.state.targets, &name, spec),
        );
        match serving {
            Some(serving) if serving == newest.stored.number && all_ready => PipelineState::Ready,
            Some(_) if self.stands_beside() => PipelineState::Ready,
            // Whether or not an older revision serves on: what was asked for does not come.
            _ if failed => PipelineState::Failed,
            Some(_) => PipelineState::Degraded,
            None => PipelineState::Starting,
        }
    }

    fn verdicts(&self) -> Vec<VerdictStatus> {
        self.pipeline.verdicts.iter().rev().map(|(&revision, verdict)| verdict.status(revision)).collect()
    }

    /// All replicas of the pipeline, those on their way out included.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &ReplicaView<'_>> {
        let staying = self.view.of_pipeline(self.name);
        let leaving = self.view.leaving.iter().filter(|seen| seen.replica.deployment.pipeline == *self.name);
        staying.flat_map(|(_, replicas)| replicas).chain(leaving)
    }

    fn deployment_status(&self, numbers: &DeploymentNumbers) -> DeploymentStatus {
        let full_name = &numbers.deployment;
        let spec = self.pipeline.wanted().and_then(|wanted| wanted.spec(&full_name.deployment));
        let mut replicas: Vec<_> = self
            .replicas()
            .filter(|seen| seen.replica.deployment == *full_name)
            .map(|seen| replica_status(seen, self.now))
            .collect();
        replicas.sort_by(|a, b| a.id.cmp(&b.id));
        DeploymentStatus {
            name: full_name.deployment.to_string(),
            full_name: full_name.to_string(),
            target_replicas: numbers.target_replicas,
            autoscaling: AutoscalingStatus {
                desired_replicas: numbers.desired_replicas,
                target_ongoing_requests: numbers.target_ongoing_requests,
            },
            ready_replicas: numbers.ready_replicas,
            ongoing: numbers.ongoing,
            queued: numbers.queued,
            replica_counts: ReplicaCounts::of(&replicas),
            replicas,
            pending: self.state.pending.get(full_name).cloned().unwrap_or_default(),
            bounds: BoundsStatus {
                min_replicas: numbers.min_replicas,
                max_replicas: numbers.max_replicas,
                bounds_by_hand: self.desired.scales.contains_key(full_name),
            },
            model: spec.and_then(|spec| spec.model.as_ref()).map(ToString::to_string),
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn replica_status(seen: &ReplicaView<'_>, now: Duration) -> ReplicaStatus {
    let replica = seen.replica;
    let is_heard = seen.node.session.is_some() && seen.health == Health::Live;
    ReplicaStatus {
        id: seen.id.clone(),
        node: seen.node.name.clone(),
        state: shown_state(seen),
        pid: replica.pid,
        revision: replica.revision,
        ongoing: seen.node.ongoing.get(seen.id).copied().unwrap_or(0),
        doing: if is_heard { replica.doing.clone() } else { "its node is unreachable".to_owned() },
        error: replica.error.clone(),
        restarts: replica.starts.restarts,
        last_error: replica.starts.last_error.clone(),
        age_ms: millis(now.saturating_sub(replica.starts.since)),
    }
}
