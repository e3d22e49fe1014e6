//! Carries out a replay: sends each captured request when it is due, and ends early when it is told to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::read::Captured;
use super::record::Summary;
use super::send::Sender;

/// A replay under way.
pub(super) struct Replay {
    requests: Vec<Captured>,
    sender: Sender,
    pace: Pace,
    start: Instant,
    next: AtomicUsize,
    stopped: AtomicBool,
    summary: Mutex<Summary>,
}

/// How requests are sent, and what counts as near.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    /// So many callers, each of which waits for its answer.
    pub(super) concurrency: usize,
    /// How many times faster than they were captured; `None` for as fast as answers come.
    pub(super) speed: Option<f64>,
    /// How far numbers may be off.
    pub(super) tolerance: f64,
}

impl Replay {
    /// Starts the clock.
    pub(super) fn new(requests: Vec<Captured>, sender: Sender, pace: Pace) -> Arc<Self> {
        Arc::new(Self {
            requests,
            sender,
            pace,
            start: millstream_clock::now(),
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            summary: Mutex::default(),
        })
    }

    /// Sends everything and waits for the answers.
    pub(super) async fn carry_out(self: &Arc<Self>) {
        let callers =
            (0..self.pace.concurrency.min(self.requests.len())).map(|_| tokio::spawn(self.clone().caller()));
        for caller in callers.collect::<Vec<_>>() {
            // One that panics has told why.
            let _ = caller.await;
        }
    }

    /// Sends nothing more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// What is known so far.
    pub(super) fn summary(&self) -> Summary {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// So many have ended, of which so many are not as they were.
    pub(super) fn progress(&self) -> (usize, usize) {
        let summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        (summary.total(), summary.bad())
    }

    /// The requests.
    pub(super) fn requests(&self) -> &[Captured] {
        &self.requests
    }

    async fn caller(self: Arc<Self>) {
        let mut caller = self.sender.caller();
        while let Some(request) = self.requests.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(speed) = self.pace.speed {
                let due = due(self.requests[0].at_us, request.at_us, speed);
                tokio::time::sleep_until((self.start + due).into()).await;
            }
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let reply = caller.call(Bytes::copy_from_slice(request.fields.get().as_bytes())).await;
            let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.add(request, &reply, self.pace.tolerance);
        }
    }
}

/// When a request is due that came then, after the first one, so many times faster.
#[expect(clippy::cast_precision_loss, reason = "microseconds between captures are far below 2^52")]
fn due(first_us: i64, at_us: i64, speed: f64) -> Duration {
    let after = at_us.saturating_sub(first_us).max(0) as f64 / 1e6;
    Duration::try_from_secs_f64(after / speed).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_the_captures_are_kept_as_fast_as_asked_for() {
        for (first, at, speed, ms) in [
            (5_000_000, 5_000_000, 1.0, 0),
            (5_000_000, 6_500_000, 1.0, 1500),
            (5_000_000, 6_500_000, 10.0, 150),
            (9, 0, 1.0, 0),
        ] {
            assert_eq!(due(first, at, speed), Duration::from_millis(ms));
        }
    }
}
