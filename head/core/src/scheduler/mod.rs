//! Where replicas go: a pure function from what nodes have free and what replicas demand to placements, and reasons
//! for what has no place. It never moves what is placed already.
//!
//! [`place`] walks the demands, larger ones first, through a [`Cluster`], which knows what each node has free and what
//! it would lose; `fit` says whether a node has room; `waste` measures the loss against the [`Workload`]; `choose` prefers
//! one of the nodes; `group` keeps demands together. Where nothing fits, `missing` names what a node lacks, and `shortage`
//! counts that over all nodes.

mod choose;
mod cluster;
pub mod defrag;
mod fit;
mod gpus;
mod group;
mod missing;
mod shortage;
mod waste;
mod workload;

use std::collections::BTreeMap;

use millstream_pipelines::{Demand, Device, FullName};
use millstream_status::NodeId;
use serde::{Deserialize, Serialize};

pub use choose::Candidate;
pub use cluster::{Cluster, Place};
pub use group::{Blocked, GroupId};
pub use missing::{Missing, MissingResource};
pub use shortage::{Reason, Shortage};
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

/// Replicas of a deployment that need a place each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its deployment.
    pub deployment: FullName,
    /// How many they are.
    pub num_replicas: usize,
    /// What each of them needs.
    pub demand: Demand,
    /// Whether they need their GPU demand, or do without.
    pub device: Device,
    /// Apart from their like, or together.
    pub strategy: Strategy,
    /// The group whose requests are placed together or not at all.
    pub group: Option<GroupId>,
}

impl Request {
    /// Whether there is room for a replica of both or of neither. A limit per node counts replicas of one deployment.
    fn is_alike(&self, other: &Self) -> bool {
        self.demand == other.demand
            && self.device == other.device
            && (self.demand.max_replicas_per_node.is_none() || self.deployment == other.deployment)
    }
}

/// A part of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share {
    /// Index of the device on its node.
    pub index: u32,
    /// Thousandths of it.
    pub milli: u32,
}

/// Where a replica of a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Index into the requests.
    pub request: usize,
    /// The node.
    pub node: NodeId,
    /// Its devices' parts; empty on the CPU.
    pub gpus: Vec<Share>,
}

/// Replicas of a request without a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Index into the requests.
    pub request: usize,
    /// How many of its replicas have no place.
    pub num_replicas: usize,
    /// What kind of thing is missing, for it or for the one of its group that has no place.
    pub lack: MissingResource,
    /// What is missing for it; empty without nodes, and when it waits for another deployment of its group.
    pub shortage: Shortage,
    /// Its group, and which of that has no place.
    pub blocked: Option<Blocked>,
}

/// What [`place`] returns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Solution {
    /// Replicas with a place, by the index of their request.
    pub placements: Vec<Placement>,
    /// Replicas without, by the index of their request.
    pub pending: Vec<Pending>,
}

/// Finds places for requests. Larger demands go first; equal ones in the order given; a group goes as a whole, in the
/// place of its largest demand, and has either places for all or for none. Once one replica has no place, those that ask
/// for the same are not tried. O((replicas with a place + different requests) × nodes).
#[must_use]
pub fn place(world: &World, workload: &Workload, requests: &[Request]) -> Solution {
    let mut cluster = Cluster::new(world, workload);
    let mut solution = Solution::default();
    // Requests that no node has room for, with the reasons. Nothing that is booked is given back, so that it stays so.
    let mut refused: Vec<(&Request, Shortage)> = Vec::new();
    for unit in group::units(requests) {
        let is_group = requests[unit[0]].group.is_some();
        let mut places: Vec<(usize, Place<'_>)> = Vec::new();
        let mut short = None;
        for &index in &unit {
            let request = &requests[index];
            let known = refused.iter().find(|(refused, _)| refused.is_alike(request));
            let num_before = places.len();
            if known.is_none() {
                let found = std::iter::from_fn(|| cluster.place(request)).take(request.num_replicas);
                places.extend(found.map(|place| (index, place)));
            }
            let num_missing = request.num_replicas - (places.len() - num_before);
            if num_missing > 0 {
                let shortage = known.map_or_else(|| cluster.shortage(request), |(_, known)| known.clone());
                // What a group has booked before it is given back.
                if known.is_none() && (!is_group || places.is_empty()) {
                    refused.push((request, shortage.clone()));
                }
                short = Some((index, num_missing, shortage));
                break;
            }
        }
        match short {
            Some((by, _, shortage)) if is_group => {
                for (index, place) in places.drain(..).rev() {
                    cluster.take_back(&requests[index], &place);
                }
                solution.pending.extend(group::pending(&unit, requests, by, &shortage));
            }
            Some((request, num_replicas, shortage)) => {
                let lack = shortage.lack();
                solution.pending.push(Pending { request, num_replicas, lack, shortage, blocked: None });
            }
            None => {}
        }
        solution.placements.extend(places.into_iter().map(|(request, place)| Placement {
            request,
            node: place.node.id.clone(),
            gpus: place.gpus,
        }));
    }
    solution.placements.sort_by_key(|placement| placement.request);
    solution.pending.sort_by_key(|pending| pending.request);
    debug_assert!(is_within_capacity(world, requests, &solution), "placements exceed what nodes have free");
    debug_assert!(group::is_whole_or_not_at_all(requests, &solution), "a group is placed in part");
    solution
}

/// Takes what a replica of a request needs off what its node has free.
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
