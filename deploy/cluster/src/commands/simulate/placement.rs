//! `cluster simulate placement`: reads nodes and tasks, runs the seeds on all cores, prints the means.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use indicatif::{ProgressBar, ProgressStyle};
use millstream_simulate::placement::{Nodes, Outcome, Policy, Setup, Summary, Tasks, simulate};

use super::{read, refused};
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::style;

/// Most seeds in one run.
const MAX_SEEDS: u64 = 10_000;
/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Steps of the progress bar for each seed.
const STEPS: u64 = 1000;

/// Flags of `cluster simulate placement`.
#[derive(Debug, Args)]
pub(crate) struct PlacementArgs {
    /// Nodes: columns `cpu_milli`, `gpu` (devices) and `model`.
    #[arg(long, value_name = "NODES.csv")]
    nodes: PathBuf,
    /// Tasks: columns `cpu_milli`, `num_gpu`, `gpu_milli` and, when there, `gpu_spec` (accepted models: `A|B`).
    #[arg(long, value_name = "TASKS.csv")]
    tasks: PathBuf,
    /// Seeds of the order of arrival: `42`, `42,50` or `42..51`, which includes both ends.
    #[arg(long, value_name = "SEEDS", default_value = "42..51", value_parser = parse_seeds)]
    seeds: Seeds,
    /// Stop when tasks have asked for this many times the cluster's GPUs.
    #[arg(long, value_name = "RATIO", default_value_t = 1.3, value_parser = parse_ratio)]
    ratio: f64,
    /// How places are chosen.
    #[arg(long, value_enum, default_value_t = PolicyName::Fragmentation)]
    policy: PolicyName,
}

#[derive(Debug, Clone)]
struct Seeds(Vec<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PolicyName {
    /// As in production: where the GPU that the tasks cannot use grows least.
    Fragmentation,
    /// The node that is left with least.
    BestFit,
    /// Any that fits.
    Random,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &PlacementArgs) -> Result<(), Failure> {
    let mut faults = Vec::new();
    let nodes = read(&args.nodes, MAX_FILE_BYTES, Nodes::parse, &mut faults)?;
    let tasks = read(&args.tasks, MAX_FILE_BYTES, Tasks::parse, &mut faults)?;
    let (Some(nodes), Some(tasks)) = (nodes, tasks) else { return Err(refused(&faults)) };
    let policy = match args.policy {
        PolicyName::Fragmentation => Policy::Fragmentation,
        PolicyName::BestFit => Policy::BestFit,
        PolicyName::Random => Policy::Random,
    };
    let setup = Setup { nodes: &nodes, tasks: &tasks, policy, ratio: args.ratio };
    let outcomes = run_seeds(&setup, &args.seeds.0);
    let summary = Summary::of(policy, args.ratio, outcomes)
        .ok_or_else(|| Failure::usage("there is no seed; give one: `--seeds 42`"))?;
    Output::of(global).show(&summary, || render(&summary, &setup))
}

/// Runs the seeds, as many at a time as there are cores.
fn run_seeds(setup: &Setup<'_>, seeds: &[u64]) -> Vec<Outcome> {
    let bar = if style::stderr_is_terminal() {
        ProgressBar::new(STEPS * seeds.len() as u64).with_style(
            ProgressStyle::with_template("{spinner:.cyan} placing {bar:40} {percent:>3}%, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        )
    } else {
        ProgressBar::hidden()
    };
    let next = AtomicUsize::new(0);
    let start = millstream_clock::now();
    let work = || {
        let mut done = Vec::new();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut drawn = 0;
            let progress = |part: f64| {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000")]
                let now = (part * 1000.0) as u64;
                bar.inc(now.saturating_sub(drawn));
                drawn = now;
            };
            done.push(simulate(setup, *seed, || millstream_clock::since(start), progress));
        }
        done
    };
    let num_threads = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.len());
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..num_threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    bar.finish_and_clear();
    let place = |outcome: &Outcome| seeds.iter().position(|seed| *seed == outcome.seed);
    outcomes.sort_by_key(place);
    outcomes
}

fn render(summary: &Summary, setup: &Setup<'_>) -> String {
    let num_gpus: u32 = setup.nodes.rows.iter().map(|node| node.num_gpus).sum();
    let head = format!(
        "{} nodes, {num_gpus} GPUs; {} tasks in the list; {} seed{}",
        setup.nodes.rows.len(),
        setup.tasks.tasks.len(),
        summary.seeds.len(),
        if summary.seeds.len() == 1 { "" } else { "s" },
    );
    let mut table = Table::new();
    table.load_style(NOTHING);
    let end = format!("{:.0}% ASKED", 100.0 * summary.ratio);
    table.set_header(["", "100% ASKED", end.as_str()]);
    let percent = |value: f64| format!("{value:.2}%");
    let (at_100, at_end) = (summary.allocated_pct_at_100, summary.allocated_pct_at_end);
    table.add_row(["GPU with work", &style::strong(percent(at_100)), &style::strong(percent(at_end))]);
    let (bound, bound_at_end) = (summary.upper_bound_pct_at_100, summary.upper_bound_pct_at_end);
    table.add_row(["upper bound", &percent(bound), &percent(bound_at_end)]);
    table.add_row([
        "of the bound",
        &percent(100.0 * at_100 / bound),
        &percent(100.0 * at_end / bound_at_end),
    ]);
    format!(
        "{head}\n{table}\ntasks that fitted nowhere: {:.0} of {:.0}\n\
         time per decision: {:.1} µs (median), {:.1} µs (99th percentile)",
        summary.failed_tasks, summary.tasks, summary.decision_us_p50, summary.decision_us_p99
    )
}

fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let help =
        || format!("`{text}` does not name seeds; write `42`, `42,50` or `42..51`, which includes both ends");
    let mut seeds = Vec::new();
    for part in text.split(',') {
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| help());
        let (first, last) = match part.split_once("..") {
            Some((first, last)) => (number(first)?, number(last.trim_start_matches('='))?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(help());
        }
        if last - first >= MAX_SEEDS || seeds.len() as u64 + (last - first) >= MAX_SEEDS {
            return Err(format!("`{text}` names more than {MAX_SEEDS} seeds; take fewer"));
        }
        seeds.extend(first..=last);
    }
    Ok(Seeds(seeds))
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (1.0..=100.0).contains(&ratio) => Ok(ratio),
        _ => Err(format!("`{text}` is not a ratio; set it to a number from 1 to 100, such as 1.3")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_by_table() {
        for (text, seeds) in [("42", vec![42]), ("1,3", vec![1, 3]), ("42..44", vec![42, 43, 44])] {
            assert_eq!(parse_seeds(text).map(|seeds| seeds.0), Ok(seeds), "{text}");
        }
        for bad in ["", "x", "5..3", "1..", "-1", "0..100000"] {
            assert!(parse_seeds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ratios_by_table() {
        assert_eq!(parse_ratio("1.3"), Ok(1.3));
        for bad in ["NaN", "0.5", "-1", "inf", "x"] {
            assert!(parse_ratio(bad).is_err(), "{bad}");
        }
    }
}
