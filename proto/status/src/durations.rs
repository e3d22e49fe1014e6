//! How long things took, as counts by bucket. Four buckets to each doubling from 1 µs on, so that a quantile is at most a quarter
//! too high, whoever counted: counts of several processes and of several times add up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const BUCKETS_PER_DOUBLING: u32 = 4;
/// Buckets there are; the last one has all that took longer than an hour.
pub const NUM_BUCKETS: usize = 128;

/// The bucket of a time, by its first bits.
#[must_use]
pub fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let exponent = micros.ilog2();
    let within = if exponent >= 2 { (micros >> (exponent - 2)) & 3 } else { (micros << (2 - exponent)) & 3 };
    let index = u64::from(exponent * BUCKETS_PER_DOUBLING) + within;
    usize::try_from(index).unwrap_or(NUM_BUCKETS).min(NUM_BUCKETS - 1)
}

/// The first time beyond a bucket.
#[must_use]
pub fn upper_bound(bucket: usize) -> Duration {
    let bucket = bucket as u64 + 1;
    let (exponent, within) =
        (bucket / u64::from(BUCKETS_PER_DOUBLING), bucket % u64::from(BUCKETS_PER_DOUBLING));
    Duration::from_micros(((4 + within) << exponent).div_ceil(4))
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Durations(BTreeMap<u8, u64>);

impl Durations {
    /// Counts so many more of a bucket; one that there is not counts as the last.
    pub fn count(&mut self, bucket: usize, count: u64) {
        let bucket = u8::try_from(bucket.min(NUM_BUCKETS - 1)).unwrap_or(u8::MAX);
        if count > 0 {
            *self.0.entry(bucket).or_default() += count;
        }
    }

    /// Counts all that another one has.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(&bucket, &count)| *self.0.entry(bucket).or_default() += count);
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The time that so many percent of them took at most; `None` when nothing was counted.
    #[must_use]
    pub fn quantile(&self, percent: u8) -> Option<Duration> {
        let wanted = (self.total() * u64::from(percent.min(100))).div_ceil(100).max(1);
        let mut below = 0;
        let found = self.0.iter().find(|(_, count)| {
            below += **count;
            below >= wanted
        });
        found.map(|(&bucket, _)| upper_bound(bucket.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_quarter_too_high() {
        let mut durations = Durations::default();
        assert_eq!(durations.quantile(50), None);
        for micros in (1..=2000).map(|n| n * 37) {
            durations.count(bucket(Duration::from_micros(micros)), 1);
        }
        for (percent, exact) in [(1, 740), (50, 37_000), (95, 70_300), (100, 74_000)] {
            let found = durations.quantile(percent).unwrap().as_micros();
            assert!((exact..=exact + exact / 4 + 1).contains(&found), "{percent}: {found} for {exact}");
        }
        let mut twice = durations.clone();
        twice.add(&durations);
        assert_eq!((twice.total(), twice.quantile(95)), (4000, durations.quantile(95)));
    }

    #[test]
    fn every_time_has_a_bucket() {
        for took in [Duration::ZERO, Duration::from_micros(1), Duration::from_secs(3600), Duration::MAX] {
            assert!(bucket(took) < NUM_BUCKETS, "{took:?}");
        }
    }
}
