//! How long to wait before the next try: longer each time, up to a limit, never the same at two ingresses.

use std::time::Duration;

use rand::Rng as _;

use crate::random;

const FIRST: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    /// Begins with a short wait.
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// The wait before the next try.
    pub(super) fn next_wait(&mut self) -> Duration {
        let wait = self.0.mul_f64(random::rng().random_range(0.5..1.0));
        self.0 = (self.0 * 2).min(MAX);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::new();
        for limit in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let (limit, wait) = (Duration::from_millis(limit), backoff.next_wait());
            assert!(wait >= limit / 2 && wait < limit, "{wait:?} of {limit:?}");
        }
    }
}
