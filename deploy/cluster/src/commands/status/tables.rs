//! The whole cluster in tables, what people ask about first at the top.

use std::fmt::Write as _;

use bytesize::ByteSize;
use millstream_proto::status::{
    ClusterStatus, DeploymentStatus, GpuStatus, IngressStatus, NodeState, NodeStatus, PipelineState,
    PipelineStatus, ReplicaState, ReplicaStatus, RolloutMode, RolloutPhase, RolloutStatus, TrafficStatus,
};

use crate::style;
use crate::table::{Cell, Table, column};
use crate::words::{age, cores, percent, time};

/// The status as text.
pub(super) fn overview(status: &ClusterStatus, width: Option<usize>) -> String {
    let mut text = pipelines(&status.pipelines, width);
    let of_all = || status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    text += &deployments(of_all(), width);
    text += &replicas(of_all().flat_map(|deployment| &deployment.replicas), width);
    text += &nodes(&status.nodes, width);
    text += &ingresses(&status.ingresses, width);
    let _ = writeln!(text, "\n{} {}, epoch {}", style::strong("head"), status.leader, status.epoch);
    text.trim_start().to_owned()
}

/// Nodes and their devices.
pub(crate) fn nodes(nodes: &[NodeStatus], width: Option<usize>) -> String {
    let mut table = Table::new([
        column("NAME", 0),
        column("STATE", 0),
        column("SEEN", 1),
        column("CPU", 0),
        column("MEMORY", 2),
        column("ADDRESS", 3),
    ]);
    for node in nodes {
        table.row(
            [
                node.name.as_str().into(),
                node_state(node.state),
                format!("{} ago", age(node.last_seen_ms_ago)).into(),
                format!("{} of {} free", cores(node.free_cpu_milli), cores(node.cpu_milli)).into(),
                format!("{} of {} free", ByteSize(node.free_memory_bytes), ByteSize(node.memory_bytes))
                    .into(),
                node.address.as_str().into(),
            ],
            [],
        );
    }
    section("nodes", &table, width) + &devices(nodes, width)
}

fn devices(nodes: &[NodeStatus], width: Option<usize>) -> String {
    let mut table = Table::new([
        column("NODE", 0),
        column("GPU", 0),
        column("MODEL", 1),
        column("MEMORY", 2),
        column("BOOKED", 0),
        column("FREE", 0),
    ]);
    for (node, gpu) in nodes.iter().flat_map(|node| node.gpus.iter().map(move |gpu| (node, gpu))) {
        let GpuStatus { index, model, memory_bytes, booked_share, free_share, holders } = gpu;
        table.row(
            [
                node.name.as_str().into(),
                index.to_string().into(),
                model.as_str().into(),
                ByteSize(*memory_bytes).to_string().into(),
                format!("{booked_share:.3}").into(),
                format!("{free_share:.3}").into(),
            ],
            holders.iter().map(|holder| format!("{:.3} {}", holder.share, holder.replica)),
        );
    }
    if table.is_empty() { String::new() } else { section("devices", &table, width) }
}

fn pipelines(pipelines: &[PipelineStatus], width: Option<usize>) -> String {
    let mut table = Table::new([
        column("NAME", 0),
        column("ROUTE", 3),
        column("STATE", 0),
        column("REVISION", 2),
        column("ROLLOUT", 1),
        column("REQ/S", 1),
        column("P50", 4),
        column("P95", 2),
        column("ERRORS", 1),
        column("AGE", 5),
    ]);
    let now_ms = millstream_clock::unix_ms();
    for pipeline in pipelines {
        let TrafficStatus { requests_per_second, failed_ratio, p50_ms, p95_ms, .. } = pipeline.traffic;
        let is_called = requests_per_second > 0.0;
        let errors = format!("{:.1}%", failed_ratio * 100.0);
        let errors = if failed_ratio > 0.0 { Cell::colored(errors, style::bad) } else { errors.into() };
        table.row(
            [
                pipeline.name.as_str().into(),
                pipeline.route.as_deref().unwrap_or("-").into(),
                pipeline_state(pipeline.state),
                revision(pipeline).into(),
                pipeline.rollout.as_ref().map_or_else(|| "-".to_owned(), rollout).into(),
                if is_called { format!("{requests_per_second:.1}").into() } else { "-".into() },
                p50_ms.map_or_else(|| "-".to_owned(), time).into(),
                p95_ms.map_or_else(|| "-".to_owned(), time).into(),
                if is_called { errors } else { "-".into() },
                age(now_ms.saturating_sub(pipeline.deployed_at_ms)).into(),
            ],
            pipeline.mismatch.clone(),
        );
    }
    section("pipelines", &table, width)
}

/// The revision that is wanted, and the one that serves where that is another.
fn revision(pipeline: &PipelineStatus) -> String {
    match pipeline.serving_revision {
        Some(serving) if serving == pipeline.revision => serving.to_string(),
        Some(serving) => format!("{} ({serving} serves)", pipeline.revision),
        None => format!("{} (none serves)", pipeline.revision),
    }
}

/// How a revision takes over, in a word and a part.
fn rollout(rollout: &RolloutStatus) -> String {
    let part = percent(rollout.traffic_ratio);
    match (rollout.phase, rollout.mode) {
        (RolloutPhase::Starting, _) => "starting".to_owned(),
        (RolloutPhase::Trial, RolloutMode::Canary) => format!("canary {part}"),
        (RolloutPhase::Trial, RolloutMode::Steps) => format!("step {part}"),
        (RolloutPhase::Trial, RolloutMode::Shadow) => {
            format!("shadow {}", percent(rollout.shadow.shadow_ratio))
        }
        (RolloutPhase::Trial, RolloutMode::Rolling) => format!("trial {part}"),
        (RolloutPhase::Moving, _) => "moving".to_owned(),
        (RolloutPhase::Watching, _) => "watched".to_owned(),
    }
}

pub(super) fn deployments<'a>(
    deployments: impl Iterator<Item = &'a DeploymentStatus>,
    width: Option<usize>,
) -> String {
    let mut table = Table::new([
        column("NAME", 0),
        column("READY", 0),
        column("RANGE", 2),
        column("ONGOING", 0),
        column("QUEUED", 1),
        column("DESIRED", 3),
        column("RESTARTS", 1),
        column("MODEL", 4),
    ]);
    for deployment in deployments {
        let ready = num_ready(deployment);
        let shown = format!("{ready}/{}", deployment.target_replicas);
        let is_short = ready < deployment.target_replicas;
        let restarts = restarts(deployment);
        table.row(
            [
                deployment.full_name.as_str().into(),
                if is_short { Cell::colored(shown, style::warn) } else { shown.into() },
                range(deployment).into(),
                deployment.ongoing.to_string().into(),
                deployment.queued.to_string().into(),
                deployment.autoscaling.desired_replicas.to_string().into(),
                if restarts > 0 { Cell::colored(restarts.to_string(), style::warn) } else { "-".into() },
                deployment.model.as_deref().unwrap_or("-").into(),
            ],
            deployment.pending.iter().map(|reason| format!("no place: {reason}")),
        );
    }
    section("deployments", &table, width)
}

/// Its replicas that answer, whatever their revision.
pub(crate) fn num_ready(deployment: &DeploymentStatus) -> u32 {
    let ready =
        deployment.replicas.iter().filter(|it| it.state == ReplicaState::Ready && it.doing.is_empty());
    u32::try_from(ready.count()).unwrap_or(u32::MAX)
}

/// Restarts of its replicas together.
pub(super) fn restarts(deployment: &DeploymentStatus) -> u32 {
    deployment.replicas.iter().map(|replica| replica.restarts).sum()
}

/// Between which numbers it scales.
pub(super) fn range(deployment: &DeploymentStatus) -> String {
    let by_hand = if deployment.bounds.bounds_by_hand { " (by hand)" } else { "" };
    match (deployment.bounds.min_replicas, deployment.bounds.max_replicas) {
        (min, max) if min == max => format!("{min} fixed{by_hand}"),
        (min, max) => format!("{min}-{max}{by_hand}"),
    }
}

pub(super) fn replicas<'a>(
    replicas: impl Iterator<Item = &'a ReplicaStatus>,
    width: Option<usize>,
) -> String {
    let mut table = Table::new([
        column("ID", 0),
        column("NODE", 1),
        column("STATE", 0),
        column("REVISION", 2),
        column("ONGOING", 1),
        column("RESTARTS", 2),
        column("AGE", 3),
    ]);
    for replica in replicas {
        let note = match (replica.error.as_str(), replica.last_error.as_str()) {
            ("", "") => replica.doing.clone(),
            ("", last) if replica.doing.is_empty() => format!("ended before: {last}"),
            ("", _) => replica.doing.clone(),
            (error, _) => error.to_owned(),
        };
        table.row(
            [
                replica.id.to_string().into(),
                replica.node.as_str().into(),
                replica_state(replica.state),
                replica.revision.to_string().into(),
                replica.ongoing.to_string().into(),
                if replica.restarts > 0 { replica.restarts.to_string().into() } else { "-".into() },
                age(replica.age_ms).into(),
            ],
            [note],
        );
    }
    section("replicas", &table, width)
}

fn ingresses(ingresses: &[IngressStatus], width: Option<usize>) -> String {
    let mut table = Table::new([column("NAME", 0), column("ADDRESS", 0)]);
    for ingress in ingresses {
        let risks = ingress.entrance.accepted_risks.iter().map(|risk| format!("accepted risk: {risk}"));
        table.row([ingress.name.as_str().into(), ingress.entrance.url("").into()], risks);
    }
    section("ingresses", &table, width)
}

fn section<const N: usize>(title: &str, table: &Table<N>, width: Option<usize>) -> String {
    match table.is_empty() {
        true => format!("\n{} none\n", style::strong(title)),
        false => format!("\n{}\n{}", style::strong(title), table.render(width)),
    }
}

pub(super) fn node_state(state: NodeState) -> Cell {
    match state {
        NodeState::Ready => Cell::colored("ready", style::good),
        NodeState::Cordoned => Cell::colored("cordoned", style::warn),
        NodeState::Draining => Cell::colored("draining", style::warn),
        NodeState::Left => "left".into(),
        NodeState::Unreachable => Cell::colored("unreachable", style::bad),
    }
}

pub(super) fn pipeline_state(state: PipelineState) -> Cell {
    match state {
        PipelineState::Starting => Cell::colored("starting", style::warn),
        PipelineState::Ready => Cell::colored("ready", style::good),
        PipelineState::Degraded => Cell::colored("degraded", style::warn),
        PipelineState::Failed => Cell::colored("failed", style::bad),
    }
}

pub(super) fn replica_state(state: ReplicaState) -> Cell {
    match state {
        ReplicaState::Starting => Cell::colored("starting", style::warn),
        ReplicaState::Ready => Cell::colored("ready", style::good),
        ReplicaState::Draining => Cell::colored("draining", style::warn),
        ReplicaState::Stopped => "stopped".into(),
        ReplicaState::Failed => Cell::colored("failed", style::bad),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use millstream_proto::status::{AutoscalingStatus, BoundsStatus, GpuHolder, ReplicaCounts};

    use super::*;

    /// A cluster with something in every table.
    pub(in crate::commands) fn cluster() -> ClusterStatus {
        let replica = ReplicaStatus {
            id: "rag-embedder-1".into(),
            node: "a".into(),
            state: ReplicaState::Failed,
            pid: 1,
            revision: 2,
            ongoing: 0,
            doing: String::new(),
            error: "no tokenizer.json".into(),
            restarts: 1,
            last_error: "no tokenizer.json".into(),
            age_ms: 65_000,
        };
        let node = NodeStatus {
            name: "a".into(),
            id: "n1".into(),
            state: NodeState::Ready,
            address: "127.0.0.1:1".into(),
            pid: 1,
            cpu_milli: 2000,
            free_cpu_milli: 1750,
            memory_bytes: 1 << 30,
            free_memory_bytes: 1 << 29,
            labels: [("zone".to_owned(), "b".to_owned())].into(),
            gpus: vec![GpuStatus {
                index: 0,
                model: "H100".into(),
                memory_bytes: 1 << 36,
                free_share: 0.75,
                booked_share: 0.25,
                holders: vec![GpuHolder {
                    replica: "rag-embedder-1".into(),
                    share: 0.25,
                    deployment: "rag/embedder".into(),
                    replicas: 1,
                }],
            }],
            last_seen_ms_ago: 1250,
        };
        ClusterStatus {
            leader: "a".into(),
            epoch: 3,
            routes_version: 1,
            nodes: vec![node],
            ingresses: vec![],
            pipelines: vec![PipelineStatus {
                name: "rag".into(),
                route: Some("/rag".into()),
                revision: 2,
                newest_revision: 2,
                serving_revision: None,
                state: PipelineState::Failed,
                mismatch: None,
                traffic: TrafficStatus {
                    requests_per_second: 12.34,
                    failed_ratio: 0.02,
                    p50_ms: Some(2.1),
                    p95_ms: Some(38.4),
                    p99_ms: None,
                },
                deployed_at_ms: millstream_clock::unix_ms() - 7_300_000,
                rollout: None,
                verdicts: vec![],
                deployments: vec![DeploymentStatus {
                    name: "embedder".into(),
                    full_name: "rag/embedder".into(),
                    target_replicas: 2,
                    autoscaling: AutoscalingStatus { desired_replicas: 3, target_ongoing_requests: 2.0 },
                    ready_replicas: 0,
                    ongoing: 0,
                    queued: 0,
                    replicas: vec![replica],
                    replica_counts: ReplicaCounts::default(),
                    pending: vec!["node `a`: 1 GPU wanted, 0.75 free".into()],
                    bounds: BoundsStatus { min_replicas: 1, max_replicas: 8, bounds_by_hand: true },
                    model: Some("mini-embedder@production".into()),
                }],
            }],
        }
    }

    #[test]
    fn the_tables_show_traffic_shares_pending_reasons_and_errors() {
        owo_colors::set_override(false);
        insta::assert_snapshot!("wide", overview(&cluster(), None));
        insta::assert_snapshot!("narrow", overview(&cluster(), Some(60)));
    }
}
