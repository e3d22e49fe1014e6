//! Clients: each request that was sent is answered once, and how.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_pipelines::Name;

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
    /// An error that is the fault of whoever deployed that revision.
    Blamed,
}

#[derive(Debug)]
struct Sent {
    /// By when an answer must be there.
    due: Duration,
    answered: bool,
    strictness: Strictness,
    /// Whether its pipeline is one that every ingress has served.
    is_served: bool,
}

/// How failures are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Strictness {
    /// Faults may cost requests.
    #[default]
    Lenient,
    /// No request may fail or be turned away.
    Strict,
}

/// All requests, by number.
#[derive(Debug, Default)]
pub(crate) struct Client {
    requests: Vec<Sent>,
    /// Pipelines that every ingress has served, and that nobody has deleted since.
    pub(crate) served: BTreeSet<Name>,
    /// How requests that are sent from now on are looked at.
    pub(crate) strictness: Strictness,
    pub(crate) num_answered: u64,
    pub(crate) num_failed: u64,
}

impl Client {
    /// A request is sent to a pipeline; returns its number.
    pub(crate) fn send(&mut self, due: Duration, pipeline: &Name) -> u64 {
        let (strictness, is_served) = (self.strictness, self.served.contains(pipeline));
        self.requests.push(Sent { due, answered: false, strictness, is_served });
        self.requests.len() as u64 - 1
    }

    /// A request is answered.
    pub(crate) fn answer(&mut self, request: u64, outcome: &Outcome, checks: &mut Checks) {
        let index = usize::try_from(request).unwrap_or(usize::MAX);
        let Some(sent) = self.requests.get_mut(index) else { return };
        if sent.answered {
            checks.fail(Rule::AnsweredOnce, format!("request {request} is answered again: {outcome:?}"));
        }
        sent.answered = true;
        let is_failure = match outcome {
            Outcome::Answered => {
                self.num_answered += 1;
                return;
            }
            Outcome::Blamed => false,
            // A pipeline that is on its way to its first replica may be unknown yet.
            Outcome::Unknown => sent.is_served,
            Outcome::Shed | Outcome::Unreachable | Outcome::Failed(_) => true,
        };
        self.num_failed += u64::from(is_failure);
        if is_failure && sent.strictness == Strictness::Strict {
            checks.fail(Rule::NoneFails, format!("request {request}: {outcome:?}"));
        }
    }

    /// Every request that is due has its answer.
    pub(crate) fn check_all_answered(&self, now: Duration, checks: &mut Checks) {
        let lost = self.requests.iter().position(|sent| !sent.answered && sent.due < now);
        if let Some(lost) = lost {
            checks.fail(Rule::AnsweredOnce, format!("request {lost} was never answered"));
        }
    }
}
