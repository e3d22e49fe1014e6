//! What a run asks of whoever carries it out.

use std::sync::Arc;
use std::time::Duration;

use millstream_values::{ErrorClass, Value};

use crate::Hedge;

/// A call of this run; unique within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u32);

/// What the shell has to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send this call, then report its outcome with [`Run::finish_call`](super::Run::finish_call).
    Call(StageCall),
    /// The outcome of this call is no longer wanted: drop it and do not report it.
    Cancel(CallId),
    /// A stage's own work has failed, whatever its `on_error` makes of it: count it and say it, there is nothing to do.
    StageFailed(StageFailure),
    /// The run is over, with the response body or an error. Always the last action of a run.
    Finish(Result<Value, RunError>),
}

/// A call to a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct StageCall {
    /// For the report.
    pub id: CallId,
    /// The stage that makes it.
    pub stage: Arc<str>,
    /// Which one that is; an index into [`Plan::stages`](crate::Plan::stages).
    pub stage_index: usize,
    /// Index into [`Plan::targets`](crate::Plan::targets).
    pub target: usize,
    /// A map of inputs.
    pub inputs: Value,
    /// Time the call may take, queueing and retries included; report class `DeadlineExceeded` when it is over.
    pub timeout: Option<Duration>,
    /// How often it is made again after it may have run, where the file says it.
    pub retries: Option<u32>,
    /// When to send it to a second replica as well.
    pub hedge: Option<Hedge>,
    /// When the request streams: the response field that this call's `text` deltas belong to.
    pub streams: Option<Arc<str>>,
    /// Where its answer is kept: an index into [`Plan::caches`](crate::Plan::caches).
    pub cache: Option<usize>,
}

/// A failure that the response may hide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageFailure {
    /// Which one; an index into [`Plan::stages`](crate::Plan::stages).
    pub stage: usize,
    /// Why.
    pub error: RunError,
}

/// Why a run ended without a response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stage `{stage}`: {message}")]
pub struct RunError {
    /// The class, which becomes the status.
    pub class: ErrorClass,
    /// The stage that failed; `response` for the response mapping.
    pub stage: Arc<str>,
    /// Text that may be shown to clients.
    pub message: String,
}
