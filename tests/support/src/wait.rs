//! Waiting for a state. All tests wait in one way and equally long: a state that must come is given time enough on a
//! busy machine, and a test that passes never waits that long.

use std::time::{Duration, Instant};

/// Longest wait for a state that must come.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Time between two looks of a test that blocks its thread.
const PAUSE: Duration = Duration::from_millis(20);
/// The same in an async test, which asks within its own process.
const ASYNC_PAUSE: Duration = Duration::from_millis(5);

/// Polls until `state` gives something.
///
/// # Panics
/// With `what`, when nothing has come within [`LIMIT`].
pub fn eventually<T>(what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = state() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "after {LIMIT:?} still not: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// [`eventually`] for async tests. On a paused clock the limit passes as the clock does.
///
/// # Panics
/// With `what`, when nothing has come within [`LIMIT`].
pub async fn until<T>(what: &str, mut state: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(value) = state().await {
                return value;
            }
            tokio::time::sleep(ASYNC_PAUSE).await;
        }
    };
    let found = tokio::time::timeout(LIMIT, polling).await;
    found.unwrap_or_else(|_| panic!("after {LIMIT:?} still not: {what}"))
}
