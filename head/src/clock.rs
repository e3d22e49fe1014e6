//! The time in the forms that the head needs. Decisions get it as an argument.

use std::time::Duration;

pub(crate) use millstream_clock::unix_ms;
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
