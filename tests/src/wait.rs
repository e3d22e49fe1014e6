//! Waiting for a state, with a limit.

use std::time::{Duration, Instant};

/// Polls until `state` gives something; panics with `what` after 30 s.
pub fn eventually<T>(what: &str, state: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(30), what, state)
}

/// Polls until `state` gives something; panics with `what` after `limit`.
///
/// # Panics
/// When the limit is over.
pub fn within<T>(limit: Duration, what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = state() {
            return value;
        }
        assert!(start.elapsed() < limit, "after {limit:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
