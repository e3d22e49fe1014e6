//! When a replica that failed is started again: after 1, 2, 4 … 60 s with jitter, for as long as it is wanted. Giving
//! up is the head's decision; here a failing replica only costs less and less. Pure.

use std::time::Duration;

use millstream_connect::Backoff;

use rand::Rng;

/// The rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Delays between failures in a row.
    pub backoff: Backoff,
    /// A replica that was ready for this long before it failed counts as a first failure.
    pub steady_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            backoff: Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) },
            steady_after: Duration::from_secs(30),
        }
    }
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Failures in a row, this one included.
    pub failures: u32,
    /// Time to wait before the next start.
    pub delay: Duration,
}

impl RestartPolicy {
    /// Decides after a failure that follows `failures` others; `ready_for` is how long the replica had been ready,
    /// `None` when it never was.
    pub fn after_failure(&self, failures: u32, ready_for: Option<Duration>, rng: &mut impl Rng) -> Restart {
        let was_steady = ready_for.is_some_and(|time| time >= self.steady_after);
        let failures = if was_steady { 1 } else { failures.saturating_add(1) };
        Restart { failures, delay: self.backoff.delay(failures, rng) }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn failures_in_a_row_back_off_and_a_steady_time_forgives() {
        let secs = Duration::from_secs;
        // failures before, ready for, failures after, nominal delay
        let cases = [
            (0, None, 1, 1),
            (1, None, 2, 2),
            (2, Some(secs(0)), 3, 4),
            (3, Some(secs(29)), 4, 8),
            (4, Some(secs(30)), 1, 1),
            (6, None, 7, 60),
            (u32::MAX, None, u32::MAX, 60),
        ];
        let mut rng = SmallRng::seed_from_u64(1);
        for (before, ready_for, after, nominal) in cases {
            let restart = RestartPolicy::default().after_failure(before, ready_for, &mut rng);
            assert_eq!(restart.failures, after);
            assert!(restart.delay <= secs(nominal), "{restart:?}");
            assert!(restart.delay >= secs(nominal).mul_f64(0.74), "{restart:?}");
        }
    }
}
