//! `cluster simulate`: the head's decision code on a virtual clock or a recorded workload. Needs no cluster.

pub(crate) mod autoscaling;
pub(crate) mod placement;

use crate::cli::{Global, Simulate};
use crate::exit::Failure;

/// Runs the command.
pub(crate) fn run(global: &Global, what: &Simulate) -> Result<(), Failure> {
    match what {
        Simulate::Autoscaling(args) => autoscaling::run(global, args),
        Simulate::Placement(args) => placement::run(global, args),
    }
}
