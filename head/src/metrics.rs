//! What a head counts: names, meanings, labels. Gauges are set each second from the [`Numbers`] of the cluster and held
//! nowhere, so that what has vanished is no longer set, and leaves the recorder when it has been idle for a while.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, counter, gauge, histogram};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use millstream_core::model::Command;
use millstream_core::present::numbers::{DeploymentNumbers, NodeNumbers, Numbers, PipelineNumbers};
use millstream_core::scheduler::MissingResource;
use millstream_pipelines::Name;
use millstream_proto::event::{Decision, RolloutStep};
use millstream_proto::metric::{Definition, Kind, SECONDS};
use millstream_proto::status::{NodeState, PipelineState, ReplicaState, RolloutPhase};

/// Renders the metrics of this process, in the form that a header `accept` asks for.
pub type MetricsPage = Arc<dyn Fn(&str) -> MetricsText + Send + Sync>;

/// Metrics as collectors read them.
pub struct MetricsText {
    /// The form.
    pub content_type: &'static str,
    /// All of them.
    pub text: String,
}

impl IntoResponse for MetricsText {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, self.content_type)], self.text).into_response()
    }
}

/// A gauge of deployments.
const fn of_deployments(name: &'static str, help: &'static str) -> Definition {
    Definition { name, kind: Kind::Gauge, help, labels: &["deployment"] }
}

const ONGOING: Definition = of_deployments(
    "millstream_ongoing_requests",
    "Requests sent to replicas and not yet answered, as all ingresses count them.",
);
const QUEUED: Definition = of_deployments(
    "millstream_queued_requests",
    "Requests that wait at all ingresses for a place in a replica.",
);
const TARGET_ONGOING: Definition = of_deployments(
    "millstream_target_ongoing_requests",
    "Ongoing requests per replica that the autoscaler aims at (`target_ongoing_requests`).",
);
const TARGET: Definition =
    of_deployments("millstream_target_replicas", "Replicas wanted, as the autoscaler has decided.");
const DESIRED: Definition = of_deployments(
    "millstream_desired_replicas",
    "Replicas that the requests of this moment ask for, within the bounds; the target follows with its averages and delays.",
);
const READY: Definition =
    of_deployments("millstream_ready_replicas", "Replicas of the newest revision that take calls.");
const MIN: Definition =
    of_deployments("millstream_min_replicas", "Fewest replicas that the autoscaler may decide on.");
const MAX: Definition =
    of_deployments("millstream_max_replicas", "Most replicas that the autoscaler may decide on.");
const REPLICAS: Definition = Definition {
    name: "millstream_replicas",
    kind: Kind::Gauge,
    help: "Replicas of every revision, by state.",
    labels: &["deployment", "state"],
};
const PENDING: Definition = Definition {
    name: "millstream_pending_placements",
    kind: Kind::Gauge,
    help: "Replicas that are wanted but fit on no node, by the resource that is short on the node that fits best.",
    labels: &["deployment", "reason"],
};
const SCALE_DECISIONS: Definition = Definition {
    name: "millstream_scale_decisions_total",
    kind: Kind::Counter,
    help: "Changes of the target of a deployment, by the rule that decided.",
    labels: &["deployment", "reason"],
};
const ROLLOUT: Definition = Definition {
    name: "millstream_rollout_state",
    kind: Kind::Gauge,
    help: "1 for the state that the pipeline's newest revision is in, 0 for the others.",
    labels: &["pipeline", "state"],
};
const ROLLOUT_PHASE: Definition = Definition {
    name: "millstream_rollout_phase",
    kind: Kind::Gauge,
    help: "1 for the phase that the pipeline's rollout is in, 0 for the others; `none` while no revision takes over.",
    labels: &["pipeline", "phase"],
};
const ROLLOUTS_ENDED: Definition = Definition {
    name: "millstream_rollouts_ended_total",
    kind: Kind::Counter,
    help: "Rollouts that ended: completed, rolled_back (by the head) or aborted (by people).",
    labels: &["pipeline", "outcome"],
};
const NODES: Definition = Definition {
    name: "millstream_nodes",
    kind: Kind::Gauge,
    help: "Nodes that are or were connected, by state.",
    labels: &["state"],
};
const NODE_STATE: Definition = Definition {
    name: "millstream_node_state",
    kind: Kind::Gauge,
    help: "1 for the state that the node is in, 0 for the others.",
    labels: &["node", "state"],
};
const HEARTBEAT_AGE: Definition = Definition {
    name: "millstream_node_heartbeat_age_seconds",
    kind: Kind::Gauge,
    help: "Time since the last heartbeat of a node.",
    labels: &["node"],
};
const GPU_BOOKED: Definition = Definition {
    name: "millstream_gpu_share_booked_ratio",
    kind: Kind::Gauge,
    help: "Part of a device that replicas hold, 0 to 1.",
    labels: &["node", "gpu"],
};
const GPU_FREE: Definition = Definition {
    name: "millstream_gpu_share_free_ratio",
    kind: Kind::Gauge,
    help: "Part of a device that is not booked, 0 to 1.",
    labels: &["node", "gpu"],
};
const COMMANDS: Definition = Definition {
    name: "millstream_commands_total",
    kind: Kind::Counter,
    help: "Commands of the reconciler that were carried out, by kind.",
    labels: &["kind"],
};
const STORE_DURATION: Definition = Definition {
    name: "millstream_store_duration_seconds",
    kind: Kind::Histogram(SECONDS),
    help: "Time that the store took, by operation; failed ones included.",
    labels: &["operation"],
};
const STORE_FAILURES: Definition = Definition {
    name: "millstream_store_failures_total",
    kind: Kind::Counter,
    help: "Operations that the store did not answer, or whose outcome is unknown, by operation.",
    labels: &["operation"],
};
const LEADS: Definition = Definition {
    name: "millstream_head_leads",
    kind: Kind::Gauge,
    help: "1 while this head leads, 0 while another one does or none.",
    labels: &[],
};
const RECONCILER_LAG: Definition = Definition {
    name: "millstream_reconciler_lag_seconds",
    kind: Kind::Histogram(SECONDS),
    help: "Time from the arrival of a worker's or an ingress's message at the head to its turn at the reconciler.",
    labels: &[],
};
const RECONCILER_EVENT: Definition = Definition {
    name: "millstream_reconciler_event_seconds",
    kind: Kind::Histogram(SECONDS),
    help: "Time that the reconciler took for an event, by kind; `wake` is a pass over what has changed.",
    labels: &["kind"],
};

/// Everything that a head counts.
pub const ALL: &[Definition] = &[
    ONGOING,
    QUEUED,
    TARGET_ONGOING,
    TARGET,
    DESIRED,
    READY,
    MIN,
    MAX,
    REPLICAS,
    PENDING,
    SCALE_DECISIONS,
    ROLLOUT,
    ROLLOUT_PHASE,
    ROLLOUTS_ENDED,
    NODES,
    NODE_STATE,
    HEARTBEAT_AGE,
    GPU_BOOKED,
    GPU_FREE,
    COMMANDS,
    STORE_DURATION,
    STORE_FAILURES,
    LEADS,
    RECONCILER_LAG,
    RECONCILER_EVENT,
];

/// States of replicas that a head can see; one that has stopped is gone.
const REPLICA_STATES: [(ReplicaState, &str); 4] = [
    (ReplicaState::Starting, "starting"),
    (ReplicaState::Ready, "ready"),
    (ReplicaState::Draining, "draining"),
    (ReplicaState::Failed, "failed"),
];

const PIPELINE_STATES: [(PipelineState, &str); 4] = [
    (PipelineState::Starting, "starting"),
    (PipelineState::Ready, "ready"),
    (PipelineState::Degraded, "degraded"),
    (PipelineState::Failed, "failed"),
];

const ROLLOUT_PHASES: [(Option<RolloutPhase>, &str); 5] = [
    (None, "none"),
    (Some(RolloutPhase::Starting), "starting"),
    (Some(RolloutPhase::Trial), "trial"),
    (Some(RolloutPhase::Moving), "moving"),
    (Some(RolloutPhase::Watching), "watching"),
];

const NODE_STATES: [(NodeState, &str); 5] = [
    (NodeState::Ready, "ready"),
    (NodeState::Cordoned, "cordoned"),
    (NodeState::Draining, "draining"),
    (NodeState::Left, "left"),
    (NodeState::Unreachable, "unreachable"),
];

/// Sets every gauge of the head.
pub(crate) fn set(numbers: &Numbers) {
    numbers.deployments.iter().for_each(set_deployment);
    for PipelineNumbers { pipeline, state: now, phase, .. } in &numbers.pipelines {
        for (state, word) in PIPELINE_STATES {
            let value = f64::from(u8::from(*now == state));
            gauge!(ROLLOUT.name, "pipeline" => pipeline.to_string(), "state" => word).set(value);
        }
        for (of, word) in ROLLOUT_PHASES {
            let value = f64::from(u8::from(*phase == of));
            gauge!(ROLLOUT_PHASE.name, "pipeline" => pipeline.to_string(), "phase" => word).set(value);
        }
        // There before the first one, so that it is an increase.
        for outcome in RolloutOutcome::ALL {
            rollouts_ended(pipeline, outcome).increment(0);
        }
    }
    for (state, word) in NODE_STATES {
        let count = numbers.nodes.iter().filter(|node| node.state == state).count();
        gauge!(NODES.name, "state" => word).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }
    numbers.nodes.iter().for_each(set_node);
}

fn set_deployment(numbers: &DeploymentNumbers) {
    let name = numbers.deployment.to_string();
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 requests")]
    let values = [
        (ONGOING, numbers.ongoing as f64),
        (QUEUED, numbers.queued as f64),
        (TARGET_ONGOING, numbers.target_ongoing_requests),
        (TARGET, numbers.target_replicas.into()),
        (DESIRED, numbers.desired_replicas.into()),
        (READY, numbers.ready_replicas.into()),
        (MIN, numbers.min_replicas.into()),
        (MAX, numbers.max_replicas.into()),
    ];
    for (definition, value) in values {
        gauge!(definition.name, "deployment" => name.clone()).set(value);
    }
    for (state, word) in REPLICA_STATES {
        let count = numbers.replicas.get(&state).copied().unwrap_or(0);
        gauge!(REPLICAS.name, "deployment" => name.clone(), "state" => word).set(f64::from(count));
    }
    for lack in MissingResource::ALL {
        let count = numbers.unplaced.get(&lack).copied().unwrap_or(0);
        gauge!(PENDING.name, "deployment" => name.clone(), "reason" => lack.as_str()).set(f64::from(count));
    }
}

fn set_node(node: &NodeNumbers) {
    gauge!(HEARTBEAT_AGE.name, "node" => node.name.clone()).set(node.silence.as_secs_f64());
    for (state, word) in NODE_STATES {
        let value = f64::from(u8::from(node.state == state));
        gauge!(NODE_STATE.name, "node" => node.name.clone(), "state" => word).set(value);
    }
    for (index, booked) in &node.devices {
        let labels = [("node", node.name.clone()), ("gpu", index.to_string())];
        gauge!(GPU_BOOKED.name, &labels).set(*booked);
        gauge!(GPU_FREE.name, &labels).set(1.0 - booked);
    }
}

/// A command is being carried out.
pub(crate) fn count_command(command: &Command) {
    counter!(COMMANDS.name, "kind" => command.kind()).increment(1);
    if let Command::Scale(scale) = command {
        let labels =
            [("deployment", scale.deployment.to_string()), ("reason", scale.rule.as_str().to_owned())];
        counter!(SCALE_DECISIONS.name, &labels).increment(1);
    }
}

/// How a rollout ends.
#[derive(Debug, Clone, Copy)]
enum RolloutOutcome {
    Completed,
    RolledBack,
    Aborted,
}

impl RolloutOutcome {
    const ALL: [Self; 3] = [Self::Completed, Self::RolledBack, Self::Aborted];

    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
        }
    }
}

fn rollouts_ended(pipeline: &Name, outcome: RolloutOutcome) -> Counter {
    counter!(ROLLOUTS_ENDED.name, "pipeline" => pipeline.to_string(), "outcome" => outcome.as_str())
}

/// Counts a decision about a pipeline that ends a rollout.
pub(crate) fn count_rollout(pipeline: &Name, decision: &Decision) {
    let outcome = match decision {
        Decision::Rollout { step: RolloutStep::Over, .. } => RolloutOutcome::Completed,
        Decision::RolledBack { .. } => RolloutOutcome::RolledBack,
        Decision::Aborted { .. } => RolloutOutcome::Aborted,
        _ => return,
    };
    rollouts_ended(pipeline, outcome).increment(1);
}

/// Whether this head leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    /// It does.
    Yes,
    /// Another one does, or none.
    No,
}

/// Tells whether this head leads.
pub(crate) fn leads(leads: Leads) {
    gauge!(LEADS.name).set(f64::from(u8::from(leads == Leads::Yes)));
}

/// The store did not do what it was asked, or did not say so.
pub(crate) fn store_failed(operation: &'static str) {
    counter!(STORE_FAILURES.name, "operation" => operation).increment(1);
}

/// The store has done something.
pub(crate) fn store_took(operation: &'static str, elapsed: Duration) {
    histogram!(STORE_DURATION.name, "operation" => operation).record(elapsed.as_secs_f64());
}

/// A message has waited for its turn at the reconciler.
pub(crate) fn reconciler_lagged(lag: Duration) {
    histogram!(RECONCILER_LAG.name).record(lag.as_secs_f64());
}

/// The reconciler has handled an event.
pub(crate) fn reconciler_took(kind: &'static str, elapsed: Duration) {
    histogram!(RECONCILER_EVENT.name, "kind" => kind).record(elapsed.as_secs_f64());
}
