//! The one place that reads a clock. Decisions get the time as an argument; whoever calls them asks here.
//!
//! Instants follow tokio's clock, which is the system's unless a test pauses it.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "the one place that reads a clock")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The present instant.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time that has passed since then.
#[must_use]
pub fn since(start: Instant) -> Duration {
    now().duration_since(start)
}

/// The present time of day.
#[must_use]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since the Unix epoch; 0 before it.
#[must_use]
pub fn unix_ms() -> u64 {
    unix_us() / 1000
}

/// Microseconds since the Unix epoch; 0 before it.
#[must_use]
pub fn unix_us() -> u64 {
    let elapsed = system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
