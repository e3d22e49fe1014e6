//! `cluster simulate`: the head's decision code on a virtual clock.

pub(crate) mod autoscaling;

use crate::cli::{Global, Simulate};
use crate::exit::Failure;

/// Runs the command.
pub(crate) fn run(global: &Global, what: &Simulate) -> Result<(), Failure> {
    match what {
        Simulate::Autoscaling(args) => autoscaling::run(global, args),
    }
}
