//! Where the replicas of a recorded moment are, beside where the same scheduler puts them: those that have no place now, into what
//! is free, and all of them afresh, onto empty nodes.
//!
//! A cluster places replicas one after another as they come, and never moves one. So afresh other nodes may come out, and that is no
//! fault; what fits nowhere must have no place then either.

use std::collections::BTreeMap;

use millstream_core::scheduler::{self, FreeDevice, Node, Request, Strategy, WHOLE_DEVICE, Workload, World};
use millstream_pipelines::{Demand, DeploymentSpec, Device, FullName};
use millstream_status::status::{
    ClusterStatus, DeploymentStatus, NodeState, NodeStatus, ReplicaState, ReplicaStatus,
};
use serde::Serialize;

use super::Specs;

/// What the scheduler says of a recorded moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Places {
    /// Replicas that were wanted and had no place then, or have none now.
    pub waiting: Vec<Waiting>,
    /// Replicas on each node, then and afresh, where the two differ.
    pub moved: Vec<Moved>,
    /// Replicas that have a place.
    pub placed: usize,
    /// Of those, how many are on another node afresh.
    pub elsewhere: usize,
}

/// A deployment with replicas without a place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Waiting {
    /// `pipeline/deployment`.
    pub deployment: String,
    /// How many have no place by the scheduler.
    pub replicas: usize,
    /// Where the scheduler would put those that fit.
    pub fits: Vec<String>,
    /// Why the others do not fit, by the scheduler.
    pub reasons: Vec<String>,
    /// Why they had no place then.
    pub reasons_then: Vec<String>,
    /// Whether both say the same: the same reasons, or a place and no reason.
    pub same: bool,
}

/// Replicas of a deployment on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// `pipeline/deployment`.
    pub deployment: String,
    /// Name of the node.
    pub node: String,
    /// How many were there.
    pub then: usize,
    /// How many are put there afresh.
    pub afresh: usize,
}

/// Asks the scheduler. Deployments of which no settings are known are left as they are.
#[must_use]
pub fn places(status: &ClusterStatus, specs: &Specs) -> Places {
    let deployments: Vec<_> = status
        .pipelines
        .iter()
        .flat_map(|pipeline| &pipeline.deployments)
        .filter_map(|deployment| {
            let name: FullName = deployment.full_name.parse().ok()?;
            let spec = specs.0.get(&name)?;
            Some(Standing { name, spec, deployment })
        })
        .collect();
    let demands = deployments.iter().map(|standing| {
        let target = u64::from(standing.deployment.target_replicas.max(1));
        (&standing.spec.demand, standing.spec.device, target)
    });
    let workload = Workload::of(demands);
    let (moved, placed, elsewhere) = afresh(status, &deployments, &workload);
    Places { waiting: waiting(status, &deployments, &workload), moved, placed, elsewhere }
}

/// A deployment and its settings.
struct Standing<'a> {
    name: FullName,
    spec: &'a DeploymentSpec,
    deployment: &'a DeploymentStatus,
}

impl Standing<'_> {
    fn request(&self, num_replicas: usize) -> Request {
        Request {
            deployment: self.name.clone(),
            num_replicas,
            demand: self.spec.demand.clone(),
            device: self.spec.device,
            strategy: Strategy::Spread,
            group: None,
        }
    }

    /// Replicas that hold a place and are to stay.
    fn staying(&self) -> impl Iterator<Item = &ReplicaStatus> {
        let stays = |replica: &&ReplicaStatus| {
            matches!(replica.state, ReplicaState::Starting | ReplicaState::Ready | ReplicaState::Failed)
        };
        self.deployment.replicas.iter().filter(stays)
    }
}

/// What the scheduler makes of those without a place.
fn waiting(status: &ClusterStatus, deployments: &[Standing<'_>], workload: &Workload) -> Vec<Waiting> {
    let missing = |standing: &Standing<'_>| {
        let wanted = usize::try_from(standing.deployment.target_replicas).unwrap_or(usize::MAX);
        wanted.saturating_sub(standing.staying().count())
    };
    let short: Vec<_> = deployments
        .iter()
        .filter(|standing| missing(standing) > 0 || !standing.deployment.pending.is_empty())
        .collect();
    let requests: Vec<_> = short.iter().map(|standing| standing.request(missing(standing).max(1))).collect();
    let world = world(status, deployments);
    let solution = scheduler::place(&world, workload, &requests);
    let found = short.iter().enumerate().map(|(index, standing)| {
        let fits = solution.placements.iter().filter(|placement| placement.request == index);
        let fits: Vec<_> = fits.filter_map(|placement| name_of(status, &placement.node)).collect();
        let pending = solution.pending.iter().find(|pending| pending.request == index);
        let reasons: Vec<_> =
            pending.iter().flat_map(|pending| &pending.shortage.reasons).map(ToString::to_string).collect();
        let reasons_then = standing.deployment.pending.clone();
        Waiting {
            deployment: standing.name.to_string(),
            replicas: pending.map_or(0, |pending| pending.num_replicas),
            same: reasons == reasons_then,
            fits,
            reasons,
            reasons_then,
        }
    });
    found.collect()
}

/// Places everything onto empty nodes; says where that differs, how many replicas there are, and how many are elsewhere.
fn afresh(
    status: &ClusterStatus,
    deployments: &[Standing<'_>],
    workload: &Workload,
) -> (Vec<Moved>, usize, usize) {
    let nodes = status.nodes.iter().filter(|node| node.state == NodeState::Ready).map(|node| Node {
        free_cpu_milli: node.cpu_milli,
        free_memory_bytes: node.memory_bytes,
        devices: devices(node, |_| (WHOLE_DEVICE, 0)),
        replicas: BTreeMap::new(),
        ..named(node)
    });
    let world = World { nodes: nodes.collect() };
    let requests: Vec<_> =
        deployments.iter().map(|standing| standing.request(standing.staying().count())).collect();
    let solution = scheduler::place(&world, workload, &requests);
    let mut counts: BTreeMap<(&FullName, String), (usize, usize)> = BTreeMap::new();
    for standing in deployments {
        for replica in standing.staying() {
            counts.entry((&standing.name, replica.node.clone())).or_default().0 += 1;
        }
    }
    for placement in &solution.placements {
        let node = name_of(status, &placement.node).unwrap_or_default();
        counts.entry((&deployments[placement.request].name, node)).or_default().1 += 1;
    }
    let placed = counts.values().map(|(then, _)| then).sum();
    let elsewhere = counts.values().map(|(then, afresh)| then.saturating_sub(*afresh)).sum();
    let moved = counts.into_iter().filter(|(_, (then, afresh))| then != afresh);
    let moved = moved.map(|((deployment, node), (then, afresh))| Moved {
        deployment: deployment.to_string(),
        node,
        then,
        afresh,
    });
    (moved.collect(), placed, elsewhere)
}

fn name_of(status: &ClusterStatus, id: &millstream_status::NodeId) -> Option<String> {
    status.nodes.iter().find(|node| node.id == *id).map(|node| node.name.clone())
}

fn named(node: &NodeStatus) -> Node {
    Node {
        id: node.id.clone(),
        name: node.name.clone(),
        labels: node.labels.clone(),
        free_cpu_milli: node.free_cpu_milli,
        free_memory_bytes: node.free_memory_bytes,
        devices: Vec::new(),
        replicas: BTreeMap::new(),
    }
}

/// Its devices; `held` says for each index which thousandths are free, and how much of its memory is not.
fn devices(node: &NodeStatus, held: impl Fn(u32) -> (u32, u64)) -> Vec<FreeDevice> {
    let free = |gpu: &millstream_status::status::GpuStatus| {
        let (free_milli, held_bytes) = held(gpu.index);
        FreeDevice {
            index: gpu.index,
            model: gpu.model.clone(),
            free_milli,
            free_memory_bytes: gpu.memory_bytes.saturating_sub(held_bytes),
        }
    };
    node.gpus.iter().map(free).collect()
}

/// What the nodes that take replicas have free, as it was shown.
fn world(status: &ClusterStatus, deployments: &[Standing<'_>]) -> World {
    let demand = |name: &str| -> Option<&Demand> {
        let standing = deployments.iter().find(|standing| standing.deployment.full_name == name)?;
        (standing.spec.device != Device::Cpu).then_some(&standing.spec.demand)
    };
    let nodes = status.nodes.iter().filter(|node| node.state == NodeState::Ready).map(|node| {
        let held = |index: u32| {
            let Some(gpu) = node.gpus.iter().find(|gpu| gpu.index == index) else { return (0, 0) };
            let bytes = gpu.holders.iter().filter_map(|holder| demand(&holder.deployment));
            (milli(gpu.free_share), bytes.map(|demand| demand.gpu_memory_bytes).sum())
        };
        let mut replicas = BTreeMap::new();
        for standing in deployments {
            let here = standing
                .deployment
                .replicas
                .iter()
                .filter(|replica| replica.node == node.name && replica.state != ReplicaState::Stopped);
            let here = u32::try_from(here.count()).unwrap_or(u32::MAX);
            if here > 0 {
                replicas.insert(standing.name.clone(), here);
            }
        }
        Node { devices: devices(node, held), replicas, ..named(node) }
    });
    World { nodes: nodes.collect() }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part from 0 to 1")]
fn milli(share: f64) -> u32 {
    (share * f64::from(WHOLE_DEVICE)).round().clamp(0.0, f64::from(WHOLE_DEVICE)) as u32
}

#[cfg(test)]
mod tests {
    use millstream_status::status::GpuStatus;
    use serde_json::json;

    use super::*;

    fn node(name: &str, free_cpu_milli: u64) -> serde_json::Value {
        json!({
            "name": name, "id": name, "state": "ready", "address": "a:1", "pid": 1, "cpu_milli": 2000,
            "free_cpu_milli": free_cpu_milli, "memory_bytes": 8u64 << 30, "free_memory_bytes": 8u64 << 30,
            "labels": {}, "gpus": []
        })
    }

    fn replica(id: &str, node: &str) -> serde_json::Value {
        json!({"id": id, "node": node, "state": "ready", "pid": 1, "revision": 1, "ongoing": 0, "restarts": 0})
    }

    fn status(replicas: &serde_json::Value, pending: &[&str]) -> ClusterStatus {
        let status = json!({
            "leader": "a", "epoch": 1, "ingresses": [], "nodes": [node("a", 0), node("b", 500)],
            "pipelines": [{
                "name": "p", "route": null, "revision": 1, "serving_revision": 1, "state": "ready",
                "deployments": [{
                    "name": "model", "full_name": "p/model", "target_replicas": 3, "ready_replicas": 2,
                    "ongoing": 0, "queued": 0, "replicas": replicas, "pending": pending,
                }]
            }]
        });
        serde_json::from_value(status).unwrap()
    }

    fn specs(status: &ClusterStatus) -> Specs {
        let mut specs = Specs::default();
        let source = "name = \"p\"\n[deployments.model]\nengine = \"echo\"\ncpus = 1\nreplicas = 3\n";
        specs.add("p.toml", source, status).unwrap();
        specs
    }

    #[test]
    fn who_has_no_place_has_none_again_for_the_same_reasons() {
        let reasons = ["b: needs 1 cores, 0.5 free", "a: needs 1 cores, 0 free"];
        let both = json!([replica("r1", "a"), replica("r2", "a")]);
        let at_odds = status(&both, &reasons);
        let found = places(&at_odds, &specs(&at_odds));
        let waiting = &found.waiting[0];
        let mut sorted = waiting.reasons.clone();
        sorted.sort();
        assert_eq!(sorted, ["a: needs 1 cores, 0 free", "b: needs 1 cores, 0.5 free"]);
        assert_eq!((waiting.replicas, waiting.fits.len()), (1, 0));
        let then: Vec<_> = waiting.reasons.iter().map(String::as_str).collect();
        let told = status(&both, &then);
        assert!(places(&told, &specs(&told)).waiting[0].same);
        // Afresh they are spread.
        assert_eq!((found.placed, found.elsewhere), (2, 1));
        let moved = |node: &str, then, afresh| Moved {
            deployment: "p/model".into(),
            node: node.into(),
            then,
            afresh,
        };
        assert_eq!(found.moved, [moved("a", 2, 1), moved("b", 0, 1)]);
    }

    #[test]
    fn memory_of_a_device_is_held_by_whoever_has_a_share_of_it() {
        let mut status = status(&json!([]), &[]);
        let gpu: GpuStatus = serde_json::from_value(json!({
            "index": 0, "model": "H100", "memory_bytes": 80, "free_share": 0.75,
            "holders": [{"replica": "r1", "deployment": "p/model", "share": 0.25}]
        }))
        .unwrap();
        status.nodes[0].gpus.push(gpu);
        let mut specs = specs(&status);
        let name: FullName = "p/model".parse().unwrap();
        let spec = specs.0.get_mut(&name).unwrap();
        (spec.device, spec.demand.gpu_memory_bytes) = (Device::Gpu, 30);
        let deployment = &status.pipelines[0].deployments[0];
        let world = world(&status, &[Standing { name, spec, deployment }]);
        let device = &world.nodes[0].devices[0];
        assert_eq!((device.free_milli, device.free_memory_bytes), (750, 50));
    }
}
