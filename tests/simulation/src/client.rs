//! Clients: each request that was sent is answered once, and how.

use std::time::Duration;

use crate::checks::{Checks, Rule};

/// How a request ended, as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer.
    Answered,
    /// The queue was full.
    Shed,
    /// There is no such pipeline at this ingress.
    Unknown,
    /// The ingress does not run, or ended.
    Unreachable,
    /// An error, and which.
    Failed(String),
}

#[derive(Debug)]
struct Sent {
    /// By when an answer must be there.
    due: Duration,
    answered: bool,
}

/// How failures are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Strictness {
    /// Faults may cost requests.
    #[default]
    Lenient,
    /// No request may fail.
    Strict,
}

/// All requests, by number.
#[derive(Debug, Default)]
pub(crate) struct Client {
    requests: Vec<(Sent, Strictness)>,
    /// How requests that are sent from now on are looked at.
    pub(crate) strictness: Strictness,
    pub(crate) num_answered: u64,
    pub(crate) num_failed: u64,
}

impl Client {
    /// A request is sent; gives its number.
    pub(crate) fn send(&mut self, due: Duration) -> u64 {
        self.requests.push((Sent { due, answered: false }, self.strictness));
        self.requests.len() as u64 - 1
    }

    /// A request is answered.
    pub(crate) fn answer(&mut self, request: u64, outcome: &Outcome, checks: &mut Checks) {
        let index = usize::try_from(request).unwrap_or(usize::MAX);
        let Some((sent, strictness)) = self.requests.get_mut(index) else { return };
        if sent.answered {
            checks.fail(Rule::AnsweredOnce, format!("request {request} is answered again: {outcome:?}"));
        }
        sent.answered = true;
        match outcome {
            Outcome::Answered => self.num_answered += 1,
            Outcome::Shed | Outcome::Unknown => {}
            Outcome::Unreachable | Outcome::Failed(_) => {
                self.num_failed += 1;
                if *strictness == Strictness::Strict {
                    checks.fail(Rule::NoneFails, format!("request {request}: {outcome:?}"));
                }
            }
        }
    }

    /// Every request that is due has its answer.
    pub(crate) fn check_all_answered(&self, now: Duration, checks: &mut Checks) {
        let lost = self.requests.iter().position(|(sent, _)| !sent.answered && sent.due < now);
        if let Some(lost) = lost {
            checks.fail(Rule::AnsweredOnce, format!("request {lost} was never answered"));
        }
    }
}
