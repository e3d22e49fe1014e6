//! How things stand and why: what waits for a place, what moved, what is slow, what shares a node.

use millstream_pipelines::{Demand, FullName, GpuDemand, Plan, format_bytes};
use millstream_proto::event::Event;
use millstream_proto::stage::StageTraffic;
use millstream_proto::status::{ClusterStatus, DeploymentStatus, NodeStatus, PipelineStatus, ReplicaStatus};
use millstream_proto::trace::RequestTrace;

use super::beside::{held, nearly, shared};
use super::facts::{Beside, Now, Waits};
use super::moves::{Move, moves};
use super::sentences;
use super::slow::{slow, slow_replicas};
use super::target::{Kind, Target};

/// Most moves that are told.
const MAX_MOVES: usize = 5;

/// What is known beside the status.
#[derive(Default)]
pub(super) struct Known {
    /// All decisions, the oldest first.
    pub(super) events: Vec<Event>,
    /// Traces of the target's pipeline.
    pub(super) traces: Vec<RequestTrace>,
    /// Its stages.
    pub(super) stages: Vec<StageTraffic>,
    /// What its replicas need.
    pub(super) plan: Option<Plan>,
}

impl Now {
    /// Of a target.
    pub(super) fn of(target: &Target<'_>, name: &str, status: &ClusterStatus, known: &Known) -> Self {
        match target {
            Target::Pipeline(pipeline) => Self::of_pipeline(pipeline, status, known),
            Target::Deployment(deployment) => Self::of_deployment(deployment, status, known),
            Target::Replica(deployment, replica) => Self::of_replica(deployment, replica, status, known),
            Target::Node(node) => Self::of_node(node, status, known),
            Target::Gone(kind) => {
                let sentence =
                    format!("{} {name} is gone; what follows is what was decided about it", kind.word());
                Self { sentences: vec![sentence], ..Self::empty(*kind) }
            }
        }
    }

    fn of_pipeline(pipeline: &PipelineStatus, status: &ClusterStatus, known: &Known) -> Self {
        let prefix = format!("{}/", pipeline.name);
        let mut now = Self {
            pending: pipeline.deployments.iter().filter_map(|it| waits(it, known.plan.as_ref())).collect(),
            moves: newest(moves(&known.events), |found| found.deployment.starts_with(&prefix)),
            slow: slow(&known.traces, &known.stages, None),
            slow_replicas: slow_replicas(&known.traces, None),
            ..Self::empty(Kind::Pipeline)
        };
        now.look_beside(status);
        now.sentences = [vec![sentences::pipeline(pipeline)], now.reasons()].concat();
        now
    }

    fn of_deployment(deployment: &DeploymentStatus, status: &ClusterStatus, known: &Known) -> Self {
        let name = deployment.full_name.as_str();
        let mut now = Self {
            pending: waits(deployment, known.plan.as_ref()).into_iter().collect(),
            moves: newest(moves(&known.events), |found| found.deployment == name),
            slow: slow(&known.traces, &known.stages, Some(name)),
            slow_replicas: slow_replicas(&known.traces, Some(name)),
            ..Self::empty(Kind::Deployment)
        };
        now.look_beside(status);
        now.sentences = [vec![sentences::deployment(deployment)], now.reasons()].concat();
        now
    }

    fn of_replica(
        deployment: &DeploymentStatus,
        replica: &ReplicaStatus,
        status: &ClusterStatus,
        known: &Known,
    ) -> Self {
        let id = replica.id.as_str();
        let mut slow_replicas = slow_replicas(&known.traces, Some(&deployment.full_name));
        slow_replicas.retain(|slow| slow.replica == id);
        let mut now = Self {
            moves: newest(moves(&known.events), |found| found.is == id || found.was == id),
            slow_replicas,
            beside: vec![beside(status, id, &replica.node)],
            ..Self::empty(Kind::Replica)
        };
        now.sentences = [vec![sentences::replica(deployment, replica)], now.reasons()].concat();
        now
    }

    fn of_node(node: &NodeStatus, status: &ClusterStatus, known: &Known) -> Self {
        let name = node.name.as_str();
        let mut now = Self {
            moves: newest(moves(&known.events), |found| found.from == name || found.to == name),
            holds: held(status, name, None),
            shares: shared(node, None),
            nearly_fits: nearly(status, name),
            ..Self::empty(Kind::Node)
        };
        now.sentences = [sentences::node(node, &now), now.reasons()].concat();
        now
    }

    /// What runs beside each replica that is slower than its siblings.
    fn look_beside(&mut self, status: &ClusterStatus) {
        let deployments = || status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
        let node_of = |id: &str| {
            let replica = deployments().flat_map(|it| &it.replicas).find(|it| it.id.as_str() == id)?;
            Some(replica.node.clone())
        };
        // One that is gone shares nothing.
        let here =
            self.slow_replicas.iter().filter_map(|slow| Some((&slow.replica, node_of(&slow.replica)?)));
        self.beside = here.map(|(replica, node)| beside(status, replica, &node)).collect();
    }

    /// Why it waits, moved, is slow.
    fn reasons(&self) -> Vec<String> {
        let mut all: Vec<_> = self.pending.iter().map(sentences::waits).collect();
        all.extend(self.moves.iter().map(sentences::moved));
        all.extend(self.slow.iter().map(sentences::slow));
        all.extend(self.slow_replicas.iter().map(sentences::slow_replica));
        all.extend(self.beside.iter().map(sentences::beside));
        all
    }
}

fn newest(mut moves: Vec<Move>, wanted: impl Fn(&Move) -> bool) -> Vec<Move> {
    moves.retain(wanted);
    moves.split_off(moves.len().saturating_sub(MAX_MOVES))
}

fn beside(status: &ClusterStatus, replica: &str, node: &str) -> Beside {
    let found = status.nodes.iter().find(|it| it.name == node);
    Beside {
        replica: replica.to_owned(),
        node: node.to_owned(),
        held: held(status, node, Some(replica)),
        shared: found.map(|found| shared(found, Some(replica))).unwrap_or_default(),
    }
}

fn waits(deployment: &DeploymentStatus, plan: Option<&Plan>) -> Option<Waits> {
    if deployment.pending.is_empty() {
        return None;
    }
    let counts = deployment.replica_counts;
    let there = counts.starting + counts.ready + counts.failed;
    let name: Option<FullName> = deployment.full_name.parse().ok();
    let spec = plan.zip(name).and_then(|(plan, name)| plan.deployments().get(&name.deployment));
    Some(Waits {
        deployment: deployment.full_name.clone(),
        replicas: deployment.target_replicas.saturating_sub(there).max(1),
        needs: spec.map(|spec| needs(&spec.demand)),
        reasons: deployment.pending.clone(),
    })
}

/// What a replica needs of a node, in words.
fn needs(demand: &Demand) -> String {
    let mut parts = vec![
        format!("{} cores", thousandths(demand.cpu_milli)),
        format!("{} of memory", format_bytes(demand.memory_bytes)),
    ];
    let gpu_memory = match demand.gpu_memory_bytes {
        0 => String::new(),
        bytes => format!(" with {}", format_bytes(bytes)),
    };
    match demand.gpus {
        GpuDemand::None => {}
        GpuDemand::Share(milli) => parts.push(format!("{} of a GPU{gpu_memory}", thousandths(milli.into()))),
        GpuDemand::Whole(count) => parts.push(format!("{count} whole GPUs{gpu_memory}")),
    }
    if !demand.accelerators.is_empty() {
        parts.push(format!("of model {}", demand.accelerators.join(" or ")));
    }
    parts.extend(demand.labels.iter().map(|(key, value)| format!("label {key}={value}")));
    parts.join(", ")
}

/// As a decimal number, without zeros at its end, as the reasons have it.
fn thousandths(milli: u64) -> String {
    let digits = format!("{}.{:03}", milli / 1000, milli % 1000);
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
