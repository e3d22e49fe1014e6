//! Which moves of replicas would make whole GPUs free: a pure function from what is where to a list of moves.
//!
//! A device is worth emptying when all that it holds are shares that fit on other devices which are in use already. The
//! cheapest go first: fewest replicas, then the least share. No replica moves twice, no device that was free before is
//! used, and each move starts the replica at its new place before it stops at the old one, so that what is free must
//! hold both: capacity is not exceeded at any step.

use millstream_pipelines::{Demand, FullName};
use millstream_status::{NodeId, ReplicaId};
use serde::{Deserialize, Serialize};

use super::gpus::accepts_model;
use super::{Node, Share, WHOLE_DEVICE};

/// A node with the replicas that may move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupied {
    /// What it has free, with all its replicas.
    pub node: Node,
    /// Those of its replicas that may move; others stay and hold what they hold.
    pub tenants: Vec<Tenant>,
}

/// A replica that may move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub replica: ReplicaId,
    /// Its deployment.
    pub deployment: FullName,
    /// What it holds.
    pub demand: Demand,
    /// Its parts of devices.
    pub gpus: Vec<Share>,
}

/// A replica's way from one device to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The replica.
    pub replica: ReplicaId,
    /// Its deployment.
    pub deployment: FullName,
    /// Where it is.
    pub from: Seat,
    /// Where it would go.
    pub to: Seat,
    /// Thousandths of a device that it holds.
    pub milli: u32,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seat {
    /// Its node.
    pub node: NodeId,
    /// Its index there.
    pub index: u32,
}

/// What [`defrag`] returns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The moves, to be made in this order.
    pub moves: Vec<Move>,
    /// The devices that become free.
    pub freed: Vec<Seat>,
}

/// Finds the moves. O(devices in use × replicas on shares).
#[must_use]
pub fn defrag(nodes: &[Occupied]) -> Plan {
    let mut bench = Bench { nodes: nodes.to_vec(), closed: Vec::new() };
    bench.nodes.sort_by(|a, b| (&a.node.name, &a.node.id).cmp(&(&b.node.name, &b.node.id)));
    let mut sources = bench.sources();
    sources.sort_by_key(|source| (source.num_tenants, source.used_milli));
    let mut plan = Plan::default();
    for Source { at, .. } in sources {
        if bench.closed.contains(&at) {
            continue;
        }
        let moves = bench.empty(at);
        if !moves.is_empty() {
            plan.freed.push(bench.seat(at));
            plan.moves.extend(moves);
        }
    }
    plan
}

/// A device by the positions of its node and itself.
type At = (usize, usize);

struct Source {
    at: At,
    num_tenants: usize,
    used_milli: u32,
}

/// The nodes while moves are tried.
struct Bench {
    nodes: Vec<Occupied>,
    /// Devices that were emptied, or were given replicas: neither is emptied again, the former are given none.
    closed: Vec<At>,
}

impl Bench {
    /// Devices in use by nothing but shares that may move.
    fn sources(&self) -> Vec<Source> {
        let mut sources = Vec::new();
        for (n, occupied) in self.nodes.iter().enumerate() {
            for (d, device) in occupied.node.devices.iter().enumerate() {
                let used_milli = WHOLE_DEVICE.saturating_sub(device.free_milli);
                let tenants = occupied.tenants.iter().filter_map(|tenant| share_on(tenant, device.index));
                let (num_tenants, movable) =
                    tenants.fold((0, 0), |(count, sum), milli| (count + 1, sum + milli));
                if num_tenants > 0 && movable == used_milli && used_milli < WHOLE_DEVICE {
                    sources.push(Source { at: (n, d), num_tenants, used_milli });
                }
            }
        }
        sources
    }

    fn seat(&self, (n, d): At) -> Seat {
        let node = &self.nodes[n].node;
        Seat { node: node.id.clone(), index: node.devices[d].index }
    }

    /// Moves all that a device holds elsewhere; when that cannot be, nothing changes and the list is empty.
    fn empty(&mut self, source: At) -> Vec<Move> {
        let before = self.closed.len();
        self.closed.push(source);
        let index = self.nodes[source.0].node.devices[source.1].index;
        let tenants: Vec<Tenant> = self.nodes[source.0]
            .tenants
            .iter()
            .filter(|tenant| share_on(tenant, index).is_some())
            .cloned()
            .collect();
        let mut order = tenants;
        order.sort_by_key(|tenant| std::cmp::Reverse(share_on(tenant, index)));
        let mut done: Vec<(Tenant, At, Move)> = Vec::new();
        for tenant in order {
            let milli = share_on(&tenant, index).unwrap_or_default();
            let Some(target) = self.target(source, &tenant, milli) else {
                for (tenant, target, made) in done.iter().rev() {
                    self.shift(tenant, *target, source, made.milli);
                }
                self.closed.truncate(before);
                return Vec::new();
            };
            let (from, to) = (self.seat(source), self.seat(target));
            self.shift(&tenant, source, target, milli);
            self.closed.push(target);
            let (replica, deployment) = (tenant.replica.clone(), tenant.deployment.clone());
            done.push((tenant, target, Move { replica, deployment, from, to, milli }));
        }
        done.into_iter().map(|(_, _, made)| made).collect()
    }

    /// The fullest device in use that can take the share beside all that runs now.
    fn target(&self, source: At, tenant: &Tenant, milli: u32) -> Option<At> {
        let demand = &tenant.demand;
        let like = |n: usize| self.nodes[n].node.replicas.get(&tenant.deployment).copied().unwrap_or(0);
        let like_here = like(source.0);
        let mut best: Option<(u32, At)> = None;
        for (n, Occupied { node, .. }) in self.nodes.iter().enumerate() {
            let there = n == source.0;
            let has = |(key, value): (&String, &String)| node.labels.get(key) == Some(value);
            // While it starts there it runs here as well. Replicas of one deployment must not come closer together.
            let fits = demand.cpu_milli <= node.free_cpu_milli
                && demand.memory_bytes <= node.free_memory_bytes
                && demand.max_replicas_per_node.is_none_or(|max| like(n) < max)
                && (there || like(n) < like_here)
                && demand.labels.iter().all(has);
            if !fits {
                continue;
            }
            for (d, device) in node.devices.iter().enumerate() {
                let able = accepts_model(&demand.accelerators, &device.model)
                    && device.free_milli < WHOLE_DEVICE
                    && device.free_milli >= milli
                    && device.free_memory_bytes >= demand.gpu_memory_bytes;
                if able && (n, d) != source && best.is_none_or(|(free, _)| device.free_milli < free) {
                    best = Some((device.free_milli, (n, d)));
                }
            }
        }
        best.map(|(_, at)| at)
    }

    fn shift(&mut self, tenant: &Tenant, from: At, to: At, milli: u32) {
        let demand = &tenant.demand;
        let Occupied { node, tenants } = &mut self.nodes[from.0];
        node.free_cpu_milli += demand.cpu_milli;
        node.free_memory_bytes += demand.memory_bytes;
        node.devices[from.1].free_milli += milli;
        node.devices[from.1].free_memory_bytes += demand.gpu_memory_bytes;
        if let Some(count) = node.replicas.get_mut(&tenant.deployment) {
            *count = count.saturating_sub(1);
        }
        tenants.retain(|other| other.replica != tenant.replica);
        let Occupied { node, tenants } = &mut self.nodes[to.0];
        node.free_cpu_milli -= demand.cpu_milli;
        node.free_memory_bytes -= demand.memory_bytes;
        node.devices[to.1].free_milli -= milli;
        node.devices[to.1].free_memory_bytes -= demand.gpu_memory_bytes;
        *node.replicas.entry(tenant.deployment.clone()).or_default() += 1;
        let gpus = vec![Share { index: node.devices[to.1].index, milli }];
        tenants.push(Tenant { gpus, ..tenant.clone() });
    }
}

/// What a replica holds of a device, when that is all the GPU it has.
fn share_on(tenant: &Tenant, index: u32) -> Option<u32> {
    match tenant.gpus[..] {
        [share] if share.index == index && share.milli < WHOLE_DEVICE => Some(share.milli),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
