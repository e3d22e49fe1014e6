//! One run: a seed's arrivals, placed one by one.

use std::time::Duration;

use millstream_core::scheduler::{Candidate, Cluster};
use millstream_core::scheduler::{FreeDevice, Node, Request, Strategy, WHOLE_DEVICE, Workload, World};
use millstream_pipelines::{Demand, Device, FullName, GpuDemand};
use millstream_status::NodeId;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::bound::{Supply, capacity_milli, upper_bound_milli};
use super::{Nodes, Outcome, Policy, Setup, Task};

/// Places a seed's arrivals until they have asked for `ratio` of the capacity. `clock` tells the time of day for the time
/// per decision; `progress` is told the part of the arrivals that is done, from 0 to 1.
pub fn simulate(
    setup: &Setup<'_>,
    seed: u64,
    mut clock: impl FnMut() -> Duration,
    mut progress: impl FnMut(f64),
) -> Outcome {
    let Setup { nodes, tasks, policy, ratio } = *setup;
    let world = world(nodes);
    let requests: Vec<Request> = tasks.tasks.iter().map(request).collect();
    let workload = Workload::of(requests.iter().map(|request| (&request.demand, request.device, 1)));
    let mut cluster = Cluster::new(&world, &workload);
    let mut random = SmallRng::seed_from_u64(seed);
    let capacity = capacity_milli(nodes);
    let supply = Supply::of(nodes);
    let end = milli(capacity, ratio);
    let (mut asked, mut allocated) = (0, 0);
    let (mut arrived, mut failed, mut decisions) = (vec![0; requests.len()], 0, Vec::new());
    let mut at_100 = None;
    'arrivals: while requests.iter().any(|request| gpu_milli(request) > 0) {
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.shuffle(&mut random);
        for index in order {
            let request = &requests[index];
            let wanted = gpu_milli(request);
            if asked + wanted > capacity && at_100.is_none() {
                at_100 = Some((allocated, upper_bound_milli(&supply, &tasks.tasks, &arrived)));
            }
            if asked + wanted > end {
                break 'arrivals;
            }
            asked += wanted;
            arrived[index] += 1;
            let before = clock();
            let place = match policy {
                Policy::Fragmentation => cluster.place(request),
                Policy::BestFit => cluster.place_by(request, |candidate| best_fit(request, candidate)),
                Policy::Random => cluster.place_by(request, |_| random.random::<u64>()),
            };
            decisions.push(clock().saturating_sub(before));
            match place {
                Some(_) => allocated += wanted,
                None => failed += 1,
            }
            if decisions.len() % 256 == 0 {
                progress(parts(asked, end));
            }
        }
    }
    let bound = upper_bound_milli(&supply, &tasks.tasks, &arrived);
    let (allocated_at_100, bound_at_100) = at_100.unwrap_or((allocated, bound));
    progress(1.0);
    Outcome {
        seed,
        allocated_pct_at_100: 100.0 * parts(allocated_at_100, capacity),
        allocated_pct_at_end: 100.0 * parts(allocated, capacity),
        bound_pct_at_100: 100.0 * parts(bound_at_100, capacity),
        bound_pct_at_end: 100.0 * parts(bound, capacity),
        num_tasks: decisions.len(),
        num_failed: failed,
        decisions,
    }
}

/// The rest of cores and of GPU, each in parts of the largest node's.
fn best_fit(request: &Request, candidate: &Candidate) -> (u64, u32) {
    const MOST_CPU_MILLI: u64 = 128_000;
    const MOST_GPU_MILLI: u64 = 8_000;
    let cpu = candidate.free_cpu_milli - request.demand.cpu_milli;
    let gpu = candidate.free_gpu_milli - gpu_milli(request);
    (cpu * MOST_GPU_MILLI + gpu * MOST_CPU_MILLI, candidate.left_on_devices_milli)
}

/// The nodes of a file, idle.
#[must_use]
pub fn world(nodes: &Nodes) -> World {
    let node = |(index, row): (usize, &super::NodeRow)| Node {
        // In the order of the file.
        id: NodeId::new(format!("{index:06}")),
        name: format!("{index:06}"),
        labels: [].into(),
        free_cpu_milli: row.cpu_milli,
        free_memory_bytes: u64::MAX,
        devices: (0..row.num_gpus)
            .map(|index| FreeDevice {
                index,
                model: row.model.clone(),
                free_milli: WHOLE_DEVICE,
                free_memory_bytes: u64::MAX,
            })
            .collect(),
        replicas: [].into(),
    };
    World { nodes: nodes.rows.iter().enumerate().map(node).collect() }
}

/// A task of a file as the scheduler sees it.
///
/// # Panics
/// Never: the names that it gives are names.
#[must_use]
pub fn request(task: &Task) -> Request {
    let gpus = match (task.num_gpus, task.gpu_milli) {
        (0, _) => GpuDemand::None,
        (1, milli) if milli < WHOLE_DEVICE => GpuDemand::Share(milli),
        (count, _) => GpuDemand::Whole(count),
    };
    Request {
        // All under one name: who a task belongs to plays no part.
        deployment: FullName {
            pipeline: "tasks".parse().expect("`tasks` is a name"),
            deployment: "task".parse().expect("`task` is a name"),
        },
        num_replicas: 1,
        demand: Demand {
            cpu_milli: task.cpu_milli,
            memory_bytes: 0,
            gpus,
            gpu_memory_bytes: 0,
            accelerators: if gpus == GpuDemand::None { Vec::new() } else { task.models.clone() },
            labels: [].into(),
            max_replicas_per_node: None,
        },
        device: if gpus == GpuDemand::None { Device::Cpu } else { Device::Gpu },
        strategy: Strategy::Pack,
        group: None,
    }
}

fn gpu_milli(request: &Request) -> u64 {
    match request.demand.gpus {
        GpuDemand::None => 0,
        GpuDemand::Share(milli) => milli.into(),
        GpuDemand::Whole(count) => u64::from(count) * u64::from(WHOLE_DEVICE),
    }
}

#[expect(clippy::cast_precision_loss, reason = "capacities are far below 2^52")]
fn parts(amount: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { amount as f64 / of as f64 }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "capacities are far below 2^52, ratios are positive and small"
)]
fn milli(capacity: u64, ratio: f64) -> u64 {
    (capacity as f64 * ratio) as u64
}
