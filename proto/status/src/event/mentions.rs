//! Which node and which replica an event is about, beside its pipeline and deployment.

use super::{Decision, Event};

impl Decision {
    /// Name of the node that it is about.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Placed { node, .. }
            | Self::Retired { node, .. }
            | Self::Node { node, .. }
            | Self::ReplicaFailed { node, .. }
            | Self::Evicted { node, .. } => Some(node),
            _ => None,
        }
    }

    /// The replica that it is about.
    #[must_use]
    pub fn replica(&self) -> Option<&str> {
        match self {
            Self::Placed { replica, .. }
            | Self::Retired { replica, .. }
            | Self::ReplicaFailed { replica, .. } => Some(replica),
            _ => None,
        }
    }
}

impl Event {
    /// Whether it concerns a node: names it, or is about half of the nodes at once.
    #[must_use]
    pub fn concerns_node(&self, node: &str) -> bool {
        self.decision.node() == Some(node) || matches!(self.decision, Decision::Alarm { .. })
    }

    /// Whether it concerns a replica on a node: names it, or says that its node came or went.
    #[must_use]
    pub fn concerns_replica(&self, replica: &str, node: &str) -> bool {
        match self.decision.replica() {
            Some(named) => named == replica,
            None => self.decision.node() == Some(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NodeChange;

    #[test]
    fn nodes_and_replicas_have_the_events_that_name_them() {
        let event = |decision| Event { sequence: 1, at_ms: 1, pipeline: None, deployment: None, decision };
        let placed = |replica: &str, node: &str| {
            let (replica, node) = (replica.to_owned(), node.to_owned());
            event(Decision::Placed { replica, node, revision: 1, gpus: Vec::new() })
        };
        let left = event(Decision::Node { node: "a".into(), change: NodeChange::Left });
        let alarm = event(Decision::Alarm { raised: true });
        let deleted = event(Decision::Deleted);
        // The event; whether it concerns node `a`, and replica `r` on it.
        let table = [
            (placed("r", "a"), true, true),
            (placed("s", "a"), true, false),
            (placed("r", "b"), false, true),
            (left, true, true),
            (alarm, true, false),
            (deleted, false, false),
        ];
        for (event, node, replica) in table {
            assert_eq!(event.concerns_node("a"), node, "{event:?}");
            assert_eq!(event.concerns_replica("r", "a"), replica, "{event:?}");
        }
    }
}
