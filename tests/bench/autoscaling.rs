//! `cargo run --release -p millstream-tests --bin bench-autoscaling`: replays an hour of production traffic with our
//! default delays and with a peer's, and prints what each costs and how long requests waited.
//!
//! Headroom is what a quick reaction saves besides: the third row of each combination is ours with a target higher by a
//! quarter.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use millstream_pipelines::Autoscaling;
use millstream_simulate::autoscaling::{Job, Outcome, Policy, Settings, Trace, jobs, run};

const SERVICE_TIME: &str = "0.05 + 0.0002*prompt + 0.02*generated";
/// How much higher a target may be when more replicas come within a second of need, not within a minute.
const LESS_HEADROOM: f64 = 1.25;
/// Target, bounds, start time in seconds, calls at a time in a replica.
const COMBINATIONS: [(f64, (u32, u32), u64, u32); 12] = [
    (2.0, (1, 40), 5, 8),
    (3.0, (1, 40), 5, 8),
    (4.0, (1, 40), 5, 8),
    (5.0, (1, 40), 5, 8),
    (6.0, (1, 40), 5, 8),
    (7.0, (1, 40), 5, 8),
    (6.0, (1, 8), 5, 8),
    (6.0, (4, 40), 5, 8),
    (4.0, (1, 40), 30, 8),
    (6.0, (1, 40), 30, 8),
    (2.0, (0, 100), 1, 4),
    (12.0, (1, 40), 5, 16),
];

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/llm-trace/conv.csv");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let trace = Trace::parse("conv.csv", &text).map_err(|faults| anyhow!("{}", faults[0]))?;
    let jobs = jobs(&trace, SERVICE_TIME)?;
    println!("{} requests, service time {SERVICE_TIME} s, default delays of each policy", jobs.len());
    println!(
        "| target | bounds | start | slots | policy | replica-seconds | p50 ms | p95 ms | p99 ms | shed | changes | most |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let start = Instant::now();
    let (mut better, mut better_higher) = (0, 0);
    for (target, (min, max), start_s, slots) in COMBINATIONS {
        let of = |policy, target| simulate(&jobs, policy, target, (min, max), (start_s, slots));
        let higher = target * LESS_HEADROOM;
        let rows = [
            ("ours", target, of(Policy::Ours, target)),
            ("peer", target, of(Policy::Peer, target)),
            ("ours", higher, of(Policy::Ours, higher)),
        ];
        let [(.., ours), (.., peer), (.., higher)] = &rows;
        better += usize::from(is_better(ours, peer));
        better_higher += usize::from(is_better(higher, peer));
        for (name, target, outcome) in &rows {
            let Outcome { wait_p50_ms, wait_p95_ms, wait_p99_ms, shed, scale_events, .. } = *outcome;
            println!(
                "| {target} | {min}–{max} | {start_s} s | {slots} | {name} | {:.0} | {wait_p50_ms:.0} | {wait_p95_ms:.0} | \
                 {wait_p99_ms:.0} | {shed} | {scale_events} | {} |",
                outcome.replica_seconds, outcome.max_replicas_used
            );
        }
    }
    let num = COMBINATIONS.len();
    println!(
        "fewer replica-seconds at equal or better p95 waiting time: {better} of {num} combinations at the same target, \
         {better_higher} of {num} at one higher by a quarter (shed no more either); {:.1} s for all",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Cheaper without making anybody wait longer or turning more away.
fn is_better(ours: &Outcome, peer: &Outcome) -> bool {
    ours.replica_seconds < peer.replica_seconds
        && ours.wait_p95_ms <= peer.wait_p95_ms
        && ours.shed <= peer.shed
}

fn simulate(
    jobs: &[Job],
    policy: Policy,
    target: f64,
    (min_replicas, max_replicas): (u32, u32),
    (start_s, max_ongoing): (u64, u32),
) -> Outcome {
    let target_ongoing_requests = target;
    let autoscaling =
        Autoscaling { min_replicas, max_replicas, target_ongoing_requests, ..Autoscaling::default() };
    run(jobs, &Settings { autoscaling, policy, max_ongoing, start_time: Duration::from_secs(start_s) })
}
