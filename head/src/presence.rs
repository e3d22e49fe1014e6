//! Whether this process runs. A machine that sleeps, a debugger, or a processor that is taken away for seconds: afterwards
//! everybody else looks silent, although it is this process that was away.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// How often the clock is looked at, whatever else there is to do.
const INTERVAL: Duration = Duration::from_millis(250);
/// A time of that length without a look is one in which the process did not run.
const MIN_ABSENCE: Duration = Duration::from_secs(1);

/// What is known of this process's absences; clones share it. Locked for nanoseconds, never across an await.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presence(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    last: Duration,
    absent: Duration,
}

impl Presence {
    /// Notes that the process runs at this moment; returns how long it was absent in all.
    pub(crate) fn note(&self, now: Duration) -> Duration {
        let mut seen = self.0.lock();
        let gap = now.saturating_sub(seen.last);
        seen.last = seen.last.max(now);
        if gap >= MIN_ABSENCE {
            seen.absent += gap;
        }
        seen.absent
    }

    /// How long it was absent in all, as far as is known.
    pub(crate) fn absent(&self) -> Duration {
        self.0.lock().absent
    }

    /// Notes the process's presence until the head closes. A task of its own, so that an actor with much to do is not
    /// taken for a process that stands still.
    pub(crate) async fn watch(self, clock: Clock, closing: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                _ = tick.tick() => drop(self.note(clock.now())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_gaps_are_absences_and_each_counts_once() {
        let presence = Presence::default();
        let note = |seconds| presence.note(Duration::from_secs_f64(seconds)).as_secs_f64();
        assert_eq!([note(0.25), note(0.5), note(1.4)], [0.0; 3]);
        assert_eq!([note(61.4), note(61.4), note(61.3)], [60.0; 3]);
        assert_eq!(note(63.4), 62.0);
    }
}
