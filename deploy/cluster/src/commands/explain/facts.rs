//! How a target of `cluster explain` stands: as data for programs.

use serde::Serialize;

use super::beside::{Held, Lacks, Shared};
use super::moves::Move;
use super::slow::{Slow, SlowReplica};
use super::target::Kind;

/// How a target stands, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Now {
    /// What the target is.
    pub(super) kind: &'static str,
    /// For people.
    pub(super) sentences: Vec<String>,
    /// Who waits for a place.
    pub(super) pending: Vec<Waits>,
    /// Replicas that came in the place of others, the newest last.
    pub(super) moves: Vec<Move>,
    /// Where the time of slow requests goes.
    pub(super) slow: Option<Slow>,
    /// Replicas that are slower than their siblings, the slowest first.
    pub(super) slow_replicas: Vec<SlowReplica>,
    /// What runs beside a replica.
    pub(super) beside: Vec<Beside>,
    /// Of a node: what it holds.
    pub(super) holds: Vec<Held>,
    /// Of a node: who has shares of its devices.
    pub(super) shares: Vec<Shared>,
    /// Of a node: who waits for a place, and what is missing here.
    pub(super) nearly_fits: Vec<Lacks>,
}

/// A deployment that waits for a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Waits {
    /// `pipeline/deployment`.
    pub(super) deployment: String,
    /// Replicas without a place.
    pub(super) replicas: u32,
    /// What each of them needs, in words; absent where the file is not known.
    pub(super) needs: Option<String>,
    /// What the nodes lack; those first that lack the least.
    pub(super) reasons: Vec<String>,
}

/// What runs beside a replica.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Beside {
    pub(super) replica: String,
    pub(super) node: String,
    /// On the node.
    pub(super) held: Vec<Held>,
    /// On its devices.
    pub(super) shared: Vec<Shared>,
}

impl Now {
    /// Nothing is known of it.
    pub(super) fn empty(kind: Kind) -> Self {
        Self {
            kind: kind.word(),
            sentences: Vec::new(),
            pending: Vec::new(),
            moves: Vec::new(),
            slow: None,
            slow_replicas: Vec::new(),
            beside: Vec::new(),
            holds: Vec::new(),
            shares: Vec::new(),
            nearly_fits: Vec::new(),
        }
    }
}
