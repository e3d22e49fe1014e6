//! The cluster in numbers: what metrics, the history and the status show of it. A plain function of what is desired and
//! observed, with one pass over the replicas and nothing kept per replica.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_pipelines::{Autoscaling, FullName, Name};
use millstream_status::status::{NodeState, PipelineState, ReplicaState, RolloutPhase};

use super::shown::{Scope, node_state, ratio, shown_phase, shown_state};
use crate::Timing;
use crate::autoscaler;
use crate::desired::Desired;
use crate::model::{Lately, Load, State};
use crate::reconcile::context::target;
use crate::reconcile::view::{View, free};
use crate::scheduler::{MissingResource, WHOLE_DEVICE};

/// Everything that is shown as a number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Numbers {
    /// Deployments, by name.
    pub deployments: Vec<DeploymentNumbers>,
    /// Pipelines, by name.
    pub pipelines: Vec<PipelineNumbers>,
    /// Nodes, by id.
    pub nodes: Vec<NodeNumbers>,
}

/// How a pipeline does.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineNumbers {
    /// Which.
    pub pipeline: Name,
    /// How its wanted revision does.
    pub state: PipelineState,
    /// How far its rollout is; `None` while no revision takes over.
    pub phase: Option<RolloutPhase>,
    /// Requests that have ended since the head began to count.
    pub requests_ended: u64,
    /// The requests of the last seconds.
    pub lately: Lately,
}

/// A deployment in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentNumbers {
    /// Which.
    pub deployment: FullName,
    /// Requests at its replicas, as ingresses count them.
    pub ongoing: u64,
    /// Requests that wait at ingresses.
    pub queued: u64,
    /// Calls that have ended since the head began to count.
    pub calls_ended: u64,
    /// Ongoing requests per replica that the autoscaler aims at.
    pub target_ongoing_requests: f64,
    /// Fewest replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// Replicas wanted, as decided.
    pub target_replicas: u32,
    /// Replicas that the requests of this moment ask for, before averages and delays.
    pub desired_replicas: u32,
    /// Ready replicas of the wanted revision.
    pub ready_replicas: u32,
    /// Replicas of every revision, by state.
    pub replicas: BTreeMap<ReplicaState, u32>,
    /// WantedReplicas replicas without a place, by what is missing.
    pub unplaced: BTreeMap<MissingResource, u32>,
}

/// A node in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeNumbers {
    /// Its name.
    pub name: String,
    /// What it may be given.
    pub state: NodeState,
    /// Time since it last said that it lives.
    pub silence: Duration,
    /// Booked share of each device, 0 to 1, with its index.
    pub devices: Vec<(u32, f64)>,
}

/// The numbers of the whole cluster.
#[must_use]
pub fn numbers(desired: &Desired, state: &State, timing: &Timing, now: Duration) -> Numbers {
    let view = View::new(state, &desired.cordons, timing, now);
    let mut all = Numbers::default();
    for (name, pipeline) in &desired.pipelines {
        let scope = Scope { desired, state, view: &view, name, pipeline, now };
        all.deployments.extend(scope.numbers());
        all.pipelines.push(PipelineNumbers {
            pipeline: name.clone(),
            state: scope.pipeline_state(),
            phase: state.rollouts.get(name).map(|rollout| shown_phase(rollout.phase)),
            requests_ended: state.ended.get(name).map_or(0, |ended| ended.requests),
            lately: state.ended.get(name).map(|ended| ended.traffic.last_seconds(now)).unwrap_or_default(),
        });
    }
    let nodes = state.nodes.iter().map(|(id, node)| NodeNumbers {
        name: node.name.clone(),
        state: node_state(node, &desired.cordons, timing, now),
        silence: now.saturating_sub(node.last_seen),
        devices: match node.resources.gpus.is_empty() {
            true => Vec::new(),
            false => {
                let left = free(id, node).devices;
                let booked = |free_milli| ratio(WHOLE_DEVICE.saturating_sub(free_milli));
                left.iter().map(|device| (device.index, booked(device.free_milli))).collect()
            }
        },
    });
    all.nodes.extend(nodes);
    all
}

impl Scope<'_> {
    /// The pipeline's deployments, those of older revisions included for as long as they have replicas; by name.
    pub(super) fn numbers(&self) -> Vec<DeploymentNumbers> {
        let wanted = self.pipeline.wanted();
        let shown = wanted.and_then(|wanted| wanted.compiled.as_ref().ok());
        let deployments = shown.into_iter().flat_map(|compiled| &compiled.deployments);
        let mut all: BTreeMap<FullName, DeploymentNumbers> = deployments
            .map(|(name, spec)| {
                let name = self.full_name(name);
                let target = target(&self.state.targets, &name, spec);
                let numbers = self.of_deployment(name.clone(), target, Some(&spec.autoscaling));
                (name, numbers)
            })
            .collect();
        for seen in self.replicas() {
            let name = &seen.replica.deployment;
            if !all.contains_key(name) {
                all.insert(name.clone(), self.of_deployment(name.clone(), 0, None));
            }
            if let Some(numbers) = all.get_mut(name) {
                *numbers.replicas.entry(shown_state(seen)).or_default() += 1;
            }
        }
        all.into_values().collect()
    }

    /// The numbers of a deployment, its replicas' states apart.
    fn of_deployment(
        &self,
        deployment: FullName,
        target: usize,
        autoscaling: Option<&Autoscaling>,
    ) -> DeploymentNumbers {
        let load = |part: fn(&Load) -> u64| -> u64 {
            let loads = self.state.ingresses.values().filter_map(|ingress| ingress.loads.get(&deployment));
            loads.map(part).sum()
        };
        let (ongoing, queued) = (load(|load| load.ongoing), load(|load| load.queued));
        let wanted = self.pipeline.wanted().filter(|_| autoscaling.is_some());
        let ready = wanted.map_or(0, |wanted| self.view.num_ready(&deployment, wanted));
        let ended = self.state.ended.get(self.name).and_then(|ended| ended.calls.get(&deployment.deployment));
        DeploymentNumbers {
            ongoing,
            queued,
            calls_ended: ended.copied().unwrap_or(0),
            target_ongoing_requests: autoscaling.map_or(0.0, |config| config.target_ongoing_requests),
            min_replicas: autoscaling.map_or(0, |config| config.min_replicas),
            max_replicas: autoscaling.map_or(0, |config| config.max_replicas),
            target_replicas: u32::try_from(target).unwrap_or(u32::MAX),
            desired_replicas: autoscaling.map_or(0, |config| desired_replicas(config, ongoing + queued)),
            ready_replicas: u32::try_from(ready).unwrap_or(u32::MAX),
            replicas: BTreeMap::new(),
            unplaced: self.state.unplaced.get(&deployment).cloned().unwrap_or_default(),
            deployment,
        }
    }
}

/// How many replicas so many requests ask for, within the bounds.
fn desired_replicas(config: &Autoscaling, requests: u64) -> u32 {
    let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
    let raw = (requests / config.target_ongoing_requests).ceil().clamp(0.0, f64::from(u32::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to u32 just above")]
    let raw = raw as u32;
    autoscaler::bound(config, raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_of_the_moment_ask_for_replicas_within_the_bounds() {
        let mut config = crate::testing::spec("model").autoscaling;
        (config.min_replicas, config.max_replicas, config.target_ongoing_requests) = (1, 4, 2.0);
        for (requests, expected) in [(0, 1), (2, 1), (3, 2), (7, 4), (1000, 4), (u64::MAX, 4)] {
            assert_eq!(desired_replicas(&config, requests), expected, "{requests}");
        }
    }
}
