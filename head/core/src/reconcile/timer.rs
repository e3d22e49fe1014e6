//! The time, as rules may ask for it. A rule that is told "not yet" is looked at again at that instant, so that no rule can
//! depend on the time and forget to ask for a wake-up.

use std::cell::Cell;
use std::time::Duration;

/// One instant, and when the next pass is due by the questions that were asked.
#[derive(Debug)]
pub(super) struct Timer {
    now: Duration,
    wake_at: Cell<Option<Duration>>,
}

impl Timer {
    /// A timer that stands at that instant.
    #[must_use]
    pub(super) fn at(now: Duration) -> Self {
        Self { now, wake_at: Cell::new(None) }
    }

    /// Whether the time has come; if not, it asks for a pass when it has.
    pub(super) fn reached(&self, at: Duration) -> bool {
        let reached = self.now >= at;
        if !reached {
            self.wake_at(Some(at));
        }
        reached
    }

    /// Asks for a pass at that instant, for rules that compute their next one themselves.
    pub(super) fn wake_at(&self, at: Option<Duration>) {
        let next = self.wake_at.get().into_iter().chain(at).min();
        self.wake_at.set(next);
    }

    /// The instant, for what is noted and for rules that ask for their next pass by [`Self::wake_at`].
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// When the next pass is due by the passing of time alone.
    pub(super) fn next(&self) -> Option<Duration> {
        self.wake_at.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_not_yet_asks_for_a_look_and_the_earliest_counts() {
        let second = Duration::from_secs;
        let timer = Timer::at(second(10));
        assert!(timer.reached(second(10)));
        assert_eq!(timer.next(), None);
        assert!(!timer.reached(second(30)));
        assert!(!timer.reached(second(20)));
        timer.wake_at(None);
        assert_eq!(timer.next(), Some(second(20)));
    }
}
