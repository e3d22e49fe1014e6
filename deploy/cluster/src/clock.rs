//! The one place of the command that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The present instant.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time that has passed since then.
pub(crate) fn since(start: Instant) -> Duration {
    now().duration_since(start)
}

/// The time since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
