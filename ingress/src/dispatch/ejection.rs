//! Taking a failing replica out of rotation and trying it again, as a plain function of its health and an outcome.

use std::time::{Duration, Instant};

use crate::model::Outcome;

/// Failures in a row that eject a replica.
const MAX_FAILURES: u8 = 5;
/// Timeouts in a row that eject a replica.
const MAX_TIMEOUTS: u8 = 3;
/// Time until the first probe.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest time between probes.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Whether a replica is given calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// In rotation.
    In {
        /// Failures in a row.
        failures: u8,
        /// Timeouts in a row.
        timeouts: u8,
    },
    /// Ejected; the first call after `until` is the probe.
    Out {
        /// When it may be tried.
        until: Instant,
        /// The wait that ends then.
        backoff: Duration,
    },
    /// One call is on its way to find out.
    Probing {
        /// The wait before this probe.
        backoff: Duration,
    },
}

impl Health {
    /// In rotation, nothing held against it.
    pub(crate) const FRESH: Self = Self::In { failures: 0, timeouts: 0 };

    /// Whether it is in rotation.
    pub(crate) fn is_in(self) -> bool {
        matches!(self, Self::In { .. })
    }
}

/// Whether another replica is in rotation: the last one is never ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// At least one is.
    InRotation,
    /// None is.
    None,
}

/// The health after an outcome. `jitter` is random, 0 to 1: waits are stretched by up to a fifth.
pub(crate) fn step(health: Health, outcome: Outcome, others: Others, now: Instant, jitter: f64) -> Health {
    let out = |backoff: Duration| Health::Out { until: now + backoff.mul_f64(1.0 + 0.2 * jitter), backoff };
    match (health, outcome) {
        (Health::In { .. }, Outcome::Answered)
        | (Health::Probing { .. }, Outcome::Answered | Outcome::Full) => Health::FRESH,
        (
            Health::In { failures, timeouts },
            Outcome::Transport | Outcome::Failed | Outcome::TimedOut | Outcome::Silent,
        ) => {
            let failures = failures.saturating_add(1);
            let late = matches!(outcome, Outcome::TimedOut | Outcome::Silent);
            let timeouts = if late { timeouts.saturating_add(1) } else { 0 };
            let guilty =
                outcome == Outcome::Transport || failures >= MAX_FAILURES || timeouts >= MAX_TIMEOUTS;
            if guilty && others == Others::InRotation {
                out(FIRST_BACKOFF)
            } else {
                Health::In { failures, timeouts }
            }
        }
        (
            Health::Probing { backoff },
            Outcome::Transport | Outcome::Failed | Outcome::TimedOut | Outcome::Silent,
        ) => out((backoff * 2).min(MAX_BACKOFF)),
        // The probe told nothing: the next call is one.
        (Health::Probing { backoff }, Outcome::Abandoned) => Health::Out { until: now, backoff },
        // Calls sent before the ejection end: only a probe counts now.
        (Health::In { .. }, Outcome::Full | Outcome::Abandoned) | (Health::Out { .. }, _) => health,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(outcomes: &[Outcome], others: Others, now: Instant) -> Health {
        outcomes.iter().fold(Health::FRESH, |health, &outcome| step(health, outcome, others, now, 0.0))
    }

    #[test]
    fn what_ejects_and_what_does_not() {
        use Outcome::{Abandoned, Answered, Failed, Full, Silent, TimedOut, Transport};
        let now = millstream_clock::now();
        let table: [(&[Outcome], bool); 11] = [
            (&[Silent, TimedOut, Silent], false),
            (&[Silent, Silent, Answered, Silent], true),
            (&[Transport], false),
            (&[Failed; 4], true),
            (&[Failed; 5], false),
            (&[Failed, Failed, Failed, Failed, Answered, Failed], true),
            (&[TimedOut, TimedOut], true),
            (&[TimedOut; 3], false),
            (&[TimedOut, TimedOut, Failed, TimedOut], true),
            (&[Full; 9], true),
            (&[Abandoned; 9], true),
        ];
        for (outcomes, stays_in) in table {
            assert_eq!(run(outcomes, Others::InRotation, now).is_in(), stays_in, "{outcomes:?}");
            assert!(run(outcomes, Others::None, now).is_in(), "the last one stays: {outcomes:?}");
        }
    }

    #[test]
    fn failed_probes_double_the_wait_up_to_a_minute() {
        let now = millstream_clock::now();
        let mut health = run(&[Outcome::Transport], Others::InRotation, now);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let backoff = SECOND * expected;
            assert_eq!(health, Health::Out { until: now + backoff, backoff });
            health = step(Health::Probing { backoff }, Outcome::Transport, Others::InRotation, now, 0.0);
        }
    }

    #[test]
    fn a_good_probe_forgives_and_an_abandoned_one_is_repeated() {
        let now = millstream_clock::now();
        let probing = Health::Probing { backoff: SECOND * 4 };
        assert_eq!(step(probing, Outcome::Answered, Others::InRotation, now, 0.0), Health::FRESH);
        let again = Health::Out { until: now, backoff: SECOND * 4 };
        assert_eq!(step(probing, Outcome::Abandoned, Others::InRotation, now, 0.0), again);
    }

    #[test]
    fn old_calls_do_not_move_an_ejected_replica() {
        let now = millstream_clock::now();
        let out = Health::Out { until: now + SECOND, backoff: SECOND };
        for outcome in [Outcome::Answered, Outcome::Transport, Outcome::Failed] {
            assert_eq!(step(out, outcome, Others::InRotation, now, 0.5), out);
        }
    }
}
