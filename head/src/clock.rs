//! The time in the forms that the head needs. Decisions get it as an argument.

use std::time::{Duration, UNIX_EPOCH};

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
pub(crate) fn instant() -> Instant {
    millstream_clock::now().into()
}

/// The time that has passed since then.
pub(crate) fn since(start: Instant) -> Duration {
    instant().duration_since(start)
}

/// Milliseconds since the Unix epoch, for people: when a revision was stored.
pub(crate) fn unix_ms() -> u64 {
    let elapsed = millstream_clock::system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
