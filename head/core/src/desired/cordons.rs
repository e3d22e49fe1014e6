//! Nodes that people keep free: a cordoned node gets nothing new, and one that is drained is emptied besides. By the node's
//! name, so that a machine that comes back without its disk stays what people made of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Most nodes that may be cordoned: those that are gone stay in the store until somebody takes them out.
const MAX_CORDONS: usize = 10_000;

/// The nodes that are cordoned, by name.
pub type Cordons = BTreeMap<String, Cordon>;

/// What people keep from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    /// What becomes of the replicas that are there.
    pub kind: CordonKind,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// What becomes of the replicas on a node that gets nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CordonKind {
    /// They stay.
    Cordoned,
    /// They are replaced elsewhere and leave.
    Drained,
}

/// What people ask of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRequest {
    /// Nothing new is to be placed there; what runs stays. Ends a drain.
    Cordon,
    /// What runs there is to move to other nodes.
    Drain,
    /// It is to take replicas again. Ends a drain.
    Uncordon,
}

/// What people keep from nodes once `request` is granted. The same again changes nothing.
///
/// # Errors
/// [`Refusal::NotNow`] when there are too many.
pub fn change(cordons: &Cordons, node: &str, request: NodeRequest, now_ms: u64) -> Result<Cordons, Refusal> {
    let mut changed = cordons.clone();
    let kind = match request {
        NodeRequest::Cordon => CordonKind::Cordoned,
        NodeRequest::Drain => CordonKind::Drained,
        NodeRequest::Uncordon => {
            changed.remove(node);
            return Ok(changed);
        }
    };
    if cordons.get(node).is_some_and(|cordon| cordon.kind == kind) {
        return Ok(changed);
    }
    if cordons.len() >= MAX_CORDONS && !cordons.contains_key(node) {
        let oldest = cordons.iter().min_by_key(|(_, cordon)| cordon.since_ms);
        let oldest = oldest.map_or("", |(name, _)| name);
        return Err(Refusal::NotNow(format!(
            "{MAX_CORDONS} nodes are cordoned; take those that are gone out first, such as with `cluster node uncordon \
             {oldest}`"
        )));
    }
    changed.insert(node.to_owned(), Cordon { kind, since_ms: now_ms });
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_counts_and_the_same_again_changes_nothing() {
        use CordonKind::{Cordoned, Drained};
        use NodeRequest::{Cordon, Drain, Uncordon};
        // The requests one after another; what is kept in the end, and since which of them.
        let table = [
            (&[Cordon][..], Some((Cordoned, 0))),
            (&[Cordon, Cordon], Some((Cordoned, 0))),
            (&[Cordon, Drain], Some((Drained, 1))),
            (&[Drain, Drain, Cordon], Some((Cordoned, 2))),
            (&[Drain, Uncordon], None),
            (&[Uncordon], None),
            (&[Cordon, Uncordon, Drain], Some((Drained, 2))),
        ];
        for (requests, expected) in table {
            let cordons = (0..).zip(requests).fold(Cordons::new(), |cordons, (now_ms, request)| {
                change(&cordons, "a", *request, now_ms).unwrap()
            });
            let found = cordons.get("a").map(|cordon| (cordon.kind, cordon.since_ms));
            assert_eq!(found, expected, "{requests:?}");
        }
    }

    #[test]
    fn there_are_not_arbitrarily_many_and_the_refusal_names_the_oldest() {
        let cordon = |since_ms| Cordon { kind: CordonKind::Cordoned, since_ms };
        let full: Cordons =
            (0..MAX_CORDONS).map(|n| (format!("n{n}"), cordon(9_000_000 - n as u64))).collect();
        let refusal = change(&full, "more", NodeRequest::Cordon, 1).unwrap_err().to_string();
        assert!(refusal.contains("`cluster node uncordon n9999`"), "{refusal}");
        assert!(change(&full, "n1", NodeRequest::Drain, 1).is_ok(), "it is one of them");
    }
}
