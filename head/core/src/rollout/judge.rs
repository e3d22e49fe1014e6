//! Whether a new revision fails more than the one it takes over from, or is slower than its file allows. Fails more: by more than 5 points over at least 20 of its latest
//! requests. Requests count as a whole (a plan may fail by itself) and calls by deployment (a retry elsewhere hides a
//! failed call from the client, not from here).

use std::fmt;
use std::time::Duration;

use millstream_pipelines::Name;
use serde::Serialize;

use super::outcomes::Outcomes;
use super::recent::Recent;

/// Fewest outcomes to judge by.
const MIN_OUTCOMES: u64 = 20;
/// Excess that convicts: one twentieth, 5 points.
const MAX_EXCESS_IS_ONE_IN: u64 = 20;

/// What the outcomes say of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// There are too few.
    TooFew,
    /// There are enough, and it does not fail more than the other.
    Good,
    /// It does.
    Bad(Excess),
    /// Its requests take longer than they may, and those of the other do not.
    Slow(Slowness),
}

/// How slow a revision is: what 95% of the requests took at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Slowness {
    /// Its own.
    pub new: Duration,
    /// The other revision's, where that had requests.
    pub old: Option<Duration>,
    /// What was allowed.
    pub max: Duration,
}

impl fmt::Display for Slowness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { new, old, max } = self;
        write!(f, "95% of its requests take up to {new:.0?}, more than `max_p95` of {max:.0?}")?;
        match old {
            Some(old) => write!(f, "; those before it up to {old:.0?}"),
            None => Ok(()),
        }
    }
}

/// By how much a revision fails more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excess {
    /// The deployment whose calls fail; `None` when whole requests do.
    pub deployment: Option<Name>,
    /// Its outcomes.
    pub new: Outcomes,
    /// The other revision's.
    pub old: Outcomes,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deployment, new, old } = self;
        let what = match deployment {
            Some(name) => format!("calls of `{name}`"),
            None => "requests".to_owned(),
        };
        write!(
            f,
            "{} of {} {what} failed, before it {} of {}",
            new.failed,
            new.total(),
            old.failed,
            old.total()
        )
    }
}

/// Judges a revision by its latest outcomes and those of the one it takes over from, and by what 95% of its requests may take.
#[must_use]
pub fn judge(recent: &Recent, max_p95: Option<Duration>) -> Judgement {
    let mut enough = false;
    for scope in recent.scopes().filter(|scope| scope.new.total() >= MIN_OUTCOMES) {
        enough = true;
        if exceeds(scope.new, scope.old) {
            let deployment = scope.deployment.cloned();
            return Judgement::Bad(Excess { deployment, new: scope.new, old: scope.old });
        }
    }
    if let Some(slowness) = max_p95.and_then(|max| slowness(recent, max)) {
        return Judgement::Slow(slowness);
    }
    if enough { Judgement::Good } else { Judgement::TooFew }
}

/// Whether the new revision is slower than allowed. What befalls the old one as well is not the new one's fault.
fn slowness(recent: &Recent, max: Duration) -> Option<Slowness> {
    let [new, old] = recent.durations();
    let (enough, old) = (new.total() >= MIN_OUTCOMES, old.quantile(95));
    let new = new.quantile(95).filter(|&new| enough && new > max)?;
    old.is_none_or(|old| old <= max).then_some(Slowness { new, old, max })
}

/// Whether the part that fails is larger by more than 5 points. One that nothing is known of fails never.
fn exceeds(new: Outcomes, old: Outcomes) -> bool {
    let (new_total, old_total) = (u128::from(new.total()), u128::from(old.total().max(1)));
    let excess = (u128::from(new.failed) * old_total).saturating_sub(u128::from(old.failed) * new_total);
    excess * u128::from(MAX_EXCESS_IS_ONE_IN) > new_total * old_total
}

#[cfg(test)]
mod tests {
    use millstream_status::durations::{Durations, bucket};

    use super::super::outcomes::Tally;
    use super::super::recent::Side;
    use super::*;

    fn requests(answered: u64, failed: u64) -> Tally {
        Tally { requests: Outcomes { answered, failed }, ..Tally::default() }
    }

    fn judged(new: &Tally, old: &Tally) -> Judgement {
        let mut recent = Recent::default();
        recent.count(Side::New, new, Duration::ZERO);
        recent.count(Side::Old, old, Duration::ZERO);
        judge(&recent, None)
    }

    fn took(answered: u64, took: Duration) -> Tally {
        let mut durations = Durations::default();
        durations.count(bucket(took), answered);
        Tally { durations, ..requests(answered, 0) }
    }

    #[test]
    fn one_that_is_slower_than_allowed_is_convicted_unless_the_other_is_too() {
        let (ms, max) = (Duration::from_millis, Duration::from_millis(200));
        for (new, old, slow) in [
            (took(20, ms(500)), took(100, ms(20)), true),
            (took(20, ms(500)), Tally::default(), true),
            (took(19, ms(500)), took(100, ms(20)), false),
            (took(20, ms(500)), took(100, ms(400)), false),
            (took(20, ms(100)), took(100, ms(20)), false),
        ] {
            let mut recent = Recent::default();
            recent.count(Side::New, &new, Duration::ZERO);
            recent.count(Side::Old, &old, Duration::ZERO);
            let judgement = judge(&recent, Some(max));
            assert_eq!(matches!(judgement, Judgement::Slow(_)), slow, "{judgement:?}");
            assert!(!matches!(judge(&recent, None), Judgement::Slow(_)), "no bound was asked for");
        }
    }

    #[test]
    fn more_than_5_points_over_20_requests_convict() {
        let table = [
            ((0, 19), (100, 0), "few"),
            ((18, 2), (100, 0), "bad"),
            ((19, 1), (100, 0), "good"),
            ((94, 6), (100, 0), "bad"),
            ((90, 10), (95, 5), "good"),
            ((89, 11), (95, 5), "bad"),
            ((10, 10), (0, 0), "bad"),
            ((20, 0), (0, 0), "good"),
            ((10, 10), (10, 10), "good"),
            ((0, 0), (0, 100), "few"),
        ];
        for (new, old, expected) in table {
            let judged = match judged(&requests(new.0, new.1), &requests(old.0, old.1)) {
                Judgement::TooFew => "few",
                Judgement::Good => "good",
                Judgement::Bad(_) => "bad",
                Judgement::Slow(_) => "slow",
            };
            assert_eq!(judged, expected, "{new:?} {old:?}");
        }
    }

    #[test]
    fn calls_that_a_retry_hid_convict_as_well() {
        let name: Name = "model".parse().unwrap();
        let calls = |answered, failed| [(name.clone(), Outcomes { answered, failed })].into();
        let new = Tally { deployments: calls(15, 15), ..requests(30, 0) };
        let old = Tally { deployments: calls(270, 0), ..requests(270, 0) };
        let Judgement::Bad(excess) = judged(&new, &old) else { panic!("half of its calls failed") };
        assert_eq!(excess.to_string(), "15 of 30 calls of `model` failed, before it 0 of 270");
    }
}
