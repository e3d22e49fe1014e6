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

use super::{Nodes, Task};

/// Rounds of the search for prices.
const ROUNDS: u32 = 200;
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
        Self { pools: pools.collect(), capacity: super::run::capacity_milli(nodes) as f64 }
    }
}

/// The bound for the tasks that have arrived, in thousandths of a device.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the capacity")]
pub(super) fn upper_bound_milli(supply: &Supply, tasks: &[Task], arrived: &[u64]) -> u64 {
    let kinds = kinds(supply, tasks, arrived);
    let asked: f64 = kinds.iter().map(|kind| kind.gpu * kind.arrived).sum();
    let mut best = asked.min(supply.capacity);
    let mut lambda = vec![0.0; kinds.len()];
    let mut kappa = vec![0.0; supply.pools.len()];
    for round in 0..ROUNDS {
        let mut bound: f64 = kinds.iter().zip(&lambda).map(|(kind, price)| kind.arrived * price).sum();
        let mut used = vec![0.0; kinds.len()];
        let mut cores_left = Vec::new();
        for (index, pool) in supply.pools.iter().enumerate() {
            let (value, content) = knapsack(&kinds, &lambda, kappa[index], index);
            bound += pool.num_devices * value + kappa[index] * pool.cpu_milli;
            let mut cores = pool.cpu_milli;
            for (kind, uses) in content {
                used[kind] += pool.num_devices * uses;
                cores -= pool.num_devices * uses * kinds[kind].cpu_milli;
            }
            cores_left.push(cores);
        }
        best = best.min(bound);
        // Shorter steps as it goes on; the size of each price's step follows the scale of what it prices.
        let step = 0.5 / (1.0 + f64::from(round) / 8.0);
        for ((price, kind), used) in lambda.iter_mut().zip(&kinds).zip(used) {
            let excess = (used - kind.arrived) / (used + kind.arrived).max(1.0);
            *price = (*price + step * kind.gpu * excess).clamp(0.0, kind.gpu);
        }
        for ((price, left), pool) in kappa.iter_mut().zip(cores_left).zip(&supply.pools) {
            let excess = (-left / pool.cpu_milli.max(1.0)).clamp(-1.0, 1.0);
            *price = (*price + step * 0.05 * excess).max(0.0);
        }
    }
    best.ceil() as u64
}

#[expect(clippy::cast_precision_loss, reason = "tasks are far fewer than 2^52")]
fn kinds(supply: &Supply, tasks: &[Task], arrived: &[u64]) -> Vec<Kind> {
    let mut counts: BTreeMap<(u64, u32, u32, &[String]), u64> = BTreeMap::new();
    for (task, count) in tasks.iter().zip(arrived).filter(|(task, _)| task.num_gpus > 0) {
        *counts.entry((task.cpu_milli, task.num_gpus, task.gpu_milli, &task.models)).or_default() += count;
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
