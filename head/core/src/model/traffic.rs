//! The requests of a pipeline in the last minute, by the revision that they ran on: how many, how they ended, how long they took.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millstream_status::durations::Durations;
use serde::Serialize;

use crate::rollout::{Outcomes, Tally};

/// Requests of so long are counted together.
const WINDOW: Duration = Duration::from_secs(5);
/// What came longer ago counts no more.
const KEPT: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Traffic {
    windows: VecDeque<Window>,
    /// When the first request was counted.
    began: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Window {
    since: Duration,
    by_revision: BTreeMap<u64, Requests>,
}

/// Requests that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Requests {
    /// How.
    pub outcomes: Outcomes,
    /// How long those with an answer took.
    pub durations: Durations,
}

/// The requests of the last while.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lately {
    /// The requests.
    pub requests: Requests,
    /// How long they were counted for.
    pub span: Duration,
}

impl Traffic {
    /// Counts requests on a revision that have just been reported.
    pub fn count(&mut self, revision: u64, tally: &Tally, now: Duration) {
        if tally.requests.total() == 0 {
            return;
        }
        self.began.get_or_insert(now);
        if self.windows.back().is_none_or(|last| now.saturating_sub(last.since) >= WINDOW) {
            self.windows.push_back(Window { since: now, by_revision: BTreeMap::new() });
            while self.windows.front().is_some_and(|first| is_over(first, now)) {
                self.windows.pop_front();
            }
        }
        if let Some(last) = self.windows.back_mut() {
            let requests = last.by_revision.entry(revision).or_default();
            requests.outcomes.add(tally.requests);
            requests.durations.add(&tally.durations);
        }
    }

    /// The last minute of a revision, or of all.
    #[must_use]
    pub fn last_minute(&self, revision: Option<u64>, now: Duration) -> Lately {
        self.lately(KEPT, revision, now)
    }

    /// Whether nothing that counts is left.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        self.windows.back().is_none_or(|last| is_over(last, now))
    }

    /// The last seconds of all revisions, for curves.
    #[must_use]
    pub fn last_seconds(&self, now: Duration) -> Lately {
        self.lately(2 * WINDOW, None, now)
    }

    fn lately(&self, span: Duration, revision: Option<u64>, now: Duration) -> Lately {
        let mut requests = Requests::default();
        let is_within = |window: &&Window| now.saturating_sub(window.since) <= span;
        for window in self.windows.iter().filter(is_within) {
            let wanted =
                window.by_revision.iter().filter(|(number, _)| revision.is_none_or(|it| it == **number));
            for (_, more) in wanted {
                requests.outcomes.add(more.outcomes);
                requests.durations.add(&more.durations);
            }
        }
        let span =
            self.began.map_or(span, |began| now.saturating_sub(began)).clamp(Duration::from_secs(1), span);
        Lately { requests, span }
    }
}

/// Whether it began longer ago than what counts.
fn is_over(window: &Window, now: Duration) -> bool {
    now.saturating_sub(window.since) > KEPT
}

impl Lately {
    /// Requests a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub fn per_second(&self) -> f64 {
        self.requests.outcomes.total() as f64 / self.span.max(Duration::from_secs(1)).as_secs_f64()
    }

    /// What so many percent of those with an answer took at most, in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, percent: u8) -> Option<f64> {
        self.requests.durations.quantile(percent).map(|took| took.as_secs_f64() * 1000.0)
    }

    /// Counts the requests of another pipeline too.
    pub fn add(&mut self, other: &Self) {
        self.requests.outcomes.add(other.requests.outcomes);
        self.requests.durations.add(&other.requests.durations);
        self.span = self.span.max(other.span);
    }

    /// The part of them that failed by a fault of ours, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub fn failed_ratio(&self) -> f64 {
        let Outcomes { failed, .. } = self.requests.outcomes;
        failed as f64 / self.requests.outcomes.total().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use millstream_status::durations::bucket;

    use super::*;

    fn tally(answered: u64, failed: u64, took: Duration) -> Tally {
        let mut durations = Durations::default();
        durations.count(bucket(took), answered);
        Tally { requests: Outcomes { answered, failed }, durations, ..Tally::default() }
    }

    #[test]
    fn a_minute_is_kept_and_revisions_are_told_apart() {
        let mut traffic = Traffic::default();
        for second in 0..200 {
            let now = Duration::from_secs(second);
            traffic.count(1, &tally(9, 1, Duration::from_millis(10)), now);
            traffic.count(2, &tally(1, 0, Duration::from_millis(100)), now);
        }
        let now = Duration::from_secs(200);
        let (all, old, new) = (
            traffic.last_minute(None, now),
            traffic.last_minute(Some(1), now),
            traffic.last_minute(Some(2), now),
        );
        assert!((10.0..12.0).contains(&all.per_second()), "{}", all.per_second());
        assert!((all.failed_ratio() - 1.0 / 11.0).abs() < 0.001 && new.failed_ratio() == 0.0);
        assert!((old.per_second() / new.per_second() - 10.0).abs() < 0.001);
        let p95 = |it: &Lately| it.requests.durations.quantile(95).unwrap().as_millis();
        assert!((10..=13).contains(&p95(&old)) && (100..=126).contains(&p95(&new)));
        assert!(traffic.windows.len() <= 13, "{}", traffic.windows.len());
        let later = traffic.last_minute(None, now + Duration::from_secs(61));
        assert_eq!(later.requests, Requests::default(), "what is over does not count");
    }

    #[test]
    fn what_has_just_begun_has_its_rate_at_once() {
        let mut traffic = Traffic::default();
        let start = Duration::from_secs(1000);
        traffic.count(1, &tally(20, 0, Duration::from_millis(1)), start);
        assert_eq!(traffic.last_minute(None, start + Duration::from_secs(2)).per_second(), 10.0);
    }
}
