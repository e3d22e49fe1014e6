//! What all nodes together lack for a replica that has no place. A few nodes are named one by one; many are counted by
//! what is missing on them, so that the text stays short however large the cluster is.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::missing::{Missing, MissingResource, Nodes};

/// Up to so many nodes each one has a reason of its own.
const MAX_NAMED: usize = 3;
/// Most reasons with what is missing; all further nodes are one reason more.
const MAX_REASONS: usize = 5;

/// Why no node has a place for a replica, those first that lack the fewest things. Empty without nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shortage {
    /// The nodes, those together that lack the same things.
    pub reasons: Vec<Reason>,
}

/// Nodes that lack the same things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// How many nodes these are.
    pub num_nodes: usize,
    /// The name of the first one.
    pub node: String,
    /// What they lack. Of amounts it is the most that one of them has free. Empty for nodes that lack more things than
    /// those of the reasons before.
    pub missing: Vec<Missing>,
}

impl Shortage {
    /// What the nodes that come nearest lack first.
    #[must_use]
    pub fn lack(&self) -> MissingResource {
        let nearest = self.reasons.first().and_then(|reason| reason.missing.first());
        nearest.map_or(MissingResource::Node, Missing::lack)
    }

    /// Asks of each node, in the order of their names, for its name and what it lacks. O(nodes).
    pub(super) fn of<'n>(
        num_nodes: usize,
        mut node: impl FnMut(usize, &mut Vec<Missing>) -> &'n str,
    ) -> Self {
        let mut shortage = Self::default();
        let mut missing = Vec::new();
        for index in 0..num_nodes {
            missing.clear();
            let name = node(index, &mut missing);
            let alike = shortage.reasons.iter_mut().find(|it| num_nodes > MAX_NAMED && it.is_like(&missing));
            match alike {
                Some(reason) => reason.merge(&missing),
                None => {
                    let (node, missing) = (name.to_owned(), missing.clone());
                    shortage.reasons.push(Reason { num_nodes: 1, node, missing });
                }
            }
        }
        shortage.reasons.sort_by_key(|reason| (reason.missing.len(), Reverse(reason.num_nodes)));
        shortage.bound();
        shortage
    }

    fn bound(&mut self) {
        if self.reasons.len() > MAX_REASONS {
            let others = self.reasons.split_off(MAX_REASONS);
            let num_nodes = others.iter().map(|reason| reason.num_nodes).sum();
            let node = others.into_iter().next().map(|reason| reason.node).unwrap_or_default();
            self.reasons.push(Reason { num_nodes, node, missing: Vec::new() });
        }
    }
}

impl Reason {
    fn is_like(&self, missing: &[Missing]) -> bool {
        self.missing.len() == missing.len()
            && self.missing.iter().zip(missing).all(|(mine, other)| mine.is_like(other))
    }

    /// Counts one node more.
    fn merge(&mut self, missing: &[Missing]) {
        self.num_nodes += 1;
        self.missing.iter_mut().zip(missing).for_each(|(mine, other)| mine.merge(other));
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { num_nodes, node, missing } = self;
        let nodes = if *num_nodes == 1 { Nodes::One } else { Nodes::Several };
        match nodes {
            Nodes::One => write!(f, "{node}: ")?,
            Nodes::Several => write!(f, "{num_nodes} nodes: ")?,
        }
        if missing.is_empty() {
            return f.write_str("more things are missing");
        }
        for (index, missing) in missing.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}", missing.words(nodes))?;
        }
        Ok(())
    }
}
