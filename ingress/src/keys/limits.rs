//! Whether a key's request may come in, as plain functions: this ingress's part of the key's limits, and what it has
//! under way.

use std::time::{Duration, Instant};

use millstream_proto::v1;

use super::bucket::{Bucket, Rate};
use super::tokens::{Shortage, TokenLimits, TokenUsage};

/// What an ingress lets through of one key.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Limits {
    /// `None`: any number of requests.
    pub rate: Option<Rate>,
    /// `None`: any number at a time.
    pub concurrency: Option<u32>,
    /// Of tokens of models.
    pub tokens: TokenLimits,
}

impl Limits {
    /// One of so many ingresses' part of a key's limits, which are the cluster's. At least one request at a time.
    pub(crate) fn part_of(key: &v1::ApiKey, num_ingresses: u32) -> Self {
        let num_ingresses = num_ingresses.max(1);
        let parts = f64::from(num_ingresses);
        let limited = key.rate_per_s > 0.0 && key.rate_per_s.is_finite();
        let rate = limited
            .then(|| Rate { per_s: key.rate_per_s / parts, burst: (f64::from(key.burst) / parts).max(1.0) });
        let concurrency = (key.concurrency > 0).then(|| (key.concurrency / num_ingresses).max(1));
        Self { rate, concurrency, tokens: TokenLimits::part_of(key, num_ingresses) }
    }
}

/// What a key has used here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    bucket: Bucket,
    ongoing: u32,
    pub(super) tokens: TokenUsage,
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many requests lately; the next may come after that time.
    Rate(Duration),
    /// Too many at a time: so many may be under way here.
    Concurrency(u32),
    /// Too many tokens of models.
    Tokens(Shortage),
}

impl Usage {
    /// Nothing used yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { bucket: Bucket::full(now), ongoing: 0, tokens: TokenUsage::new(now) }
    }

    /// Lets a request in, or turns it away without using anything up.
    pub(crate) fn admit(&mut self, limits: Limits, now: Instant) -> Result<(), Refusal> {
        if let Some(most) = limits.concurrency.filter(|&most| self.ongoing >= most) {
            return Err(Refusal::Concurrency(most));
        }
        if !limits.tokens.are_none() {
            self.tokens.check(limits.tokens, now).map_err(Refusal::Tokens)?;
        }
        if let Some(rate) = limits.rate {
            self.bucket.take(rate, now).map_err(Refusal::Rate)?;
        }
        self.ongoing += 1;
        Ok(())
    }

    /// How many requests may come at once now, and how long it takes until the whole burst may.
    pub(crate) fn left(&self, rate: Rate, now: Instant) -> (u64, Duration) {
        self.bucket.level(rate, now)
    }

    /// A request that was let in has ended.
    pub(crate) fn ended(&mut self) {
        self.ongoing = self.ongoing.saturating_sub(1);
    }
}

/// Seconds for `Retry-After`.
pub(crate) fn retry_after_s(refusal: Refusal) -> u32 {
    match refusal {
        Refusal::Rate(wait) | Refusal::Tokens(Shortage { wait, .. }) => {
            let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            u32::try_from(whole).unwrap_or(u32::MAX).max(1)
        }
        Refusal::Concurrency(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rate_per_s: f64, burst: u32, concurrency: u32) -> v1::ApiKey {
        v1::ApiKey { rate_per_s, burst, concurrency, ..Default::default() }
    }

    #[test]
    fn each_ingress_takes_its_part_and_never_nothing() {
        let table = [
            (key(0.0, 0, 0), 3, None, None),
            (key(100.0, 200, 8), 1, Some((100.0, 200.0)), Some(8)),
            (key(100.0, 200, 8), 0, Some((100.0, 200.0)), Some(8)),
            (key(100.0, 200, 8), 4, Some((25.0, 50.0)), Some(2)),
            (key(1.0, 2, 8), 3, Some((1.0 / 3.0, 1.0)), Some(2)),
            (key(1.0, 2, 2), 3, Some((1.0 / 3.0, 1.0)), Some(1)),
            (key(f64::NAN, 2, 0), 1, None, None),
        ];
        for (key, ingresses, rate, concurrency) in table {
            let rate = rate.map(|(per_s, burst)| Rate { per_s, burst });
            let expected = Limits { rate, concurrency, tokens: TokenLimits::default() };
            assert_eq!(Limits::part_of(&key, ingresses), expected, "{key:?} {ingresses}");
        }
    }

    #[test]
    fn a_refusal_uses_nothing_up_and_an_end_gives_its_place_back() {
        let now = millstream_clock::now();
        let limits = Limits::part_of(&key(1.0, 2, 1), 1);
        let mut usage = Usage::new(now);
        assert_eq!(usage.admit(limits, now), Ok(()));
        for _ in 0..5 {
            assert_eq!(usage.admit(limits, now), Err(Refusal::Concurrency(1)));
        }
        usage.ended();
        assert_eq!(usage.admit(limits, now), Ok(()), "the second of the burst was not used up");
        usage.ended();
        for _ in 0..5 {
            assert_eq!(usage.admit(limits, now), Err(Refusal::Rate(Duration::from_secs(1))));
        }
        let free = Limits { rate: None, ..limits };
        assert_eq!(usage.admit(free, now), Ok(()), "what the rate turned away held no place");
    }

    #[test]
    fn without_tokens_nobody_comes_in_and_nothing_is_taken() {
        let now = millstream_clock::now();
        let key = v1::ApiKey { tokens_per_minute: 60, ..key(1.0, 1, 1) };
        let limits = Limits::part_of(&key, 1);
        let mut usage = Usage::new(now);
        let reserved = usage.tokens.reserve(limits.tokens, 60, now).unwrap();
        let short = Shortage { window: "minute", wait: Duration::from_secs(1) };
        assert_eq!(usage.admit(limits, now), Err(Refusal::Tokens(short)));
        usage.tokens.settle(limits.tokens, reserved, 0, now);
        assert_eq!(usage.admit(limits, now), Ok(()));
    }

    #[test]
    fn waits_are_whole_seconds_rounded_up() {
        for (ms, expected) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_500, 60)] {
            assert_eq!(retry_after_s(Refusal::Rate(Duration::from_millis(ms))), expected, "{ms}");
        }
        assert_eq!(retry_after_s(Refusal::Concurrency(3)), 1);
        let short = Shortage { window: "day", wait: Duration::from_secs(7200) };
        assert_eq!(retry_after_s(Refusal::Tokens(short)), 7200);
    }
}
