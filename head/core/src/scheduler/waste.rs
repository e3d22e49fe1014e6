//! How much of a node's free GPU the workload cannot use, in fixed point. Two parts are added:
//!
//! - **fragmentation**: the free GPU that a demand drawn from the workload could not use right now, because the rest of
//!   a device is too small, whole devices are too few, cores are too few or the model is not accepted;
//! - **stranded GPU**: what would stay free for want of cores if the node went on to be filled with such demands.
//!   Fragmentation alone sees cores run out only when the next demand fails.
//!
//! Both come from tables made once per workload and kind of node ([`Lens`]), so that a look at a node costs some tens of
//! nanoseconds whatever the number of demands. Memory and device memory decide what fits, not what is preferred.

use super::WHOLE_DEVICE;
use super::gpus::accepts_model;
use super::workload::{Kind, ONE, Workload};

/// Fractional bits of the devices per core in [`Cores`].
const BITS: u32 = 24;

/// The tables for nodes with the same labels and models.
#[derive(Debug, Clone)]
pub(super) struct Lens {
    /// Cores of the demands, ascending: the number of those that a node can give is its row in the other tables.
    cpu_steps: Vec<u64>,
    /// How many of the single-device sizes are at most an amount of a device.
    size_rank: Vec<usize>,
    /// Number of different sizes and one more: the length of a row.
    num_ranks: usize,
    /// By row: frequency of demands that get nothing here: too few cores, or not of an accepted model.
    blocked: Vec<i64>,
    /// By row and rank of a device's free amount: frequency of single-device demands that are larger.
    too_large: Vec<i64>,
    /// For demands of several devices: the number, and their frequency by row.
    several: Vec<(u32, Vec<i64>)>,
    cores: Cores,
}

/// What a look at a node needs to know of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Free {
    pub(super) cpu_milli: u64,
    /// Of all devices.
    pub(super) gpu_milli: u64,
    /// Devices that are wholly free.
    pub(super) num_whole: u32,
}

impl Lens {
    /// Makes the tables for the demands that a node's labels and models serve; `serves` says so by kind.
    /// O(kinds × sizes).
    pub(super) fn new(workload: &Workload, serves: &[bool]) -> Self {
        let kinds = workload.kinds();
        let served = || kinds.iter().zip(serves).filter(|(_, serves)| **serves).map(|(kind, _)| kind);
        let cpu_steps = sorted(served().map(|kind| kind.cpu_milli));
        let singles = served().filter(|kind| kind.gpus.count == 1);
        let sizes = sorted(singles.map(|kind| u64::from(kind.gpus.milli)));
        let counts = sorted(served().map(|kind| kind.gpus.count).filter(|count| *count > 1));
        let size_rank =
            (0..=u64::from(WHOLE_DEVICE)).map(|free| sizes.partition_point(|size| *size <= free)).collect();
        let num_ranks = sizes.len() + 1;
        let num_rows = cpu_steps.len() + 1;
        let all: i64 = kinds.iter().map(|kind| kind.frequency).sum();
        let mut blocked = vec![all; num_rows];
        let mut too_large = vec![0; num_rows * num_ranks];
        let mut several: Vec<_> = counts.iter().map(|count| (*count, vec![0; num_rows])).collect();
        // First what each row adds: in row r the demands with the r smallest numbers of cores fit.
        for kind in served() {
            let row = cpu_steps.partition_point(|step| *step <= kind.cpu_milli);
            blocked[row] -= kind.frequency;
            if kind.gpus.count == 1 {
                let rank = sizes.partition_point(|size| *size < u64::from(kind.gpus.milli));
                too_large[row * num_ranks..][..=rank].iter_mut().for_each(|sum| *sum += kind.frequency);
            } else if let Ok(at) = counts.binary_search(&kind.gpus.count) {
                several[at].1[row] += kind.frequency;
            }
        }
        // Then what all rows up to each add together.
        for row in 1..num_rows {
            blocked[row] += blocked[row - 1] - all;
            for rank in 0..num_ranks {
                too_large[row * num_ranks + rank] += too_large[(row - 1) * num_ranks + rank];
            }
            several.iter_mut().for_each(|(_, of_row)| of_row[row] += of_row[row - 1]);
        }
        Self { cpu_steps, size_rank, num_ranks, blocked, too_large, several, cores: Cores::new(kinds) }
    }

    /// The row of the tables for a node with so many free cores.
    pub(super) fn row(&self, cpu_milli: u64) -> usize {
        self.cpu_steps.partition_point(|step| *step <= cpu_milli)
    }

    /// What single-device demands cannot use of one device with so much free.
    pub(super) fn device(&self, row: usize, free_milli: u32) -> i64 {
        let rank = self.size_rank[free_milli.min(WHOLE_DEVICE) as usize];
        i64::from(free_milli) * self.too_large[row * self.num_ranks + rank]
    }

    /// The waste of a node beside the parts that [`Self::device`] gives for each of its devices.
    pub(super) fn node(&self, row: usize, free: Free) -> i64 {
        let gpu = signed(free.gpu_milli);
        let mut waste = gpu * self.blocked[row] + self.cores.stranded(free);
        for (count, frequency) in &self.several {
            let usable = if free.num_whole >= *count {
                i64::from(free.num_whole) * i64::from(WHOLE_DEVICE)
            } else {
                0
            };
            waste += frequency[row] * (gpu - usable);
        }
        waste
    }
}

/// For the stranded GPU: demands by the cores that they take per device, and sums over all that take more.
#[derive(Debug, Clone, Default)]
struct Cores {
    /// Cores and GPU of one demand, ascending by cores per GPU.
    demands: Vec<(u64, u64)>,
    /// Sum of the weights from each on.
    weight: Vec<i64>,
    /// Sum of weight × GPU per core from each on, with [`BITS`] fractional bits.
    per_core: Vec<i128>,
}

impl Cores {
    fn new(kinds: &[Kind]) -> Self {
        let with_cores = kinds.iter().filter(|kind| kind.cpu_milli > 0);
        let mut sorted: Vec<_> =
            with_cores.map(|kind| (kind.cpu_milli, kind.gpus.total(), kind.weight)).collect();
        sorted.sort_by(|a, b| (u128::from(a.0) * u128::from(b.1)).cmp(&(u128::from(b.0) * u128::from(a.1))));
        let (mut weights, mut per_core) = (vec![0; sorted.len() + 1], vec![0; sorted.len() + 1]);
        for (index, (cpu, gpu, weight)) in sorted.iter().enumerate().rev() {
            weights[index] = weights[index + 1] + weight;
            let each = ((i128::from(*weight) * i128::from(*gpu)) << BITS) / i128::from(*cpu);
            per_core[index] = per_core[index + 1] + each;
        }
        let demands = sorted.into_iter().map(|(cpu, gpu, _)| (cpu, gpu)).collect();
        Self { demands, weight: weights, per_core }
    }

    /// The expected GPU that stays free when the node is filled with one kind of demand until its cores are gone.
    fn stranded(&self, free: Free) -> i64 {
        let Free { cpu_milli, gpu_milli, .. } = free;
        // Those that need more cores per GPU than the node has left.
        let first = self.demands.partition_point(|(cpu, gpu)| {
            u128::from(*cpu) * u128::from(gpu_milli) <= u128::from(cpu_milli) * u128::from(*gpu)
        });
        let usable = (i128::from(cpu_milli) * self.per_core[first]) >> BITS;
        let all = i128::from(gpu_milli) * i128::from(self.weight[first]);
        i64::try_from((all - usable).max(0)).unwrap_or(i64::MAX / 4)
    }
}

/// How much the demands that accept only some models press on the free devices of each.
///
/// A demand that accepts any model should leave alone what others cannot do without. The pressure on a model is the part
/// of the coming demand that accepts it and few others, over the part of the free GPU that it has; 0 without such demands.
pub(super) fn pressure(workload: &Workload, models: &[String], free_milli: &[u64]) -> Vec<i64> {
    let mut pressure = vec![0; models.len()];
    let all: u64 = free_milli.iter().sum();
    // Kinds with the same list press together; lists are few.
    let mut lists: Vec<(&[String], i64)> = Vec::new();
    for kind in workload.kinds().iter().filter(|kind| !kind.accelerators.is_empty()) {
        match lists.iter_mut().find(|(list, _)| *list == kind.accelerators) {
            Some((_, weight)) => *weight += kind.weight,
            None => lists.push((&kind.accelerators, kind.weight)),
        }
    }
    for (list, weight) in lists {
        let accepted = || models.iter().enumerate().filter(|(_, model)| accepts_model(list, model));
        let supply: u64 = accepted().map(|(index, _)| free_milli[index]).sum();
        let each = i128::from(weight) * i128::from(all) / i128::from(supply.max(1));
        for (index, _) in accepted() {
            pressure[index] += i64::try_from(each).unwrap_or(ONE).min(ONE);
        }
    }
    pressure.iter_mut().for_each(|each| *each = (*each).min(ONE));
    pressure
}

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// Amounts of GPU on one node are far below what would not fit.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use millstream_pipelines::{Demand, Device, GpuDemand};

    use super::*;
    use crate::testing::demand;

    /// The waste of a node with these devices, in thousandths of a device.
    fn waste(workload: &Workload, cores: u64, devices: &[u32]) -> i64 {
        let lens = Lens::new(workload, &vec![true; workload.kinds().len()]);
        let free = Free {
            cpu_milli: cores * 1000,
            gpu_milli: devices.iter().map(|free| u64::from(*free)).sum(),
            num_whole: devices.iter().map(|free| u32::from(*free == 1000)).sum(),
        };
        let row = lens.row(free.cpu_milli);
        let of_devices: i64 = devices.iter().map(|free| lens.device(row, *free)).sum();
        (lens.node(row, free) + of_devices) / ONE
    }

    #[test]
    fn waste_by_table() {
        let of = |cores: u64, gpus| Demand { gpus, ..demand(cores * 1000) };
        let (half, pair) = (of(2, GpuDemand::Share(500)), of(8, GpuDemand::Whole(2)));
        let both = Workload::of([(&half, Device::Gpu, 1), (&pair, Device::Gpu, 1)]);
        // Halves fit everywhere, pairs where two devices are whole and 8 cores are left.
        assert_eq!(waste(&both, 64, &[1000, 1000]), 0);
        assert_eq!(waste(&both, 64, &[1000, 500]), 750);
        assert_eq!(waste(&both, 64, &[400, 500]), (900 + 400) / 2);
        let only = Workload::of([(&half, Device::Gpu, 1)]);
        // Two cores for each half: with fewer the rest is stranded.
        assert_eq!(waste(&only, 8, &[1000, 1000]), 0);
        assert_eq!(waste(&only, 4, &[1000, 1000]), 1000);
        // With none it is lost at once as well.
        assert_eq!(waste(&only, 1, &[1000, 1000]), 2000 + 1750);
        assert_eq!(waste(&Workload::default(), 0, &[1000]), 0);
    }

    #[test]
    fn pressure_is_the_part_of_demand_over_the_part_of_supply() {
        let any = Demand { gpus: GpuDemand::Whole(1), ..demand(1000) };
        let picky = Demand { accelerators: vec!["H100".into()], ..any.clone() };
        let workload = Workload::of([(&any, Device::Gpu, 9), (&picky, Device::Gpu, 1)]);
        let models = ["a100".to_owned(), "h100".to_owned()];
        assert_eq!(pressure(&workload, &models, &[8000, 2000]), [0, ONE / 10 * 5]);
        assert_eq!(pressure(&workload, &models, &[9900, 100]), [0, ONE]);
        assert_eq!(pressure(&workload, &models, &[9000, 0]), [0, ONE]);
    }
}
