//! Executes a plan for one request: carries out what its [`Run`] asks for. Calls that a run makes at the same time run
//! at the same time; a lone call is awaited in place, without a task or a queue of its own.
//!
//! Dropping the future cancels every call under way: that is how a client that leaves, a deadline and a failed
//! sibling stage stop the work on every hop.

mod attempt;
mod budget;
mod call;
mod hedge;
mod parts;
mod place;
pub(crate) mod retry;
mod suspects;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::FuturesUnordered;
use millstream_pipelines::{Action, CallId, FullName, Run, RunError, StageCall, StageFailure};
use millstream_proto::call::CallContext;
use millstream_proto::{ErrorClass, ReplicaId, Value};
use parking_lot::Mutex;

use self::budget::RetryBudget;
pub(crate) use self::parts::{PartReceiver, PartSender, channel as parts};
use self::suspects::Suspects;
use crate::deadline::within;
use crate::dispatch::{QueueClass, Shed, Standing};
use crate::model::{Failure, Origin, Tenant};
use crate::routes::Pipeline;
use crate::trace::Trace;

/// What the execution of one request needs beside the plan.
pub(crate) struct Context {
    /// What travels with each of its calls.
    pub call: CallContext,
    /// When it is over, whatever has been reached.
    pub deadline: Instant,
    /// What requests are kept within, together with others.
    pub guards: Arc<Guards>,
    /// The request's draw in thousandths: where replicas of two revisions answer, all its calls go to one's.
    pub draw: u16,
    /// What its calls may claim where they wait.
    pub claim: QueueClass,
    /// Whose it is: kept answers are not shared with others.
    pub tenant: Tenant,
    /// Whether kept answers may be used.
    pub caching: Caching,
    /// Where parts of the answer go, when the client asked for them.
    pub parts: Option<PartSender>,
    /// Where the time goes, when somebody wants to know.
    pub trace: Option<Arc<Trace>>,
    /// How far it has come.
    pub progress: Progress,
}

/// What keeps requests from hurting others.
#[derive(Default)]
pub(crate) struct Guards {
    /// Bounds retries.
    budget: RetryBudget,
    /// Calls that may crash replicas.
    suspects: Suspects,
    /// Whether the process finishes what it has and takes nothing new.
    is_leaving: AtomicBool,
}

impl Guards {
    /// No more requests are to come: those that do are told so.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether no more requests are to come.
    pub(crate) fn are_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Whether requests are under way.
    pub(crate) fn are_busy(&self) -> bool {
        self.budget.is_busy()
    }
}

/// How far a request has come, as its calls tell.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether one of its calls has had a place: from then on none is turned away.
    admitted: AtomicBool,
    /// What the answer may need to say.
    notes: Mutex<Notes>,
}

impl Context {
    fn standing(&self) -> Standing {
        if self.progress.admitted.load(Ordering::Relaxed) { Standing::Admitted } else { Standing::New }
    }
}

/// Whether kept answers may be used, and answers be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Where the file says so.
    Allowed,
    /// Every call is made.
    Bypassed,
}

/// Off the fast path: written when a call waits, is shed or fails.
#[derive(Debug, Default)]
struct Notes {
    /// How a deployment has shed a call.
    shed: Option<Shed>,
    /// Deployments that the request waits for at this moment.
    waiting_for: Vec<FullName>,
    /// The stage whose call failed last, and the replica that it failed in.
    failed_at: Option<(Arc<str>, ReplicaId)>,
}

/// How a call ended.
struct CallEnd {
    id: CallId,
    stage: Arc<str>,
    outcome: Result<Value, millstream_proto::CallError>,
    forwarded: retry::Forwarded,
}

/// Runs a pipeline on a checked request until its response, its failure or its deadline.
///
/// # Errors
/// [`Failure`], which says what to tell the client.
pub(crate) async fn execute(pipeline: &Pipeline, fields: &Value, cx: &Context) -> Result<Value, Failure> {
    let _active = cx.guards.budget.enter();
    match within(cx.deadline, pin!(run(pipeline, fields, cx))).await {
        Ok(result) => result,
        Err(_) => Err(past_deadline(cx)),
    }
}

fn failed(error: &RunError, cx: &Context) -> Failure {
    let notes = cx.progress.notes.lock();
    let failed_at = notes.failed_at.as_ref().filter(|(stage, _)| *stage == error.stage);
    let origin = Origin { stage: error.stage.clone(), replica: failed_at.map(|(_, id)| id.clone()) };
    let shed = notes.shed.filter(|shed| shed.class() == error.class);
    Failure {
        retry_after_s: notes.shed.map(|shed| shed.retry_after_s),
        refused: shed.map(|shed| shed.refused()),
        origin: Some(origin),
        ..Failure::new(error.class, error.to_string())
    }
}

fn past_deadline(cx: &Context) -> Failure {
    let waiting = std::mem::take(&mut cx.progress.notes.lock().waiting_for);
    let message = match waiting.first() {
        Some(name) => format!("the deadline passed while the request waited for a free replica of `{name}`"),
        None => "the deadline passed before the response was complete".to_owned(),
    };
    Failure::new(ErrorClass::DeadlineExceeded, message)
}

async fn run(pipeline: &Pipeline, fields: &Value, cx: &Context) -> Result<Value, Failure> {
    let (mut run, mut actions) =
        Run::start(pipeline.plan.clone(), fields, |target| pipeline.targets[target].places());
    let mut flight = Flight::default();
    loop {
        let mut lone: Option<StageCall> = None;
        for action in actions {
            match action {
                Action::Call(call) if flight.is_empty() && lone.is_none() => lone = Some(call),
                Action::Call(call) => {
                    if let Some(first) = lone.take() {
                        flight.launch(pipeline, first, cx);
                    }
                    flight.launch(pipeline, call, cx);
                }
                Action::Cancel(id) if lone.as_ref().is_some_and(|call| call.id == id) => lone = None,
                Action::Cancel(id) => flight.cancel(id),
                Action::StageFailed(failure) => tell(pipeline, &failure, cx),
                Action::Finish(Ok(response)) => return Ok(response),
                Action::Finish(Err(error)) => return Err(failed(&error, cx)),
            }
        }
        let end = match lone {
            Some(call) => call::perform(pipeline, call, cx).await,
            None => flight.next().await.ok_or_else(|| stalled(pipeline))?,
        };
        if let (Err(error), retry::Forwarded::Parts) = (&end.outcome, end.forwarded) {
            // A started stream is never restarted, whatever the stage's own rules say.
            let failure = RunError { class: error.class, stage: end.stage, message: error.message.clone() };
            for action in run.finish_call(end.id, end.outcome) {
                if let Action::StageFailed(failure) = action {
                    tell(pipeline, &failure, cx);
                }
            }
            return Err(failed(&failure, cx));
        }
        actions = run.finish_call(end.id, end.outcome);
    }
}

/// A stage has failed, and the answer may not show it.
fn tell(pipeline: &Pipeline, failure: &StageFailure, cx: &Context) {
    pipeline.stage_meters[failure.stage].failed();
    pipeline.stage_counts[failure.stage].failed();
    tracing::debug!(
        request_id = %cx.call.request_id, pipeline = %pipeline.plan.name(), error = %failure.error, "a stage failed"
    );
}

/// A run that asks for nothing and has nothing under way: a fault of the plan's own.
fn stalled(pipeline: &Pipeline) -> Failure {
    tracing::error!(pipeline = %pipeline.plan.name(), "a run asked for nothing and was not finished");
    Failure::new(ErrorClass::Internal, "the pipeline did not come to an end")
}

/// Calls that run at the same time; costs nothing until the second one.
#[derive(Default)]
struct Flight<'a> {
    calls: Option<FuturesUnordered<Abortable<BoxFuture<'a, CallEnd>>>>,
    handles: HashMap<CallId, AbortHandle>,
}

impl<'a> Flight<'a> {
    fn is_empty(&self) -> bool {
        self.calls.as_ref().is_none_or(FuturesUnordered::is_empty)
    }

    fn launch(&mut self, pipeline: &'a Pipeline, call: StageCall, cx: &'a Context) {
        let (handle, registration) = AbortHandle::new_pair();
        self.handles.insert(call.id, handle);
        let future: BoxFuture<'a, CallEnd> = Box::pin(call::perform(pipeline, call, cx));
        self.calls.get_or_insert_default().push(Abortable::new(future, registration));
    }

    fn cancel(&mut self, id: CallId) {
        if let Some(handle) = self.handles.remove(&id) {
            handle.abort();
        }
    }

    /// The next call that ends by itself; `None` when nothing is under way.
    async fn next(&mut self) -> Option<CallEnd> {
        let calls = self.calls.as_mut()?;
        loop {
            // One that was aborted has nothing to say.
            if let Ok(end) = calls.next().await? {
                self.handles.remove(&end.id);
                return Some(end);
            }
        }
    }
}
