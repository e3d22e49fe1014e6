//! How long recent calls of a deployment took, as quantiles: what a hedged call waits for before it is sent again, and how long a
//! replica is waited for that says nothing.
//!
//! A histogram with the buckets of [`millstream_proto::durations`], so that a quantile is at most a quarter too high; older calls
//! fade by halving. Counting is one addition.

use std::time::Duration;

use millstream_proto::durations::{NUM_BUCKETS, bucket, upper_bound};

/// Calls after which all counts are halved.
const FADE_AT: u32 = 1024;
/// Calls below which nothing is said.
const MIN_CALLS: u32 = 20;
/// The least time that a replica is given.
const MIN_PATIENCE: Duration = Duration::from_secs(1);
/// Calls after which patience is worked out anew.
const PATIENCE_EVERY: u32 = 32;
/// How much longer than nearly all calls one may take.
const PATIENCE_FACTOR: u32 = 4;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Latencies {
    counts: [u32; NUM_BUCKETS],
    total: u32,
    /// As it was worked out last.
    patience: Option<Duration>,
}

impl Latencies {
    /// Nothing is known.
    pub(crate) const NONE: Self = Self { counts: [0; NUM_BUCKETS], total: 0, patience: None };

    /// Counts a call.
    pub(crate) fn record(&mut self, took: Duration) {
        if self.total >= FADE_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        self.counts[bucket(took)] += 1;
        self.total += 1;
        if self.total.is_multiple_of(PATIENCE_EVERY) {
            let nearly_all = self.quantile(99);
            self.patience = nearly_all.map(|time| time.saturating_mul(PATIENCE_FACTOR).max(MIN_PATIENCE));
        }
    }

    /// How long a replica is waited for before another one is asked: four times what 99% of the calls take, at least 1 s;
    /// `None` while too few have ended. Worked out every few calls.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// The time that so many percent of the calls took at most; `None` while too few have ended.
    pub(crate) fn quantile(&self, percent: u8) -> Option<Duration> {
        if self.total < MIN_CALLS {
            return None;
        }
        let wanted = (u64::from(self.total) * u64::from(percent.min(100))).div_ceil(100);
        let mut below = 0;
        let found = self.counts.iter().position(|&count| {
            below += u64::from(count);
            below >= wanted
        });
        found.map(upper_bound)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_calls_say_nothing() {
        let mut latencies = Latencies::NONE;
        for _ in 0..19 {
            latencies.record(Duration::from_millis(1));
        }
        assert_eq!(latencies.quantile(95), None);
        latencies.record(Duration::from_millis(1));
        assert!(latencies.quantile(95).is_some());
    }

    #[test]
    fn a_replica_is_given_four_times_the_usual_and_a_second_at_least() {
        for (ms, expected) in [(1, 1_000..1_001), (1_000, 4_000..5_001)] {
            let mut latencies = Latencies::NONE;
            assert_eq!(latencies.patience(), None);
            (0..100).for_each(|_| latencies.record(Duration::from_millis(ms)));
            assert!(expected.contains(&latencies.patience().unwrap().as_millis()), "{latencies:?}");
        }
    }

    #[test]
    fn old_calls_fade() {
        let mut latencies = Latencies::NONE;
        (0..5000).for_each(|_| latencies.record(Duration::from_secs(1)));
        (0..5000).for_each(|_| latencies.record(Duration::from_millis(1)));
        assert!(latencies.quantile(95).unwrap() < Duration::from_millis(2));
    }

    proptest! {
        #[test]
        fn a_quantile_is_at_most_a_quarter_too_high(micros in prop::collection::vec(1_u64..10_000_000, 20..500), percent in 1_u8..=100) {
            let mut latencies = Latencies::NONE;
            micros.iter().for_each(|&micros| latencies.record(Duration::from_micros(micros)));
            let mut sorted = micros.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() * usize::from(percent)).div_ceil(100).max(1);
            let exact = sorted[rank - 1];
            let found = u64::try_from(latencies.quantile(percent).unwrap().as_micros()).unwrap();
            prop_assert!(found >= exact, "{} {}", found, exact);
            prop_assert!(found <= exact + exact.div_ceil(4) + 1, "{} {}", found, exact);
        }
    }
}
