//! A replica in a pool: which requests it can answer, and which of them it should get.

use std::time::Instant;

use smallvec::SmallVec;

use crate::dispatch::ejection::Health;
use crate::dispatch::router::{Candidate, Locality};

/// A replica, for as long as it is in the routes; never used twice.
pub type Key = u32;

/// Replicas of which a call should get one, as long as one of them is in rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Those that serve this revision.
    Serving(u64),
    /// Older ones that help out until enough new ones are ready.
    Helping,
}

/// Where a call is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aim {
    /// The revision of its request; only replicas that can answer for it are asked. `None` where all can.
    pub(super) revision: Option<u64>,
    /// Which of these should get it; `None` where all serve the same.
    pub(super) group: Option<Group>,
}

/// A replica of a new route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its key.
    pub key: Key,
    /// How near it is.
    pub locality: Locality,
    /// The routed revisions that it serves; empty for one that helps out.
    pub serves: SmallVec<[u64; 2]>,
    /// The revisions whose requests it can answer; empty where all replicas can answer all.
    pub answers: SmallVec<[u64; 2]>,
}

/// A replica in a pool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Replica {
    pub(super) key: Key,
    pub(super) locality: Locality,
    pub(super) serves: SmallVec<[u64; 2]>,
    pub(super) answers: SmallVec<[u64; 2]>,
    pub(super) ongoing: u32,
    pub(super) full_until: Option<Instant>,
    pub(super) health: Health,
}

impl Replica {
    /// Whether it can answer requests of a revision.
    pub(super) fn can_answer(&self, revision: Option<u64>) -> bool {
        self.answers.is_empty() || revision.is_none_or(|revision| self.answers.contains(&revision))
    }

    pub(super) fn is_in(&self, group: Group) -> bool {
        match group {
            Group::Serving(revision) => self.serves.contains(&revision),
            Group::Helping => self.serves.is_empty(),
        }
    }

    pub(super) fn candidate(&self) -> Candidate {
        Candidate { ongoing: self.ongoing, locality: self.locality }
    }
}
