//! The latest outcomes of a new revision, beside those that the old one had in the same time: what a verdict is made of.
//!
//! A new revision is judged by its last 10 s, and by as much before as it takes to have 200 outcomes. Why not by all: a
//! canary with a million good answers would need 50,000 failures to be convicted. Why not by the last 10 s alone: with
//! little traffic there would never be enough to judge by. Why 200 and not 20: a canary is judged again and again for as
//! long as it stands, and 2 failures among 20 come by chance sooner or later, 11 among 200 hardly.
//!
//! The old revision is judged by the same time, so that a fault that befell both counts for both, and what it failed at
//! before counts for nothing. Once it gets no requests any more, its last 200 outcomes are what there is to compare with.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millstream_pipelines::Name;
use millstream_status::durations::Durations;
use serde::Serialize;

use super::outcomes::{Outcomes, Tally};

/// Outcomes of so long are counted together.
const WINDOW: Duration = Duration::from_secs(1);
/// The latest time, which counts however many outcomes there were.
const LATEST: Duration = Duration::from_secs(10);
/// Outcomes that count however long ago they were.
const ENOUGH: u64 = 200;

/// The latest outcomes of both revisions of a rollout.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Recent {
    requests: Windows,
    deployments: BTreeMap<Name, Windows>,
}

/// Which revision of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that takes over.
    New,
    /// The one that it takes over from.
    Old,
}

/// What is judged by itself: requests, or the calls of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The deployment; `None` for requests.
    pub deployment: Option<&'a Name>,
    /// Outcomes of the revision that takes over.
    pub new: Outcomes,
    /// Outcomes of the one that it takes over from.
    pub old: Outcomes,
}

/// Outcomes of one scope in the order of time; windows with none are left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
struct Windows(VecDeque<Window>);

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Window {
    since: Duration,
    new: Ended,
    old: Ended,
}

/// What ended of one side.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
struct Ended {
    outcomes: Outcomes,
    durations: Durations,
}

impl Recent {
    /// Counts outcomes that have just been reported.
    pub fn count(&mut self, side: Side, tally: &Tally, now: Duration) {
        self.requests.add(side, tally.requests, &tally.durations, now);
        for (deployment, outcomes) in &tally.deployments {
            // Calls of a deployment that are none yet make no entry.
            if outcomes.total() > 0 {
                self.deployments.entry(deployment.clone()).or_default().add(
                    side,
                    *outcomes,
                    &Durations::default(),
                    now,
                );
            }
        }
    }

    /// Requests, then each deployment's calls.
    pub fn scopes(&self) -> impl Iterator<Item = Scope<'_>> {
        let deployments = self.deployments.iter().map(|(name, windows)| windows.scope(Some(name)));
        std::iter::once(self.requests.scope(None)).chain(deployments)
    }

    /// How long requests with an answer took, on the new revision and on the old one.
    #[must_use]
    pub fn durations(&self) -> [Durations; 2] {
        let mut sides = [Durations::default(), Durations::default()];
        for window in &self.requests.0 {
            sides[0].add(&window.new.durations);
            sides[1].add(&window.old.durations);
        }
        sides
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scopes().all(|scope| scope.new.total() + scope.old.total() == 0)
    }

    /// Whether anything of the new revision failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.scopes().any(|scope| scope.new.failed > 0)
    }

    /// Whether all requests of the new revision failed, or all calls of one of its deployments, however few they are.
    #[must_use]
    pub fn all_failed(&self) -> bool {
        self.scopes().any(|scope| scope.new.failed > 0 && scope.new.answered == 0)
    }
}

impl Ended {
    fn total(&self) -> u64 {
        self.outcomes.total()
    }
}

impl Windows {
    fn scope<'a>(&self, deployment: Option<&'a Name>) -> Scope<'a> {
        let (mut new, mut old) = (Outcomes::default(), Outcomes::default());
        for window in &self.0 {
            new.add(window.new.outcomes);
            old.add(window.old.outcomes);
        }
        Scope { deployment, new, old }
    }

    fn add(&mut self, side: Side, outcomes: Outcomes, durations: &Durations, now: Duration) {
        if outcomes.total() == 0 {
            return;
        }
        if self.0.back().is_none_or(|last| now.saturating_sub(last.since) >= WINDOW) {
            self.0.push_back(Window { since: now, new: Ended::default(), old: Ended::default() });
            self.forget(now);
        }
        if let Some(last) = self.0.back_mut() {
            let ended = match side {
                Side::New => &mut last.new,
                Side::Old => &mut last.old,
            };
            ended.outcomes.add(outcomes);
            ended.durations.add(durations);
        }
    }

    /// Drops what counts no longer. At most 11 windows of the latest time stay, and before these one for each of 200
    /// outcomes of either revision.
    fn forget(&mut self, now: Duration) {
        let (mut num_new, mut num_old) = (0, 0);
        for window in self.0.iter_mut().rev() {
            if now.saturating_sub(window.since) > LATEST {
                if num_new >= ENOUGH {
                    window.new = Ended::default();
                }
                if num_old >= ENOUGH && window.new.total() == 0 {
                    window.old = Ended::default();
                }
            }
            num_new += window.new.total();
            num_old += window.old.total();
        }
        let newest = self.0.len().saturating_sub(1);
        let mut index = 0..;
        self.0.retain(|window| index.next() == Some(newest) || window.new.total() + window.old.total() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts so many answers and failures each second from `from` on, for so many seconds.
    fn pass(windows: &mut Windows, side: Side, seconds: std::ops::Range<u64>, each: (u64, u64)) {
        let outcomes = Outcomes { answered: each.0, failed: each.1 };
        seconds.for_each(|second| {
            windows.add(side, outcomes, &Durations::default(), Duration::from_secs(second));
        });
    }

    fn counts(windows: &Windows) -> [(u64, u64); 2] {
        let Scope { new, old, .. } = windows.scope(None);
        [new, old].map(|outcomes| (outcomes.answered, outcomes.failed))
    }

    #[test]
    fn the_last_ten_seconds_count_and_before_them_two_hundred_outcomes() {
        let mut busy = Windows::default();
        pass(&mut busy, Side::New, 0..100, (1000, 0));
        assert_eq!(counts(&busy), [(11_000, 0), (0, 0)], "ten whole seconds and the present one");
        pass(&mut busy, Side::New, 100..111, (0, 1000));
        assert_eq!(counts(&busy), [(0, 11_000), (0, 0)]);
        let mut slow = Windows::default();
        pass(&mut slow, Side::New, 0..1000, (1, 0));
        let [(answered, 0), _] = counts(&slow) else { panic!("nothing failed") };
        assert!((200..=201).contains(&answered), "{answered}");
    }

    #[test]
    fn the_old_revision_is_judged_by_the_same_time() {
        let mut windows = Windows::default();
        pass(&mut windows, Side::Old, 0..100, (0, 9));
        for second in 100..200 {
            pass(&mut windows, Side::New, second..second + 1, (1, 0));
            pass(&mut windows, Side::Old, second..second + 1, (9, 0));
        }
        assert_eq!(counts(&windows)[1].1, 0, "what it failed at before");
        // It gets no requests any more: what came last is what there is.
        pass(&mut windows, Side::New, 200..1000, (10, 0));
        let [_, (answered, 0)] = counts(&windows) else { panic!("nothing failed") };
        assert!((200..300).contains(&answered), "{answered}");
        assert!(windows.0.len() < 50, "{}", windows.0.len());
    }

    #[test]
    fn what_is_kept_is_bounded_however_slow_and_long_a_canary_is() {
        let mut windows = Windows::default();
        for second in 0..20_000 {
            pass(&mut windows, Side::Old, second..second + 1, (9, 1));
            if second % 60 == 0 {
                pass(&mut windows, Side::New, second..second + 1, (1, 0));
            }
        }
        let [(new, _), (old, _)] = counts(&windows);
        assert!((200..=202).contains(&new) && old >= 1800, "{new} {old}");
        assert!(windows.0.len() <= 2 * 200 + 11, "{}", windows.0.len());
    }
}
