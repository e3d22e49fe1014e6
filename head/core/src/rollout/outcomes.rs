//! How requests and calls of a revision ended, as counts.

use std::collections::BTreeMap;

use millstream_pipelines::Name;
use millstream_status::durations::Durations;
use serde::{Deserialize, Serialize};

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

    pub(crate) fn add(&mut self, other: Self) {
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
    /// How long requests with an answer took.
    #[serde(default)]
    pub durations: Durations,
    /// Of calls, by deployment.
    pub deployments: BTreeMap<Name, Outcomes>,
    /// Of copies, for a shadow.
    pub shadow: Shadowed,
}

impl Tally {
    /// Counts more.
    pub fn add(&mut self, other: &Self) {
        self.requests.add(other.requests);
        self.durations.add(&other.durations);
        for (deployment, outcomes) in &other.deployments {
            self.deployments.entry(deployment.clone()).or_default().add(*outcomes);
        }
        self.shadow.compared += other.shadow.compared;
        self.shadow.different += other.shadow.different;
        self.shadow.failed += other.shadow.failed;
    }
}
