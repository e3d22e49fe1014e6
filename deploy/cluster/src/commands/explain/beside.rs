//! What shares a node or a device: what a node holds and for whom, and what runs beside a replica.

use std::collections::BTreeMap;

use millstream_proto::status::{ClusterStatus, DeploymentStatus, NodeStatus, ReplicaState, ReplicaStatus};
use serde::Serialize;

/// Replicas of a deployment on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Held {
    /// `pipeline/deployment`.
    pub(super) deployment: String,
    /// How many.
    pub(super) replicas: u32,
    /// Requests that they are working on.
    pub(super) ongoing: u64,
}

/// A share of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Shared {
    /// Index of the device.
    pub(super) gpu: u32,
    /// `pipeline/deployment`.
    pub(super) deployment: String,
    /// The replica.
    pub(super) replica: String,
    /// Part of the device, 0 to 1.
    pub(super) share: f64,
}

/// A deployment that waits for a place, and what this node lacks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Lacks {
    /// `pipeline/deployment`.
    pub(super) deployment: String,
    /// What is missing; of several nodes together where the status counts them so.
    pub(super) missing: String,
}

/// All replicas with their deployments; without those that are gone.
fn replicas(status: &ClusterStatus) -> impl Iterator<Item = (&DeploymentStatus, &ReplicaStatus)> {
    let deployments = status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    deployments
        .flat_map(|deployment| deployment.replicas.iter().map(move |replica| (deployment, replica)))
        .filter(|(_, replica)| replica.state != ReplicaState::Stopped)
}

/// What a node holds, but a replica; by deployment.
pub(super) fn held(status: &ClusterStatus, node: &str, except: Option<&str>) -> Vec<Held> {
    let mut found: BTreeMap<&str, Held> = BTreeMap::new();
    let here = replicas(status).filter(|(_, replica)| replica.node == node);
    for (deployment, replica) in here.filter(|(_, replica)| except != Some(replica.id.as_str())) {
        let name = deployment.full_name.as_str();
        let none = Held { deployment: name.to_owned(), replicas: 0, ongoing: 0 };
        let held = found.entry(name).or_insert(none);
        held.replicas += 1;
        held.ongoing += replica.ongoing;
    }
    found.into_values().collect()
}

/// Who has shares of a node's devices; with `replica` only of those that it has a share of, and only the others.
pub(super) fn shared(node: &NodeStatus, replica: Option<&str>) -> Vec<Shared> {
    let wanted = node.gpus.iter().filter(|gpu| {
        replica.is_none_or(|replica| gpu.holders.iter().any(|holder| holder.replica.as_str() == replica))
    });
    let found = wanted.flat_map(|gpu| {
        let others = gpu.holders.iter().filter(|holder| replica != Some(holder.replica.as_str()));
        others.map(|holder| Shared {
            gpu: gpu.index,
            deployment: holder.deployment.clone(),
            replica: holder.replica.to_string(),
            share: holder.share,
        })
    });
    found.collect()
}

/// Deployments that wait for a place, with what this node lacks for them; those first that it lacks the least for.
pub(super) fn nearly(status: &ClusterStatus, node: &str) -> Vec<Lacks> {
    let deployments = status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    let mut found: Vec<_> = deployments
        .filter_map(|deployment| {
            let named = format!("{node}: ");
            let own = deployment.pending.iter().find_map(|reason| reason.strip_prefix(&named));
            // Many nodes are counted by what they lack.
            let counted = || deployment.pending.iter().find(|reason| reason.contains(" nodes: "));
            let missing = own.map(str::to_owned).or_else(|| counted().cloned())?;
            Some(Lacks { deployment: deployment.full_name.clone(), missing })
        })
        .collect();
    found.sort_by_key(|lacks| lacks.missing.split("; ").count());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::example_cluster;

    #[test]
    fn what_shares_a_node_or_a_device_is_listed_without_the_one_that_asks() {
        let mut status = example_cluster();
        let deployment = &mut status.pipelines[0].deployments[0];
        let mut other = deployment.replicas[0].clone();
        (other.id, other.ongoing) = ("rag-embedder-2".into(), 3);
        deployment.replicas.push(other);
        let mut holder = status.nodes[0].gpus[0].holders[0].clone();
        holder.replica = "rag-embedder-2".into();
        status.nodes[0].gpus[0].holders.push(holder);
        let counts = |except| {
            held(&status, "a", except).iter().map(|it| (it.replicas, it.ongoing)).collect::<Vec<_>>()
        };
        assert_eq!([counts(None), counts(Some("rag-embedder-2"))], [vec![(2, 3)], vec![(1, 0)]]);
        assert_eq!(held(&status, "b", None), []);
        let on_device = |replica| shared(&status.nodes[0], replica).len();
        assert_eq!([on_device(None), on_device(Some("rag-embedder-1")), on_device(Some("x"))], [2, 1, 0]);
    }

    #[test]
    fn a_node_says_whom_it_nearly_fits() {
        let mut status = example_cluster();
        let pending = |reasons: &[&str]| reasons.iter().map(ToString::to_string).collect();
        let mut second = status.pipelines[0].deployments[0].clone();
        second.full_name = "rag/reranker".into();
        second.pending = pending(&["b: needs a GPU, has none", "a: needs 4 cores, 2 free"]);
        status.pipelines[0].deployments[0].pending =
            pending(&["a: needs 9 cores, 2 free; needs a GPU, has none"]);
        status.pipelines[0].deployments.push(second);
        let found = nearly(&status, "a");
        let names: Vec<_> = found.iter().map(|it| (it.deployment.as_str(), it.missing.as_str())).collect();
        assert_eq!(names[0], ("rag/reranker", "needs 4 cores, 2 free"));
        assert_eq!(names.len(), 2);
        assert_eq!(nearly(&status, "c"), []);
    }
}
