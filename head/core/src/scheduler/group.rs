//! All-or-nothing groups: which requests are placed as one, in which order, and what a group that has no place says.

use std::collections::BTreeMap;
use std::fmt;

use millstream_pipelines::{Device, FullName};
use serde::{Deserialize, Serialize};

use super::gpus::Gpus;
use super::{Pending, Request, Shortage, Solution};

/// Names a group of requests, for people: what they belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupId(pub String);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a request of a group is pending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The group.
    pub group: GroupId,
    /// The deployment of the group that has no place beside the others.
    pub by: FullName,
    /// How many replicas the group has.
    pub size: usize,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, by, size } = self;
        write!(f, "all or nothing: the {size} replicas of `{group}` start together, and `{by}` has no place")
    }
}

/// Which requests are placed together or not at all, the larger ones first; the units in the order in which they are
/// placed. One without a group is a unit by itself.
pub(super) fn units(requests: &[Request]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> =
        (0..requests.len()).filter(|&index| requests[index].num_replicas > 0).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(size(&requests[index])));
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut of_group: BTreeMap<&GroupId, usize> = BTreeMap::new();
    for index in order {
        let Some(group) = &requests[index].group else {
            units.push(vec![index]);
            continue;
        };
        match of_group.get(group) {
            Some(unit) => units[*unit].push(index),
            None => {
                of_group.insert(group, units.len());
                units.push(vec![index]);
            }
        }
    }
    units
}

/// The requests of a group in which `by` has no place. All that is of its deployment has the same reasons.
pub(super) fn pending(unit: &[usize], requests: &[Request], by: usize, shortage: &Shortage) -> Vec<Pending> {
    let by = &requests[by].deployment;
    let size = unit.iter().map(|&index| requests[index].num_replicas).sum();
    let of = |&index: &usize| {
        let request = &requests[index];
        Pending {
            request: index,
            num_replicas: request.num_replicas,
            lack: shortage.lack(),
            shortage: if request.deployment == *by { shortage.clone() } else { Shortage::default() },
            blocked: request.group.clone().map(|group| Blocked { group, by: by.clone(), size }),
        }
    };
    unit.iter().map(of).collect()
}

/// What makes a demand large: GPUs before device memory before cores before memory.
fn size(request: &Request) -> (u64, u64, u64, u64) {
    let demand = &request.demand;
    let gpus = Gpus::of(demand.gpus).filter(|_| request.device != Device::Cpu).map_or(0, Gpus::total);
    (gpus, demand.gpu_memory_bytes, demand.cpu_milli, demand.memory_bytes)
}

/// A post-condition of [`super::place`]: no group has both places and requests without.
pub(super) fn is_whole_or_not_at_all(requests: &[Request], solution: &Solution) -> bool {
    let placed = |group: &GroupId| {
        solution.placements.iter().any(|placement| requests[placement.request].group.as_ref() == Some(group))
    };
    solution.pending.iter().filter_map(|pending| requests[pending.request].group.as_ref()).all(|g| !placed(g))
}
