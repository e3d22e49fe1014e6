//! Replicas on nodes that are drained: each is replaced elsewhere first, and leaves once what took its place is ready. Nothing
//! counts them as what a deployment has: so replacements are wanted like any other replica, all at once, as they take
//! no more room than they need in the end. What fits nowhere stays where it is.

use super::context::{Context, Needs, retire};
use super::pass::Pass;
use super::view::{ReplicaView, cordon_of, is_able};
use crate::desired::CordonKind;
use crate::model::Reason;

/// Up to so many nodes that are kept free are named.
const MAX_NAMED: usize = 3;

/// The replicas that stay where they are, then those that are to move.
pub(super) fn split<'b, 'a>(
    replicas: impl IntoIterator<Item = &'b ReplicaView<'a>>,
) -> (Vec<&'b ReplicaView<'a>>, Vec<&'b ReplicaView<'a>>) {
    replicas.into_iter().partition(|seen| !seen.is_moving())
}

impl Context<'_> {
    /// Replicas that are to move leave as others get ready: of those that are ready as many stay as `settled` have not yet
    /// ready to reach `enough`, and of the rest as many as have no replacement with a place.
    pub(super) fn move_off(
        &self,
        moving: &[&ReplicaView<'_>],
        settled: &[&ReplicaView<'_>],
        enough: usize,
        needs: &mut Needs,
    ) {
        let num_ready = settled.iter().filter(|seen| seen.is_ready()).count();
        let (able, unable): (Vec<&ReplicaView<'_>>, Vec<&ReplicaView<'_>>) =
            moving.iter().partition(|seen| seen.is_ready());
        let kept_able = enough.saturating_sub(num_ready).min(able.len());
        let kept_unable = enough.saturating_sub(settled.len() + kept_able);
        let leaving = able.into_iter().skip(kept_able).chain(unable.into_iter().skip(kept_unable));
        needs.commands.extend(leaving.map(|seen| retire(seen, Reason::Drained)));
    }
}

/// Nodes that could take replicas if people let them, as reasons why a replica has no place.
pub(super) fn kept_free(pass: Pass<'_>) -> Vec<String> {
    let Pass { desired, state, timing, timer, .. } = pass;
    let able = state.nodes.values().filter(|node| is_able(node, timing, timer.now()));
    let kept = able.filter_map(|node| Some((node, cordon_of(node, &desired.cordons)?)));
    let mut kept: Vec<_> = kept.map(|(node, kind)| (node.name.as_str(), kind)).collect();
    kept.sort_unstable_by_key(|(name, _)| *name);
    if kept.len() > MAX_NAMED {
        return vec![format!("{} nodes: cordoned or drained", kept.len())];
    }
    let words = |kind| match kind {
        CordonKind::Cordoned => "cordoned",
        CordonKind::Drained => "being drained",
    };
    kept.into_iter().map(|(name, kind)| format!("{name}: {}", words(kind))).collect()
}
