//! Nodes that somebody says are gone for good: the way out when half of the nodes look dead at once, and are.

use std::time::Duration;

use millstream_status::NodeId;

use super::reconciler::{Effect, Reconciler};
use super::view::Health;
use crate::model::{Command, NodeEntry};

/// Why a node cannot be removed by hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRemovable {
    /// There is no such node.
    #[error("there is no node `{0}`; `cluster node list` shows those that there are")]
    Unknown(String),
    /// It is there and well.
    #[error(
        "node `{0}` is connected; stop its worker first (Ctrl-C, or SIGTERM), best after `cluster node drain {0}`"
    )]
    Live(String),
    /// Several have that name.
    #[error("there are several nodes `{name}`; name one by its id, such as `{one}` or `{other}`")]
    Ambiguous {
        /// The name.
        name: String,
        /// A node that has it.
        one: NodeId,
        /// Another one.
        other: NodeId,
    },
}

impl Reconciler {
    /// Whether a node may be removed by hand: it is known, and not heard any more.
    ///
    /// # Errors
    /// [`NotRemovable`], which says why not.
    pub fn removable(&self, node: &str, now: Duration) -> Result<NodeId, NotRemovable> {
        let mut found = self.state.nodes.iter().filter(|(id, it)| id.as_str() == node || it.name == node);
        let Some((id, known)) = found.next() else { return Err(NotRemovable::Unknown(node.to_owned())) };
        // Of two with one name the id says which is meant.
        if let Some((other, _)) = found.next() {
            let (name, one, other) = (node.to_owned(), id.clone(), other.clone());
            return Err(NotRemovable::Ambiguous { name, one, other });
        }
        match known.health(&self.timing, now) {
            Health::Live if known.session.is_some() => Err(NotRemovable::Live(node.to_owned())),
            _ => Ok(id.clone()),
        }
    }

    pub(super) fn remove_node(&mut self, node: NodeId, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let is_gone =
            |known: &NodeEntry| known.session.is_none() || known.health(&self.timing, now) != Health::Live;
        if self.state.nodes.get(&node).is_some_and(is_gone) {
            self.book(
                vec![Command::ReplaceNode { node: node.clone() }, Command::ForgetNode { node }],
                now,
                &mut effects,
            );
        }
        effects
    }
}
