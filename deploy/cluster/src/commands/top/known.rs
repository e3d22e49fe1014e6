//! What is known of the cluster: its newest status, its decisions, and the last minute of each deployment.

use std::collections::BTreeMap;

use millstream_proto::event::{Decision, Event};
use millstream_proto::status::{ClusterStatus, DeploymentStatus, NodeState, PipelineStatus};
use millstream_proto::summary::Health;

use super::history::History;

/// Decisions that are kept: as many as a head keeps.
const MAX_DECISIONS: usize = 2_000;
/// A replica that comes or goes this soon after another decision does so because of it.
const CONSEQUENCE_MS: u64 = 5_000;

/// What is known of the cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    status: Option<ClusterStatus>,
    /// The oldest first.
    decisions: Vec<Event>,
    /// The newest decision about each subject: `rag/embedder`, `rag` or `cluster`.
    newest: BTreeMap<String, Event>,
    /// How far the head's clock, by which decisions are dated, is ahead of this machine's.
    head_ahead_ms: i64,
    histories: BTreeMap<String, History>,
    lost: Option<Lost>,
}

/// The head does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// Since when, in milliseconds since the Unix epoch.
    pub(super) since_ms: u64,
    /// Why, for people.
    pub(super) reason: String,
}

/// Decisions as the head told them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decisions {
    /// The oldest first. They begin with some that are known already, so that none is missed.
    pub(super) events: Vec<Event>,
    /// What the head's clock showed, in milliseconds since the Unix epoch; `None` when it did not say.
    pub(super) head_ms: Option<u64>,
    /// Whether they go on from those that are known, or are all there are.
    pub(super) extent: Extent,
}

/// Which decisions a head told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All that it has.
    All,
    /// Those since the newest that is known.
    New,
}

impl Known {
    /// A new status: the head answers.
    pub(super) fn observe(&mut self, status: ClusterStatus) {
        self.lost = None;
        self.status = Some(status);
        let status = self.status.as_ref();
        self.histories.retain(|name, _| deployments(status).any(|(_, found)| found.full_name == *name));
    }

    /// The head does not answer; it is lost since the first time that this was said.
    pub(super) fn lose(&mut self, reason: String, now_ms: u64) {
        let since_ms = self.lost.as_ref().map_or(now_ms, |lost| lost.since_ms);
        self.lost = Some(Lost { since_ms, reason });
    }

    /// Notes decisions.
    pub(super) fn learn(&mut self, decisions: Decisions, now_ms: u64) {
        let Decisions { events, head_ms, extent } = decisions;
        if let Some(ahead) =
            head_ms.and_then(|head_ms| i64::try_from(i128::from(head_ms) - i128::from(now_ms)).ok())
        {
            self.head_ahead_ms = ahead;
        }
        if extent == Extent::All {
            self.decisions.clear();
            self.newest.clear();
        }
        for event in events {
            let mut newer = self.decisions.iter().rev().take_while(|known| known.sequence >= event.sequence);
            if newer.any(|known| known.sequence == event.sequence) {
                continue;
            }
            let subject = event.subject();
            if !self.newest.get(&subject).is_some_and(|decision| follows_from(&event, decision)) {
                self.newest.insert(subject, event.clone());
            }
            self.decisions.push(event);
        }
        let surplus = self.decisions.len().saturating_sub(MAX_DECISIONS);
        self.decisions.drain(..surplus);
    }

    /// Takes this second's value of each deployment, unless the head is lost: what is not known is not drawn.
    pub(super) fn sample(&mut self) {
        if self.lost.is_some() {
            return;
        }
        for (_, deployment) in deployments(self.status.as_ref()) {
            let history = self.histories.entry(deployment.full_name.clone()).or_default();
            history.push(deployment.ongoing);
        }
    }

    /// The newest status; `None` until the head has told one.
    pub(super) fn status(&self) -> Option<&ClusterStatus> {
        self.status.as_ref()
    }

    /// Whether all is well; `None` until the head has told its status.
    pub(super) fn health(&self) -> Option<Health> {
        self.status.as_ref().map(Health::of)
    }

    /// Since when the head does not answer; `None` while it does.
    pub(super) fn lost(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }

    /// The deployments of all pipelines, each with its pipeline.
    pub(super) fn deployments(&self) -> impl Iterator<Item = (&PipelineStatus, &DeploymentStatus)> {
        deployments(self.status.as_ref())
    }

    /// The last minute of a deployment, by its full name.
    pub(super) fn history(&self, full_name: &str) -> Option<&History> {
        self.histories.get(full_name)
    }

    /// What was decided last about a deployment (`rag/embedder`), rather than which replicas come or go because of it; else about its pipeline; of a pipeline (`rag`), about it or
    /// one of its deployments.
    pub(super) fn last_decision(&self, target: &str) -> Option<&Event> {
        let Some((pipeline, _)) = target.split_once('/') else {
            let about = self.newest.values().filter(|event| event.pipeline.as_deref() == Some(target));
            return about.max_by_key(|event| (event.at_ms, event.sequence));
        };
        self.newest.get(target).or_else(|| self.newest.get(pipeline))
    }

    /// What concerns a target, as `cluster explain` has it; the newest first.
    pub(super) fn decisions<'a>(&'a self, target: &'a str) -> impl Iterator<Item = &'a Event> {
        self.decisions.iter().rev().filter(move |event| event.concerns(target))
    }

    /// How long ago a decision was taken, by the head's clock.
    pub(super) fn age_ms(&self, event: &Event, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.head_ahead_ms).saturating_sub(event.at_ms)
    }

    /// Parts of GPUs that the replicas of each deployment hold together, by full name.
    pub(super) fn gpu_shares(&self) -> BTreeMap<&str, f64> {
        let mut shares = BTreeMap::new();
        let nodes = self.status.iter().flat_map(|status| &status.nodes);
        for holder in nodes.flat_map(|node| &node.gpus).flat_map(|gpu| &gpu.holders) {
            *shares.entry(holder.deployment.as_str()).or_default() += holder.share;
        }
        shares
    }

    /// Nodes that are ready, and all that have not left.
    pub(super) fn num_nodes(&self) -> NumNodes {
        let nodes = self.status.iter().flat_map(|status| &status.nodes);
        let count = |wanted: fn(NodeState) -> bool| nodes.clone().filter(|node| wanted(node.state)).count();
        NumNodes {
            ready: count(|state| state == NodeState::Ready),
            all: count(|state| state != NodeState::Left),
        }
    }
}

/// Numbers of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumNodes {
    /// Those that are ready.
    pub(super) ready: usize,
    /// All that have not left.
    pub(super) all: usize,
}

/// Whether a replica comes or goes because of that decision, as after `scaled up`. The decision then says more.
fn follows_from(event: &Event, decision: &Event) -> bool {
    let comes_or_goes =
        |event: &Event| matches!(event.decision, Decision::Placed { .. } | Decision::Retired { .. });
    let is_soon = event.at_ms.saturating_sub(decision.at_ms) <= CONSEQUENCE_MS;
    is_soon && comes_or_goes(event) && !comes_or_goes(decision)
}

fn deployments(status: Option<&ClusterStatus>) -> impl Iterator<Item = (&PipelineStatus, &DeploymentStatus)> {
    let pipelines = status.into_iter().flat_map(|status| &status.pipelines);
    pipelines.flat_map(|pipeline| pipeline.deployments.iter().map(move |deployment| (pipeline, deployment)))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{cluster, event, placed, scaled};
    use super::*;

    fn decisions(events: Vec<Event>, extent: Extent) -> Decisions {
        Decisions { events, head_ms: None, extent }
    }

    #[test]
    fn the_last_decision_of_a_deployment_is_its_own_and_that_of_a_pipeline_the_newest_of_all() {
        let mut known = Known::default();
        let events = vec![
            event(1, 1_000, "rag/embedder", scaled(1, 2)),
            event(2, 2_000, "rag", Decision::Deployed { revision: 2 }),
            event(3, 3_000, "rag/reranker", scaled(3, 1)),
            event(4, 4_000, "", Decision::Alarm { raised: true }),
        ];
        known.learn(decisions(events, Extent::All), 0);
        let last = |target| known.last_decision(target).map(|event| event.sequence);
        assert_eq!(
            [last("rag/embedder"), last("rag/other"), last("rag"), last("chat")],
            [Some(1), Some(2), Some(3), None]
        );
        let concerning: Vec<_> = known.decisions("rag/embedder").map(|event| event.sequence).collect();
        assert_eq!(concerning, [4, 2, 1]);
    }

    #[test]
    fn a_replica_that_comes_because_of_a_decision_does_not_take_its_place() {
        let table = [
            (vec![scaled(1, 2), placed("r")], 100, 1),
            (vec![scaled(1, 2), placed("r")], 5_001, 2),
            (vec![placed("r"), placed("s")], 100, 2),
            (vec![placed("r"), scaled(1, 2), placed("s"), placed("t")], 100, 2),
        ];
        for (taken, apart_ms, last) in table {
            let mut known = Known::default();
            let events =
                (1..).zip(taken).map(|(at, decision)| event(at, at * apart_ms, "rag/embedder", decision));
            known.learn(decisions(events.collect(), Extent::All), 0);
            assert_eq!(
                known.last_decision("rag/embedder").map(|event| event.sequence),
                Some(last),
                "{known:?}"
            );
        }
    }

    #[test]
    fn decisions_that_are_told_twice_are_kept_once_and_ages_go_by_the_heads_clock() {
        let mut known = Known::default();
        let [first, second] = [event(1, 5_000, "rag", scaled(1, 2)), event(2, 5_000, "rag", scaled(2, 3))];
        known.learn(decisions(vec![first.clone()], Extent::All), 0);
        let told = Decisions { head_ms: Some(9_000), ..decisions(vec![first, second.clone()], Extent::New) };
        known.learn(told, 2_000);
        assert_eq!(known.decisions("").count(), 2);
        assert_eq!(known.age_ms(&second, 3_000), 5_000, "the head's clock is 7 s ahead");
        known.learn(decisions(vec![second], Extent::All), 2_000);
        assert_eq!(known.decisions("").count(), 1);
    }

    #[test]
    fn a_lost_head_is_lost_since_the_first_failure_and_nothing_is_sampled_meanwhile() {
        let mut known = Known::default();
        known.observe(cluster());
        known.sample();
        let minute = known.history("rag/embedder").cloned();
        known.lose("first".into(), 5);
        known.lose("second".into(), 9);
        known.sample();
        assert_eq!(known.lost(), Some(&Lost { since_ms: 5, reason: "second".into() }));
        assert_eq!(known.history("rag/embedder").cloned(), minute);
        known.observe(ClusterStatus { pipelines: vec![], ..cluster() });
        assert_eq!((known.lost(), known.history("rag/embedder")), (None, None));
    }

    #[test]
    fn shares_are_summed_over_nodes() {
        let mut known = Known::default();
        known.observe(cluster());
        assert_eq!(known.gpu_shares(), BTreeMap::from([("rag/embedder", 0.5), ("rag/reranker", 1.0)]));
        assert_eq!(known.num_nodes(), NumNodes { ready: 2, all: 3 });
    }
}
