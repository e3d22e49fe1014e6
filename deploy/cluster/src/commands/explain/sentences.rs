//! How things stand, in sentences: short, with numbers.

use bytesize::ByteSize;
use millstream_proto::status::{
    DeploymentStatus, NodeState, NodeStatus, PipelineState, PipelineStatus, ReplicaState, ReplicaStatus,
};

use super::beside::{Held, Shared};
use super::facts::{Beside, Now, Waits};
use super::moves::Move;
use super::slow::{Slow, SlowReplica};
use crate::local_time::local_time;
use crate::words::{age, cores, percent, time, traffic};

/// A pipeline.
pub(super) fn pipeline(pipeline: &PipelineStatus) -> String {
    let state = match pipeline.state {
        PipelineState::Starting => "starts",
        PipelineState::Ready => "is ready",
        PipelineState::Degraded if pipeline.serving_revision != Some(pipeline.revision) => {
            "is degraded: an older revision serves"
        }
        PipelineState::Degraded => "is degraded: replicas are missing",
        PipelineState::Failed => "has failed: what was asked for does not come",
    };
    let serves = match pipeline.serving_revision {
        Some(revision) => format!("revision {revision} serves"),
        None => "no revision serves".to_owned(),
    };
    let p99 = pipeline.traffic.p99_ms.map(|p99| format!(", p99 {}", time(p99))).unwrap_or_default();
    format!("{} {state}; {serves}; {}{p99}", pipeline.name, traffic(&pipeline.traffic))
}

/// A deployment.
pub(super) fn deployment(deployment: &DeploymentStatus) -> String {
    let counts = deployment.replica_counts;
    let mut text = format!(
        "{}: {} of {} replicas ready",
        deployment.full_name, deployment.ready_replicas, deployment.target_replicas
    );
    for (count, what) in
        [(counts.starting, "starting"), (counts.failed, "failed"), (counts.draining, "draining")]
    {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text += &format!("; {} ongoing requests, {} queued", deployment.ongoing, deployment.queued);
    let failed = deployment.replicas.iter().find(|replica| replica.state == ReplicaState::Failed);
    if let Some(failed) = failed {
        text += &format!("; {} failed: {}", failed.id, failed.error);
    }
    text
}

/// A replica.
pub(super) fn replica(deployment: &DeploymentStatus, replica: &ReplicaStatus) -> String {
    let state = match replica.state {
        ReplicaState::Starting => "starts",
        ReplicaState::Ready => "is ready",
        ReplicaState::Draining => "finishes what it has",
        ReplicaState::Stopped => "has stopped",
        ReplicaState::Failed => "has failed",
    };
    let mut text = format!(
        "{} of {} {state} on {}, revision {}, for {}; {} ongoing requests",
        replica.id,
        deployment.full_name,
        replica.node,
        replica.revision,
        age(replica.age_ms),
        replica.ongoing
    );
    if replica.restarts > 0 {
        text += &format!(
            "; started again {} times, the last time after: {}",
            replica.restarts, replica.last_error
        );
    }
    if !replica.error.is_empty() {
        text += &format!("; {}", replica.error);
    }
    text
}

/// A node: how it is, what it holds, whom it nearly fits.
pub(super) fn node(node: &NodeStatus, now: &Now) -> Vec<String> {
    let state = match node.state {
        NodeState::Ready => "is ready".to_owned(),
        NodeState::Cordoned => "is cordoned: it gets nothing new".to_owned(),
        NodeState::Draining => "is being emptied: it finishes what it has and gets nothing new".to_owned(),
        NodeState::Left => "has left".to_owned(),
        NodeState::Unreachable => format!("is unreachable, last heard {} ago", age(node.last_seen_ms_ago)),
    };
    let mut all = vec![format!(
        "node {} {state}; {} of {} cores and {} of {} memory free",
        node.name,
        cores(node.free_cpu_milli),
        cores(node.cpu_milli),
        ByteSize(node.free_memory_bytes),
        ByteSize(node.memory_bytes)
    )];
    all.push(match &now.holds[..] {
        [] => "it holds no replicas".to_owned(),
        holds => format!("it holds {}", list_held(holds)),
    });
    for gpu in &node.gpus {
        let shares: Vec<_> = now.shares.iter().filter(|shared| shared.gpu == gpu.index).collect();
        let whose = if shares.is_empty() { String::new() } else { format!(": {}", list_shared(&shares)) };
        all.push(format!("GPU {} ({}) has {} free{whose}", gpu.index, gpu.model, percent(gpu.free_share)));
    }
    let lacks = now.nearly_fits.iter();
    all.extend(lacks.map(|lacks| {
        format!("{} waits for a place and does not fit here: {}", lacks.deployment, lacks.missing)
    }));
    all
}

/// Why replicas have no place, and what would do.
pub(super) fn waits(waits: &Waits) -> String {
    let Waits { deployment, replicas, needs, reasons } = waits;
    let (have, each) = if *replicas == 1 { ("replica has", "it") } else { ("replicas have", "each") };
    let needs = match needs {
        Some(needs) => format!("; {each} needs {needs}"),
        None => String::new(),
    };
    format!("{deployment}: {replicas} {have} no place{needs}; what is missing: {}", reasons.join("; "))
}

/// Why a replica is where it is.
pub(super) fn moved(found: &Move) -> String {
    let Move { at_ms, was, from, is, to, why, .. } = found;
    format!("{}: {is} on {to} took the place of {was} on {from}: {why}", local_time(*at_ms))
}

/// Where the time goes.
pub(super) fn slow(slow: &Slow) -> String {
    let parts = slow.parts;
    let mostly = match slow.mostly {
        "queue" => format!(
            "{} of it waiting for a place in a replica: more replicas would help",
            time(parts.queue_ms)
        ),
        "batch" => format!(
            "{} of it waiting in the replica, for its turn or for company: see `batch`",
            time(parts.batch_ms)
        ),
        "run" => format!("{} of it in the model's run", time(parts.run_ms)),
        _ => format!("{} of it on the way and in tries that failed", time(parts.other_ms)),
    };
    let p99 = slow.stage_p99_ms.map(|p99| format!("; p99 of its calls {}", time(p99))).unwrap_or_default();
    let requests = if slow.traces == 1 { "the slowest request took" } else { "the slowest requests took" };
    format!(
        "{requests} {} on average (by {} traces): stage {} ({}) takes {} of that ({}), {mostly}{p99}",
        time(slow.mean_ms),
        slow.traces,
        slow.stage,
        slow.deployment,
        time(slow.stage_ms),
        percent(slow.ratio),
    )
}

/// A replica that is slower than its siblings.
pub(super) fn slow_replica(slow: &SlowReplica) -> String {
    format!(
        "{} is slower than the other replicas of {}: half of its calls took {} at most, of theirs {} (by {} calls)",
        slow.replica,
        slow.deployment,
        time(slow.median_ms),
        time(slow.siblings_median_ms),
        slow.calls
    )
}

/// What runs beside a replica.
pub(super) fn beside(found: &Beside) -> String {
    let Beside { replica, node, held, shared } = found;
    let on_node = match &held[..] {
        [] => format!("{replica} has {node} for itself"),
        held => format!("beside {replica} on {node}: {}", list_held(held)),
    };
    match &shared[..] {
        [] => on_node,
        shared => format!("{on_node}; on its GPU: {}", list_shared(&shared.iter().collect::<Vec<_>>())),
    }
}

fn list_held(held: &[Held]) -> String {
    let one = |held: &Held| {
        let replicas = if held.replicas == 1 { "replica" } else { "replicas" };
        format!("{} ({} {replicas}, {} ongoing)", held.deployment, held.replicas, held.ongoing)
    };
    held.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn list_shared(shared: &[&Shared]) -> String {
    let one = |shared: &&Shared| {
        format!("{} of {} has {}", shared.replica, shared.deployment, percent(shared.share))
    };
    shared.iter().map(one).collect::<Vec<_>>().join(", ")
}
