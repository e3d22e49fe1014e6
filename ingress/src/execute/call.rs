//! One stage's call: waits for a place in a replica, sends, passes parts on, and sends again what is safe to.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use millstream_pipelines::{FullName, StageCall};
use millstream_proto::call::CallEvent;
use millstream_proto::{CallError, ErrorClass, Started, Value};
use rand::Rng as _;
use smallvec::smallvec;

use super::attempt::{CallAttempt, Traced, Tried, Trying};
use super::hedge::{Tries, Try};
use super::place::Place;
use super::retry::{self, Attempt, Decision, Forwarded, Idempotent, WhenSpent};
use super::suspects::{self, Verdict};
use super::{CallEnd, Context};
use crate::cache::Fresh;
use crate::deadline;
use crate::dispatch::{Arrival, Eligibility, Permit, Shed, ShedReason, Standing};
use crate::metrics::RetryReason;
use crate::model::{Outcome, StreamPart};
use crate::random;
use crate::routes::Pipeline;

/// Carries out a call to its end.
pub(super) async fn perform(pipeline: &Pipeline, call: StageCall, cx: &Context) -> CallEnd {
    let deployment = &pipeline.targets[call.target];
    let own = deployment.name().pipeline == *pipeline.plan.name();
    let began = millstream_clock::now();
    let mut performance = CallAttempt {
        deployment,
        revision: own.then_some(pipeline.revision),
        call: &call,
        cx,
        own_deadline: call.timeout.map(|timeout| began + timeout),
        trying: Trying::default(),
        tried: Tried::default(),
        forwarded: Forwarded::Nothing,
        traced: cx.trace.as_deref().map(|trace| Traced::begin(trace, &call, began)),
        reported: None,
        answered_by: None,
    };
    let outcome = match Place::of(pipeline, &call, cx) {
        None => performance.run().await,
        Some(place) => performance.run_through(place).await,
    };
    let ended = millstream_clock::now();
    let took = ended.saturating_duration_since(began);
    pipeline.stage_meters[call.stage_index].called(took);
    pipeline.stage_counts[call.stage_index].called(took);
    if let Some(traced) = &mut performance.traced {
        traced.ended(ended, outcome.as_ref().err().map(|error| error.class));
    }
    let forwarded = performance.forwarded;
    drop(performance);
    CallEnd { id: call.id, stage: call.stage, outcome, forwarded }
}

impl CallAttempt<'_> {
    async fn run(&mut self) -> Result<Value, CallError> {
        let mut arrival = Arrival::First;
        loop {
            self.trying.suspect = match self.cx.guards.suspects.verdict(self.subject(), millstream_clock::now)
            {
                Verdict::Clean => None,
                Verdict::Suspect(suspect) => Some(suspect),
                Verdict::Convicted => return Err(suspects::refusal()),
            };
            let permit = self.place(arrival).await?;
            arrival = Arrival::Again;
            let (permit, outcome, result) = self.traced_attempt(permit).await;
            let key = permit.target().key;
            if result.is_err() {
                let failed_at = (self.call.stage.clone(), permit.target().id.clone());
                self.cx.progress.notes.lock().failed_at = Some(failed_at);
            }
            permit.finish(outcome);
            let error = match result {
                Ok(value) => {
                    self.trying.suspect.iter().for_each(|suspect| self.cx.guards.suspects.acquit(*suspect));
                    self.answered_by = Some(key);
                    return Ok(value);
                }
                Err(error) => error,
            };
            if error.started == Started::Crashed {
                self.cx.guards.suspects.crashed(self.subject(), millstream_clock::now());
            }
            match retry::decide(&error, self.attempt_so_far()) {
                Decision::GiveUp => return Err(error),
                Decision::Requeue => self.deployment.meter().retried(RetryReason::Full),
                Decision::Elsewhere => {
                    self.deployment.meter().retried(RetryReason::NotStarted);
                    self.tried.absent.push(key);
                }
                Decision::Retry(when_spent) => {
                    if !self.takes_place(when_spent).await? {
                        return Err(error);
                    }
                    self.deployment.meter().retried(RetryReason::Started);
                    self.tried.retries += 1;
                    self.tried.failed_on.push(key);
                }
            }
            tracing::debug!(
                request_id = %self.cx.call.request_id, stage = &*self.call.stage, deployment = %self.deployment.name(),
                error = %error, "call is sent again"
            );
            self.before_next(error).await?;
            self.traced.iter_mut().for_each(Traced::pauses);
        }
    }

    /// A place in a replica, with the wait for it in the trace.
    async fn place(&mut self, arrival: Arrival) -> Result<Permit, CallError> {
        let place = self.acquire(arrival).await;
        if let Some(traced) = &mut self.traced {
            let replica = place.as_ref().map(|permit| &permit.target().id).map_err(|error| error.class);
            traced.placed(replica, self.tried.retries);
        }
        place
    }

    /// A try, which the trace has afterwards.
    async fn traced_attempt(&mut self, permit: Permit) -> (Permit, Outcome, Result<Value, CallError>) {
        let (permit, outcome, result) = self.attempt(permit).await;
        let reported = self.reported.take();
        if let Some(traced) = &mut self.traced {
            traced.tried(&permit.target().id, reported, result.as_ref().err().map(|error| error.class));
        }
        (permit, outcome, result)
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

    /// Takes a place in the budget for retries, which is kept until the call ends; says whether there is one.
    async fn takes_place(&mut self, when_spent: WhenSpent) -> Result<bool, CallError> {
        if self.tried.place.is_none() {
            self.tried.place = match when_spent {
                WhenSpent::GiveUp => self.cx.guards.budget.retry(),
                WhenSpent::Wait => {
                    let place = self.within(pin!(self.cx.guards.budget.retry_later())).await;
                    Some(place.map_err(|()| self.timed_out(Started::Yes))?)
                }
            };
        }
        Ok(self.tried.place.is_some())
    }

    /// What the decision on a retry needs to know.
    fn attempt_so_far(&self) -> Attempt {
        Attempt {
            started_retries: self.tried.retries,
            max_retries: self.max_retries(),
            forwarded: self.forwarded,
            idempotent: if self.deployment.is_idempotent() { Idempotent::Yes } else { Idempotent::No },
        }
    }

    /// Waits when every replica was asked in vain; ends with `error` when there is none left to ask. A stage that asks for
    /// retries gets them from the same replica where there is no other.
    async fn before_next(&mut self, error: CallError) -> Result<(), CallError> {
        if self.deployment.eligibility(self.routing(&self.tried.failed_on)) == Eligibility::AllAvoided {
            if self.call.retries.is_none() {
                return Err(error);
            }
            self.tried.absent.append(&mut self.tried.failed_on);
        }
        if !self.tried.absent.is_empty()
            && self.deployment.eligibility(self.routing(&self.tried.avoided())) == Eligibility::AllAvoided
        {
            let wait = retry::backoff(self.tried.rounds, random::rng().random());
            self.tried.rounds += 1;
            self.tried.absent.clear();
            self.within(pin!(tokio::time::sleep(wait))).await.map_err(|()| self.timed_out(Started::No))?;
        }
        Ok(())
    }

    /// A place in a replica, at once or after the queue.
    async fn acquire(&self, mut arrival: Arrival) -> Result<Permit, CallError> {
        let avoid = self.tried.avoided();
        let name = self.deployment.name();
        loop {
            let routing = self.routing(&avoid);
            let place = pin!(self.deployment.acquire(routing, arrival));
            let shed = match self.within(pin!(noted_while_waiting(self.cx, name, place))).await {
                Ok(Ok(permit)) => {
                    self.cx.progress.admitted.store(true, Ordering::Relaxed);
                    return Ok(permit);
                }
                Ok(Err(shed)) => shed,
                Err(()) => return Err(self.timed_out(Started::No)),
            };
            // Another call of the request got a place meanwhile.
            let may_wait = !matches!(shed.reason, ShedReason::CannotStart(_));
            if may_wait && routing.standing == Standing::New && self.cx.standing() == Standing::Admitted {
                arrival = Arrival::Again;
                continue;
            }
            return Err(self.shed(shed));
        }
    }

    fn shed(&self, shed: Shed) -> CallError {
        self.cx.progress.notes.lock().shed = Some(shed);
        CallError::not_started(shed.class(), shed.message(self.deployment.name()))
    }

    /// Sends the call to a replica and waits for its end, possibly in another one that was asked as well.
    async fn attempt(&mut self, permit: Permit) -> (Permit, Outcome, Result<Value, CallError>) {
        self.trying.patience = self.patience_with(&permit);
        let pending = self.send(&permit);
        let first = Try { permit, pending };
        let own_deadline = self.own_deadline;
        let Some(after) = self.hedge_after() else {
            let mut first = first;
            let ended = within(own_deadline, pin!(self.collect(&mut first))).await;
            return match ended {
                Ok(result) => (first.permit, self.outcome_of(&result), result),
                Err(()) => (first.permit, Outcome::TimedOut, Err(self.timed_out(Started::Yes))),
            };
        };
        let mut tries: Tries = smallvec![first];
        let ended = within(own_deadline, pin!(self.race(&mut tries, after))).await;
        match ended {
            // What else is under way is given up. The first one that was overtaken tells by it what it is worth.
            Ok((index, result)) => {
                let outcome = self.outcome_of(&result);
                let ended = tries.remove(index);
                let overtaken = if index > 0 && outcome == Outcome::Answered { tries.pop() } else { None };
                overtaken.into_iter().for_each(|first| first.permit.finish(Outcome::Silent));
                (ended.permit, outcome, result)
            }
            Err(()) => {
                let first = tries.remove(0);
                tries.into_iter().for_each(|other| other.permit.finish(Outcome::TimedOut));
                (first.permit, Outcome::TimedOut, Err(self.timed_out(Started::Yes)))
            }
        }
    }

    /// What the end of a try says about its replica.
    fn outcome_of(&mut self, result: &Result<Value, CallError>) -> Outcome {
        if std::mem::take(&mut self.trying.is_silent) { Outcome::TimedOut } else { Outcome::of(result) }
    }

    /// The end of a call whose parts are passed on. One that says nothing for too long ends as well, if another replica may be
    /// asked.
    pub(super) async fn collect(&mut self, under_way: &mut Try) -> Result<Value, CallError> {
        loop {
            let patience = self.trying.patience.filter(|_| self.forwarded == Forwarded::Nothing);
            let event = match patience {
                None => under_way.pending.next().await,
                Some(until) => {
                    let event = deadline::within(until, pin!(under_way.pending.next())).await.ok();
                    match event {
                        Some(event) => event,
                        None => match self.leave(under_way).await {
                            Some(event) => event,
                            None if self.trying.is_silent => return Err(silent()),
                            None => continue,
                        },
                    }
                }
            };
            match event {
                CallEvent::Done(value) => return Ok(value),
                CallEvent::Failed(error) => return Err(error),
                CallEvent::Delta(part) => self.forward(&part).await?,
                CallEvent::Timing(timing) => self.reported = Some(timing),
            }
        }
    }

    /// A replica has said nothing for too long: leaves it as soon as another one may be asked. Returns what it says meanwhile.
    async fn leave(&mut self, under_way: &mut Try) -> Option<CallEvent> {
        let mut avoid = self.tried.failed_on.clone();
        avoid.push(under_way.permit.target().key);
        if self.deployment.eligibility(self.routing(&avoid)) != Eligibility::Open {
            self.trying.patience = self.patience_with(&under_way.permit);
            return None;
        }
        if self.tried.place.is_none() {
            tokio::select! {
                event = under_way.pending.next() => return Some(event),
                place = self.cx.guards.budget.retry_later() => self.tried.place = Some(place),
            }
        }
        self.trying.is_silent = true;
        None
    }

    /// Passes a part on; waits while the client leaves too much unread.
    async fn forward(&mut self, part: &Value) -> Result<(), CallError> {
        let (Some(field), Some(parts)) = (&self.call.streams, &self.cx.parts) else { return Ok(()) };
        let Some(Value::Text(text)) = part.get("text") else { return Ok(()) };
        self.forwarded = Forwarded::Parts;
        let sent = parts.send(StreamPart { field: field.clone(), text: text.clone() }).await;
        sent.map_err(|_| CallError::started(ErrorClass::Cancelled, "the client does not read its answer"))
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

/// The end of a try whose replica said nothing.
fn silent() -> CallError {
    CallError::started(ErrorClass::Unavailable, "the replica did not answer in time")
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
    cx.progress.notes.lock().waiting_for.push(name.clone());
    let result = work.await;
    let waiting_for = &mut cx.progress.notes.lock().waiting_for;
    if let Some(position) = waiting_for.iter().position(|waiting| waiting == name) {
        waiting_for.remove(position);
    }
    result
}

/// The work's result, unless the instant comes first.
async fn within<T>(deadline: Option<Instant>, work: Pin<&mut impl Future<Output = T>>) -> Result<T, ()> {
    match deadline {
        Some(deadline) => deadline::within(deadline, work).await.map_err(|_| ()),
        None => Ok(work.await),
    }
}
