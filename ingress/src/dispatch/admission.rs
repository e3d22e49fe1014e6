//! How many requests may wait, and what a request that may not is told, as plain functions.

use std::time::{Duration, Instant};

/// Fewest places in a queue whose size nobody set.
const MIN_DEFAULT_QUEUE: u32 = 64;
/// Window over which answers are counted before they enter the moving average.
const RATE_WINDOW: Duration = Duration::from_millis(250);
/// Weight of the newest window in the moving average.
const RATE_WEIGHT: f64 = 0.3;
/// What a request is told while nothing is known about the rate.
const UNKNOWN_RATE_WAIT_S: f64 = 5.0;

/// Places in the queue of one of so many ingresses: its part of what was asked for, else of 2 × replicas ×
/// `max_ongoing_requests` and at least 64.
pub(crate) fn queue_bound(
    max_queued: Option<u32>,
    num_replicas: usize,
    max_ongoing: u32,
    num_ingresses: u32,
) -> usize {
    let replicas = u32::try_from(num_replicas).unwrap_or(u32::MAX);
    let bound = max_queued
        .unwrap_or_else(|| replicas.saturating_mul(max_ongoing).saturating_mul(2).max(MIN_DEFAULT_QUEUE));
    usize::try_from(bound.div_ceil(num_ingresses.max(1))).unwrap_or(usize::MAX)
}

/// Seconds for `Retry-After`: queue depth by drain rate, within 1 and 60, spread by up to a fifth so that those who
/// were turned away together do not come back together. `jitter` is random, 0 to 1.
pub(crate) fn retry_after_s(queued: usize, rate_per_s: f64, jitter: f64) -> u32 {
    let queued = f64::from(u32::try_from(queued).unwrap_or(u32::MAX));
    let wait = if rate_per_s > 0.0 { queued / rate_per_s } else { UNKNOWN_RATE_WAIT_S };
    let spread = (wait * (1.0 + 0.2 * jitter)).ceil().clamp(1.0, 60.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1..60 just above"
    )]
    let seconds = spread as u32;
    seconds
}

/// Whether a request that waits behind `ahead` others gets its place in time, by the rate at which they leave; nobody is
/// turned away while nothing is known about it.
pub(crate) fn is_in_time(ahead: usize, rate_per_s: f64, left: Duration) -> bool {
    let ahead = f64::from(u32::try_from(ahead).unwrap_or(u32::MAX));
    rate_per_s <= 0.0 || ahead / rate_per_s <= left.as_secs_f64()
}

/// Answers per second and replica while requests wait, as a moving average: with nobody waiting, answers come as
/// requests do, which says nothing about how fast a queue would drain.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DrainRate {
    rate_per_s: f64,
    answered: u32,
    window_start: Option<Instant>,
}

impl DrainRate {
    /// Nothing measured yet.
    pub(crate) const UNKNOWN: Self = Self { rate_per_s: 0.0, answered: 0, window_start: None };

    /// Nobody waits: what comes next is counted anew.
    pub(crate) fn pause(&mut self) {
        self.answered = 0;
        self.window_start = None;
    }

    /// Counts an answer of one of so many replicas, while requests wait.
    pub(crate) fn observe(&mut self, num_replicas: usize, now: Instant) {
        self.answered = self.answered.saturating_add(1);
        let start = *self.window_start.get_or_insert(now);
        let elapsed = now.saturating_duration_since(start);
        if elapsed < RATE_WINDOW {
            return;
        }
        let num_replicas = f64::from(u32::try_from(num_replicas).unwrap_or(u32::MAX).max(1));
        let newest = f64::from(self.answered) / elapsed.as_secs_f64() / num_replicas;
        let known = self.rate_per_s > 0.0;
        self.rate_per_s =
            if known { self.rate_per_s + RATE_WEIGHT * (newest - self.rate_per_s) } else { newest };
        self.answered = 0;
        self.window_start = Some(now);
    }

    /// Answers per second of so many replicas; 0 while unknown.
    pub(crate) fn per_second(&self, num_replicas: usize) -> f64 {
        self.rate_per_s * f64::from(u32::try_from(num_replicas).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bound_grows_with_the_replicas_and_is_shared_by_the_ingresses() {
        let table = [
            (None, 0, 8, 1, 64),
            (None, 3, 8, 1, 64),
            (None, 5, 8, 1, 80),
            (Some(0), 5, 8, 1, 0),
            (Some(7), 100, 100, 1, 7),
            (None, usize::MAX, u32::MAX, 1, u32::MAX as usize),
            (None, 5, 8, 3, 27),
            (None, 0, 8, 2, 32),
            (Some(7), 5, 8, 0, 7),
            (Some(7), 5, 8, 2, 4),
            (Some(2), 5, 8, 9, 1),
            (Some(0), 5, 8, 9, 0),
        ];
        for (max_queued, replicas, max_ongoing, ingresses, expected) in table {
            assert_eq!(queue_bound(max_queued, replicas, max_ongoing, ingresses), expected);
        }
    }

    #[test]
    fn retry_after_is_depth_by_rate_within_its_bounds() {
        let table =
            [(10, 5.0, 0.0, 2), (10, 5.0, 1.0, 3), (0, 5.0, 0.0, 1), (1000, 1.0, 0.0, 60), (10, 0.0, 0.0, 5)];
        for (queued, rate, jitter, expected) in table {
            assert_eq!(retry_after_s(queued, rate, jitter), expected, "{queued} {rate} {jitter}");
        }
    }

    #[test]
    fn who_would_come_too_late_is_told_at_once() {
        let left = Duration::from_secs(2);
        for (ahead, rate, expected) in
            [(10, 5.0, true), (11, 5.0, false), (0, 0.1, true), (1000, 0.0, true), (usize::MAX, 1e9, false)]
        {
            assert_eq!(is_in_time(ahead, rate, left), expected, "{ahead} {rate}");
        }
    }

    #[test]
    fn the_rate_follows_the_answers() {
        let mut rate = DrainRate::UNKNOWN;
        let start = millstream_clock::now();
        for step in 0..=100u32 {
            rate.observe(2, start + Duration::from_millis(10) * step);
        }
        assert!((95.0..110.0).contains(&rate.per_second(2)), "{}", rate.per_second(2));
        assert!((190.0..220.0).contains(&rate.per_second(4)), "twice the replicas");
        rate.pause();
        for step in 0..=20u32 {
            rate.observe(2, start + Duration::from_secs(9) + Duration::from_millis(500) * step);
        }
        assert!((1.9..4.0).contains(&rate.per_second(2)), "{}", rate.per_second(2));
    }
}
