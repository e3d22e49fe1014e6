//! The one place of the command that reads a clock.

use std::time::{Duration, Instant, SystemTime};

/// The present instant.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time that has passed since then.
pub(crate) fn since(start: Instant) -> Duration {
    now().duration_since(start)
}

/// The present time of day.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}
