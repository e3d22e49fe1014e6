//! One stage's call: waits for a place in a replica, sends, passes parts on, and sends again what is safe to.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use millstream_pipelines::{FullName, StageCall};
use millstream_proto::call::{Answer, CallEvent, CallRequest, PendingCall};
use millstream_proto::{CallError, ErrorClass, Started, Value};

use super::budget::Retrying;
use super::cache::{Fresh, Place};
use super::retry::{self, Attempt, Budget, Decision, Forwarded, Idempotent};
use super::{CallEnd, Context, Part};
use crate::clock;
use crate::dispatch::{Deployment, Key, Outcome, Permit, Reach, Shed, Wish};
use crate::metrics::RetryReason;
use crate::routes::Pipeline;

/// Carries out a call to its end.
pub(super) async fn perform(pipeline: &Pipeline, call: StageCall, cx: &Context) -> CallEnd {
    let deployment = &pipeline.targets[call.target];
    let own = deployment.name().pipeline == *pipeline.plan.name();
    let mut performance = Performance {
        deployment,
        revision: own.then_some(pipeline.revision),
        call: &call,
        cx,
        own_deadline: call.timeout.map(|timeout| clock::now() + timeout),
        failed_on: Vec::new(),
        absent: Vec::new(),
        rounds: 0,
        started_retries: 0,
        retry_place: None,
        forwarded: Forwarded::Nothing,
        answered_by: None,
    };
    let outcome = match Place::of(pipeline, &call, cx) {
        None => performance.run().await,
        Some(place) => performance.run_through(place).await,
    };
    let forwarded = performance.forwarded;
    drop(performance);
    CallEnd { id: call.id, stage: call.stage, outcome, forwarded }
}

struct Performance<'a> {
    deployment: &'a Deployment,
    /// The revision that the request runs on, where it says something about this deployment.
    revision: Option<u64>,
    call: &'a StageCall,
    cx: &'a Context,
    /// When the stage's own timeout is over; the request's deadline is the executor's to keep.
    own_deadline: Option<Instant>,
    /// Replicas on which the call may have run: never again.
    failed_on: Vec<Key>,
    /// Replicas that were not there: not again before the others were asked.
    absent: Vec<Key>,
    /// How often all replicas were asked in vain.
    rounds: u32,
    started_retries: u32,
    retry_place: Option<Retrying<'a>>,
    forwarded: Forwarded,
    /// The replica whose answer it is.
    answered_by: Option<Key>,
}

impl Performance<'_> {
    async fn run(&mut self) -> Result<Value, CallError> {
        loop {
            let permit = self.acquire().await?;
            let (outcome, result) = self.attempt(&permit).await;
            let key = permit.target().key;
            permit.finish(outcome);
            let error = match result {
                Ok(value) => {
                    self.answered_by = Some(key);
                    return Ok(value);
                }
                Err(error) => error,
            };
            match retry::decide(&error, self.attempt_so_far()) {
                Decision::GiveUp => return Err(error),
                Decision::Requeue => self.deployment.meter().retried(RetryReason::Full),
                Decision::Elsewhere => {
                    self.deployment.meter().retried(RetryReason::NotStarted);
                    self.absent.push(key);
                }
                Decision::RetryStarted => self.count_started(key),
                Decision::RetryStartedLater => {
                    self.count_started(key);
                    let place = self.within(self.cx.budget.retry_later()).await;
                    self.retry_place = Some(place.map_err(|()| self.timed_out(Started::Yes))?);
                }
            }
            tracing::debug!(
                request_id = %self.cx.request_id, stage = &*self.call.stage, deployment = %self.deployment.name(),
                error = %error, "call is sent again"
            );
            self.before_next(error).await?;
        }
    }

    /// The same, unless there is an answer already or soon. Waiting for that of an equal call is part of the timeout.
    async fn run_through(&mut self, place: Place<'_>) -> Result<Value, CallError> {
        let (deployment, revision, deadline) = (self.deployment, place.revision, self.own_deadline);
        let performance = &mut *self;
        let call = move || async move {
            let value = performance.run().await?;
            let kept = performance.answered_by.is_some_and(|key| deployment.is_of(key, revision));
            Ok(Fresh { value, revision: kept.then_some(revision) })
        };
        let answered = within(deadline, place.answer(call)).await;
        answered.unwrap_or_else(|()| Err(self.timed_out(Started::No)))
    }

    fn count_started(&mut self, key: Key) {
        self.deployment.meter().retried(RetryReason::Started);
        self.started_retries += 1;
        self.failed_on.push(key);
    }

    /// What the decision on a retry needs to know; takes the request's place in the budget.
    fn attempt_so_far(&mut self) -> Attempt {
        if self.retry_place.is_none() {
            self.retry_place = self.cx.budget.retry();
        }
        Attempt {
            started_retries: self.started_retries,
            forwarded: self.forwarded,
            idempotent: if self.deployment.is_idempotent() { Idempotent::Yes } else { Idempotent::No },
            budget: if self.retry_place.is_some() { Budget::Left } else { Budget::Spent },
        }
    }

    /// Waits when every replica was asked in vain; ends with `error` when there is none left to ask.
    async fn before_next(&mut self, error: CallError) -> Result<(), CallError> {
        if self.deployment.reach(&self.failed_on) == Reach::AllAvoided {
            return Err(error);
        }
        if !self.absent.is_empty() && self.deployment.reach(&self.avoided()) == Reach::AllAvoided {
            let wait = retry::backoff(self.rounds, rand::random());
            self.rounds += 1;
            self.absent.clear();
            self.within(tokio::time::sleep(wait)).await.map_err(|()| self.timed_out(Started::No))?;
        }
        Ok(())
    }

    fn avoided(&self) -> Vec<Key> {
        self.failed_on.iter().chain(&self.absent).copied().collect()
    }

    /// A place in a replica, at once or after the queue.
    async fn acquire(&self) -> Result<Permit, CallError> {
        let deployment = self.deployment;
        let avoid = self.avoided();
        let wish = Wish { avoid: &avoid, revision: self.revision, draw: self.cx.draw };
        match self.within(noted_while_waiting(self.cx, deployment.name(), deployment.acquire(wish))).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(Shed { retry_after_s })) => {
                self.cx.notes.lock().retry_after_s = Some(retry_after_s);
                let message = format!("the queue of `{}` is full", deployment.name());
                Err(CallError::not_started(ErrorClass::Overloaded, message))
            }
            Err(()) => Err(self.timed_out(Started::No)),
        }
    }

    /// Sends the call to a replica and waits for its end.
    async fn attempt(&mut self, permit: &Permit) -> (Outcome, Result<Value, CallError>) {
        let streams = self.call.streams.is_some() && self.cx.parts.is_some();
        let request = CallRequest {
            request_id: self.cx.request_id.clone(),
            inputs: self.call.inputs.clone(),
            deadline: Some(self.own_deadline.map_or(self.cx.deadline, |own| own.min(self.cx.deadline))),
            answer: if streams { Answer::Stream } else { Answer::Whole },
            priority: self.cx.priority,
        };
        let target = permit.target();
        let mut pending = target.client.call(&target.id, request);
        let own_deadline = self.own_deadline;
        match within(own_deadline, self.collect(&mut pending)).await {
            Ok(result) => (outcome_of(&result), result),
            Err(()) => (Outcome::TimedOut, Err(self.timed_out(Started::Yes))),
        }
    }

    async fn collect(&mut self, pending: &mut PendingCall) -> Result<Value, CallError> {
        loop {
            match pending.next().await {
                CallEvent::Done(value) => return Ok(value),
                CallEvent::Failed(error) => return Err(error),
                CallEvent::Delta(part) => self.forward(&part).await,
            }
        }
    }

    /// Passes a part on; waits while the client does not take it.
    async fn forward(&mut self, part: &Value) {
        let (Some(field), Some(parts)) = (&self.call.streams, &self.cx.parts) else { return };
        let Some(Value::Text(text)) = part.get("text") else { return };
        self.forwarded = Forwarded::Parts;
        // Nobody listens any more: the execution is about to be dropped.
        let _ = parts.send(Part { field: field.clone(), text: text.clone() }).await;
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, ()> {
        within(self.own_deadline, work).await
    }

    fn timed_out(&self, started: Started) -> CallError {
        let timeout = self.call.timeout.unwrap_or_default();
        let message = format!("took longer than its timeout of `{timeout:?}`");
        CallError { class: ErrorClass::DeadlineExceeded, message, started }
    }
}

/// Awaits the work; while it is not done at once, the request's notes say what it waits for. The note outlives work
/// that is dropped: whoever ends the request by its deadline reads it then.
async fn noted_while_waiting<T>(cx: &Context, name: &FullName, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if let Poll::Ready(result) = futures_util::poll!(work.as_mut()) {
        return result;
    }
    cx.notes.lock().waiting_for.push(name.clone());
    let result = work.await;
    let waiting_for = &mut cx.notes.lock().waiting_for;
    if let Some(position) = waiting_for.iter().position(|waiting| waiting == name) {
        waiting_for.remove(position);
    }
    result
}

/// What a call's end says about its replica.
fn outcome_of(result: &Result<Value, CallError>) -> Outcome {
    let Err(error) = result else { return Outcome::Answered };
    match (error.class, error.started) {
        (ErrorClass::Unavailable, _) | (ErrorClass::NotFound, Started::No) => Outcome::Transport,
        (ErrorClass::Overloaded, Started::No) => Outcome::Full,
        (ErrorClass::Internal, _) => Outcome::Failed,
        _ => Outcome::Answered,
    }
}

/// The work's result, unless the instant comes first.
async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, ()> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| ()),
        None => Ok(work.await),
    }
}
