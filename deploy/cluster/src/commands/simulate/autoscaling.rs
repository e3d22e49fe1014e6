//! `cluster simulate autoscaling`: replays a trace of requests against the autoscaler.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use millstream_pipelines::{Autoscaling, parse_duration};
use millstream_simulate::autoscaling::{self, Outcome, Settings, Trace};

use super::{read, refused};
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;

/// Largest trace that is read.
const MAX_TRACE_BYTES: u64 = 1 << 30;
/// Longest time a replica may take to start.
const MAX_START_TIME: Duration = Duration::from_secs(24 * 3600);

/// Flags of `cluster simulate autoscaling`.
#[derive(Debug, Args)]
pub(crate) struct AutoscalingArgs {
    /// CSV file of requests with the columns TIMESTAMP, ContextTokens and GeneratedTokens.
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// Seconds that a replica works on a request, by its `prompt` and `generated` tokens.
    #[arg(long, value_name = "EXPRESSION", allow_hyphen_values = true)]
    service_time: String,
    /// How long a replica takes to become ready.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    start_time: Duration,
    /// The deployment's `autoscaling`, as in its file: `{ max_replicas = 8 }`, or `auto`.
    #[arg(long, value_name = "TOML", allow_hyphen_values = true)]
    autoscaling: String,
    /// Requests in one replica at a time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_ongoing: u32,
    /// Whose delays: those of --autoscaling, or Ray Serve's defaults (30 s look-back and up, 600 s down, 10 s reports).
    #[arg(long, value_enum, default_value_t = Policy::Ours)]
    policy: Policy,
}

/// Whose delays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// The settings as they are.
    Ours,
    /// Ray Serve's defaults, with the given bounds and target.
    Peer,
}

/// Runs the command.
pub(crate) fn run(global: &Global, args: &AutoscalingArgs) -> Result<(), Failure> {
    if args.start_time > MAX_START_TIME {
        return Err(Failure::usage("--start-time is more than a day; write less, such as 5s"));
    }
    let autoscaling = Autoscaling::from_text("--autoscaling", &args.autoscaling)
        .map_err(|faults| Failure::faults(vec![faults]))?;
    let output = Output::of(global);
    let mut faults = Vec::new();
    let trace = read(&args.trace, MAX_TRACE_BYTES, Trace::parse, &mut faults)?;
    let Some(trace) = trace else { return Err(refused(&faults)) };
    let jobs = autoscaling::jobs(&trace, &args.service_time)
        .map_err(|error| Failure::usage(format!("--service-time: {error}")))?;
    let policy = match args.policy {
        Policy::Ours => autoscaling::Policy::Ours,
        Policy::Peer => autoscaling::Policy::Peer,
    };
    let (max_ongoing, start_time) = (args.max_ongoing, args.start_time);
    let outcome = autoscaling::run(&jobs, &Settings { autoscaling, policy, max_ongoing, start_time });
    output.show(&outcome, || render(&outcome))
}

fn render(outcome: &Outcome) -> String {
    let Outcome { requests, shed, scale_events, max_replicas_used, .. } = *outcome;
    let mean = outcome.replica_seconds / outcome.duration_seconds.max(1e-9);
    format!(
        "requests         {requests} in {:.0} s, {shed} shed\n\
         replica-seconds  {:.0} (mean {mean:.1} replicas, at most {max_replicas_used})\n\
         waiting time     p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms\n\
         scale events     {scale_events}\n",
        outcome.duration_seconds,
        outcome.replica_seconds,
        outcome.wait_p50_ms,
        outcome.wait_p95_ms,
        outcome.wait_p99_ms,
    )
}
