//! `cluster simulate`: the head's decision code on a virtual clock or a recorded workload. Needs no cluster.

mod autoscaling;
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
pub(crate) struct SimulateArgs {
    #[command(subcommand)]
    what: Simulate,
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
    match &args.what {
        Simulate::Autoscaling(args) => autoscaling::run(global, args),
        Simulate::Placement(args) => placement::run(global, args),
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
