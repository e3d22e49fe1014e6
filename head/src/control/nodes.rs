//! Nodes: cordoned, drained, taken in again, and given up.

use millstream_core::desired::{Cordons, NodeRequest, cordons};
use millstream_core::present::explain::Subject;
use millstream_proto::NodeId;
use millstream_proto::event::{Decision, NodeChange};

use super::Error;
use crate::actors::messages::ReconcilerMsg;
use crate::clock;
use crate::leadership::Term;

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The node's name.
    pub(crate) node: String,
    /// Whether it was otherwise before.
    pub(crate) changed: bool,
}

/// Cordons or drains a node, given by its name or its id, or lets it take replicas again.
pub(crate) async fn change(term: &Term, node: &str, request: NodeRequest) -> Result<Changed, Error> {
    let name = name_of(term, node).await?;
    let now_ms = clock::unix_ms();
    let change = |known: &Cordons| cordons::change(known, &name, request, now_ms);
    let note = || {
        tracing::info!(node = %name, ?request, "a node is changed");
        let change = match request {
            NodeRequest::Cordon => NodeChange::Cordoned,
            NodeRequest::Drain => NodeChange::DrainBegun,
            NodeRequest::Uncordon => NodeChange::Uncordoned,
        };
        term.events.note(Subject::Cluster, Decision::Node { node: name.clone(), change });
    };
    let changed = term.catalog.change_cordons(change, note).await?;
    Ok(Changed { node: name, changed })
}

/// A cordoned node that was forgotten meanwhile is known by its name.
async fn name_of(term: &Term, node: &str) -> Result<String, Error> {
    let shown = term.snapshot().await?;
    let known = shown.snapshot().node_name(node).map(str::to_owned);
    let stored = || term.catalog.desired().cordons.contains_key(node).then(|| node.to_owned());
    known.or_else(stored).ok_or_else(|| {
        Error::NotFound(format!("there is no node `{node}`; `cluster node list` shows those that there are"))
    })
}

/// Ends the membership of a node that is gone for good. What people kept from it goes with it.
pub(crate) async fn remove(term: &Term, node: String) -> Result<NodeId, Error> {
    let name = name_of(term, &node).await.unwrap_or_else(|_| node.clone());
    let id = term.ask(|reply| ReconcilerMsg::RemoveNode(node, reply)).await??;
    let change = |known: &Cordons| cordons::change(known, &name, NodeRequest::Uncordon, 0);
    term.catalog.change_cordons(change, || ()).await?;
    Ok(id)
}
