//! `cluster simulate`: the head's decision code on a virtual clock, a recorded workload or a debug bundle. Needs no cluster.

mod autoscaling;
mod from_bundle;
mod placement;

use std::path::Path;

use clap::{Args, Subcommand};
use millstream_simulate::CsvFault;
use serde_json::json;

use crate::exit::Failure;
use crate::global::Global;
use crate::input;

/// Flags of `cluster simulate`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(crate) struct SimulateArgs {
    #[command(subcommand)]
    what: Option<Simulate>,
    #[command(flatten)]
    from: Option<from_bundle::FromArgs>,
}

/// What can be simulated.
#[derive(Debug, Subcommand)]
pub(crate) enum Simulate {
    /// Replay a trace of requests against the autoscaler: what it costs, how long requests wait.
    Autoscaling(autoscaling::AutoscalingArgs),
    /// How much of a cluster's GPU gets work when tasks arrive in random order until they ask for more than there is.
    Placement(placement::PlacementArgs),
}

/// Runs the command.
pub(crate) fn run(global: &Global, args: &SimulateArgs) -> Result<(), Failure> {
    match (&args.what, &args.from) {
        (Some(Simulate::Autoscaling(args)), _) => autoscaling::run(global, args),
        (Some(Simulate::Placement(args)), _) => placement::run(global, args),
        (None, Some(from)) => from_bundle::run(global, from),
        (None, None) => {
            Err(Failure::usage("name what to simulate: `--from BUNDLE`, `autoscaling` or `placement`"))
        }
    }
}

/// Reads a CSV file of at most `max_bytes`. What is wrong with its contents goes to `faults`, and there is no value then.
fn read<T>(
    path: &Path,
    max_bytes: u64,
    parse: impl Fn(&str, &str) -> Result<T, Vec<CsvFault>>,
    faults: &mut Vec<CsvFault>,
) -> Result<Option<T>, Failure> {
    let name = path.display().to_string();
    let text = input::read_text("file", path, max_bytes)?;
    match parse(&name, &text) {
        Ok(value) => Ok(Some(value)),
        Err(found) => {
            faults.extend(found);
            Ok(None)
        }
    }
}

/// Says all faults of the files.
fn refused(faults: &[CsvFault]) -> Failure {
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    Failure::invalid(lines.join("\n")).with("faults", json!(faults))
}
