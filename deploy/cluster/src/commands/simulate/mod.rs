//! `cluster simulate`: the head's decision code on a virtual clock or a recorded workload. Needs no cluster.

mod autoscaling;
mod placement;

use clap::{Args, Subcommand};

use crate::exit::Failure;
use crate::global::Global;

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
