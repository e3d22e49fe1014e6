//! Where replicas go: a pure function from what nodes have free and what replicas demand to placements, and reasons
//! for what has no place. It never moves what is placed already.
//!
//! [`place`] walks the demands, larger ones first, through a [`Cluster`], which knows what each node has free and what
//! it would lose; `waste` measures that loss against the [`Workload`]; `choose` prefers one of the nodes; `group` keeps
//! demands together; `fit` says what is missing where nothing fits.

mod choose;
mod cluster;
pub mod defrag;
mod fit;
mod group;
mod waste;
mod workload;

use std::collections::BTreeMap;

use millstream_pipelines::{Demand, Device, FullName};
use millstream_status::NodeId;
use serde::{Deserialize, Serialize};

pub use cluster::{Candidate, Cluster, Place};
pub use fit::{Lack, Missing};
pub use group::{Blocked, GroupId};
pub use workload::Workload;

/// Thousandths in a whole device.
pub const WHOLE_DEVICE: u32 = 1000;

/// The nodes that may be given work, with what they have free.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct World {
    /// The nodes; their order does not matter.
    pub nodes: Vec<Node>,
}

/// What a node has free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name, for reasons.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Thousandths of cores that are not booked.
    pub free_cpu_milli: u64,
    /// Memory that is not booked.
    pub free_memory_bytes: u64,
    /// Its devices.
    pub devices: Vec<FreeDevice>,
    /// Replicas on it, by deployment.
    pub replicas: BTreeMap<FullName, u32>,
}

impl Node {
    /// Replicas of all deployments.
    #[must_use]
    pub fn num_replicas(&self) -> u32 {
        self.replicas.values().sum()
    }
}

/// What a device has free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeDevice {
    /// Index on its node.
    pub index: u32,
    /// Model name.
    pub model: String,
    /// Thousandths that are not booked.
    pub free_milli: u32,
    /// Memory that is not booked.
    pub free_memory_bytes: u64,
}

/// Whether replicas of a deployment keep apart or together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// Over as many nodes as there are: losing one loses few. What deployments get.
    Spread,
    /// Onto as few nodes as possible, idle ones last.
    Pack,
}

/// One replica that needs a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its deployment.
    pub deployment: FullName,
    /// What it needs.
    pub demand: Demand,
    /// Whether it needs its GPU demand, or does without.
    pub device: Device,
    /// Apart from its like, or together.
    pub strategy: Strategy,
    /// The group whose requests are placed together or not at all.
    pub group: Option<GroupId>,
}

/// A part of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share {
    /// Index of the device on its node.
    pub index: u32,
    /// Thousandths of it.
    pub milli: u32,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Index into the requests.
    pub request: usize,
    /// The node.
    pub node: NodeId,
    /// Its devices' parts; empty on the CPU.
    pub gpus: Vec<Share>,
}

/// A request without a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Index into the requests.
    pub request: usize,
    /// What is missing for it, by node, in the order of the nodes' names; empty when it waits for another of its group.
    pub reasons: Vec<(String, Vec<Missing>)>,
    /// Its group, and which of that has no place.
    pub blocked: Option<Blocked>,
}

/// What [`place`] gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Solution {
    /// Requests with a place, by their index.
    pub placements: Vec<Placement>,
    /// Requests without, by their index.
    pub pending: Vec<Pending>,
}

/// Finds places for requests. Larger demands go first; equal ones in the order given; a group goes as a whole, in the
/// place of its largest demand, and has either places for all or for none. O(requests × nodes).
#[must_use]
pub fn place(world: &World, workload: &Workload, requests: &[Request]) -> Solution {
    let mut cluster = Cluster::new(world, workload);
    let mut solution = Solution::default();
    for unit in group::units(requests) {
        let mut places: Vec<(usize, Place<'_>)> = Vec::with_capacity(unit.requests.len());
        let mut blocked = None;
        for &index in &unit.requests {
            match cluster.place(&requests[index]) {
                Some(place) => places.push((index, place)),
                None => {
                    blocked = Some((index, reasons(&cluster, &requests[index])));
                    break;
                }
            }
        }
        match blocked {
            None => solution.placements.extend(places.into_iter().map(|(request, place)| Placement {
                request,
                node: place.node.id.clone(),
                gpus: place.gpus,
            })),
            Some((by, reasons)) => {
                for (index, place) in places.iter().rev() {
                    cluster.take_back(&requests[*index], place);
                }
                solution.pending.extend(group::pending(&unit, requests, by, &reasons));
            }
        }
    }
    solution.placements.sort_by_key(|placement| placement.request);
    solution.pending.sort_by_key(|pending| pending.request);
    debug_assert!(is_within_capacity(world, requests, &solution), "placements exceed what nodes have free");
    debug_assert!(group::is_whole_or_not_at_all(requests, &solution), "a group is placed in part");
    solution
}

/// What is missing, by node.
fn reasons(cluster: &Cluster<'_>, request: &Request) -> Vec<(String, Vec<Missing>)> {
    cluster
        .nodes()
        .map(|node| {
            let missing = fit::missing(&node, request);
            (node.name.clone(), missing)
        })
        .collect()
}

/// Takes what a replica needs off what its node has free.
pub fn book(node: &mut Node, request: &Request, gpus: &[Share]) {
    let demand = &request.demand;
    node.free_cpu_milli = node.free_cpu_milli.saturating_sub(demand.cpu_milli);
    node.free_memory_bytes = node.free_memory_bytes.saturating_sub(demand.memory_bytes);
    for share in gpus {
        if let Some(device) = node.devices.iter_mut().find(|device| device.index == share.index) {
            device.free_milli = device.free_milli.saturating_sub(share.milli);
            device.free_memory_bytes = device.free_memory_bytes.saturating_sub(demand.gpu_memory_bytes);
        }
    }
    *node.replicas.entry(request.deployment.clone()).or_default() += 1;
}

/// The post-condition of [`place`]: what is booked on a node, it had free, and the limits per node hold.
#[must_use]
pub fn is_within_capacity(world: &World, requests: &[Request], solution: &Solution) -> bool {
    world.nodes.iter().all(|node| {
        let mine: Vec<_> = solution.placements.iter().filter(|placement| placement.node == node.id).collect();
        let sum =
            |part: fn(&Demand) -> u64| mine.iter().map(|p| part(&requests[p.request].demand)).sum::<u64>();
        let devices = node.devices.iter().all(|device| {
            let shares = || {
                let on =
                    |p: &&Placement| (p.request, p.gpus.iter().find(|s| s.index == device.index).copied());
                mine.iter().map(on).filter_map(|(request, share)| Some((request, share?)))
            };
            shares().map(|(_, share)| share.milli).sum::<u32>() <= device.free_milli
                && shares().map(|(r, _)| requests[r].demand.gpu_memory_bytes).sum::<u64>()
                    <= device.free_memory_bytes
        });
        let per_node = mine.iter().all(|placement| {
            let request = &requests[placement.request];
            let like = |p: &&&Placement| requests[p.request].deployment == request.deployment;
            let there = node.replicas.get(&request.deployment).copied().unwrap_or(0) as usize;
            // Revisions of one deployment may differ in their limits: the widest counts.
            let max =
                |p: &&Placement| requests[p.request].demand.max_replicas_per_node.map_or(u32::MAX, |max| max);
            let widest = mine.iter().filter(like).map(max).max().unwrap_or(u32::MAX);
            there + mine.iter().filter(like).count() <= widest as usize
        });
        sum(|d| d.cpu_milli) <= node.free_cpu_milli
            && sum(|d| d.memory_bytes) <= node.free_memory_bytes
            && devices
            && per_node
    })
}

#[cfg(test)]
mod tests;
