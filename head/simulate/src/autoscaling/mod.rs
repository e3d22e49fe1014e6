//! Replays a trace of requests against the autoscaler: one deployment, one ingress, replicas that take time to start.
//!
//! Requests wait in order and go to the least busy ready replica with a free slot; loads are reported and decisions
//! taken as in production, by the same code. What differs from a cluster is said in `docs/autoscaling.md`.

mod engine;
mod fleet;
mod service;
mod trace;

use std::time::Duration;

use millstream_pipelines::Autoscaling;
use serde::Serialize;

pub use engine::run;
pub use service::{Job, ServiceError, jobs};
pub use trace::{Arrival, Trace};

/// Fewest places in a queue whose size nobody set, as at an ingress.
const MIN_QUEUE: usize = 64;

/// How loads reach the autoscaler, and by which delays it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The settings as they are; reports each 100 ms and at once when a queue starts to form.
    Ours,
    /// A peer's defaults with the given bounds and target: 30 s look-back and up delay, 600 s down, reports each 10 s.
    Peer,
}

/// What is simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The settings of the deployment.
    pub autoscaling: Autoscaling,
    /// Whose delays.
    pub policy: Policy,
    /// Calls in one replica at a time, at least 1.
    pub max_ongoing: u32,
    /// How long a replica takes to become ready.
    pub start_time: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    /// Time that replicas existed, from their start to their end, summed.
    pub replica_seconds: f64,
    /// Median time that answered requests waited for a slot.
    pub wait_p50_ms: f64,
    /// 95th percentile of it.
    pub wait_p95_ms: f64,
    /// 99th percentile of it.
    pub wait_p99_ms: f64,
    /// Requests turned away because the queue was full.
    pub shed: u64,
    /// Changes of the target.
    pub scale_events: u64,
    /// Requests in the trace.
    pub requests: u64,
    /// Most replicas at a time.
    pub max_replicas_used: u32,
    /// From the first arrival to the last answer.
    pub duration_seconds: f64,
}

impl Policy {
    /// The settings that this policy decides by.
    #[must_use]
    pub fn settings(self, given: &Autoscaling) -> Autoscaling {
        match self {
            Self::Ours => given.clone(),
            Self::Peer => Autoscaling {
                look_back: Duration::from_secs(30),
                upscale_delay: Duration::from_secs(30),
                downscale_delay: Duration::from_secs(600),
                upscaling_factor: 1.0,
                downscaling_factor: 1.0,
                upscale_tolerance: 0.0,
                ..given.clone()
            },
        }
    }

    fn report_interval(self) -> Duration {
        match self {
            Self::Ours => Duration::from_millis(100),
            Self::Peer => Duration::from_secs(10),
        }
    }
}

/// Places in the queue for that many ready replicas.
fn queue_bound(replicas: usize, max_ongoing: u32) -> usize {
    let slots = usize::try_from(max_ongoing).unwrap_or(usize::MAX);
    replicas.saturating_mul(slots).saturating_mul(2).max(MIN_QUEUE)
}
