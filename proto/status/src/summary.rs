//! The cluster without its single replicas: what the dashboard is sent at each change. Its size grows with deployments and
//! devices, not with replicas.

use schemars::JsonSchema;
use serde::Serialize;

use crate::status::{
    ClusterStatus, GpuHolder, IngressStatus, NodeState, NodeStatus, PipelineState, PipelineStatus,
    TrafficStatus,
};

/// The cluster in short. Deployments have counts of their replicas and no list of them, devices one holder for each
/// deployment.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ClusterSummary {
    /// When it was so, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Name of the head that commands.
    pub leader: String,
    /// Its term.
    pub epoch: u64,
    /// Whether all is well.
    pub health: Health,
    /// The requests of all pipelines in the last minute.
    #[serde(flatten)]
    pub traffic: TrafficStatus,
    /// Nodes that are or were connected, by name.
    pub nodes: Vec<NodeStatus>,
    /// Ingresses that are connected, by name.
    pub ingresses: Vec<IngressStatus>,
    /// Pipelines that people asked for, by name.
    pub pipelines: Vec<PipelineStatus>,
}

/// Whether all is well, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Health {
    /// The worst there is.
    pub state: HealthState,
    /// What it is, for people.
    pub sentence: String,
}

/// How well a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Everything that was asked for is there.
    Ok,
    /// It serves, and something is missing.
    Degraded,
    /// Requests of some pipeline cannot be answered.
    Failing,
}

impl ClusterSummary {
    /// The summary of a status at a moment, with the traffic of the whole cluster. O(replicas).
    #[must_use]
    pub fn of(status: &ClusterStatus, traffic: TrafficStatus, at_ms: u64) -> Self {
        let pipelines = status.pipelines.iter().map(|pipeline| {
            let mut pipeline = pipeline.clone();
            pipeline.deployments.iter_mut().for_each(|deployment| deployment.replicas = Vec::new());
            pipeline
        });
        let nodes = status.nodes.iter().map(|node| {
            let mut node = node.clone();
            node.gpus.iter_mut().for_each(|gpu| gpu.holders = by_deployment(&gpu.holders));
            node
        });
        Self {
            at_ms,
            leader: status.leader.clone(),
            epoch: status.epoch,
            health: Health::of(status),
            traffic,
            nodes: nodes.collect(),
            ingresses: status.ingresses.clone(),
            pipelines: pipelines.collect(),
        }
    }
}

/// One holder for each deployment.
fn by_deployment(replicas: &[GpuHolder]) -> Vec<GpuHolder> {
    let mut holders: Vec<GpuHolder> = Vec::new();
    for holder in replicas {
        match holders.iter_mut().find(|known| known.deployment == holder.deployment) {
            Some(known) => {
                known.share += holder.share;
                known.replicas += holder.replicas;
            }
            None => holders.push(holder.clone()),
        }
    }
    holders
}

impl Health {
    /// The worst that there is to say of a cluster, and how often.
    #[must_use]
    pub fn of(status: &ClusterStatus) -> Self {
        let named = |wanted: &dyn Fn(&PipelineStatus) -> bool| {
            let pipelines = status.pipelines.iter().filter(|pipeline| wanted(pipeline));
            pipelines.map(|pipeline| format!("`{}`", pipeline.name)).collect::<Vec<_>>()
        };
        let unserved = named(&|pipeline| pipeline.serving_revision.is_none());
        let failed = named(&|pipeline| pipeline.state == PipelineState::Failed);
        let degraded = named(&|pipeline| pipeline.state == PipelineState::Degraded);
        let lost = status.nodes.iter().filter(|node| node.state == NodeState::Unreachable).count();
        let pending = status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
        let pending = pending.filter(|deployment| !deployment.pending.is_empty()).count();
        let mut parts = Vec::new();
        let mut say = |names: &[String], what: &str| match names {
            [] => {}
            [one] => parts.push(format!("{one} {what}")),
            [first, rest @ ..] => parts.push(format!("{first} and {} more: {what}", rest.len())),
        };
        say(&unserved, "does not serve");
        let failed: Vec<_> = failed.into_iter().filter(|name| !unserved.contains(name)).collect();
        say(&failed, "has failed");
        say(&degraded, "has fewer replicas than it should");
        if lost > 0 {
            parts.push(format!("{lost} {} unreachable", if lost == 1 { "node is" } else { "nodes are" }));
        }
        if pending > 0 {
            let deployments = if pending == 1 { "deployment has" } else { "deployments have" };
            parts.push(format!("{pending} {deployments} replicas without a place"));
        }
        let state = match (unserved.is_empty(), parts.is_empty()) {
            (true, true) => HealthState::Ok,
            (true, false) => HealthState::Degraded,
            (false, _) => HealthState::Failing,
        };
        let sentence = match status.pipelines.len() {
            0 if parts.is_empty() => "no pipeline is deployed yet".to_owned(),
            count if parts.is_empty() => {
                format!("{count} {} as asked", if count == 1 { "pipeline serves" } else { "pipelines serve" })
            }
            _ => parts.join("; "),
        };
        Self { state, sentence }
    }
}
