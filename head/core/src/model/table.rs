//! The route table: which replicas each pipeline's requests may go to.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_pipelines::{FullName, Name};
use millstream_status::{NodeId, ReplicaId};
use serde::Serialize;

use super::table_version::TableVersion;
use crate::desired::{ApiKey, Revision};

/// A whole route table.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RouteTable {
    /// Grows with each table, also across restarts of the head.
    pub version: TableVersion,
    /// The pipelines, by name.
    pub pipelines: Arc<Vec<Arc<PipelineRoute>>>,
    /// The API keys, by name.
    pub keys: Arc<BTreeMap<Name, ApiKey>>,
    /// How many ingresses take their parts of the cluster's limits: those that are connected, and at least one.
    pub num_ingresses: u32,
}

impl RouteTable {
    /// A pipeline's part of it.
    pub(crate) fn pipeline(&self, name: &Name) -> Option<&Arc<PipelineRoute>> {
        let index = self.pipelines.binary_search_by(|route| route.name.cmp(name)).ok()?;
        Some(&self.pipelines[index])
    }

    /// A deployment's part of it. Both lists are in the order of names.
    #[must_use]
    pub fn deployment(&self, name: &FullName) -> Option<&DeploymentRoute> {
        let deployments = &self.pipeline(&name.pipeline)?.deployments;
        let index = deployments.binary_search_by(|route| route.deployment.cmp(&name.deployment)).ok()?;
        Some(&deployments[index])
    }
}

/// A pipeline's part of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PipelineRoute {
    /// Its name.
    pub name: Name,
    /// The revisions that requests run on, the one that serves first.
    pub variants: Vec<Variant>,
    /// Deployments of any of them, and those that requests under way may still call, by name.
    pub deployments: Vec<DeploymentRoute>,
}

/// A revision that requests run on.
#[derive(Debug, Clone, Serialize)]
pub struct Variant {
    /// The revision.
    pub revision: Arc<Revision>,
    /// Thousandths of the requests that it answers; those of all variants add up to 1000.
    pub permille: u16,
    /// Thousandths of the requests that it gets copies of.
    pub shadow_permille: u16,
}

/// Revisions never change: the number says it all.
impl PartialEq for Variant {
    fn eq(&self, other: &Self) -> bool {
        (self.revision.stored.number, self.permille, self.shadow_permille)
            == (other.revision.stored.number, other.permille, other.shadow_permille)
    }
}

/// A deployment's ready replicas.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeploymentRoute {
    /// Its name.
    pub deployment: Name,
    /// Its replicas, by id.
    pub replicas: Vec<ReplicaRoute>,
    /// Why there are none and waiting for one is in vain.
    pub start_failure: Option<StartFailure>,
}

/// Why a deployment has no replica and gets none by waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum StartFailure {
    /// Its replicas fail each time they start.
    Replicas,
    /// Its pipeline does not fit the models that have been loaded.
    Mismatch,
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
    /// The revision that it was started for.
    pub revision: u64,
    /// The variants that it serves, by revision; empty for an older replica that helps out until enough are ready.
    pub serves: Vec<u64>,
    /// The revisions whose requests it can answer, where the replicas of a deployment differ in that: another task or
    /// signature. Empty: it can answer all.
    pub answers: Vec<u64>,
}
