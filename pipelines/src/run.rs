//! The execution of a plan as a state machine: it says which calls to make and is told how they ended. The ingress
//! carries the calls out; property tests answer them directly. Nothing here waits, reads a clock or does I/O.

mod size;
mod stage;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream_values::{CallError, ErrorClass, Map, Started, Value};

use crate::expr::{Env, EvalError};
use crate::plan::{OnError, Work};
use crate::{Hedge, Plan};
use stage::{Begun, begin};

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
    /// When to send it to a second replica as well.
    pub hedge: Option<Hedge>,
    /// When the request streams: the response field that this call's `text` deltas belong to.
    pub streams: Option<Arc<str>>,
    /// Where its answer is kept: an index into [`Plan::caches`].
    pub cache: Option<usize>,
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
///
/// A stage starts when all stages that it uses have a value; all that can start do so at once. The run is over as soon
/// as the stages of the response have values, or one that the response cannot do without has failed; what is then
/// still under way is cancelled.
pub struct Run {
    plan: Arc<Plan>,
    request: Value,
    /// Values by stage; none until there is one.
    values: Vec<Value>,
    stages: Vec<StageState>,
    /// Calls by their id.
    calls: Vec<CallState>,
    num_open_calls: usize,
    /// Calls that have been handed over in actions.
    num_sent_calls: usize,
    /// Stages of the response that have no value yet.
    num_awaited: usize,
    ready: VecDeque<usize>,
    actions: Vec<Action>,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Running,
    Finished,
}

struct StageState {
    /// Stages that it still waits for.
    num_missing: u32,
    status: Status,
}

enum Status {
    Waiting,
    /// One call.
    Calling,
    /// A call for each element: the answers so far, and how many are missing.
    CallingEach {
        answers: Vec<Value>,
        num_missing: usize,
    },
    /// Failed; takes the value of the stage that its `on_error` names once there is one.
    AwaitingFallback(RunError),
    Done,
    /// Failed, and not needed by the response.
    Failed,
}

struct CallState {
    stage: usize,
    /// Which element of `for_each`; 0 without.
    element: usize,
    retries_left: u32,
    /// For making it again; none when it will not be.
    inputs: Value,
    open: bool,
}

impl Run {
    /// Starts a run on a request that [`Plan::parse_request`] gave; returns the first actions.
    #[must_use]
    pub fn start(plan: Arc<Plan>, request: &Value) -> (Self, Vec<Action>) {
        let graph = &plan.graph;
        let num_stages = graph.num_dependencies.len();
        let stages = graph
            .num_dependencies
            .iter()
            .map(|&num_missing| StageState { num_missing, status: Status::Waiting })
            .collect();
        let ready = (0..num_stages).filter(|&stage| graph.num_dependencies[stage] == 0).collect();
        let num_awaited = graph.response.len();
        let mut run = Self {
            plan,
            request: request.clone(),
            values: vec![Value::None; num_stages],
            stages,
            calls: Vec::new(),
            num_open_calls: 0,
            num_sent_calls: 0,
            num_awaited,
            ready,
            actions: Vec::new(),
            progress: Progress::Running,
        };
        let actions = run.proceed();
        (run, actions)
    }

    /// Reports how a call ended; returns the next actions. A call that is not under way is ignored.
    pub fn finish_call(&mut self, call: CallId, outcome: Result<Value, CallError>) -> Vec<Action> {
        let Some((stage, element)) = self.close(call) else { return Vec::new() };
        match outcome {
            Ok(value) => self.answer(stage, element, value),
            Err(error) => {
                if !self.retry(call, &error) {
                    self.fail(stage, error.class, error.message);
                }
            }
        }
        self.proceed()
    }

    /// Takes a call out of those under way.
    fn close(&mut self, call: CallId) -> Option<(usize, usize)> {
        let state = self.calls.get_mut(usize::try_from(call.0).ok()?)?;
        if !std::mem::replace(&mut state.open, false) {
            return None;
        }
        self.num_open_calls -= 1;
        Some((state.stage, state.element))
    }

    /// Starts what is ready until nothing is, then hands over the actions.
    fn proceed(&mut self) -> Vec<Action> {
        while self.progress == Progress::Running {
            if self.num_awaited == 0 {
                self.respond();
            } else if let Some(stage) = self.ready.pop_front() {
                self.begin(stage);
            } else if self.num_open_calls == 0 {
                self.give_up();
            } else {
                break;
            }
        }
        self.hand_over()
    }

    fn begin(&mut self, stage: usize) {
        let plan = Arc::clone(&self.plan);
        let of = &plan.parts.stages[stage];
        let env = Env { request: &self.request, stages: &self.values, item: None };
        match begin(of, &env) {
            Err(EvalError { class, message }) => self.fail(stage, class, message),
            Ok(Begun::Value(value)) => self.settle(stage, value),
            Ok(Begun::Call(inputs)) => {
                self.stages[stage].status = Status::Calling;
                self.call(stage, 0, of.retries, inputs);
            }
            Ok(Begun::CallEach(all)) => {
                let num_missing = all.len();
                self.stages[stage].status =
                    Status::CallingEach { answers: vec![Value::None; num_missing], num_missing };
                for (element, inputs) in all.into_iter().enumerate() {
                    self.call(stage, element, of.retries, inputs);
                }
            }
        }
    }

    fn call(&mut self, stage: usize, element: usize, retries_left: u32, inputs: Value) {
        let of = &self.plan.parts.stages[stage];
        let Work::Call { target, .. } = of.work else { return };
        let Ok(id) = u32::try_from(self.calls.len()) else { return };
        let kept = if retries_left > 0 { inputs.clone() } else { Value::None };
        self.actions.push(Action::Call(StageCall {
            id: CallId(id),
            stage: Arc::clone(&of.name),
            target,
            inputs,
            timeout: of.timeout,
            hedge: of.hedge,
            streams: self.plan.graph.streams[stage].clone(),
            cache: self.plan.graph.cache_of[stage],
        }));
        self.calls.push(CallState { stage, element, retries_left, inputs: kept, open: true });
        self.num_open_calls += 1;
    }

    /// Makes a failed call again if the stage allows it and it may help.
    fn retry(&mut self, call: CallId, error: &CallError) -> bool {
        let Some(state) = usize::try_from(call.0).ok().and_then(|call| self.calls.get_mut(call)) else {
            return false;
        };
        let Some(retries_left) = state.retries_left.checked_sub(1).filter(|_| may_retry(error)) else {
            return false;
        };
        let (stage, element, inputs) = (state.stage, state.element, std::mem::take(&mut state.inputs));
        self.call(stage, element, retries_left, inputs);
        true
    }

    fn answer(&mut self, stage: usize, element: usize, value: Value) {
        match &mut self.stages[stage].status {
            Status::Calling => self.settle(stage, value),
            Status::CallingEach { answers, num_missing } => {
                answers[element] = value;
                *num_missing -= 1;
                if *num_missing == 0 {
                    let answers = std::mem::take(answers);
                    self.settle(stage, Value::List(answers.into()));
                }
            }
            Status::Waiting | Status::AwaitingFallback(_) | Status::Done | Status::Failed => {}
        }
    }

    /// Gives a stage its value, and through it those that wait for it.
    fn settle(&mut self, stage: usize, value: Value) {
        self.stages[stage].status = Status::Done;
        let plan = Arc::clone(&self.plan);
        for &dependent in &plan.graph.dependents[stage] {
            let state = &mut self.stages[dependent];
            state.num_missing -= 1;
            if state.num_missing == 0 && matches!(state.status, Status::Waiting) {
                self.ready.push_back(dependent);
            }
        }
        if plan.graph.response.contains(&stage) {
            self.num_awaited -= 1;
        }
        for &failed in &plan.graph.stands_in_for[stage] {
            if matches!(self.stages[failed].status, Status::AwaitingFallback(_)) {
                self.settle(failed, value.clone());
            }
        }
        self.values[stage] = value;
    }

    /// A stage's own work has failed: what follows is said by its `on_error`.
    fn fail(&mut self, stage: usize, class: ErrorClass, message: String) {
        self.cancel_calls(Some(stage));
        let error = self.error(stage, class, message);
        match self.plan.parts.stages[stage].on_error {
            OnError::Fail => self.give_up_stage(stage, error),
            OnError::Skip => self.settle(stage, Value::None),
            OnError::Use(fallback) => match &self.stages[fallback].status {
                Status::Done => self.settle(stage, self.values[fallback].clone()),
                Status::Failed => self.give_up_stage(stage, error),
                _ => self.stages[stage].status = Status::AwaitingFallback(error),
            },
        }
    }

    /// A stage will have no value. If the response needs it the run is over; else so are only those that need it.
    fn give_up_stage(&mut self, stage: usize, error: RunError) {
        if self.plan.graph.essential[stage] {
            return self.finish(Err(error));
        }
        self.stages[stage].status = Status::Failed;
        let plan = Arc::clone(&self.plan);
        for &dependent in &plan.graph.dependents[stage] {
            if matches!(self.stages[dependent].status, Status::Waiting) {
                self.give_up_stage(dependent, error.clone());
            }
        }
        for &failed in &plan.graph.stands_in_for[stage] {
            if let Status::AwaitingFallback(own) = &self.stages[failed].status {
                let own = own.clone();
                self.give_up_stage(failed, own);
            }
        }
    }

    /// Nothing is under way and nothing can start. Only a plan with a cycle of fallbacks comes here.
    fn give_up(&mut self) {
        let waiting = self.stages.iter().find_map(|stage| match &stage.status {
            Status::AwaitingFallback(error) => Some(error.clone()),
            _ => None,
        });
        let error = waiting.unwrap_or_else(|| RunError {
            class: ErrorClass::Internal,
            stage: "response".into(),
            message: "the pipeline cannot go on".to_owned(),
        });
        self.finish(Err(error));
    }

    fn respond(&mut self) {
        let env = Env { request: &self.request, stages: &self.values, item: None };
        let fields = &self.plan.parts.response;
        let mut body = Map::with_capacity(fields.len());
        for (name, expression) in fields {
            match expression.eval(&env).and_then(size::check) {
                Ok(value) => {
                    body.insert(Arc::clone(name), value);
                }
                Err(EvalError { class, message }) => {
                    let message = format!("`{name}`: {message}");
                    return self.finish(Err(RunError { class, stage: "response".into(), message }));
                }
            }
        }
        self.finish(Ok(Value::from(body)));
    }

    fn finish(&mut self, outcome: Result<Value, RunError>) {
        if self.progress == Progress::Finished {
            return;
        }
        self.progress = Progress::Finished;
        self.cancel_calls(None);
        self.actions.push(Action::Finish(outcome));
    }

    /// Cancels the calls under way, of one stage or all. One that has not left this run is just taken back.
    fn cancel_calls(&mut self, of_stage: Option<usize>) {
        if self.num_open_calls == 0 {
            return;
        }
        for (id, call) in (0..).zip(&mut self.calls) {
            if call.open && of_stage.is_none_or(|stage| stage == call.stage) {
                call.open = false;
                self.num_open_calls -= 1;
                if (id as usize) < self.num_sent_calls {
                    self.actions.push(Action::Cancel(CallId(id)));
                }
            }
        }
        let calls = &self.calls;
        self.actions.retain(|action| match action {
            Action::Call(call) => calls[call.id.0 as usize].open,
            Action::Cancel(_) | Action::Finish(_) => true,
        });
    }

    /// Gives the actions away.
    fn hand_over(&mut self) -> Vec<Action> {
        self.num_sent_calls = self.calls.len();
        std::mem::take(&mut self.actions)
    }

    fn error(&self, stage: usize, class: ErrorClass, message: String) -> RunError {
        RunError { class, stage: Arc::clone(&self.plan.parts.stages[stage].name), message }
    }
}

/// Whether making the same call again may help: not when the inputs are at fault, nor when nobody waits any more.
fn may_retry(error: &CallError) -> bool {
    match error.class {
        ErrorClass::Unavailable
        | ErrorClass::Overloaded
        | ErrorClass::DeadlineExceeded
        | ErrorClass::Internal => true,
        ErrorClass::RateLimited => error.started == Started::No,
        ErrorClass::Malformed
        | ErrorClass::TooLarge
        | ErrorClass::Invalid
        | ErrorClass::NotFound
        | ErrorClass::Conflict
        | ErrorClass::Cancelled => false,
    }
}

#[cfg(test)]
mod tests;
