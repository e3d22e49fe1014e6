//! Whether a failed call is sent again, and how many may be at the same time, as plain functions.
//!
//! The budget bounds retries of calls that have started, as many as are under way at one time. A replica that dies takes all of its
//! calls with it: those wait for a place in the budget rather than fail, so that the bound costs no request. What has not
//! started costs nothing and needs no place.

use std::time::Duration;

use millstream_proto::{CallError, ErrorClass, Started};

/// Most retries of a call that has started, where its stage does not say.
pub const DEFAULT_RETRIES: u32 = 2;
/// Retries under way that are always allowed.
const MIN_BUDGET: u32 = 3;
/// One retry under way for that many active requests.
const REQUESTS_PER_RETRY: u32 = 5;
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// What is known when a call has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Retries after a failure that had started, so far.
    pub started_retries: u32,
    /// Most of them.
    pub max_retries: u32,
    /// Whether parts of the answer have gone to the client.
    pub forwarded: Forwarded,
    /// Whether the deployment may run a call twice.
    pub idempotent: Idempotent,
}

/// Whether parts of an answer have gone to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// Nothing yet.
    Nothing,
    /// Some have: the answer cannot begin again.
    Parts,
}

/// Whether a deployment may run a call twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotent {
    /// It may.
    Yes,
    /// It may not.
    No,
}

/// What a retry does that finds the budget spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenSpent {
    /// It waits for a place: its replica is gone, which is not a fault of the request, and with it went all the calls that it
    /// had. Together they may exceed the budget, one after the other they do not.
    Wait,
    /// It is given up.
    GiveUp,
}

/// What to do with a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing has run: queue again; a replica that is not there is not asked again until all others were.
    Elsewhere,
    /// The replica was full: queue again; it may be asked again when it has room.
    Requeue,
    /// It may have run: once more, on another replica, with a place in the budget.
    Retry(WhenSpent),
    /// Report the failure.
    GiveUp,
}

/// Decides on a failed call.
pub fn decide(error: &CallError, attempt: Attempt) -> Decision {
    if attempt.forwarded == Forwarded::Parts {
        return Decision::GiveUp;
    }
    match (error.started, error.class) {
        (Started::No, ErrorClass::Overloaded) => Decision::Requeue,
        // A replica that its worker does not know has just left: the routes are about to say so.
        (Started::No, ErrorClass::Unavailable | ErrorClass::NotFound) => Decision::Elsewhere,
        (_, ErrorClass::Unavailable | ErrorClass::Overloaded | ErrorClass::Internal) => {
            let allowed = attempt.idempotent == Idempotent::Yes || error.started == Started::No;
            if !allowed || attempt.started_retries >= attempt.max_retries {
                Decision::GiveUp
            } else if error.class == ErrorClass::Unavailable {
                Decision::Retry(WhenSpent::Wait)
            } else {
                Decision::Retry(WhenSpent::GiveUp)
            }
        }
        // The request's own fault, its own deadline, its own end: another replica would say the same.
        _ => Decision::GiveUp,
    }
}

/// Wait before all replicas are asked again; `jitter` is random, 0 to 1.
pub fn backoff(round: u32, jitter: f64) -> Duration {
    let wait = FIRST_BACKOFF.saturating_mul(1 << round.min(10)).min(MAX_BACKOFF);
    wait.mul_f64(0.5 + 0.5 * jitter)
}

/// Whether one more retry may run at the same time.
pub fn within_budget(retrying: u32, active: u32) -> bool {
    retrying < MIN_BUDGET.max(active / REQUESTS_PER_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Attempt = Attempt {
        started_retries: 0,
        max_retries: DEFAULT_RETRIES,
        forwarded: Forwarded::Nothing,
        idempotent: Idempotent::Yes,
    };

    #[test]
    fn what_is_sent_again_and_what_is_not() {
        use ErrorClass::{DeadlineExceeded, Internal, Invalid, NotFound, Overloaded, Unavailable};
        use Started::{No, Yes};
        let second = Attempt { started_retries: 1, ..FIRST };
        let third = Attempt { started_retries: 2, ..FIRST };
        let once = Attempt { idempotent: Idempotent::No, ..FIRST };
        let never = Attempt { max_retries: 0, ..FIRST };
        let often = Attempt { max_retries: 5, ..third };
        let (wait, give_up) = (Decision::Retry(WhenSpent::Wait), Decision::Retry(WhenSpent::GiveUp));
        let streaming = Attempt { forwarded: Forwarded::Parts, ..FIRST };
        let table = [
            (No, Overloaded, FIRST, Decision::Requeue),
            (No, Overloaded, never, Decision::Requeue),
            (No, Unavailable, once, Decision::Elsewhere),
            (No, Unavailable, third, Decision::Elsewhere),
            (No, NotFound, FIRST, Decision::Elsewhere),
            (Yes, Unavailable, FIRST, wait),
            (Yes, Internal, second, give_up),
            (Yes, Overloaded, second, give_up),
            (Yes, Unavailable, third, Decision::GiveUp),
            (Yes, Unavailable, once, Decision::GiveUp),
            (No, Internal, once, give_up),
            (Yes, Unavailable, never, Decision::GiveUp),
            (Yes, Unavailable, often, wait),
            (Yes, Unavailable, streaming, Decision::GiveUp),
            (No, Invalid, FIRST, Decision::GiveUp),
            (Yes, Invalid, FIRST, Decision::GiveUp),
            (Yes, DeadlineExceeded, FIRST, Decision::GiveUp),
            (Yes, NotFound, FIRST, Decision::GiveUp),
        ];
        for (started, class, attempt, expected) in table {
            let error = CallError { class, message: String::new(), started };
            assert_eq!(decide(&error, attempt), expected, "{started:?} {class:?} {attempt:?}");
        }
    }

    #[test]
    fn backoff_doubles_within_its_bounds() {
        let ms: Vec<_> = [0, 1, 2, 5, 6, 40].map(|round| backoff(round, 1.0).as_millis()).to_vec();
        assert_eq!(ms, [10, 20, 40, 320, 500, 500]);
        assert_eq!(backoff(0, 0.0).as_millis(), 5);
    }
}
