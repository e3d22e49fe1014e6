//! What is stored of rollouts: which one is under way, and why revisions that were deployed do not serve.

use millstream_status::status::VerdictStatus;
use serde::{Deserialize, Serialize};

/// A takeover that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRollout {
    /// The revision that serves until the new one has proven itself, and again should it fail.
    pub baseline: u64,
    /// The first revision that was to take over from it. Those since then, up to the wanted one, may serve too: each was
    /// replaced by the next before it was done. 0 when a version of this program stored it that did not know.
    #[serde(default)]
    pub first: u64,
    /// How traffic comes to the new one.
    pub mode: Mode,
}

/// How traffic comes to a new revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By itself: a trial beside the old replicas, then all of it.
    Rolling,
    /// A fixed part, until people promote or abort it.
    Canary {
        /// Thousandths of the requests, 1 to 1000.
        permille: u16,
    },
    /// None; copies of requests are run and their answers compared, until people promote or abort it.
    Shadow {
        /// Thousandths of the requests that are copied, 1 to 1000.
        permille: u16,
    },
    /// A part that grows by the steps of its file.
    Steps {
        /// Thousandths of the requests now, 1 to 999.
        permille: u16,
    },
    /// By itself, from the part on that it had when it was promoted.
    Promoted {
        /// Thousandths of the requests then, 0 to 1000.
        permille: u16,
    },
}

impl Mode {
    /// Whether nobody and no step holds it: a trial that goes well ends it.
    #[must_use]
    pub fn is_rolling(self) -> bool {
        matches!(self, Self::Rolling | Self::Promoted { .. })
    }

    /// The part of the requests, or of copies of them, that it is to have until something else is said.
    #[must_use]
    pub fn part(self) -> Option<u16> {
        match self {
            Self::Canary { permille } | Self::Shadow { permille } | Self::Steps { permille } => {
                Some(permille)
            }
            Self::Rolling | Self::Promoted { .. } => None,
        }
    }

    /// The same with another part.
    #[must_use]
    pub fn with_part(self, permille: u16) -> Self {
        match self {
            Self::Canary { .. } => Self::Canary { permille },
            Self::Shadow { .. } => Self::Shadow { permille },
            Self::Steps { .. } => Self::Steps { permille },
            Self::Rolling | Self::Promoted { .. } => self,
        }
    }
}

/// Why a revision does not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What became of it.
    pub outcome: Outcome,
    /// Why, for people.
    pub reason: String,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Verdict {
    /// What people may see of it.
    #[must_use]
    pub fn status(&self, revision: u64) -> VerdictStatus {
        let outcome = match self.outcome {
            Outcome::RolledBack => "rolled_back",
            Outcome::Aborted => "aborted",
        };
        let (outcome, reason) = (outcome.to_owned(), self.reason.clone());
        VerdictStatus { revision, outcome, reason, at_ms: self.at_ms }
    }
}

/// What became of a revision that does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It failed, and the head went back.
    RolledBack,
    /// People took it back.
    Aborted,
}
