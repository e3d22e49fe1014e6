//! The route table: which replicas each pipeline's requests may go to. A new one is made only when its content
//! changes.

use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{FullName, Name};
use millstream_proto::{NodeId, ReplicaId};
use serde::Serialize;

use super::state::{Leaving, State};
use super::view::View;
use crate::desired::{Desired, Revision};
use crate::timing::Timing;

/// Bits of a version that count tables within a term; the term stands above them, so that versions grow across
/// restarts of the head.
const TABLES_PER_TERM_BITS: u32 = 32;

/// A whole route table.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RouteTable {
    /// Grows with each table; 0 before the first one.
    pub version: u64,
    /// The pipelines, by name.
    pub pipelines: Arc<Vec<PipelineRoute>>,
}

/// A pipeline's part of it.
#[derive(Debug, Clone, Serialize)]
pub struct PipelineRoute {
    /// Its name.
    pub name: Name,
    /// The revision that requests run on.
    pub revision: Arc<Revision>,
    /// Its deployments, by name.
    pub deployments: Vec<DeploymentRoute>,
}

/// Revisions never change: the number says it all.
impl PartialEq for PipelineRoute {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.revision.stored.number, &self.deployments)
            == (&other.name, other.revision.stored.number, &other.deployments)
    }
}

/// A deployment's ready replicas.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeploymentRoute {
    /// Its name.
    pub deployment: Name,
    /// Its replicas, by id.
    pub replicas: Vec<ReplicaRoute>,
}

/// A ready replica.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplicaRoute {
    /// The replica.
    pub replica: ReplicaId,
    /// Its node.
    pub node: NodeId,
    /// HOST:PORT for replica traffic.
    pub address: String,
}

/// Makes the next table when it differs from the last one, and notes which leaving replicas it no longer names.
/// While the head does not know yet what runs there is none: ingresses serve on from theirs.
pub fn publish(state: &mut State, desired: &Desired, timing: &Timing, now: Duration) -> Option<RouteTable> {
    if !state.settled || state.stopping {
        return None;
    }
    let pipelines = build(state, desired, timing, now);
    let changed = state.routes.version == 0 || *state.routes.pipelines != pipelines;
    if changed {
        let version = (state.routes.version + 1).max((state.epoch << TABLES_PER_TERM_BITS) + 1);
        state.routes = RouteTable { version, pipelines: Arc::new(pipelines) };
    }
    let version = state.routes.version;
    for replica in state.nodes.values_mut().flat_map(|node| node.replicas.values_mut()) {
        if let Some(Leaving::Retiring { gone_from: gone_from @ None, .. }) = &mut replica.leaving {
            *gone_from = Some(version);
        }
    }
    changed.then(|| state.routes.clone())
}

fn build(state: &State, desired: &Desired, timing: &Timing, now: Duration) -> Vec<PipelineRoute> {
    let view = View::new(state, timing, now);
    let route = |(name, pipeline): (&Name, &crate::desired::Pipeline)| {
        let serving = state.serving.get(name)?;
        let revision = pipeline.revisions.get(&serving.revision)?;
        let compiled = revision.compiled.as_ref().ok()?;
        let deployments = compiled.deployments.keys().map(|deployment| DeploymentRoute {
            deployment: deployment.clone(),
            replicas: replicas(
                &view,
                &FullName { pipeline: name.clone(), deployment: deployment.clone() },
                revision,
            ),
        });
        Some(PipelineRoute {
            name: name.clone(),
            revision: Arc::clone(revision),
            deployments: deployments.collect(),
        })
    };
    desired.pipelines.iter().filter_map(route).collect()
}

/// Ready replicas that serve the revision, and older ones that stay until enough of these are ready.
fn replicas(view: &View<'_>, deployment: &FullName, revision: &Revision) -> Vec<ReplicaRoute> {
    let serves = |seen: &&super::view::Seen<'_>| {
        seen.is_ready() && (seen.serves(revision) || seen.replica.revision < revision.stored.number)
    };
    let mut replicas: Vec<_> = view
        .counted(deployment)
        .filter(serves)
        .map(|seen| ReplicaRoute {
            replica: seen.id.clone(),
            node: seen.node_id.clone(),
            address: seen.node.address.clone(),
        })
        .collect();
    replicas.sort_by(|a, b| a.replica.cmp(&b.replica));
    replicas
}
