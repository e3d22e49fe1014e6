//! One stage's call on its way: what it has tried, and what every try of it asks for.

use std::time::{Duration, Instant};

use millstream_pipelines::StageCall;
use millstream_proto::call::{CallContext, CallRequest, PendingCall, ResponseMode, Timing};
use millstream_proto::{CallError, ErrorClass, Started, Value};

use super::Context;
use super::budget::Retrying;
use super::retry::Forwarded;
use crate::dispatch::{Deployment, Key, Outcome, Permit, RoutingRequest};

/// See the module.
pub(super) struct CallAttempt<'a> {
    pub(super) deployment: &'a Deployment,
    /// The revision that the request runs on, where it says something about this deployment.
    pub(super) revision: Option<u64>,
    pub(super) call: &'a StageCall,
    pub(super) cx: &'a Context,
    /// When the stage's own timeout is over; the request's deadline is the executor's to keep.
    pub(super) own_deadline: Option<Instant>,
    /// Replicas on which the call may have run: never again.
    pub(super) failed_on: Vec<Key>,
    /// Replicas that were not there: not again before the others were asked.
    pub(super) absent: Vec<Key>,
    /// How often all replicas were asked in vain.
    pub(super) rounds: u32,
    pub(super) started_retries: u32,
    pub(super) retry_place: Option<Retrying<'a>>,
    pub(super) forwarded: Forwarded,
    /// How long it waited for places, where that is asked for.
    pub(super) queued: Duration,
    /// What the replica that answered says about its time.
    pub(super) told: Option<Timing>,
    /// The replica whose answer it is.
    pub(super) answered_by: Option<Key>,
}

impl CallAttempt<'_> {
    /// What is asked of the deployment.
    pub(super) fn wish<'w>(&self, avoid: &'w [Key]) -> RoutingRequest<'w> {
        RoutingRequest {
            avoid,
            revision: self.revision,
            draw: self.cx.draw,
            claim: self.cx.claim,
            deadline: Some(self.deadline()),
        }
    }

    /// Whether parts of the answer go to the client as they come.
    pub(super) fn streams(&self) -> bool {
        self.call.streams.is_some() && self.cx.parts.is_some()
    }

    /// When the call is of no use any more.
    pub(super) fn deadline(&self) -> Instant {
        self.own_deadline.map_or(self.cx.deadline, |own| own.min(self.cx.deadline))
    }

    pub(super) fn avoided(&self) -> Vec<Key> {
        self.failed_on.iter().chain(&self.absent).copied().collect()
    }

    /// Sends the call.
    pub(super) fn send(&self, permit: &Permit) -> PendingCall {
        let request = CallRequest {
            context: CallContext {
                deadline: Some(self.deadline()),
                attempt: self.started_retries,
                ..self.cx.call.clone()
            },
            inputs: self.call.inputs.clone(),
            answer: if self.streams() { ResponseMode::Stream } else { ResponseMode::Whole },
            timed: self.cx.timings.is_some(),
        };
        let target = permit.target();
        target.client.call(&target.id, request)
    }
}

/// What a call's end says about its replica.
pub(super) fn outcome_of(result: &Result<Value, CallError>) -> Outcome {
    let Err(error) = result else { return Outcome::Answered };
    match (error.class, error.started) {
        (ErrorClass::Unavailable, _) | (ErrorClass::NotFound, Started::No) => Outcome::Transport,
        (ErrorClass::Overloaded, Started::No) => Outcome::Full,
        (ErrorClass::Internal, _) => Outcome::Failed,
        _ => Outcome::Answered,
    }
}
