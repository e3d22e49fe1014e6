//! One deployment's history and decisions together, and when to look at it again.

use std::time::Duration;

use millstream_pipelines::Autoscaling;
use serde::Serialize;

use super::decide::{Decision, Observed, Scaling, decide};
use super::history::{History, Load};

/// How finely time is looked at while an average moves.
pub const RESOLUTION: Duration = Duration::from_millis(100);

/// What is known and decided about one deployment; reporters are told apart by `R`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaler<R: Ord> {
    /// Its requests over time.
    pub history: History<R>,
    /// What has been decided.
    pub scaling: Scaling,
    /// When to decide again, whatever is or is not reported; `None` when only news can change anything.
    pub wake_at: Option<Duration>,
}

impl<R: Ord + Clone> Scaler<R> {
    /// A deployment that is to have that many replicas, nothing known of its requests; looked at once.
    #[must_use]
    pub fn new(target: u32) -> Self {
        let scaling = Scaling { target, ..Scaling::default() };
        Self { history: History::default(), scaling, wake_at: Some(Duration::ZERO) }
    }

    /// Takes a report, to be looked at with the next decision.
    pub fn record(&mut self, reporter: &R, load: Load, look_back: Duration, now: Duration) {
        self.history.record(reporter, load, look_back, now);
        self.wake_at = Some(now);
    }

    /// Decides with these replicas. `known_since` is when the first reporter could say something.
    pub fn decide(
        &mut self,
        config: &Autoscaling,
        (ready, starting): (u32, u32),
        known_since: Duration,
        now: Duration,
    ) -> Decision {
        self.history.prune(config.look_back, now);
        let observed = Observed {
            ongoing: self.history.mean(config.look_back, known_since, now),
            ongoing_now: self.history.ongoing_now(),
            queued: self.history.queued_now(),
            last_active: self.history.last_active(),
            ready,
            starting,
        };
        let decision = decide(config, &self.scaling, &observed, now);
        let moves_until = self.history.moves_until(config.look_back).filter(|&until| until > now);
        let moving = moves_until.map(|until| until.min(now + RESOLUTION));
        let at_once = decision.rule.map(|_| now);
        self.wake_at = [decision.wake_at, moving, at_once].into_iter().flatten().min();
        self.scaling = decision.scaling;
        decision
    }

    /// Whether nothing but news of requests can matter any more.
    #[must_use]
    pub fn is_dormant(&self) -> bool {
        self.wake_at.is_none() && self.history.is_empty() && self.scaling.intent.is_none()
    }
}
