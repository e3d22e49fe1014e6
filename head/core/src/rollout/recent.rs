//! What came of the last requests and calls of a revision: what it is judged by. A canary that answered a million requests
//! yesterday and fails all of them now is a bad one; so the past is forgotten, but never so much of it that too little is
//! left to judge by.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::judge::Tally;

/// A window is at least so long, and has at least so many outcomes.
const WINDOW: Duration = Duration::from_secs(1);
const WINDOW_OUTCOMES: u64 = 10;
/// For so long every outcome counts.
const LAST: Duration = Duration::from_secs(10);
/// So many outcomes of requests, and of each deployment's calls, count however long ago they were.
const MIN_KEPT: u64 = 200;
/// Most windows, whatever else is asked for: a deployment may get few of a pipeline's calls.
const MAX_WINDOWS: usize = 64;

/// See the module: outcomes of the last 10 s, and at least the last 200.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Recent {
    windows: VecDeque<Window>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Window {
    since: Duration,
    tally: Tally,
}

impl Window {
    fn is_open(&self, now: Duration) -> bool {
        let most = self.tally.scopes().map(|(_, outcomes)| outcomes.total()).max().unwrap_or(0);
        now < self.since + WINDOW || most < WINDOW_OUTCOMES
    }
}

impl Recent {
    /// Counts more. O(windows).
    pub fn add(&mut self, tally: &Tally, now: Duration) {
        match self.windows.back_mut().filter(|window| window.is_open(now)) {
            Some(window) => window.tally.add(tally),
            None => self.windows.push_back(Window { since: now, tally: tally.clone() }),
        }
        while self.windows.len() > MAX_WINDOWS || self.has_surplus(now) {
            self.windows.pop_front();
        }
    }

    /// All that counts.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.sum(0)
    }

    /// Whether the oldest window is old, and enough is left without it.
    fn has_surplus(&self, now: Duration) -> bool {
        let Some(oldest) = self.windows.front().filter(|oldest| oldest.since + WINDOW + LAST <= now) else {
            return false;
        };
        let left = self.sum(1);
        let is_enough = |(deployment, _)| left.outcomes(deployment).total() >= MIN_KEPT;
        oldest.tally.scopes().filter(|(_, outcomes)| outcomes.total() > 0).all(is_enough)
    }

    fn sum(&self, from: usize) -> Tally {
        self.windows.iter().skip(from).fold(Tally::default(), |mut sum, window| {
            sum.add(&window.tally);
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Outcomes;

    fn tally(answered: u64, failed: u64) -> Tally {
        Tally { requests: Outcomes { answered, failed }, ..Tally::default() }
    }

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_past_is_forgotten_when_there_is_enough_of_the_present() {
        let mut recent = Recent::default();
        for now in 0..1000 {
            recent.add(&tally(1000, 0), second(now));
        }
        assert_eq!(
            recent.tally().requests.answered,
            11_000,
            "the last ten seconds, and the one that goes on"
        );
        for now in 1000..1005 {
            recent.add(&tally(0, 100), second(now));
        }
        assert_eq!(recent.tally().requests, Outcomes { answered: 6_000, failed: 500 });
    }

    #[test]
    fn of_few_outcomes_the_last_200_count_and_windows_stay_few() {
        let mut recent = Recent::default();
        for minute in 0..10_000 {
            recent.add(&tally(1, 0), second(60 * minute));
            assert!(recent.windows.len() <= MAX_WINDOWS);
        }
        let kept = recent.tally().requests.answered;
        assert!((MIN_KEPT..2 * MIN_KEPT).contains(&kept), "{kept}");
    }
}
