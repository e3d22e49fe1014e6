//! A token bucket: how much may come, as a plain function of its state and a clock that is passed in. It holds at most a
//! burst and fills at a steady rate. A request takes one token where requests are counted, and as many as it is expected to need
//! where tokens of models are: never more than burst + rate · time. What was not needed is put back; who has needed more leaves
//! the bucket in debt, which is at most a burst, so that it never takes longer than a burst takes to fill until something is there.

use std::time::{Duration, Instant};

/// Longest time that somebody is told to wait: that of a whole day of debt and a whole day again.
const MAX_WAIT: Duration = Duration::from_secs(2 * 24 * 3600);

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// Tokens a second; above 0.
    pub per_s: f64,
    /// Tokens at most; at least 1.
    pub burst: f64,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    tokens: f64,
    /// When they were counted.
    at: Instant,
}

impl Bucket {
    /// As full as the rate lets it be.
    pub(crate) fn full(now: Instant) -> Self {
        Self { tokens: f64::INFINITY, at: now }
    }

    /// Takes a token; without one, how long it takes until there is one. The rate may be another one than last time.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.wait_for(rate, 1.0, now).map_or(Ok(()), Err)?;
        self.put(rate, -1.0, now);
        Ok(())
    }

    /// How long it takes until so many tokens are there, which are at most the burst; `None` when they are.
    pub(crate) fn wait_for(&self, rate: Rate, wanted: f64, now: Instant) -> Option<Duration> {
        let missing = wanted - self.tokens_at(rate, now);
        let wait = || Duration::try_from_secs_f64(missing / rate.per_s).unwrap_or(MAX_WAIT).min(MAX_WAIT);
        (missing > 0.0).then(wait)
    }

    /// Adds tokens, or takes them whether or not they are there. No more than a burst is kept, and no more than one is owed.
    pub(crate) fn put(&mut self, rate: Rate, tokens: f64, now: Instant) {
        self.tokens = (self.tokens_at(rate, now) + tokens).clamp(-rate.burst, rate.burst);
        self.at = self.at.max(now);
    }

    /// Whole tokens that are there, and how long it takes until it is full.
    pub(crate) fn level(&self, rate: Rate, now: Instant) -> (u64, Duration) {
        let tokens = self.tokens_at(rate, now);
        let wait = Duration::try_from_secs_f64((rate.burst - tokens) / rate.per_s);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most the burst, and not below 0"
        )]
        let whole = tokens as u64;
        (whole, wait.unwrap_or(MAX_WAIT).min(MAX_WAIT))
    }

    fn tokens_at(&self, rate: Rate, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + elapsed * rate.per_s).min(rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_the_wait_is_true() {
        let rate = Rate { per_s: 4.0, burst: 3.0 };
        let start = millstream_clock::now();
        let mut bucket = Bucket::full(start);
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, start), Ok(()));
        }
        let wait = bucket.take(rate, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(250));
        assert!(bucket.take(rate, start + wait / 2).is_err());
        assert_eq!(bucket.take(rate, start + wait), Ok(()));
        assert!(bucket.take(rate, start).is_err(), "a clock that goes back gives nothing");
        let later = start + Duration::from_secs(100);
        assert_eq!((0..9).filter(|_| bucket.take(rate, later).is_ok()).count(), 3);
    }

    #[test]
    fn the_level_says_what_is_left_and_when_all_is_there_again() {
        let rate = Rate { per_s: 4.0, burst: 3.0 };
        let start = millstream_clock::now();
        let mut bucket = Bucket::full(start);
        assert_eq!(bucket.level(rate, start), (3, Duration::ZERO));
        assert_eq!(bucket.take(rate, start), Ok(()));
        assert_eq!(bucket.level(rate, start), (2, Duration::from_millis(250)));
        assert_eq!(bucket.take(rate, start), Ok(()));
        let later = start + Duration::from_millis(125);
        assert_eq!(bucket.level(rate, later), (1, Duration::from_millis(375)), "half a token is none");
        assert_eq!(bucket.level(rate, start + Duration::from_secs(9)), (3, Duration::ZERO));
    }

    #[test]
    fn a_rate_next_to_nothing_is_no_panic() {
        let rate = Rate { per_s: f64::MIN_POSITIVE, burst: 1.0 };
        let now = millstream_clock::now();
        let mut bucket = Bucket::full(now);
        assert_eq!(bucket.take(rate, now), Ok(()));
        assert_eq!(bucket.take(rate, now), Err(MAX_WAIT));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_by_time_within_any_span(
            per_s in 0.1_f64..50.0,
            burst in 1_u32..20,
            steps_ms in prop::collection::vec(0_u64..400, 1..200),
        ) {
            let rate = Rate { per_s, burst: f64::from(burst) };
            let start = millstream_clock::now();
            let mut bucket = Bucket::full(start);
            let mut now = start;
            let mut taken: Vec<Instant> = Vec::new();
            let mut refused: Option<Instant> = None;
            for step in steps_ms {
                now += Duration::from_millis(step);
                match bucket.take(rate, now) {
                    Ok(()) => taken.push(now),
                    Err(wait) => {
                        let due = now + wait;
                        prop_assert!(refused.is_none_or(|at| due + Duration::from_millis(1) >= at));
                        refused = Some(due);
                        let mut then = bucket;
                        prop_assert_eq!(then.take(rate, due + Duration::from_micros(1)), Ok(()));
                    }
                }
            }
            for (first, &from) in taken.iter().enumerate() {
                for (count, &to) in taken[first..].iter().enumerate() {
                    let most = f64::from(burst) + per_s * (to - from).as_secs_f64();
                    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
                    let count = (count + 1) as f64;
                    prop_assert!(count <= most + 1e-6, "{count} of {most}");
                }
            }
        }
    }
}
