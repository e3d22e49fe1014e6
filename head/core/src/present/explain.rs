//! Why things are as they are: turns what was decided into events for people, and keeps the last of them (`log`).
//!
//! A command carries everything that it was decided from, so that an event needs nothing else; [`event_of`] is a plain
//! function.

use std::collections::BTreeMap;

use millstream_pipelines::{FullName, Name};
use millstream_status::NodeId;
use millstream_status::event::{Decision, NodeChange, RolloutStep, ScaleInputs};
use millstream_status::status::ReplicaState;

use crate::autoscaler::Inputs;
use crate::desired::{CordonKind, Cordons};
use crate::model::{Command, Observation, State};
use crate::reconcile::view::cordon_of;
use crate::rollout::{Change, ChangeKind, Phase};

/// Whom an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The cluster.
    Cluster,
    /// A pipeline.
    Pipeline(Name),
    /// A deployment.
    Deployment(FullName),
}

/// The event that a command is; `None` for book-keeping. `state` is what the command was decided from.
#[must_use]
pub fn event_of(command: &Command, state: &State) -> Option<(Subject, Decision)> {
    let node_name =
        |id: &NodeId| state.nodes.get(id).map_or_else(|| id.to_string(), |node| node.name.clone());
    Some(match command {
        Command::Scale(scale) => {
            let Inputs { ongoing, queued, ready, starting, wanted, bounded_by, .. } = scale.inputs;
            let inputs = ScaleInputs {
                ongoing,
                queued,
                ready,
                starting,
                target_ongoing_requests: scale.settings.target_ongoing_requests,
                wanted,
                bounded_by: bounded_by.map(|bound| bound.to_string()),
            };
            let rule = scale.rule.to_string();
            let decision = Decision::Scaled { from: scale.from, to: scale.to, rule, inputs };
            (Subject::Deployment(scale.deployment.clone()), decision)
        }
        Command::Start(order) => {
            let gpus = order.gpus.iter().map(|share| (share.index, share.milli)).collect();
            let decision = Decision::Placed {
                replica: order.replica.to_string(),
                node: node_name(&order.node),
                revision: order.revision,
                gpus,
            };
            (Subject::Deployment(order.deployment.clone()), decision)
        }
        Command::Retire { node, replica, reason } => {
            let deployment = &state.nodes.get(node)?.replicas.get(replica)?.deployment;
            let decision = Decision::Retired {
                replica: replica.to_string(),
                node: node_name(node),
                reason: reason.to_string(),
            };
            (Subject::Deployment(deployment.clone()), decision)
        }
        Command::ReplaceNode { node } => {
            let replicas = state.nodes.get(node).map_or(0, |node| node.replicas.len() as u64);
            (Subject::Cluster, Decision::Evicted { node: node_name(node), replicas })
        }
        Command::Alarm { raised } => (Subject::Cluster, Decision::Alarm { raised: *raised }),
        Command::Rollout(change) => {
            (Subject::Pipeline(change.pipeline.clone()), event_of_rollout(change, state)?)
        }
        _ => return None,
    })
}

/// What a rollout's change is for people.
fn event_of_rollout(change: &Change, state: &State) -> Option<Decision> {
    let (revision, baseline) = (change.revision, change.baseline);
    let step = |step| Some(Decision::Rollout { revision, baseline, step });
    let conclusion = state.conclusions.get(&change.pipeline);
    let again = conclusion.is_some_and(|conclusion| conclusion.revision == revision);
    match &change.kind {
        ChangeKind::Begin(Phase::Starting) => step(RolloutStep::Begun),
        ChangeKind::Enter(Phase::Trial) => step(RolloutStep::Trial),
        ChangeKind::Enter(Phase::Half) => step(RolloutStep::Half),
        ChangeKind::Enter(Phase::Moving) => step(RolloutStep::Moving),
        ChangeKind::Enter(Phase::Watching) => step(RolloutStep::Moved),
        // The first part comes with the trial.
        ChangeKind::Part(permille) => {
            let rollout = state.rollouts.get(&change.pipeline)?;
            rollout.part.filter(|_| rollout.phase != Phase::Starting)?;
            Some(Decision::Part { revision, percent: f64::from(*permille) / 10.0 })
        }
        ChangeKind::End if !again => step(RolloutStep::Over),
        // The store is told again until it has it; people are told once.
        ChangeKind::RollBack { reason } if !again => {
            Some(Decision::RolledBack { revision, to: baseline, reason: reason.clone() })
        }
        _ => None,
    }
}

/// The event that it is to hear this; `None` for what is not worth telling. `state` is what was known before.
#[must_use]
pub fn event_of_observation(
    observation: &Observation,
    state: &State,
    cordons: &Cordons,
) -> Option<(Subject, Decision)> {
    let node = |id: &NodeId, session| state.nodes.get(id).filter(|node| node.session == Some(session));
    let told =
        |name: &str, change| Some((Subject::Cluster, Decision::Node { node: name.to_owned(), change }));
    match observation {
        Observation::NodeJoined(_, registration) => {
            let known = state.nodes.get(&registration.id);
            let change = if known.is_some() { NodeChange::Returned } else { NodeChange::Joined };
            told(&registration.name, change)
        }
        Observation::NodeLeft(id, session) => {
            let node = node(id, *session)?;
            told(&node.name, if node.draining { NodeChange::Left } else { NodeChange::Unreachable })
        }
        Observation::ReplicaChanged(id, session, report) => {
            let node = node(id, *session)?;
            let known = node.replicas.get(&report.id)?;
            match report.state {
                ReplicaState::Failed if known.state != ReplicaState::Failed => {
                    let decision = Decision::ReplicaFailed {
                        replica: report.id.to_string(),
                        node: node.name.clone(),
                        error: report.error.clone(),
                    };
                    Some((Subject::Deployment(report.deployment.clone()), decision))
                }
                // Workers stop replicas by themselves only when they are about to end.
                ReplicaState::Draining
                    if !node.draining && known.leaving.is_none() && known.state != report.state =>
                {
                    told(&node.name, NodeChange::Draining)
                }
                // The last one.
                ReplicaState::Stopped
                    if node.replicas.len() == 1 && cordon_of(node, cordons) == Some(CordonKind::Drained) =>
                {
                    told(&node.name, NodeChange::Drained)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The events that follow from who has no place now and who had none before.
#[must_use]
pub fn pending_events(
    before: &BTreeMap<FullName, Vec<String>>,
    now: &BTreeMap<FullName, Vec<String>>,
    is_wanted: impl Fn(&FullName) -> bool,
) -> Vec<(Subject, Decision)> {
    let new = now.iter().filter(|(deployment, _)| !before.contains_key(*deployment));
    let new = new.map(|(deployment, reasons)| {
        (Subject::Deployment(deployment.clone()), Decision::Pending { reasons: reasons.clone() })
    });
    let over = before.keys().filter(|deployment| !now.contains_key(*deployment));
    let over = over.map(|deployment| {
        let decision = match is_wanted(deployment) {
            true => Decision::NoLongerPending,
            false => Decision::NoLongerWanted,
        };
        (Subject::Deployment(deployment.clone()), decision)
    });
    new.chain(over).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Conclusion;

    #[test]
    fn a_verdict_is_told_once_however_often_the_store_is() {
        let pipeline: Name = "p".parse().unwrap();
        let kind = ChangeKind::RollBack { reason: "why".into() };
        let command = Command::Rollout(Change { pipeline: pipeline.clone(), revision: 2, baseline: 1, kind });
        let mut state = State::default();
        let conclusion = event_of(&command, &state).unwrap();
        let expected = Decision::RolledBack { revision: 2, to: 1, reason: "why".into() };
        assert_eq!(conclusion, (Subject::Pipeline(pipeline.clone()), expected));
        let back = Some((1, "why".to_owned()));
        state.conclusions.insert(pipeline, Conclusion { revision: 2, back, since: Duration::ZERO });
        assert_eq!(event_of(&command, &state), None);
    }

    #[test]
    fn pending_is_told_when_it_begins_and_when_it_ends() {
        let name: FullName = "p/model".parse().unwrap();
        let reasons = |text: &str| BTreeMap::from([(name.clone(), vec![text.to_owned()])]);
        let none = BTreeMap::new();
        let subject = Subject::Deployment(name.clone());
        let begins = Decision::Pending { reasons: vec!["n1: full".into()] };
        assert_eq!(pending_events(&none, &reasons("n1: full"), |_| true), [(subject.clone(), begins)]);
        assert_eq!(pending_events(&reasons("n1: full"), &reasons("n1: fuller"), |_| true), []);
        let over = |is_wanted| pending_events(&reasons("n1: full"), &none, |_| is_wanted);
        assert_eq!(over(true), [(subject.clone(), Decision::NoLongerPending)]);
        assert_eq!(over(false), [(subject, Decision::NoLongerWanted)]);
    }
}
