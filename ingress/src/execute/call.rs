//! One stage's call: waits for a place in a replica, sends, passes parts on, and sends again what is safe to.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use millstream_pipelines::{FullName, StageCall};
use millstream_proto::call::{CallEvent, PendingCall, Timing};
use millstream_proto::{CallError, ErrorClass, Started, Value};
use rand::Rng as _;
use smallvec::smallvec;

use super::attempt::{CallAttempt, outcome_of};
use super::cache::Fresh;
use super::hedge::{Tries, Try};
use super::place::Place;
use super::retry::{self, Attempt, Budget, Decision, Forwarded, Idempotent};
use super::{CallEnd, Context, Part};
use crate::dispatch::{Eligibility, Key, Outcome, Permit, Shed, ShedReason};
use crate::metrics::RetryReason;
use crate::routes::Pipeline;
use crate::{clock, random};

/// Carries out a call to its end.
pub(super) async fn perform(pipeline: &Pipeline, call: StageCall, cx: &Context) -> CallEnd {
    let deployment = &pipeline.targets[call.target];
    let own = deployment.name().pipeline == *pipeline.plan.name();
    let began = cx.timings.as_ref().map(|_| clock::now());
    let mut performance = CallAttempt {
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
        queued: Duration::ZERO,
        told: None,
        answered_by: None,
    };
    let outcome = match Place::of(pipeline, &call, cx) {
        None => performance.run().await,
        Some(place) => performance.run_through(place).await,
    };
    performance.tell_timing(began);
    let forwarded = performance.forwarded;
    drop(performance);
    CallEnd { id: call.id, stage: call.stage, outcome, forwarded }
}

impl CallAttempt<'_> {
    async fn run(&mut self) -> Result<Value, CallError> {
        loop {
            let asked = self.cx.timings.as_ref().map(|_| clock::now());
            let permit = self.acquire().await?;
            if let Some(asked) = asked {
                self.queued += clock::now().saturating_duration_since(asked);
            }
            let (permit, outcome, result) = self.attempt(permit).await;
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
                    let place = self.within(pin!(self.cx.budget.retry_later())).await;
                    self.retry_place = Some(place.map_err(|()| self.timed_out(Started::Yes))?);
                }
            }
            tracing::debug!(
                request_id = %self.cx.call.request_id, stage = &*self.call.stage, deployment = %self.deployment.name(),
                error = %error, "call is sent again"
            );
            self.before_next(error).await?;
        }
    }

    /// Says where the time of a call that began then went; all of what a replica says nothing about counts as running.
    fn tell_timing(&self, began: Option<Instant>) {
        let (Some(timings), Some(began)) = (&self.cx.timings, began) else { return };
        let rest = clock::now().saturating_duration_since(began).saturating_sub(self.queued);
        let told = self.told.unwrap_or(Timing { waited: Duration::ZERO, ran: rest });
        timings.add(&self.call.stage, self.queued, told);
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
        let answered = within(deadline, pin!(place.answer(call))).await;
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
        if self.deployment.reach(self.wish(&self.failed_on)) == Eligibility::AllAvoided {
            return Err(error);
        }
        if !self.absent.is_empty()
            && self.deployment.reach(self.wish(&self.avoided())) == Eligibility::AllAvoided
        {
            let wait = retry::backoff(self.rounds, random::rng().random());
            self.rounds += 1;
            self.absent.clear();
            self.within(pin!(tokio::time::sleep(wait))).await.map_err(|()| self.timed_out(Started::No))?;
        }
        Ok(())
    }

    /// A place in a replica, at once or after the queue.
    async fn acquire(&self) -> Result<Permit, CallError> {
        let deployment = self.deployment;
        let avoid = self.avoided();
        let wish = self.wish(&avoid);
        let place = pin!(deployment.acquire(wish));
        match self.within(pin!(noted_while_waiting(self.cx, deployment.name(), place))).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(Shed { retry_after_s, reason })) => {
                self.cx.notes.lock().retry_after_s = Some(retry_after_s);
                let name = deployment.name();
                let message = match reason {
                    ShedReason::Full => format!("the queue of `{name}` is full"),
                    ShedReason::TooLate => {
                        format!("so many requests wait for `{name}` that this one's deadline would pass")
                    }
                };
                Err(CallError::not_started(ErrorClass::Overloaded, message))
            }
            Err(()) => Err(self.timed_out(Started::No)),
        }
    }

    /// Sends the call to a replica and waits for its end, possibly in another one that was asked as well.
    async fn attempt(&mut self, permit: Permit) -> (Permit, Outcome, Result<Value, CallError>) {
        let mut pending = self.send(&permit);
        let own_deadline = self.own_deadline;
        let Some(after) = self.hedge_after() else {
            let ended = within(own_deadline, pin!(self.collect(&mut pending))).await;
            return match ended {
                Ok(result) => (permit, outcome_of(&result), result),
                Err(()) => (permit, Outcome::TimedOut, Err(self.timed_out(Started::Yes))),
            };
        };
        let mut tries: Tries = smallvec![Try { permit, pending }];
        let ended = within(own_deadline, pin!(self.race(&mut tries, after))).await;
        match ended {
            // What else is under way is given up.
            Ok((index, (result, told))) => {
                self.told = told;
                (tries.swap_remove(index).permit, outcome_of(&result), result)
            }
            Err(()) => {
                let first = tries.remove(0);
                tries.into_iter().for_each(|other| other.permit.finish(Outcome::TimedOut));
                (first.permit, Outcome::TimedOut, Err(self.timed_out(Started::Yes)))
            }
        }
    }

    async fn collect(&mut self, pending: &mut PendingCall) -> Result<Value, CallError> {
        loop {
            match pending.next().await {
                CallEvent::Done(value) => return Ok(value),
                CallEvent::Failed(error) => return Err(error),
                CallEvent::Delta(part) => self.forward(&part).await,
                CallEvent::Timing(timing) => self.told = Some(timing),
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

    async fn within<T>(&self, work: Pin<&mut impl Future<Output = T>>) -> Result<T, ()> {
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
async fn noted_while_waiting<T>(
    cx: &Context,
    name: &FullName,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> T {
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

/// The work's result, unless the instant comes first.
async fn within<T>(deadline: Option<Instant>, work: Pin<&mut impl Future<Output = T>>) -> Result<T, ()> {
    match deadline {
        Some(deadline) => clock::within(deadline, work).await.map_err(|_| ()),
        None => Ok(work.await),
    }
}
