//! The one place that reads a clock. Decisions get the time as an argument; whoever calls them asks here.
//!
//! Instants follow tokio's clock, which is the system's unless a test pauses it.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "the one place that reads a clock")]

use std::time::{Duration, Instant, SystemTime};

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
