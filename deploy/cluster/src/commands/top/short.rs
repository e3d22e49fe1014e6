//! Decisions in three words, for a column; `cluster explain` and the line below the table have the sentence.

use millstream_proto::event::{Decision, KeyChange, NodeChange, RolloutStep};

/// The decision in a few words.
pub(super) fn short(decision: &Decision) -> String {
    match decision {
        Decision::Deployed { revision } => format!("deployed {revision}"),
        Decision::Deleted => "deleted".to_owned(),
        Decision::Key { change, .. } | Decision::Token { change, .. } => key(*change).to_owned(),
        Decision::Scaled { from, to, .. } => format!("scaled {from}→{to}"),
        Decision::Placed { .. } => "placed".to_owned(),
        Decision::Pending { .. } => "fits nowhere".to_owned(),
        Decision::NoLongerPending => "has a place".to_owned(),
        Decision::NoLongerWanted => "not wanted".to_owned(),
        Decision::Undone { text_of, .. } => format!("back to {text_of}"),
        Decision::Retired { .. } => "retired".to_owned(),
        Decision::Node { node, change } => format!("{node} {}", self::node(*change)),
        Decision::ReplicaFailed { .. } => "failed".to_owned(),
        Decision::Evicted { node, .. } => format!("{node} lost"),
        Decision::Rollout { revision, step, .. } => format!("{} {revision}", rollout(*step)),
        Decision::Part { percent, .. } => format!("part {percent}%"),
        Decision::RolledBack { to, .. } => format!("rolled back to {to}"),
        Decision::Aborted { to, .. } => format!("aborted, {to} serves"),
        Decision::Promoted { revision } => format!("promoted {revision}"),
        Decision::Shed { requests, .. } => format!("{requests} shed"),
        Decision::Alarm { raised: true } => "alarm".to_owned(),
        Decision::Alarm { raised: false } => "alarm over".to_owned(),
    }
}

fn key(change: KeyChange) -> &'static str {
    match change {
        KeyChange::Created => "made",
        KeyChange::Changed => "changed",
        KeyChange::Deleted => "deleted",
    }
}

fn node(change: NodeChange) -> &'static str {
    match change {
        NodeChange::Joined => "joined",
        NodeChange::Returned => "back",
        NodeChange::Draining => "draining",
        NodeChange::Left => "left",
        NodeChange::Unreachable => "unreachable",
        NodeChange::Cordoned => "cordoned",
        NodeChange::Uncordoned => "uncordoned",
        NodeChange::DrainBegun => "draining",
        NodeChange::Drained => "drained",
    }
}

fn rollout(step: RolloutStep) -> &'static str {
    match step {
        RolloutStep::Begun => "starts",
        RolloutStep::Trial => "on trial",
        RolloutStep::Half => "half to",
        RolloutStep::Moving => "moving to",
        RolloutStep::Moved => "moved to",
        RolloutStep::Over => "rolled out",
    }
}
