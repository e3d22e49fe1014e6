//! Whether a new revision fails more than the one it takes over from: by more than 5 points over at least 20 requests.
//! Requests count as a whole (a plan may fail by itself) and calls by deployment (a retry elsewhere hides a failed call
//! from the client, not from here).

use std::collections::BTreeMap;
use std::fmt;

use millstream_pipelines::Name;
use serde::{Deserialize, Serialize};

/// Fewest outcomes to judge by.
const MIN_OUTCOMES: u64 = 20;
/// Excess that convicts: one twentieth, 5 points.
const MAX_EXCESS_IS_ONE_IN: u64 = 20;

/// How requests or calls ended. Those that the client is to blame for, or left, are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// With an answer.
    pub answered: u64,
    /// By a fault of ours.
    pub failed: u64,
}

impl Outcomes {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.answered + self.failed
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
    }
}

/// What came of copies that a shadow ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shadowed {
    /// Copies that ran to an end.
    pub compared: u64,
    /// Copies whose answer differed from the client's.
    pub different: u64,
    /// Copies that failed although the request did not.
    pub failed: u64,
}

/// The outcomes of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Of requests.
    pub requests: Outcomes,
    /// Of calls, by deployment.
    pub deployments: BTreeMap<Name, Outcomes>,
    /// Of copies, for a shadow.
    pub shadow: Shadowed,
}

impl Tally {
    /// Counts more.
    pub fn add(&mut self, other: &Self) {
        self.requests.add(other.requests);
        for (deployment, outcomes) in &other.deployments {
            self.deployments.entry(deployment.clone()).or_default().add(*outcomes);
        }
        self.shadow.compared += other.shadow.compared;
        self.shadow.different += other.shadow.different;
        self.shadow.failed += other.shadow.failed;
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scopes().all(|(_, outcomes)| outcomes.total() == 0)
    }

    /// Whether anything failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.scopes().any(|(_, outcomes)| outcomes.failed > 0)
    }

    /// Whether nothing of a kind was answered of which something failed.
    #[must_use]
    pub fn has_only_failed(&self) -> bool {
        self.scopes().any(|(_, outcomes)| outcomes.failed > 0 && outcomes.answered == 0)
    }

    /// The outcomes of a deployment's calls; of requests for `None`.
    pub(super) fn outcomes(&self, deployment: Option<&Name>) -> Outcomes {
        match deployment {
            None => self.requests,
            Some(name) => self.deployments.get(name).copied().unwrap_or_default(),
        }
    }

    /// Requests, then each deployment's calls.
    pub(super) fn scopes(&self) -> impl Iterator<Item = (Option<&Name>, Outcomes)> {
        let deployments = self.deployments.iter().map(|(name, outcomes)| (Some(name), *outcomes));
        std::iter::once((None, self.requests)).chain(deployments)
    }
}

/// What the outcomes say of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// There are too few.
    TooFew,
    /// There are enough, and it does not fail more than the other.
    Good,
    /// It does.
    Bad(Excess),
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

/// Judges a revision by its outcomes and those of the one it takes over from.
#[must_use]
pub fn judge(new: &Tally, old: &Tally) -> Judgement {
    let mut enough = false;
    for (deployment, outcomes) in new.scopes() {
        let before = old.outcomes(deployment);
        if outcomes.total() < MIN_OUTCOMES {
            continue;
        }
        enough = true;
        if exceeds(outcomes, before) {
            return Judgement::Bad(Excess { deployment: deployment.cloned(), new: outcomes, old: before });
        }
    }
    if enough { Judgement::Good } else { Judgement::TooFew }
}

/// Whether the part that fails is larger by more than 5 points. One that nothing is known of fails never.
fn exceeds(new: Outcomes, old: Outcomes) -> bool {
    let (new_total, old_total) = (u128::from(new.total()), u128::from(old.total().max(1)));
    let excess = (u128::from(new.failed) * old_total).saturating_sub(u128::from(old.failed) * new_total);
    excess * u128::from(MAX_EXCESS_IS_ONE_IN) > new_total * old_total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(answered: u64, failed: u64) -> Tally {
        Tally { requests: Outcomes { answered, failed }, ..Tally::default() }
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
            let judged = match judge(&requests(new.0, new.1), &requests(old.0, old.1)) {
                Judgement::TooFew => "few",
                Judgement::Good => "good",
                Judgement::Bad(_) => "bad",
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
        let Judgement::Bad(excess) = judge(&new, &old) else { panic!("half of its calls failed") };
        assert_eq!(excess.to_string(), "15 of 30 calls of `model` failed, before it 0 of 270");
    }
}
