//! Seeds of the simulated cluster. `MILLSTREAM_SIM_SEED=123` runs one and prints all that happens;
//! `MILLSTREAM_SIM_SEEDS=5000` says how many.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use millstream_simulation::{Mutation, Report, Violation, run, shrink, traced};

/// Seeds that are run when nobody says how many.
const NUM_SEEDS: u64 = 300;
/// Seeds that fail before the rest is left out.
const MAX_FAILED: usize = 20;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{variable}={text}` is not a number; give it one")))
}

/// What many seeds came to.
#[derive(Default)]
struct Summary {
    report: Report,
    failed: BTreeMap<u64, Violation>,
}

/// Runs seeds on all cores, until so many have failed that more would tell nothing new.
fn run_all(seeds: u64) -> Summary {
    let next = AtomicU64::new(0);
    let summary = Mutex::new(Summary::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || summary.lock().unwrap().failed.len() >= MAX_FAILED {
                return;
            }
            let result = run(seed, Mutation::None);
            let mut summary = summary.lock().unwrap();
            match result {
                Ok(report) => {
                    summary.report.num_answered += report.num_answered;
                    summary.report.num_failed += report.num_failed;
                }
                Err(violation) => drop(summary.failed.insert(seed, violation)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    summary.into_inner().unwrap()
}

#[test]
fn every_rule_holds_under_every_seed() {
    if let Some(seed) = number("MILLSTREAM_SIM_SEED") {
        let (result, lines) = traced(seed, Mutation::None);
        lines.iter().for_each(|line| println!("{line}"));
        if let Err(violation) = result {
            panic!("{}", shrink(seed, Mutation::None, violation));
        }
        return;
    }
    let seeds = number("MILLSTREAM_SIM_SEEDS").unwrap_or(NUM_SEEDS);
    let began = Instant::now();
    let Summary { report, failed } = run_all(seeds);
    let took = began.elapsed().as_secs_f64();
    for (seed, violation) in &failed {
        println!("seed {seed}: {violation}");
    }
    if let Some((seed, violation)) = failed.into_iter().next() {
        panic!("{}", shrink(seed, Mutation::None, violation));
    }
    let Report { num_answered, num_failed } = report;
    println!("{seeds} seeds in {took:.1} s; {num_answered} requests answered, {num_failed} failed by faults");
}
