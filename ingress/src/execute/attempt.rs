//! One stage's call on its way: what it has tried, and what every try of it asks for.

use std::time::Instant;

use millstream_pipelines::StageCall;
use millstream_proto::call::{CallRequest, PendingCall, ResponseMode, Timing, TraceContext};
use millstream_proto::{ErrorClass, ReplicaId};

use super::Context;
use super::budget::Retrying;
use super::retry::{DEFAULT_RETRIES, Forwarded};
use crate::cache::fingerprint::{Fingerprint, Subject};
use crate::dispatch::{Deployment, Key, Permit, RoutingRequest, StandIns};
use crate::trace::{Trace, TracedCall, TracedTry};

/// See the module.
pub(super) struct CallAttempt<'a> {
    pub(super) deployment: &'a Deployment,
    /// The revision that the request runs on, where it says something about this deployment.
    pub(super) revision: Option<u64>,
    pub(super) call: &'a StageCall,
    pub(super) cx: &'a Context,
    /// When the stage's own timeout is over; the request's deadline is the executor's to keep.
    pub(super) own_deadline: Option<Instant>,
    pub(super) trying: Trying,
    pub(super) tried: Tried<'a>,
    pub(super) forwarded: Forwarded,
    /// Where its time goes, when somebody wants to know.
    pub(super) traced: Option<Traced<'a>>,
    /// What the replica that was tried last says about its time.
    pub(super) reported: Option<Timing>,
    /// The replica whose answer it is.
    pub(super) answered_by: Option<Key>,
}

/// The try under way.
#[derive(Default)]
pub(super) struct Trying {
    /// Until when its replica is waited for before another one is asked; `None` where no other may be.
    pub(super) patience: Option<Instant>,
    /// Whether its replica was left because it said nothing.
    pub(super) is_silent: bool,
    /// The call, if a replica has crashed while it worked on it.
    pub(super) suspect: Option<Fingerprint>,
}

/// A call's part of its request's trace, which has it when the call ends, whichever way.
pub(super) struct Traced<'a> {
    trace: &'a Trace,
    call: TracedCall,
    /// Since when it waits for a place.
    since: Instant,
}

impl<'a> Traced<'a> {
    /// A stage's call that begins now.
    pub(super) fn begin(trace: &'a Trace, call: &StageCall, now: Instant) -> Self {
        Self { trace, call: trace.begin_call(call.stage_index, call.target, now), since: now }
    }

    /// It has a place with this replica, or none.
    pub(super) fn placed(&mut self, place: Result<&ReplicaId, ErrorClass>, attempt: u32) {
        let (began, placed) = (self.since, millstream_clock::now());
        let (replica, error) = (place.ok().cloned(), place.err());
        self.call.tries_at(TracedTry { began, placed, ended: None, replica, attempt, reported: None, error });
    }

    /// The try has ended, with this replica.
    pub(super) fn tried(&mut self, replica: &ReplicaId, reported: Option<Timing>, error: Option<ErrorClass>) {
        let Some(last) = self.call.last_try() else { return };
        if last.replica.as_ref() != Some(replica) {
            last.replica = Some(replica.clone());
        }
        (last.reported, last.error) = (reported, error);
        // One that has an answer ends with the call.
        last.ended = error.map(|_| millstream_clock::now());
    }

    /// The next try begins only now.
    pub(super) fn pauses(&mut self) {
        self.since = millstream_clock::now();
    }

    /// The whole call has ended.
    pub(super) fn ended(&mut self, now: Instant, error: Option<ErrorClass>) {
        (self.call.ended, self.call.error) = (Some(now), error);
    }

    fn context(&self) -> TraceContext {
        self.trace.context_of(self.call.current_span())
    }
}

impl Drop for Traced<'_> {
    fn drop(&mut self) {
        if self.call.ended.is_none() {
            self.ended(millstream_clock::now(), Some(ErrorClass::Cancelled));
        }
        self.trace.add(&mut self.call);
    }
}

/// Where a call has been tried in vain.
#[derive(Default)]
pub(super) struct Tried<'a> {
    /// Replicas on which it may have run: never again.
    pub(super) failed_on: Vec<Key>,
    /// Replicas that were not there: not again before the others were asked.
    pub(super) absent: Vec<Key>,
    /// How often all replicas were asked in vain.
    pub(super) rounds: u32,
    /// Retries after it may have run.
    pub(super) retries: u32,
    /// Its place in the budget for them.
    pub(super) place: Option<Retrying<'a>>,
}

impl Tried<'_> {
    pub(super) fn avoided(&self) -> Vec<Key> {
        self.failed_on.iter().chain(&self.absent).copied().collect()
    }
}

impl CallAttempt<'_> {
    /// What is asked of the deployment.
    pub(super) fn routing<'w>(&self, avoid: &'w [Key]) -> RoutingRequest<'w> {
        RoutingRequest {
            avoid,
            revision: self.revision,
            draw: self.cx.draw,
            claim: self.cx.claim,
            deadline: Some(self.deadline()),
            standing: self.cx.standing(),
        }
    }

    /// The call as [`Suspects`](super::suspects::Suspects) know it.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            deployment: self.deployment.name(),
            revision: self.revision.unwrap_or_default(),
            tenant: None,
            inputs: &self.call.inputs,
        }
    }

    /// Most retries after it may have run.
    pub(super) fn max_retries(&self) -> u32 {
        self.call.retries.unwrap_or(DEFAULT_RETRIES)
    }

    /// Until when a replica is waited for: at most half of what is left, so that another one can still answer.
    pub(super) fn patience_with(&self, permit: &Permit) -> Option<Instant> {
        let StandIns::Exist { patience } = permit.stand_ins() else { return None };
        if self.tried.retries >= self.max_retries() {
            return None;
        }
        let now = millstream_clock::now();
        let half = self.deadline().saturating_duration_since(now) / 2;
        Some(now + patience.map_or(half, |patience| patience.min(half)))
    }

    /// Whether parts of the answer go to the client as they come.
    pub(super) fn streams(&self) -> bool {
        self.call.streams.is_some() && self.cx.parts.is_some()
    }

    /// When the call is of no use any more.
    pub(super) fn deadline(&self) -> Instant {
        self.own_deadline.map_or(self.cx.deadline, |own| own.min(self.cx.deadline))
    }

    /// Sends the call.
    pub(super) fn send(&self, permit: &Permit) -> PendingCall {
        let mut context = self.cx.call.clone();
        context.deadline = Some(self.deadline());
        context.attempt = self.tried.retries;
        context.alone = self.trying.suspect.is_some();
        if let Some(traced) = &self.traced {
            context.trace = Some(traced.context());
        }
        let request = CallRequest {
            context,
            inputs: self.call.inputs.clone(),
            answer: if self.streams() { ResponseMode::Stream } else { ResponseMode::Whole },
            timed: self.traced.is_some(),
        };
        let target = permit.target();
        target.client.call(&target.id, request)
    }
}
