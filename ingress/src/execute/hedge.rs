//! Hedging: a call that takes longer than most goes to a second replica as well, and the first answer counts. For
//! stages that ask for it, of deployments that may run a call twice.
//!
//! A second call is made only where a replica has room at once, so that it never waits before others, and within the
//! budget for retries, so that hedges do not become the load. Source: Dean and Barroso, "The Tail at Scale", 2013.

use std::time::Duration;

use millstream_pipelines::Hedge;
use millstream_proto::call::{CallEvent, PendingCall, Timing};
use millstream_proto::{CallError, Value};
use smallvec::SmallVec;

use super::attempt::CallAttempt;
use crate::dispatch::Permit;
use crate::metrics::RetryReason;
use crate::model::Outcome;

/// A call in one replica.
pub(super) struct Try {
    pub(super) permit: Permit,
    pub(super) pending: PendingCall,
}

/// The calls under way, the first one first.
pub(super) type Tries = SmallVec<[Try; 2]>;

impl CallAttempt<'_> {
    /// When to send the call to a second replica; `None` where that is not asked for, not allowed or not known yet.
    pub(super) fn hedge_after(&self) -> Option<Duration> {
        let hedge = self.call.hedge?;
        if self.streams() || !self.deployment.is_idempotent() {
            return None;
        }
        match hedge {
            Hedge::Percentile(percent) => self.deployment.latency(percent),
            Hedge::After(after) => Some(after),
        }
    }

    /// Waits for the first of `tries`, and after some time for a second one too. Returns which of them ended the call.
    pub(super) async fn race(
        &mut self,
        tries: &mut Tries,
        after: Duration,
    ) -> (usize, Result<Value, CallError>) {
        if let Ok(ended) = tokio::time::timeout(after, answer(&mut tries[0].pending)).await {
            return (0, self.hears(ended));
        }
        let first = tries[0].permit.target().key;
        let avoid: SmallVec<[_; 4]> = self.tried.avoided().into_iter().chain([first]).collect();
        // Both places are held for as long as the second call runs.
        let place = self.cx.guards.budget.retry();
        let second = place.as_ref().and_then(|_| self.deployment.try_acquire(self.routing(&avoid)));
        drop(place.filter(|_| second.is_none()));
        let Some(permit) = second else { return (0, self.collect(&mut tries[0]).await) };
        self.deployment.meter().retried(RetryReason::Hedged);
        let pending = self.send(&permit);
        tries.push(Try { permit, pending });
        let (head, tail) = tries.split_at_mut(1);
        let (answered, ended) = tokio::select! {
            answer = answer(&mut head[0].pending) => (answer, 0),
            answer = answer(&mut tail[0].pending) => (answer, 1),
        };
        let outcome = Outcome::of(&answered.0);
        if outcome == Outcome::Answered {
            return (ended, self.hears(answered));
        }
        // The other may still answer.
        let failed = tries.remove(ended);
        self.tried.failed_on.push(failed.permit.target().key);
        failed.permit.finish(outcome);
        (0, self.collect(&mut tries[0]).await)
    }

    fn hears(&mut self, (result, reported): Answer) -> Result<Value, CallError> {
        self.reported = reported;
        result
    }
}

/// How a call ended, and where its time went if its replica told.
type Answer = (Result<Value, CallError>, Option<Timing>);

/// The end of a call whose parts nobody wants.
async fn answer(pending: &mut PendingCall) -> Answer {
    let mut reported = None;
    loop {
        match pending.next().await {
            CallEvent::Done(value) => return (Ok(value), reported),
            CallEvent::Failed(error) => return (Err(error), reported),
            CallEvent::Timing(timing) => reported = Some(timing),
            CallEvent::Delta(_) => {}
        }
    }
}
