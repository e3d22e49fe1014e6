//! What replicas of a cluster ask for, as a distribution: with it the scheduler can say how much of a node's free GPU
//! the next replica could use. In production it is made of what is deployed, in simulations of the task list.

use std::collections::BTreeMap;

use millstream_pipelines::{Demand, Device};
use serde::{Deserialize, Serialize};

use super::gpus::{Gpus, accepts_model};

/// One in fixed point: frequencies of demands are parts of it, so that sums over nodes are exact.
pub(super) const ONE: i64 = 1 << 20;

/// How often demands of each kind come. Those without GPUs are left out: any free core serves them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Workload {
    kinds: Vec<Kind>,
}

/// Demands that ask for the same of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kind {
    pub(super) cpu_milli: u64,
    pub(super) gpus: Gpus,
    /// Accepted models in lower case; empty means any.
    pub(super) accelerators: Vec<String>,
    /// Labels that the node must carry.
    pub(super) labels: BTreeMap<String, String>,
    /// Part of all demands, of [`ONE`].
    pub(super) frequency: i64,
    /// Part of all GPU that is asked for, of [`ONE`].
    pub(super) weight: i64,
}

impl Workload {
    /// The distribution of demands, each with the number of replicas that have it.
    #[must_use]
    pub fn of<'a>(demands: impl IntoIterator<Item = (&'a Demand, Device, u64)>) -> Self {
        type Key = (u64, Gpus, Vec<String>, BTreeMap<String, String>);
        let mut counts: BTreeMap<Key, u64> = BTreeMap::new();
        for (demand, device, count) in demands {
            let Some(gpus) = Gpus::of(demand.gpus).filter(|_| device != Device::Cpu) else { continue };
            let mut accelerators: Vec<_> =
                demand.accelerators.iter().map(|model| model.to_ascii_lowercase()).collect();
            accelerators.sort();
            *counts.entry((demand.cpu_milli, gpus, accelerators, demand.labels.clone())).or_default() +=
                count;
        }
        let part = |amount: u128, all: u128| {
            let one = ONE.unsigned_abs();
            i64::try_from(u128::from(one) * amount / all.max(1)).unwrap_or(ONE)
        };
        let all: u128 = counts.values().map(|count| u128::from(*count)).sum();
        let asked = |gpus: Gpus, count: u64| u128::from(gpus.total()) * u128::from(count);
        let all_asked: u128 = counts.iter().map(|((_, gpus, ..), count)| asked(*gpus, *count)).sum();
        let kinds = counts.into_iter().map(|((cpu_milli, gpus, accelerators, labels), count)| Kind {
            cpu_milli,
            gpus,
            accelerators,
            labels,
            frequency: part(count.into(), all),
            weight: part(asked(gpus, count), all_asked),
        });
        Self { kinds: kinds.collect() }
    }

    pub(super) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }
}

impl Kind {
    /// Whether a device of that model (in lower case) will do.
    pub(super) fn accepts(&self, model: &str) -> bool {
        accepts_model(&self.accelerators, model)
    }
}

#[cfg(test)]
mod tests {
    use millstream_pipelines::GpuDemand;

    use super::*;
    use crate::testing::demand;

    #[test]
    fn equal_demands_are_one_kind_and_those_without_gpus_are_none() {
        let share = Demand { gpus: GpuDemand::Share(250), ..demand(1000) };
        let whole = Demand { gpus: GpuDemand::Whole(2), ..demand(1000) };
        let workload = Workload::of([
            (&share, Device::Gpu, 2),
            (&share, Device::Auto, 1),
            (&whole, Device::Gpu, 1),
            (&demand(4000), Device::Cpu, 9),
        ]);
        let parts: Vec<_> =
            workload.kinds().iter().map(|kind| (kind.gpus.total(), kind.frequency, kind.weight)).collect();
        assert_eq!(parts, [(250, ONE * 3 / 4, ONE * 750 / 2750), (2000, ONE / 4, ONE * 2000 / 2750)]);
    }
}
