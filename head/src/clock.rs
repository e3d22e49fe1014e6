//! The only place of this crate that reads a clock. Decisions get the time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Monotonic time since a fixed start; it is what the decision code calls `now`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self { start: instant() }
    }

    /// Time since the start.
    pub(crate) fn now(self) -> Duration {
        since(self.start)
    }
}

/// The present instant, for timers.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// The time that has passed since then.
pub(crate) fn since(start: Instant) -> Duration {
    instant().duration_since(start)
}

/// Milliseconds since the Unix epoch, for people: when a revision was stored.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
pub(crate) fn unix_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
