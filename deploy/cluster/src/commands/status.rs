//! `cluster status`: the cluster in three tables, or as JSON.

use std::fmt::Write as _;

use bytesize::ByteSize;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use millstream_proto::status::{
    ClusterStatus, DeploymentStatus, GpuStatus, NodeState, NodeStatus, PipelineState, PipelineStatus,
    ReplicaState,
};

use crate::client::Client;
use crate::commands::watch::watch;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::style;

/// Flags of `cluster status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show it again at each change, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &StatusArgs) -> Result<(), Failure> {
    let output = Output::of(global);
    let mut client = Client::connect(global).await?;
    if args.watch {
        return watch(&client, |status| output.show_again(status, || render(status))).await;
    }
    let status = client.status().await?;
    output.show(&status, || render(&status))
}

/// Nodes and their devices as text.
pub(super) fn render_nodes(nodes: &[NodeStatus]) -> String {
    let mut text = String::new();
    section(
        &mut text,
        "nodes",
        ["NAME", "STATE", "SEEN", "ADDRESS", "CPU", "MEMORY"],
        nodes.iter().map(node_row),
    );
    let devices = nodes.iter().flat_map(|node| node.gpus.iter().map(move |gpu| (node, gpu)));
    section(
        &mut text,
        "devices",
        ["NODE", "GPU", "MODEL", "MEMORY", "BOOKED", "FREE", "HOLDERS"],
        devices.map(|(node, gpu)| device_row(node, gpu)),
    );
    text
}

/// The status as text.
fn render(status: &ClusterStatus) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} {}, epoch {}", style::strong("leader"), status.leader, status.epoch);
    text.push_str(&render_nodes(&status.nodes));
    section(
        &mut text,
        "ingresses",
        ["NAME", "ADDRESS"],
        status.ingresses.iter().map(|ingress| [ingress.name.clone(), format!("http://{}", ingress.address)]),
    );
    section(
        &mut text,
        "pipelines",
        ["NAME", "ROUTE", "STATE", "REVISION", "SERVING"],
        status.pipelines.iter().map(pipeline_row),
    );
    let deployments = || status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    section(
        &mut text,
        "deployments",
        ["NAME", "READY", "TARGET", "DESIRED", "RANGE", "ONGOING", "QUEUED", "NOTE"],
        deployments().map(deployment_row),
    );
    section(
        &mut text,
        "replicas",
        ["ID", "NODE", "STATE", "REVISION", "ONGOING", "NOTE"],
        deployments().flat_map(|deployment| &deployment.replicas).map(|replica| {
            let note = if replica.error.is_empty() { &replica.doing } else { &replica.error };
            [
                replica.id.to_string(),
                replica.node.clone(),
                replica_state(replica.state),
                replica.revision.to_string(),
                replica.ongoing.to_string(),
                note.clone(),
            ]
        }),
    );
    text
}

fn section<const N: usize>(
    text: &mut String,
    title: &str,
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    let mut empty = true;
    for row in rows {
        table.add_row(row);
        empty = false;
    }
    if empty {
        let _ = writeln!(text, "\n{} none", style::strong(title));
    } else {
        let _ = writeln!(text, "\n{}\n{}", style::strong(title), table.trim_fmt());
    }
}

fn node_row(node: &NodeStatus) -> [String; 6] {
    let state = match node.state {
        NodeState::Ready => style::good("ready"),
        NodeState::Cordoned => style::warn("cordoned"),
        NodeState::Draining => style::warn("draining"),
        NodeState::Lost => style::bad("lost"),
    };
    [
        node.name.clone(),
        state,
        format!("{} ago", seconds(node.last_seen_ms_ago)),
        node.address.clone(),
        format!("{} of {} free", cores(node.free_cpu_milli), cores(node.cpu_milli)),
        format!("{} of {} free", ByteSize(node.free_memory_bytes), ByteSize(node.memory_bytes)),
    ]
}

/// Tenths of seconds as long as that says something.
fn seconds(ms: u64) -> String {
    if ms < 60_000 { format!("{}.{}s", ms / 1000, ms % 1000 / 100) } else { format!("{}s", ms / 1000) }
}

fn device_row(node: &NodeStatus, gpu: &GpuStatus) -> [String; 7] {
    let holders = gpu.holders.iter().map(|holder| format!("{:.3} {}", holder.share, holder.replica));
    [
        node.name.clone(),
        gpu.index.to_string(),
        gpu.model.clone(),
        ByteSize(gpu.memory_bytes).to_string(),
        format!("{:.3}", gpu.booked_share),
        format!("{:.3}", gpu.free_share),
        holders.collect::<Vec<_>>().join("\n"),
    ]
}

fn cores(milli: u64) -> String {
    if milli.is_multiple_of(1000) {
        (milli / 1000).to_string()
    } else {
        format!("{}.{:03}", milli / 1000, milli % 1000)
    }
}

fn pipeline_row(pipeline: &PipelineStatus) -> [String; 5] {
    let state = match pipeline.state {
        PipelineState::Starting => style::warn("starting"),
        PipelineState::Ready => style::good("ready"),
        PipelineState::Degraded => style::warn("degraded"),
        PipelineState::Failed => style::bad("failed"),
    };
    [
        pipeline.name.clone(),
        pipeline.route.clone().unwrap_or_else(|| "-".to_owned()),
        state,
        pipeline.revision.to_string(),
        pipeline.serving_revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
    ]
}

fn deployment_row(deployment: &DeploymentStatus) -> [String; 8] {
    let range = match (deployment.min_replicas, deployment.max_replicas) {
        (min, max) if min == max => "fixed".to_owned(),
        (min, max) => format!("{min}-{max}"),
    };
    [
        deployment.full_name.clone(),
        deployment.ready_replicas.to_string(),
        deployment.target_replicas.to_string(),
        deployment.desired_replicas.to_string(),
        range,
        deployment.ongoing.to_string(),
        deployment.queued.to_string(),
        deployment.pending.join("\n"),
    ]
}

fn replica_state(state: ReplicaState) -> String {
    match state {
        ReplicaState::Starting => style::warn("starting"),
        ReplicaState::Ready => style::good("ready"),
        ReplicaState::Draining => style::warn("draining"),
        ReplicaState::Stopped => "stopped".to_owned(),
        ReplicaState::Failed => style::bad("failed"),
    }
}

#[cfg(test)]
mod tests {
    use millstream_proto::status::{GpuHolder, ReplicaStatus};

    use super::*;

    #[test]
    fn the_tables_show_shares_pending_reasons_and_errors() {
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
        };
        let status = ClusterStatus {
            leader: "a".into(),
            epoch: 3,
            routes_version: 1,
            nodes: vec![NodeStatus {
                name: "a".into(),
                id: "n1".into(),
                state: NodeState::Ready,
                address: "127.0.0.1:1".into(),
                pid: 1,
                cpu_milli: 2000,
                free_cpu_milli: 1750,
                memory_bytes: 1 << 30,
                free_memory_bytes: 1 << 29,
                labels: [].into(),
                gpus: vec![GpuStatus {
                    index: 0,
                    model: "H100".into(),
                    memory_bytes: 1 << 36,
                    free_share: 0.75,
                    booked_share: 0.25,
                    holders: vec![GpuHolder { replica: "rag-embedder-1".into(), share: 0.25 }],
                }],
                last_seen_ms_ago: 1250,
            }],
            ingresses: vec![],
            pipelines: vec![PipelineStatus {
                name: "rag".into(),
                route: Some("/rag".into()),
                revision: 2,
                newest_revision: 2,
                serving_revision: None,
                state: PipelineState::Failed,
                mismatch: None,
                rollout: None,
                verdicts: vec![],
                deployments: vec![DeploymentStatus {
                    name: "embedder".into(),
                    full_name: "rag/embedder".into(),
                    target_replicas: 2,
                    desired_replicas: 3,
                    target_ongoing_requests: 2.0,
                    ready_replicas: 0,
                    ongoing: 0,
                    queued: 0,
                    replicas: vec![replica],
                    pending: vec!["node `a`: 1 GPU wanted, 0.75 free".into()],
                    min_replicas: 1,
                    max_replicas: 8,
                }],
            }],
        };
        owo_colors::set_override(false);
        insta::assert_snapshot!(render(&status));
    }
}
