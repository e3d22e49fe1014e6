//! When requests are due: plain functions of their number, so that what a server does cannot move the plan.

use std::time::Duration;

/// How requests come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mode {
    /// So many a second, whether or not earlier ones have been answered.
    Open {
        /// Requests per second.
        rate: f64,
    },
    /// So many callers, each of which sends its next request when it has the answer to the last one.
    Closed {
        /// How many callers.
        concurrency: usize,
    },
}

/// The two phases of a run; times count from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phases {
    /// Requests due before this are sent and not counted.
    pub(super) warm_up: Duration,
    /// How long requests are counted after that.
    pub(super) duration: Duration,
}

impl Phases {
    /// When the last request may be due, exclusively.
    pub(super) fn end(&self) -> Duration {
        self.warm_up + self.duration
    }

    /// Whether a request due then is counted.
    pub(super) fn counts(&self, due: Duration) -> bool {
        due >= self.warm_up
    }
}

/// When the request of this number (from 0) is due; `None` after the end. Computed from the number, not from the request
/// before, so no error adds up and no delay moves those that follow.
pub(super) fn due(number: u64, rate: f64, phases: &Phases) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "numbers of requests stay far below 2^52")]
    let due = Duration::try_from_secs_f64(number as f64 / rate).ok()?;
    (due < phases.end()).then_some(due)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: Phases = Phases { warm_up: Duration::from_secs(2), duration: Duration::from_secs(3) };

    #[test]
    fn a_rate_gives_evenly_spaced_requests_until_the_end() {
        let all: Vec<Duration> = (0..).map_while(|number| due(number, 200.0, &PHASES)).collect();
        assert_eq!(all.len(), 1000);
        assert_eq!(all[0], Duration::ZERO);
        assert_eq!(all[1], Duration::from_millis(5));
        assert_eq!(all[999], Duration::from_millis(4995));
        assert_eq!(all.iter().filter(|due| PHASES.counts(**due)).count(), 600);
    }

    #[test]
    fn no_error_adds_up() {
        // A third of a millisecond is no binary fraction.
        let last = due(2999, 3000.0, &PHASES).unwrap();
        assert_eq!(last.as_micros(), 999_666);
        assert_eq!(due(15_000, 3000.0, &PHASES), None);
    }

    #[test]
    fn slow_rates_send_at_least_the_first() {
        assert_eq!(due(0, 0.001, &PHASES), Some(Duration::ZERO));
        assert_eq!(due(1, 0.001, &PHASES), None);
        assert_eq!(due(u64::MAX, f64::MIN_POSITIVE, &PHASES), None);
    }
}
