//! What the requests of one revision are captured as, and which of them.

use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{Capture, Plan};
use millstream_proto::{RequestId, Value};

use crate::metrics::CaptureMeter;
use crate::protocol::problem::Kind;

/// Where captures come from.
pub(super) struct Source {
    /// The pipeline's name, which can be that of a folder: lower-case letters, digits, `-` and `_`.
    pub(super) pipeline: String,
    /// Its revision.
    pub(super) revision: u64,
    /// What the file says.
    pub(super) settings: Capture,
    /// Counts them.
    pub(super) meter: CaptureMeter,
}

impl Source {
    /// Of a revision; none where its file asks for no captures.
    pub(super) fn of(plan: &Plan, revision: u64) -> Option<Self> {
        let settings = plan.capture()?.clone();
        let pipeline = plan.name().to_string();
        let meter = CaptureMeter::of(&pipeline);
        Some(Self { pipeline, revision, settings, meter })
    }
}

/// A request that has ended.
pub(super) struct Captured {
    pub(super) source: Arc<Source>,
    pub(super) request_id: RequestId,
    /// Its fields.
    pub(super) fields: Value,
    /// Its answer, or what kind of problem it met.
    pub(super) outcome: Result<Value, &'static Kind>,
    /// How long it took.
    pub(super) elapsed: Duration,
    /// When it ended, in microseconds since the Unix epoch.
    pub(super) ended_us: u64,
}
