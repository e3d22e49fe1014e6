//! A cluster and its decisions, for tests of what is shown of them.

use millstream_proto::event::{Decision, Event, ScaleInputs};
use millstream_proto::status::{
    AutoscalingStatus, BoundsStatus, ClusterStatus, DeploymentStatus, GpuHolder, GpuStatus, NodeState,
    NodeStatus, PipelineState, PipelineStatus, ReplicaCounts, ReplicaState, ReplicaStatus, TrafficStatus,
};

use super::known::{Decisions, Extent};

/// Two pipelines with three deployments on three nodes, of which one is lost.
pub(super) fn cluster() -> ClusterStatus {
    let mut embedder = deployment("rag/embedder", 1, 2);
    embedder.ongoing = 12;
    embedder.queued = 3;
    embedder.autoscaling.desired_replicas = 7;
    embedder.pending = vec!["node `b`: 1 GPU wanted, 0.75 free".into()];
    let mut reranker = deployment("rag/reranker", 3, 3);
    reranker.ongoing = 4;
    let [embedder_on_a, embedder_on_b] = ["a", "b"].map(|node| (node, "rag/embedder", 0.25));
    ClusterStatus {
        leader: "a".into(),
        epoch: 3,
        routes_version: 1,
        nodes: vec![
            node(NodeState::Ready, &[embedder_on_a, ("a", "rag/reranker", 1.0)]),
            node(NodeState::Ready, &[embedder_on_b]),
            node(NodeState::Unreachable, &[]),
        ],
        ingresses: vec![],
        pipelines: vec![
            pipeline(
                "chat",
                PipelineState::Ready,
                TrafficStatus::default(),
                vec![deployment("chat/model", 1, 1)],
            ),
            pipeline(
                "rag",
                PipelineState::Degraded,
                TrafficStatus {
                    requests_per_second: 132.64,
                    failed_ratio: 0.004,
                    p50_ms: Some(2.1),
                    p95_ms: Some(38.4),
                    p99_ms: Some(1_250.0),
                },
                vec![embedder, reranker],
            ),
        ],
    }
}

/// What was decided about them, the oldest first.
pub(super) fn decisions() -> Decisions {
    let at = |seconds: u64| 1_764_000_000_000 + seconds * 1000;
    let events = vec![
        event(1, at(1), "rag", Decision::Deployed { revision: 2 }),
        event(2, at(20), "rag/reranker", placed("rag-reranker-1")),
        event(3, at(48), "rag/embedder", scaled(1, 2)),
        event(
            4,
            at(50),
            "rag/embedder",
            Decision::Pending { reasons: vec!["b: needs a GPU, has 0.75".into()] },
        ),
    ];
    Decisions { events, head_ms: Some(at(60)), extent: Extent::All }
}

/// An event about `rag/embedder`, `rag` or, without a target, the cluster.
pub(super) fn event(sequence: u64, at_ms: u64, target: &str, decision: Decision) -> Event {
    let (pipeline, deployment) = match target.split_once('/') {
        Some((pipeline, deployment)) => (Some(pipeline), Some(deployment)),
        None => (Some(target).filter(|target| !target.is_empty()), None),
    };
    let [pipeline, deployment] = [pipeline, deployment].map(|name| name.map(str::to_owned));
    Event { sequence, at_ms, pipeline, deployment, decision }
}

/// Another number of replicas.
pub(super) fn scaled(from: u32, to: u32) -> Decision {
    let inputs = ScaleInputs {
        ongoing: 14.2,
        queued: 3,
        ready: 1,
        starting: 0,
        target_ongoing_requests: 2.0,
        wanted: 7,
        bounded_by: Some("max_replicas".into()),
    };
    Decision::Scaled { from, to, rule: "more replicas were wanted during upscale_delay".into(), inputs }
}

/// A replica gets a place.
pub(super) fn placed(replica: &str) -> Decision {
    Decision::Placed { replica: replica.into(), node: "a".into(), revision: 2, gpus: vec![(0, 333)] }
}

fn pipeline(
    name: &str,
    state: PipelineState,
    traffic: TrafficStatus,
    deployments: Vec<DeploymentStatus>,
) -> PipelineStatus {
    PipelineStatus {
        name: name.into(),
        route: Some(format!("/{name}")),
        revision: 2,
        newest_revision: 2,
        serving_revision: Some(2),
        state,
        mismatch: None,
        traffic,
        deployed_at_ms: 1,
        rollout: None,
        verdicts: vec![],
        deployments,
    }
}

fn deployment(full_name: &str, num_ready: u32, target_replicas: u32) -> DeploymentStatus {
    let name = full_name.split_once('/').map_or(full_name, |(_, name)| name);
    let replicas: Vec<_> = (0..num_ready).map(|number| replica(&format!("{name}-{number}"))).collect();
    DeploymentStatus {
        name: name.into(),
        full_name: full_name.into(),
        target_replicas,
        autoscaling: AutoscalingStatus { desired_replicas: target_replicas, target_ongoing_requests: 2.0 },
        ready_replicas: num_ready,
        ongoing: 0,
        queued: 0,
        replica_counts: ReplicaCounts::of(&replicas),
        replicas,
        pending: vec![],
        bounds: BoundsStatus { min_replicas: 1, max_replicas: 8, bounds_by_hand: false },
        model: None,
    }
}

fn replica(id: &str) -> ReplicaStatus {
    ReplicaStatus {
        id: id.into(),
        node: "a".into(),
        state: ReplicaState::Ready,
        pid: 1,
        revision: 2,
        ongoing: 0,
        doing: String::new(),
        error: String::new(),
        restarts: 0,
        last_error: String::new(),
        age_ms: 65_000,
    }
}

/// A node with a device for each of these: its name, and the deployment that holds which part of the device.
fn node(state: NodeState, devices: &[(&str, &str, f64)]) -> NodeStatus {
    let gpu = |(index, &(_, deployment, share)): (usize, &(&str, &str, f64))| GpuStatus {
        index: u32::try_from(index).unwrap(),
        model: "H100".into(),
        memory_bytes: 1 << 36,
        free_share: 1.0 - share,
        booked_share: share,
        holders: vec![GpuHolder { replica: "r".into(), deployment: deployment.into(), share, replicas: 1 }],
    };
    NodeStatus {
        name: devices.first().map_or("c", |(node, ..)| node).into(),
        id: "n".into(),
        state,
        address: "127.0.0.1:1".into(),
        pid: 1,
        cpu_milli: 2000,
        free_cpu_milli: 1750,
        memory_bytes: 1 << 30,
        free_memory_bytes: 1 << 29,
        labels: [].into(),
        gpus: devices.iter().enumerate().map(gpu).collect(),
        last_seen_ms_ago: 1250,
    }
}
