//! When time alone can change what a look decides. Between two such times, and without news, nothing is looked at.

use std::time::Duration;

use millstream_pipelines::Name;
use millstream_status::status::ReplicaState;

use super::observe::Event;
use super::state::{Conclusion, State};
use super::view::Health;
use crate::Timing;
use crate::desired::Desired;
use crate::rollout;

/// How often a cluster is looked at in which something is under way: rules of rollouts, drains and starts are bounded
/// by times of their own.
const UNDER_WAY: Duration = Duration::from_millis(250);
/// Health counts silence that is longer than a bound, not as long.
const LONGER: Duration = Duration::from_nanos(1);

/// The next time to look after a look at `looked_at`, unless something happens before. It may lie in the past by now,
/// and moves away while nodes say that they live. Costs a pass over nodes and replicas, and no memory.
#[must_use]
pub fn next_look(state: &State, desired: &Desired, timing: &Timing, looked_at: Duration) -> Duration {
    let mut next = Duration::MAX;
    for node in state.nodes.values() {
        for silence in [timing.silent_after(), timing.replace_after, timing.forget_after] {
            let at = node.last_seen + silence + LONGER;
            if at > looked_at {
                next = next.min(at);
            }
        }
    }
    let waits =
        state.rollouts.values().filter_map(|rollout| rollout::wake_at(rollout, &timing.rollout, looked_at));
    next = waits.fold(next, Duration::min);
    next = state.next_forgotten(timing, looked_at).map_or(next, |at| next.min(at));
    let is_open = |(name, told): &(&Name, &Conclusion)| {
        desired.pipelines.get(*name).is_some_and(|pipeline| told.is_open(pipeline))
    };
    let reminders =
        state.conclusions.iter().filter(is_open).map(|(_, told)| told.since + timing.rollout.retry);
    next = reminders.fold(next, Duration::min);
    if is_under_way(state, desired) { next.min(looked_at + UNDER_WAY) } else { next }
}

/// Whether anything is on its way: replicas that start or leave, ingresses that broke off, a revision that is to take
/// over. A rollout that waits is not: it knows when it goes on.
fn is_under_way(state: &State, desired: &Desired) -> bool {
    let replicas = || state.nodes.values().flat_map(|node| node.replicas.values());
    let is_calm = |(name, pipeline): (_, &crate::desired::Pipeline)| {
        let waits = state.rollouts.get(name).is_some_and(|rollout| rollout.revision == pipeline.wanted);
        waits || state.serving.get(name).is_some_and(|serving| serving.revision == pipeline.wanted)
    };
    !state.settled
        || !state.pending.is_empty()
        || state.ingresses.values().any(|ingress| ingress.session.is_none())
        || !desired.pipelines.iter().all(is_calm)
        || replicas().any(|replica| replica.leaving.is_some() || replica.state != ReplicaState::Ready)
}

/// Whether an event brings a node back that was silent: its replicas get traffic again.
#[must_use]
pub fn revives(state: &State, timing: &Timing, event: &Event, now: Duration) -> bool {
    match event {
        Event::Heartbeat(id, ..) | Event::ReplicaChanged(id, ..) => {
            state.nodes.get(id).is_some_and(|node| node.health(timing, now) != Health::Live)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::observe::{Registration, observe};
    use crate::reconcile::{Resources, SessionId};

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_calm_cluster_is_looked_at_when_a_node_may_have_fallen_silent_and_that_moves_with_each_heartbeat() {
        let (desired, timing) = (Desired::default(), Timing::default());
        let mut state = State::new(1, Duration::ZERO);
        assert_eq!(next_look(&state, &desired, &timing, second(1)), Duration::MAX);
        let registration = Registration {
            id: "n".into(),
            name: "n".into(),
            address: "n:1".into(),
            pid: 1,
            version: String::new(),
            labels: [].into(),
            resources: Resources::default(),
            replicas: vec![],
        };
        observe(&mut state, &desired, Event::NodeJoined(SessionId(1), registration), second(1));
        let silent = |state: &State| next_look(state, &desired, &timing, second(2)).as_secs_f64();
        assert!((silent(&state) - 4.0).abs() < 1e-6);
        let beat = Event::Heartbeat("n".into(), SessionId(1), [].into());
        assert!(!revives(&state, &timing, &beat, second(4)));
        assert!(revives(&state, &timing, &beat, second(5)));
        observe(&mut state, &desired, beat, second(5));
        assert!((silent(&state) - 8.0).abs() < 1e-6);
        // Once it is silent, the next thing is that it is given up.
        assert!((next_look(&state, &desired, &timing, second(9)).as_secs_f64() - 20.0).abs() < 1e-6);
        state.settled = false;
        assert_eq!(next_look(&state, &desired, &timing, second(2)), second(2) + UNDER_WAY);
    }
}
