//! What the head decided, and why: the JSON of `cluster explain --json`, and the sentences of `cluster explain`.
//! More kinds and keys may come; these keep their names and meaning.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key::KeyRequest;

mod mentions;

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Grows with each event.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The pipeline that it is about; absent when it is about the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The deployment in the pipeline; absent when it is about all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// What was decided, by which rule, from what.
    #[serde(flatten)]
    pub decision: Decision,
}

impl Event {
    /// Whom it is about: `rag/embedder`, `rag` or `cluster`.
    #[must_use]
    pub fn subject(&self) -> String {
        match (&self.pipeline, &self.deployment) {
            (Some(pipeline), Some(deployment)) => format!("{pipeline}/{deployment}"),
            (Some(pipeline), None) => pipeline.clone(),
            (None, _) => "cluster".to_owned(),
        }
    }

    /// Whether it concerns `rag/embedder`, `rag`, or, with an empty target, anything. What is about a whole pipeline or
    /// the cluster concerns their parts.
    #[must_use]
    pub fn concerns(&self, target: &str) -> bool {
        let (pipeline, deployment) = match target.split_once('/') {
            Some((pipeline, deployment)) => (pipeline, Some(deployment)),
            None => (target, None),
        };
        let fits = |mine: &Option<String>, wanted: &str| mine.as_deref().is_none_or(|mine| mine == wanted);
        // Keys are of the cluster as a whole, and say nothing about what it decides.
        let is_of_all = matches!(self.decision, Decision::Key { .. } | Decision::Token { .. });
        target.is_empty()
            || !is_of_all
                && fits(&self.pipeline, pipeline)
                && deployment.is_none_or(|wanted| fits(&self.deployment, wanted))
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Decision {
    /// A text was stored as a new revision.
    Deployed {
        /// Its number.
        revision: u64,
    },
    /// The pipeline was deleted.
    Deleted,
    /// An API key came, changed or went.
    Key {
        /// Its name.
        name: String,
        /// What became of it.
        change: KeyChange,
        /// What it was given then.
        #[serde(default)]
        set: KeyRequest,
    },
    /// A token for the dashboard came or went.
    Token {
        /// Its name.
        name: String,
        /// What became of it.
        change: KeyChange,
    },
    /// Another number of replicas is wanted.
    Scaled {
        /// Replicas wanted before.
        from: u32,
        /// Replicas wanted now.
        to: u32,
        /// The rule that fired, in words.
        rule: String,
        /// What it fired upon.
        inputs: ScaleInputs,
    },
    /// A replica was given a place and is started.
    Placed {
        /// The replica.
        replica: String,
        /// Name of its node.
        node: String,
        /// The revision it is started for.
        revision: u64,
        /// Shares of devices: index and thousandths.
        gpus: Vec<(u32, u32)>,
    },
    /// A wanted replica fits nowhere.
    Pending {
        /// What is missing, by node.
        reasons: Vec<String>,
    },
    /// Every wanted replica has a place again.
    NoLongerPending,
    /// What had no place is wanted no more.
    NoLongerWanted,
    /// People went back to an earlier revision, or brought a deleted pipeline back.
    Undone {
        /// The revision that is wanted now.
        revision: u64,
        /// The one whose text it has.
        text_of: u64,
    },
    /// A replica leaves.
    Retired {
        /// The replica.
        replica: String,
        /// Name of its node.
        node: String,
        /// Why.
        reason: String,
    },
    /// A node came, went, or came back.
    Node {
        /// Its name.
        node: String,
        /// What became of it.
        change: NodeChange,
    },
    /// A replica ended by itself or could not start; its worker starts it again.
    ReplicaFailed {
        /// The replica.
        replica: String,
        /// Name of its node.
        node: String,
        /// Why.
        error: String,
    },
    /// A node is lost; what it had is placed elsewhere.
    Evicted {
        /// Name of the node.
        node: String,
        /// How many replicas it had.
        replicas: u64,
    },
    /// A revision begins to take over, goes a step further, or is done.
    Rollout {
        /// The revision.
        revision: u64,
        /// The revision that it takes over from.
        baseline: u64,
        /// What happens.
        step: RolloutStep,
    },
    /// A canary, a shadow or a revision on its steps gets another part of the requests.
    Part {
        /// The revision.
        revision: u64,
        /// Percent of the requests.
        percent: f64,
    },
    /// A revision was taken back by the head.
    RolledBack {
        /// The revision.
        revision: u64,
        /// The one that serves instead.
        to: u64,
        /// Why.
        reason: String,
    },
    /// People took a revision back.
    Aborted {
        /// The revision.
        revision: u64,
        /// The one that serves instead.
        to: u64,
    },
    /// People let a canary or a shadow take over.
    Promoted {
        /// The revision.
        revision: u64,
    },
    /// Requests were turned away because the queue was full.
    Shed {
        /// How many.
        requests: u64,
        /// In how long a time.
        over_ms: u64,
    },
    /// Half of the nodes look dead at once, or no longer do.
    Alarm {
        /// Whether it is so.
        raised: bool,
    },
}

/// What a change of the number of replicas was made of.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ScaleInputs {
    /// Ongoing requests, waiting ones included, averaged over `look_back`.
    pub ongoing: f64,
    /// Requests that waited at that moment.
    pub queued: u64,
    /// Replicas that were ready.
    pub ready: u32,
    /// Replicas that were starting.
    pub starting: u32,
    /// Ongoing requests per replica aimed at.
    pub target_ongoing_requests: f64,
    /// Replicas that the load asks for, within bounds.
    pub wanted: u32,
    /// `min_replicas` or `max_replicas`, when that bound held the number.
    pub bounded_by: Option<String>,
}

/// A step of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStep {
    /// Its first replicas start.
    Begun,
    /// A part of the requests runs on it; the old replicas are whole.
    Trial,
    /// Half of the requests run on it: the trial saw failures, too few to judge by.
    Half,
    /// All requests run on it; old replicas leave.
    Moving,
    /// All old replicas are gone.
    Moved,
    /// It is over.
    Over,
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeChange {
    /// It joined the cluster.
    Joined,
    /// It is heard again.
    Returned,
    /// Its worker was asked to stop: it finishes what it has.
    Draining,
    /// It ended as it was asked to.
    Left,
    /// It is not heard any more.
    Unreachable,
    /// People cordoned it: it gets nothing new.
    Cordoned,
    /// People let it take replicas again.
    Uncordoned,
    /// People drain it: its replicas move to other nodes.
    DrainBegun,
    /// Nothing runs any more on a node that was drained.
    Drained,
}

/// What became of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyChange {
    /// It was made.
    Created,
    /// Its settings changed.
    Changed,
    /// It was deleted.
    Deleted,
}

fn of_key(f: &mut fmt::Formatter<'_>, name: &str, change: KeyChange, set: &KeyRequest) -> fmt::Result {
    match change {
        KeyChange::Created if *set == KeyRequest::default() => write!(f, "API key {name} was made"),
        KeyChange::Created => write!(f, "API key {name} was made: {set}"),
        KeyChange::Changed => write!(f, "API key {name} now has {set}"),
        KeyChange::Deleted => write!(f, "API key {name} was deleted"),
    }
}

impl fmt::Display for Decision {
    /// A sentence without the full stop; what it was made of, where that is more than the sentence says, on a second line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployed { revision } => write!(f, "revision {revision} was deployed"),
            Self::Deleted => f.write_str("was deleted"),
            Self::Key { name, change, set } => of_key(f, name, *change, set),
            Self::Token { name, change: KeyChange::Created } => write!(f, "token {name} was made"),
            Self::Token { name, .. } => write!(f, "token {name} was deleted"),
            Self::Scaled { from, to, rule, inputs } => {
                let direction = if to > from { "up" } else { "down" };
                write!(f, "scaled {direction} from {from} to {to} replicas: {rule}\n{inputs}")
            }
            Self::Placed { replica, node, revision, gpus } => {
                write!(f, "replica {replica} of revision {revision} is started on {node}")?;
                for (index, milli) in gpus {
                    write!(f, ", {:.3} of GPU {index}", f64::from(*milli) / 1000.0)?;
                }
                Ok(())
            }
            Self::Pending { reasons } => {
                write!(f, "a wanted replica fits nowhere: {}", reasons.join("; "))
            }
            Self::NoLongerWanted => f.write_str("what had no place is no longer wanted"),
            Self::Undone { revision, text_of } => {
                write!(f, "people went back to revision {text_of}, as revision {revision}")
            }
            Self::NoLongerPending => f.write_str("every wanted replica has a place again"),
            Self::Retired { replica, node, reason } => {
                write!(f, "replica {replica} on {node} leaves: {reason}")
            }
            Self::Node { node, change } => write!(f, "node {node} {change}"),
            Self::ReplicaFailed { replica, node, error } => {
                write!(f, "replica {replica} on {node} failed: {error}")
            }
            Self::Evicted { node, replicas } => {
                write!(f, "node {node} is lost, its {replicas} replicas are placed elsewhere")
            }
            Self::Rollout { revision, baseline, step } => step.tell(f, *revision, *baseline),
            Self::Part { revision, percent } => {
                write!(f, "revision {revision} gets {percent}% of the requests")
            }
            Self::RolledBack { revision, to, reason } => {
                write!(f, "revision {revision} was rolled back to revision {to}: {reason}")
            }
            Self::Aborted { revision, to } => {
                write!(f, "revision {revision} was aborted, revision {to} serves")
            }
            Self::Promoted { revision } => write!(f, "revision {revision} was promoted"),
            Self::Shed { requests, over_ms } => {
                let seconds = over_ms.div_ceil(1000);
                write!(f, "{requests} requests were turned away within {seconds} s: the queue was full")
            }
            Self::Alarm { raised: true } => f.write_str(
                "half of the nodes look dead at once: replicas are not replaced until they come back",
            ),
            Self::Alarm { raised: false } => f.write_str("enough nodes are back"),
        }
    }
}

impl fmt::Display for NodeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joined => "joined",
            Self::Returned => "is back",
            Self::Draining => "is stopping: it finishes what it has",
            Self::Left => "left",
            Self::Unreachable => "is unreachable",
            Self::Cordoned => "is cordoned: it gets nothing new",
            Self::Uncordoned => "may be given replicas again",
            Self::DrainBegun => "is being drained: its replicas move to other nodes",
            Self::Drained => "is drained: nothing runs there any more",
        })
    }
}

impl RolloutStep {
    fn tell(self, f: &mut fmt::Formatter<'_>, revision: u64, baseline: u64) -> fmt::Result {
        match self {
            Self::Begun => write!(f, "revision {revision} starts beside revision {baseline}"),
            Self::Trial => {
                write!(f, "revision {revision} is on trial, revision {baseline} keeps all its replicas")
            }
            Self::Half => write!(
                f,
                "revision {revision} gets half of the requests: its trial saw failures, too few to judge by"
            ),
            Self::Moving => write!(f, "requests run on revision {revision}, revision {baseline} leaves"),
            Self::Moved => write!(f, "revision {revision} has replaced revision {baseline}"),
            Self::Over => write!(f, "the rollout of revision {revision} is over"),
        }
    }
}

impl fmt::Display for ScaleInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ongoing, queued, ready, starting, target_ongoing_requests, wanted, bounded_by } = self;
        write!(
            f,
            "{ongoing:.1} ongoing requests on average, {queued} waiting; {ready} ready, {starting} starting; \
             at {target_ongoing_requests} a replica the requests ask for {wanted}"
        )?;
        match bounded_by {
            Some(bound) => write!(f, " (held by {bound})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_concerns_its_deployment_its_pipeline_and_what_is_above() {
        let event = |pipeline: Option<&str>, deployment: Option<&str>| Event {
            sequence: 1,
            at_ms: 0,
            pipeline: pipeline.map(Into::into),
            deployment: deployment.map(Into::into),
            decision: Decision::Deleted,
        };
        let table = [
            (event(Some("rag"), Some("embedder")), "rag/embedder", true),
            (event(Some("rag"), Some("embedder")), "rag", true),
            (event(Some("rag"), Some("embedder")), "", true),
            (event(Some("rag"), Some("embedder")), "rag/reranker", false),
            (event(Some("rag"), None), "rag/embedder", true),
            (event(None, None), "rag/embedder", true),
            (event(Some("other"), None), "rag", false),
        ];
        for (event, target, expected) in table {
            assert_eq!(event.concerns(target), expected, "{} {target}", event.subject());
        }
    }

    #[test]
    fn decisions_are_sentences_for_people_and_flat_json_for_programs() {
        let inputs = ScaleInputs {
            ongoing: 11.96,
            queued: 4,
            ready: 1,
            target_ongoing_requests: 2.0,
            wanted: 3,
            bounded_by: Some("max_replicas".into()),
            ..ScaleInputs::default()
        };
        let rule = "more replicas were wished for during upscale_delay".to_owned();
        let decision = Decision::Scaled { from: 1, to: 3, rule, inputs };
        assert_eq!(
            decision.to_string(),
            "scaled up from 1 to 3 replicas: more replicas were wished for during upscale_delay\n12.0 ongoing requests on \
             average, 4 waiting; 1 ready, 0 starting; at 2 a replica the requests ask for 3 (held by max_replicas)"
        );
        let event = Event {
            sequence: 7,
            at_ms: 9,
            pipeline: Some("rag".into()),
            deployment: None,
            decision: Decision::RolledBack { revision: 2, to: 1, reason: "why".into() },
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["kind"], "rolled_back");
        assert_eq!(json["revision"], 2);
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
