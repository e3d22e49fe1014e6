//! Why replicas are where they are: of the decisions, those by which one came in the place of another, with the reason.

use std::collections::{BTreeMap, VecDeque};

use millstream_proto::event::{Decision, Event, NodeChange};
use serde::Serialize;

/// A replica that comes later than this is not in the place of one that is gone.
const MAX_APART_MS: u64 = 600_000;
/// What a node had is placed elsewhere in the same moment in which the node is given up, and may be told before that.
const SAME_MOMENT_MS: u64 = 1000;

/// A replica that came in the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Move {
    /// When it was placed, in milliseconds since the Unix epoch.
    pub(super) at_ms: u64,
    /// `pipeline/deployment`.
    pub(super) deployment: String,
    /// The one that is gone.
    pub(super) was: String,
    /// Name of its node.
    pub(super) from: String,
    /// The one in its place.
    pub(super) is: String,
    /// Name of its node.
    pub(super) to: String,
    /// Why.
    pub(super) why: String,
}

/// A place that a replica had, or was given.
#[derive(Debug, Clone)]
struct Place {
    at_ms: u64,
    replica: String,
    node: String,
    /// The revision that it was started for.
    revision: u64,
    /// Why it is lost; of a new one nothing.
    why: String,
}

/// The moves that the events tell of, the oldest first.
pub(super) fn moves(events: &[Event]) -> Vec<Move> {
    let mut told = Told::default();
    events.iter().for_each(|event| told.read(event));
    told.moves.sort_by_key(|found| found.at_ms);
    told.moves
}

#[derive(Default)]
struct Told {
    /// Where replicas are, with their deployments.
    there: BTreeMap<String, (String, Place)>,
    /// Lost places that no other replica has taken yet, by deployment.
    lost: BTreeMap<String, VecDeque<Place>>,
    /// Replicas that came beside those that there were, by deployment.
    beside: BTreeMap<String, VecDeque<Place>>,
    moves: Vec<Move>,
}

impl Told {
    fn read(&mut self, event: &Event) {
        let (at_ms, deployment) = (event.at_ms, event.subject());
        match &event.decision {
            Decision::Placed { replica, node, revision, .. } => {
                let (replica, node, revision) = (replica.clone(), node.clone(), *revision);
                self.place(deployment, Place { at_ms, replica, node, revision, why: String::new() });
            }
            Decision::Retired { replica, node, reason } => {
                let known = self.there.remove(replica);
                let revision = known.map_or(0, |(_, place)| place.revision);
                let (replica, node, why) = (replica.clone(), node.clone(), reason.clone());
                self.retire(deployment, Place { at_ms, replica, node, revision, why });
            }
            Decision::Evicted { node, .. } => self.lose(node, at_ms, "is lost"),
            Decision::Node { node, change: NodeChange::Draining } => self.lose(node, at_ms, "stops"),
            Decision::Node { node, change: NodeChange::Left } => self.lose(node, at_ms, "left"),
            _ => {}
        }
    }

    fn place(&mut self, deployment: String, new: Place) {
        self.there.insert(new.replica.clone(), (deployment.clone(), new.clone()));
        let in_time = |lost: &Place| new.at_ms.saturating_sub(lost.at_ms) <= MAX_APART_MS;
        match take(&mut self.lost, &deployment, in_time) {
            Some(lost) => self.moved(deployment, &lost, &new, lost.why.clone()),
            None => self.beside.entry(deployment).or_default().push_back(new),
        }
    }

    /// Where another revision takes over, or a node is drained, what comes instead mostly comes before what was there goes.
    fn retire(&mut self, deployment: String, lost: Place) {
        if lost.why.contains("node is drained") {
            let instead =
                |new: &Place| new.node != lost.node && lost.at_ms.saturating_sub(new.at_ms) <= MAX_APART_MS;
            if let Some(new) = take(&mut self.beside, &deployment, instead) {
                let why = format!("node {} is drained", lost.node);
                self.moved(deployment, &lost, &new, why);
            }
            return;
        }
        if !lost.why.contains("newer revision") && !lost.why.contains("taken back") {
            return;
        }
        let instead = |new: &Place| {
            new.revision != lost.revision && lost.at_ms.saturating_sub(new.at_ms) <= MAX_APART_MS
        };
        match take(&mut self.beside, &deployment, instead) {
            Some(new) => {
                let why = format!("revision {} takes over", new.revision);
                self.moved(deployment, &lost, &new, why);
            }
            None => self.lost.entry(deployment).or_default().push_back(lost),
        }
    }

    /// A node is gone with all that it had.
    fn lose(&mut self, node: &str, at_ms: u64, what: &str) {
        let gone: Vec<_> = self.there.extract_if(.., |_, (_, place)| place.node == node).collect();
        for (_, (deployment, place)) in gone {
            let lost = Place { at_ms, why: format!("node {node} {what}"), ..place };
            let instead = |new: &Place| {
                new.node != node
                    && new.replica != lost.replica
                    && at_ms.saturating_sub(new.at_ms) <= SAME_MOMENT_MS
            };
            match take(&mut self.beside, &deployment, instead) {
                Some(new) => self.moved(deployment, &lost, &new, lost.why.clone()),
                None => self.lost.entry(deployment).or_default().push_back(lost),
            }
        }
    }

    fn moved(&mut self, deployment: String, was: &Place, is: &Place, why: String) {
        self.moves.push(Move {
            at_ms: is.at_ms,
            deployment,
            was: was.replica.clone(),
            from: was.node.clone(),
            is: is.replica.clone(),
            to: is.node.clone(),
            why,
        });
    }
}

/// Takes the oldest place of a deployment that will do.
fn take(
    places: &mut BTreeMap<String, VecDeque<Place>>,
    deployment: &str,
    will_do: impl Fn(&Place) -> bool,
) -> Option<Place> {
    let places = places.get_mut(deployment)?;
    let at = places.iter().position(will_do)?;
    places.remove(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(second: u64, decision: Decision) -> Event {
        let (pipeline, deployment) = (Some("p".into()), Some("model".into()));
        Event { sequence: second, at_ms: second * 1000, pipeline, deployment, decision }
    }

    fn placed(second: u64, replica: &str, node: &str, revision: u64) -> Event {
        let (replica, node) = (replica.into(), node.into());
        event(second, Decision::Placed { replica, node, revision, gpus: Vec::new() })
    }

    fn retired(second: u64, replica: &str, node: &str, reason: &str) -> Event {
        let (replica, node, reason) = (replica.into(), node.into(), reason.into());
        event(second, Decision::Retired { replica, node, reason })
    }

    fn told(events: &[Event]) -> Vec<String> {
        let line = |it: &Move| format!("{} on {} for {} on {}: {}", it.is, it.to, it.was, it.from, it.why);
        moves(events).iter().map(line).collect()
    }

    #[test]
    fn a_lost_node_moves_what_it_had() {
        let lost = event(9, Decision::Evicted { node: "a".into(), replicas: 1 });
        let events = [placed(1, "r1", "a", 1), placed(1, "r2", "b", 1), lost, placed(9, "r3", "b", 1)];
        assert_eq!(told(&events), ["r3 on b for r1 on a: node a is lost"]);
    }

    #[test]
    fn a_new_revision_takes_the_places_of_the_old_one() {
        let events = [
            placed(1, "r1", "a", 1),
            placed(60, "r2", "b", 2),
            retired(65, "r1", "a", "a newer revision serves"),
        ];
        assert_eq!(told(&events), ["r2 on b for r1 on a: revision 2 takes over"]);
    }

    #[test]
    fn more_and_fewer_replicas_are_no_moves() {
        let events = [
            placed(1, "r1", "a", 1),
            placed(2, "r2", "b", 1),
            retired(30, "r2", "b", "more replicas than wanted"),
            placed(40, "r3", "b", 1),
        ];
        assert!(told(&events).is_empty());
        let left = event(50, Decision::Node { node: "b".into(), change: NodeChange::Left });
        let late = [&events[..], &[left, placed(5000, "r4", "a", 1)]].concat();
        assert!(told(&late).is_empty(), "what comes an hour later is not in its place");
    }
}
