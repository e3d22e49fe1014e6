//! How long to wait before trying again: doubling, bounded, jittered. Pure functions of the failures in a row and a random
//! generator.

use std::time::Duration;

use rand::Rng;

/// Part of the nominal delay that jitter may take away, so that many that failed together do not return together.
const JITTER_RATIO: f64 = 0.25;

/// A doubling delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Nominal delay after the first failure.
    pub first: Duration,
    /// Nominal delays grow up to this.
    pub max: Duration,
}

impl Backoff {
    /// Between dials of what an ingress cannot do without.
    pub const REDIAL: Self = Self { first: Duration::from_millis(50), max: Duration::from_secs(2) };

    /// The delay before try number `failures` + 1, where `failures` in a row came before; 0 means no delay. At most
    /// the nominal delay, at least three quarters of it.
    pub fn delay(&self, failures: u32, rng: &mut impl Rng) -> Duration {
        self.nominal(failures).mul_f64(1.0 - rng.random_range(0.0..=JITTER_RATIO))
    }

    /// The delay without jitter.
    fn nominal(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }
}

/// Failures in a row of something that is tried for ever.
#[derive(Debug, Clone)]
pub struct Retries {
    backoff: Backoff,
    /// What lasted so long was well: its end is the first failure again.
    healthy_after: Duration,
    failures: u32,
}

impl Retries {
    /// None so far.
    #[must_use]
    pub fn new(backoff: Backoff, healthy_after: Duration) -> Self {
        Self { backoff, healthy_after, failures: 0 }
    }

    /// How long to wait after one more try that failed, or ended after it had `lasted` so long.
    pub fn next_wait(&mut self, lasted: Duration, rng: &mut impl Rng) -> Duration {
        let is_first = lasted >= self.healthy_after;
        self.failures = if is_first { 1 } else { self.failures.saturating_add(1) };
        self.backoff.delay(self.failures, rng)
    }

    /// Whether the last try was the first one that failed, so that people are told once.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn nominal_delays_double_up_to_the_bound() {
        let seconds: Vec<u64> = (0..10).map(|failures| BACKOFF.nominal(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(BACKOFF.nominal(u32::MAX).as_secs(), 60);
    }

    #[test]
    fn a_healthy_while_makes_the_next_failure_the_first() {
        let rng = &mut SmallRng::seed_from_u64(1);
        let minute = Duration::from_secs(60);
        let mut retries = Retries::new(BACKOFF, minute);
        for nominal in [1, 2, 4, 8, 16, 32, 60, 60] {
            let nominal = Duration::from_secs(nominal);
            let wait = retries.next_wait(minute - Duration::from_secs(1), rng);
            assert!(wait <= nominal && wait >= nominal.mul_f64(0.74), "{wait:?} of {nominal:?}");
        }
        assert!(!retries.is_first());
        assert!(retries.next_wait(minute, rng) <= BACKOFF.first);
        assert!(retries.is_first());
    }

    proptest! {
        #[test]
        fn jitter_stays_between_three_quarters_and_the_nominal_delay(failures in 0_u32..100, seed: u64) {
            let delay = BACKOFF.delay(failures, &mut SmallRng::seed_from_u64(seed));
            let nominal = BACKOFF.nominal(failures);
            prop_assert!(delay <= nominal);
            prop_assert!(delay >= nominal.mul_f64(0.74));
        }
    }
}
