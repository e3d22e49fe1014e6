//! How much GPU the scheduler puts to work on recorded production tasks, beside what was published for other policies
//! on the same lists under the same protocol, and how long one decision takes.
//! `cargo run --release -p millstream-tests --bin bench-placement [-- TASKS.csv …]`
//!
//! Further lists of tasks may be given; there are no published figures to print beside them.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, anyhow};
use millstream_core::scheduler::{Request, Strategy, Workload, World, book, place};
use millstream_simulate::CsvFault;
use millstream_simulate::placement::{
    Nodes, Outcome, Policy, Setup, Summary, Tasks, request, simulate, world,
};

/// Seeds of the published means.
const SEEDS: std::ops::RangeInclusive<u64> = 42..=51;
const RATIO: f64 = 1.3;
/// Policies with published means, arrivals at 100% and 130%.
const POLICIES: [&str; 6] =
    ["random", "dot product", "GPU clustering", "GPU packing", "best fit", "frag. gradient descent"];
const PUBLISHED: [(&str, [&str; 6]); 3] = [
    ("default", ["86.30/87.47", "90.62/90.85", "91.65/91.88", "91.78/92.00", "92.86/93.08", "95.23/95.39"]),
    (
        "gpushare40",
        ["84.86/86.00", "89.30/89.56", "89.76/90.02", "89.77/90.03", "91.44/91.69", "93.96/94.15"],
    ),
    (
        "multigpu30",
        ["86.63/89.27", "93.11/93.28", "94.55/94.72", "94.70/94.87", "94.57/94.72", "96.36/96.46"],
    ),
];

fn main() -> Result<()> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/gpu-share");
    let nodes = read(&data.join("openb_node_list_gpu_node.csv"), Nodes::parse)?;
    let mut lists: Vec<(String, PathBuf, Option<[&str; 6]>)> = PUBLISHED
        .iter()
        .map(|(name, means)| {
            ((*name).to_owned(), data.join(format!("openb_pod_list_{name}.csv")), Some(*means))
        })
        .collect();
    lists.extend(env::args().skip(1).map(|path| (path.clone(), path.into(), None)));
    println!("GPU with work in percent, arrivals at 100%/130% of capacity, mean of 10 seeds (42 to 51)\n");
    println!("| list | {} | here: best fit | here | upper bound | µs p50/p99 |", POLICIES.join(" | "));
    println!("| --- |{}", " --- |".repeat(POLICIES.len() + 4));
    for (name, path, published) in &lists {
        let tasks = read(path, Tasks::parse)?;
        let run = |policy| run(&Setup { nodes: &nodes, tasks: &tasks, policy, ratio: RATIO });
        let (ours, best_fit) = (run(Policy::Fragmentation)?, run(Policy::BestFit)?);
        let published =
            published.map_or("– | – | – | – | – | –".to_owned(), |means| means.join(" | "));
        println!(
            "| {name} | {published} | {:.2}/{:.2} | **{:.2}/{:.2}** | {:.2}/{:.2} | {:.1}/{:.1} |",
            best_fit.allocated_pct_at_100,
            best_fit.allocated_pct_at_end,
            ours.allocated_pct_at_100,
            ours.allocated_pct_at_end,
            ours.upper_bound_pct_at_100,
            ours.upper_bound_pct_at_end,
            ours.decision_us_p50,
            ours.decision_us_p99,
        );
    }
    one_replica(&nodes, &read(&lists[0].1, Tasks::parse)?);
    Ok(())
}

fn run(setup: &Setup<'_>) -> Result<Summary> {
    let start = Instant::now();
    let one = |seed| simulate(setup, seed, || start.elapsed(), |_| {});
    let num_threads = thread::available_parallelism().map_or(1, usize::from);
    let seeds: Vec<u64> = SEEDS.collect();
    let outcomes = thread::scope(|scope| -> Result<Vec<Outcome>> {
        let chunks = seeds.chunks(seeds.len().div_ceil(num_threads));
        let threads: Vec<_> = chunks
            .map(|seeds| scope.spawn(move || seeds.iter().map(|seed| one(*seed)).collect::<Vec<_>>()))
            .collect();
        let joined = threads.into_iter().map(|t| t.join().map_err(|_| anyhow!("a run panicked")));
        Ok(joined.collect::<Result<Vec<_>>>()?.concat())
    })?;
    Summary::of(setup.policy, setup.ratio, outcomes).context("no outcome")
}

/// What the reconciler asks: one replica more on a full-size cluster, everything computed from nothing.
fn one_replica(nodes: &Nodes, tasks: &Tasks) {
    let spread = |task| Request { strategy: Strategy::Spread, ..request(task) };
    let requests: Vec<Request> = tasks.tasks.iter().step_by(2).map(spread).collect();
    let workload = Workload::of(requests.iter().map(|request| (&request.demand, request.device, 1)));
    let world = fill(world(nodes), &workload, &requests);
    let mut times = Vec::new();
    let mut num_placed = 0;
    for request in requests.iter().step_by(4) {
        let start = Instant::now();
        let solution = place(&world, &workload, std::slice::from_ref(request));
        times.push(start.elapsed());
        num_placed += solution.placements.len();
    }
    times.sort_unstable();
    let at = |percent: usize| micros(times[(times.len() * percent / 100).min(times.len() - 1)]);
    println!(
        "\none replica on {} nodes / {} GPUs with {} replicas, nothing cached: {:.0} µs median, {:.0} µs p95, {:.0} µs p99 ({num_placed} of {} placed)",
        world.nodes.len(),
        world.nodes.iter().map(|node| node.devices.len()).sum::<usize>(),
        requests.len(),
        at(50),
        at(95),
        at(99),
        times.len(),
    );
}

fn fill(mut world: World, workload: &Workload, requests: &[Request]) -> World {
    let solution = place(&world, workload, requests);
    for placement in solution.placements {
        if let Some(node) = world.nodes.iter_mut().find(|node| node.id == placement.node) {
            book(node, &requests[placement.request], &placement.gpus);
        }
    }
    world
}

fn read<T>(path: &Path, parse: impl Fn(&str, &str) -> Result<T, Vec<CsvFault>>) -> Result<T> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{name}`"))?;
    parse(&name, &text).map_err(|faults| anyhow!(faults.iter().map(|f| format!("{f}\n")).collect::<String>()))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
