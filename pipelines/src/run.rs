//! The execution of a plan as a state machine: it says which calls to make and is told how they ended. The ingress
//! carries the calls out; property tests answer them directly. Nothing here waits, reads a clock or does I/O.

use std::sync::Arc;
use std::time::Duration;

use millstream_values::{CallError, ErrorClass, Value};

use crate::Plan;

/// A call of this run; unique within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u32);

/// What the shell has to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send this call, then report its outcome with [`Run::finish_call`].
    Call(StageCall),
    /// The outcome of this call is no longer wanted: drop it and do not report it.
    Cancel(CallId),
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
    /// Index into [`Plan::targets`].
    pub target: usize,
    /// A map of inputs.
    pub inputs: Value,
    /// Time the call may take, queueing included; report class `DeadlineExceeded` when it is over.
    pub timeout: Option<Duration>,
    /// When the request streams: the response field that this call's `text` deltas belong to.
    pub streams: Option<Arc<str>>,
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

/// One request on its way through a plan.
pub struct Run {
    #[expect(dead_code, reason = "filled in next")]
    plan: Arc<Plan>,
}

impl Run {
    /// Starts a run on a request that [`Plan::parse_request`] gave; returns the first actions.
    #[must_use]
    pub fn start(plan: Arc<Plan>, request: &Value) -> (Self, Vec<Action>) {
        let _ = (plan, request);
        unimplemented!()
    }

    /// Reports how a call ended; returns the next actions.
    pub fn finish_call(&mut self, call: CallId, outcome: Result<Value, CallError>) -> Vec<Action> {
        let _ = (call, outcome);
        unimplemented!()
    }
}
