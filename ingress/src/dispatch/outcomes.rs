//! How calls and requests ended since the head was last told, by revision: what it judges new revisions by.

use smallvec::SmallVec;

use crate::model::Outcome;

/// Endings that say something about a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// With an answer, one that blames the request included.
    pub answered: u64,
    /// By a fault of the replica's or the server's.
    pub failed: u64,
}

/// Endings of one deployment's calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallCounts {
    /// By the revision that the replica was started for.
    pub by_revision: SmallVec<[(u64, Outcomes); 2]>,
    /// Calls that were turned away because the queue was full.
    pub shed: u64,
}

impl CallCounts {
    /// Counts the end of a call. One that its caller gave up, that another replica was quicker with, or that found no room, says
    /// nothing.
    pub fn count(&mut self, revision: u64, outcome: Outcome) {
        let add = match outcome {
            Outcome::Answered => Outcomes { answered: 1, failed: 0 },
            Outcome::Transport | Outcome::Failed | Outcome::TimedOut => Outcomes { answered: 0, failed: 1 },
            Outcome::Silent | Outcome::Full | Outcome::Abandoned => return,
        };
        let index = self.by_revision.iter().position(|(known, _)| *known == revision);
        let index = index.unwrap_or_else(|| {
            self.by_revision.push((revision, Outcomes::default()));
            self.by_revision.len() - 1
        });
        let counts = &mut self.by_revision[index].1;
        counts.answered += add.answered;
        counts.failed += add.failed;
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.by_revision.is_empty() && self.shed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_counted_by_revision_where_they_say_something() {
        let mut counts = CallCounts::default();
        assert!(counts.is_empty());
        let endings = [
            (1, Outcome::Answered),
            (2, Outcome::Failed),
            (2, Outcome::TimedOut),
            (2, Outcome::Transport),
            (1, Outcome::Full),
            (1, Outcome::Abandoned),
            (1, Outcome::Silent),
            (2, Outcome::Answered),
        ];
        for (revision, outcome) in endings {
            counts.count(revision, outcome);
        }
        let expected = [(1, Outcomes { answered: 1, failed: 0 }), (2, Outcomes { answered: 1, failed: 3 })];
        assert_eq!(counts.by_revision.as_slice(), expected);
    }
}
