//! The execution of a plan as a state machine: it says which calls to make and is told how they ended. The ingress
//! carries the calls out; property tests answer them directly. Nothing here waits, reads a clock or does I/O.

mod action;
mod fan_out;
mod size;
mod stage;

use std::collections::VecDeque;
use std::sync::Arc;

pub use action::{Action, CallId, RunError, StageCall, StageFailure};
use fan_out::FanOut;
use millstream_values::{CallError, ErrorClass, Map, Value};

use crate::Plan;
use crate::expr::{Env, EvalError};
use crate::plan::{OnError, Response, Work};
use stage::{Begun, begin};

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
    /// Calls that its deployment takes at a time, where it may make many.
    places: usize,
    status: Status,
}

enum Status {
    Waiting,
    /// One call.
    Calling,
    /// A call for each element.
    CallingEach(Box<FanOut>),
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
    open: bool,
}

impl Run {
    /// Starts a run on a request that [`Plan::parse_request`] gave; returns the first actions. `places` says how many calls
    /// a target takes at a time: `for_each` has no more under way, unless the file says otherwise.
    #[must_use]
    pub fn start(plan: Arc<Plan>, request: &Value, places: impl Fn(usize) -> usize) -> (Self, Vec<Action>) {
        let graph = &plan.graph;
        let num_stages = graph.num_dependencies.len();
        let stages = graph
            .num_dependencies
            .iter()
            .zip(&plan.parts.stages)
            .map(|(&num_missing, of)| {
                let places = match of.work {
                    Work::Call { target, .. } if of.for_each.is_some() => places(target),
                    Work::Call { .. } | Work::Operator(_) => 1,
                };
                StageState { num_missing, places, status: Status::Waiting }
            })
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
            Err(error) => self.fail(stage, error.class, error.message),
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
            Err(error) => self.fail(stage, class_of(&error), error.message),
            Ok(Begun::Value(value)) => self.settle(stage, value),
            Ok(Begun::Call(inputs)) => {
                self.stages[stage].status = Status::Calling;
                self.call(stage, 0, inputs);
            }
            Ok(Begun::CallEach(elements)) => {
                let fan_out = FanOut::new(elements, of.rules.max_parallel, self.stages[stage].places);
                self.stages[stage].status = Status::CallingEach(Box::new(fan_out));
                self.call_each(stage);
            }
        }
    }

    /// Makes as many calls of a `for_each` as may be under way.
    fn call_each(&mut self, stage: usize) {
        let plan = Arc::clone(&self.plan);
        let of = &plan.parts.stages[stage];
        loop {
            let Status::CallingEach(fan_out) = &mut self.stages[stage].status else { return };
            let Some((at, element)) = fan_out.take() else { return };
            let env = Env { request: &self.request, stages: &self.values, item: Some(&element) };
            match stage::inputs(of, &env) {
                Ok(inputs) => self.call(stage, at, inputs),
                Err(error) => return self.fail(stage, class_of(&error), error.message),
            }
        }
    }

    fn call(&mut self, stage: usize, element: usize, inputs: Value) {
        let of = &self.plan.parts.stages[stage];
        let Work::Call { target, .. } = of.work else { return };
        let Ok(id) = u32::try_from(self.calls.len()) else { return };
        self.actions.push(Action::Call(StageCall {
            id: CallId(id),
            stage: Arc::clone(&of.name),
            stage_index: stage,
            target,
            inputs,
            timeout: of.rules.timeout,
            retries: of.rules.retries,
            hedge: of.rules.hedge,
            streams: self.plan.graph.streams[stage].clone(),
            cache: self.plan.graph.cache_of[stage],
        }));
        self.calls.push(CallState { stage, element, open: true });
        self.num_open_calls += 1;
    }

    fn answer(&mut self, stage: usize, element: usize, value: Value) {
        match &mut self.stages[stage].status {
            Status::Calling => self.settle(stage, value),
            Status::CallingEach(fan_out) => match fan_out.answer(element, value) {
                Err(message) => self.fail(stage, ErrorClass::TooLarge, message),
                Ok(()) => match fan_out.finish() {
                    Some(answers) => self.settle(stage, answers),
                    None => self.call_each(stage),
                },
            },
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
        self.actions.push(Action::StageFailed(StageFailure { stage, error: error.clone() }));
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
        let fields = match &self.plan.parts.response {
            Response::Fields(fields) => fields,
            Response::Stage(stage) => return self.finish(Ok(self.values[*stage].clone())),
        };
        let mut body = Map::with_capacity(fields.len());
        for (name, expression) in fields {
            match expression.eval(&env).and_then(size::check) {
                Ok(value) => {
                    body.insert(Arc::clone(name), value);
                }
                Err(error) => {
                    let (class, message) = (class_of(&error), format!("`{name}`: {}", error.message));
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
            Action::Cancel(_) | Action::StageFailed(_) | Action::Finish(_) => true,
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

/// What an evaluation's failure is to the client. Bodies are checked before a run, and expressions against their types: what fails all
/// the same is the pipeline's fault, unless it is only too large.
fn class_of(error: &EvalError) -> ErrorClass {
    match error.class {
        ErrorClass::Invalid => ErrorClass::Internal,
        class => class,
    }
}

#[cfg(test)]
mod tests;
