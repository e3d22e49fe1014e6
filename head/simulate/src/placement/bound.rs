//! What no policy can exceed, not even one that knows all arrivals and may refuse some: an upper bound on the GPU that
//! can have work, by Lagrangian relaxation.
//!
//! Relaxed: each kind of task may be used any number of times at a price λ per use beyond those that arrived; cores are
//! pooled over the nodes of a shape at a price κ; a demand of several devices is cut into single whole ones. What is left is
//! one knapsack per shape of node: the most valuable content of one device. For **any** prices that are not negative
//!
//! > GPU with work ≤ Σ shapes (devices × knapsack + κ × cores) + Σ kinds λ × arrivals
//!
//! so the search for good prices (subgradient steps) need not converge for the bound to hold.

use std::collections::BTreeMap;

use millstream_core::scheduler::WHOLE_DEVICE;

use super::{Nodes, Task};

/// Rounds of the search for prices.
const ROUNDS: u32 = 600;
/// What the search aims at, in parts of the best bound so far.
const GOAL: f64 = 0.98;
/// Thousandths of cores that count as much as one task in the search.
const CORES_SCALE: f64 = 10_000.0;
/// Parts of a device in the knapsack when sizes are whole multiples of it.
const STEP_MILLI: u32 = 10;
const WHOLE_MILLI: u32 = 1000;

/// Nodes of one shape, pooled.
#[derive(Debug, Clone)]
struct Pool {
    model: String,
    num_devices: f64,
    cpu_milli: f64,
}

/// What the nodes offer, by shape.
#[derive(Debug, Clone)]
pub(super) struct Supply {
    pools: Vec<Pool>,
    capacity: f64,
}

/// Tasks that ask for the same, and how many have arrived.
struct Kind {
    cpu_milli: f64,
    /// All GPU of one.
    gpu: f64,
    /// Devices it takes, and how much of each.
    count: f64,
    milli: u32,
    arrived: f64,
    /// By pool.
    accepted: Vec<bool>,
}

impl Supply {
    /// Nodes with the same model and the same cores and devices are one pool.
    #[expect(clippy::cast_precision_loss, reason = "cores and devices are far fewer than 2^52")]
    pub(super) fn of(nodes: &Nodes) -> Self {
        let mut shapes: BTreeMap<(&str, u32, u64), u64> = BTreeMap::new();
        for row in nodes.rows.iter().filter(|row| row.num_gpus > 0) {
            *shapes.entry((&row.model, row.num_gpus, row.cpu_milli)).or_default() += 1;
        }
        let pools = shapes.into_iter().map(|((model, num_gpus, cpu_milli), count)| Pool {
            model: model.to_owned(),
            num_devices: (u64::from(num_gpus) * count) as f64,
            cpu_milli: (cpu_milli * count) as f64,
        });
        Self { pools: pools.collect(), capacity: capacity_milli(nodes) as f64 }
    }
}

/// Which tasks the search tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Those of different sizes and models; cores are left out, and several devices are as many single ones.
    Sizes,
    /// Those that ask for different amounts of anything.
    All,
}

/// The bound for the tasks that have arrived, in thousandths of a device.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the capacity")]
pub(super) fn upper_bound_milli(supply: &Supply, tasks: &[Task], arrived: &[u64]) -> u64 {
    // Few prices are found quickly; with all details the search goes on from them.
    let rough = kinds(supply, tasks, arrived, Detail::Sizes);
    let (rough_bound, rough_prices) = search(supply, &rough, vec![0.0; rough.len()]);
    let fine = kinds(supply, tasks, arrived, Detail::All);
    let price = |kind: &Kind| {
        let same = |other: &Kind| other.milli == kind.milli && other.accepted == kind.accepted;
        let found = rough.iter().zip(&rough_prices).find(|(other, _)| same(other));
        found.map_or(0.0, |(_, price)| price * kind.count)
    };
    let (fine_bound, _) = search(supply, &fine, fine.iter().map(price).collect());
    rough_bound.min(fine_bound).ceil() as u64
}

/// The lowest bound that is found from these prices on, and the prices that give it.
fn search(supply: &Supply, kinds: &[Kind], mut lambda: Vec<f64>) -> (f64, Vec<f64>) {
    let asked: f64 = kinds.iter().map(|kind| kind.gpu * kind.arrived).sum();
    let mut best = asked.min(supply.capacity);
    let mut best_prices = lambda.clone();
    let mut kappa = vec![0.0; supply.pools.len()];
    let (mut speed, mut since_better) = (1.0, 0);
    for _ in 0..ROUNDS {
        let mut bound: f64 = kinds.iter().zip(&lambda).map(|(kind, price)| kind.arrived * price).sum();
        // How the bound changes with each price: what there is less what is used.
        let mut slope: Vec<f64> = kinds.iter().map(|kind| kind.arrived).collect();
        let mut slope_of_cores = Vec::new();
        for (index, pool) in supply.pools.iter().enumerate() {
            let (value, content) = knapsack(kinds, &lambda, kappa[index], index);
            bound += pool.num_devices * value + kappa[index] * pool.cpu_milli;
            let mut cores = pool.cpu_milli;
            for (kind, uses) in content {
                slope[kind] -= pool.num_devices * uses;
                cores -= pool.num_devices * uses * kinds[kind].cpu_milli;
            }
            slope_of_cores.push(cores);
        }
        since_better += 1;
        if bound < best {
            (best, since_better) = (bound, 0);
            best_prices.clone_from(&lambda);
        } else if since_better == 20 {
            (speed, since_better) = (speed / 2.0, 0);
        }
        // Polyak's step, towards a bound a little below the best one. Cores are priced per core of a thousand parts, so
        // that both kinds of slope are of one size.
        let scaled: f64 = slope.iter().map(|slope| slope * slope).sum::<f64>()
            + slope_of_cores.iter().map(|slope| (slope / CORES_SCALE).powi(2)).sum::<f64>();
        if scaled == 0.0 {
            break;
        }
        let step = speed * (bound - GOAL * best) / scaled;
        for ((price, kind), slope) in lambda.iter_mut().zip(kinds).zip(slope) {
            *price = (*price - step * slope).clamp(0.0, kind.gpu);
        }
        for (price, slope) in kappa.iter_mut().zip(slope_of_cores) {
            *price = (*price - step * slope / (CORES_SCALE * CORES_SCALE)).max(0.0);
        }
    }
    (best, best_prices)
}

#[expect(clippy::cast_precision_loss, reason = "tasks are far fewer than 2^52")]
fn kinds(supply: &Supply, tasks: &[Task], arrived: &[u64], detail: Detail) -> Vec<Kind> {
    let mut counts: BTreeMap<(u64, u32, u32, &[String]), u64> = BTreeMap::new();
    for (task, count) in tasks.iter().zip(arrived).filter(|(task, _)| task.num_gpus > 0) {
        let key = match detail {
            Detail::Sizes => (0, 1, task.gpu_milli, &task.models[..]),
            Detail::All => (task.cpu_milli, task.num_gpus, task.gpu_milli, &task.models[..]),
        };
        let each = if detail == Detail::Sizes { u64::from(task.num_gpus) } else { 1 };
        *counts.entry(key).or_default() += count * each;
    }
    let kind = |((cpu_milli, num_gpus, milli, models), count): ((u64, u32, u32, &[String]), u64)| Kind {
        cpu_milli: cpu_milli as f64,
        gpu: f64::from(num_gpus) * f64::from(milli),
        count: f64::from(num_gpus),
        milli,
        arrived: count as f64,
        accepted: supply
            .pools
            .iter()
            .map(|pool| models.is_empty() || models.iter().any(|m| m.eq_ignore_ascii_case(&pool.model)))
            .collect(),
    };
    counts.into_iter().map(kind).filter(|kind| kind.arrived > 0.0).collect()
}

/// The most valuable content of one device of a pool, and how often each kind is in it.
fn knapsack(kinds: &[Kind], lambda: &[f64], kappa: f64, pool: usize) -> (f64, Vec<(usize, f64)>) {
    // Rounded down, a size only makes room: the bound stays one.
    let size = |milli: u32| (milli / STEP_MILLI).max(1) as usize;
    // Of each size only the kind that is worth most.
    let mut items: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
    for (index, kind) in kinds.iter().enumerate().filter(|(_, kind)| kind.accepted[pool]) {
        let value = (kind.gpu - lambda[index] - kappa * kind.cpu_milli) / kind.count;
        let entry = items.entry(size(kind.milli)).or_insert((0.0, index));
        if value > entry.0 {
            *entry = (value, index);
        }
    }
    let slots = size(WHOLE_MILLI);
    let mut best = vec![(0.0, None); slots + 1];
    for room in 1..=slots {
        best[room] = (best[room - 1].0, None);
        for (&size, &(value, index)) in items.range(..=room) {
            let with = value + best[room - size].0;
            if value > 0.0 && with > best[room].0 {
                best[room] = (with, Some((size, index)));
            }
        }
    }
    let mut content = Vec::new();
    let mut room = slots;
    while room > 0 {
        match best[room].1 {
            Some((size, index)) => {
                content.push((index, 1.0 / kinds[index].count));
                room -= size;
            }
            None => room -= 1,
        }
    }
    (best[slots].0, content)
}

/// GPU of all nodes, in thousandths of a device.
pub(super) fn capacity_milli(nodes: &Nodes) -> u64 {
    nodes.rows.iter().map(|row| u64::from(row.num_gpus) * u64::from(WHOLE_DEVICE)).sum()
}
