//! `cluster simulate`: the decisions of production on recorded work. Needs no cluster.

mod placement;

use clap::{Args, Subcommand};

use crate::cli::Global;
use crate::exit::Failure;

/// Flags of `cluster simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    #[command(subcommand)]
    what: Simulation,
}

/// What can be simulated.
#[derive(Debug, Subcommand)]
enum Simulation {
    /// How much of a cluster's GPU gets work when tasks arrive in random order until they ask for more than there is.
    Placement(placement::PlacementArgs),
}

/// Runs the command.
pub(crate) fn run(global: &Global, args: &SimulateArgs) -> Result<(), Failure> {
    match &args.what {
        Simulation::Placement(args) => placement::run(global, args),
    }
}
