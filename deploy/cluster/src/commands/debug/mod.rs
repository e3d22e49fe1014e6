//! `cluster debug`: what helps where something is wrong.

mod bundle;
mod from_head;
mod from_store;
mod local;

use clap::{Args, Subcommand};

use crate::exit::Failure;
use crate::global::Global;

/// Flags of `cluster debug`.
#[derive(Debug, Args)]
pub(crate) struct DebugArgs {
    #[command(subcommand)]
    what: Debug,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Debug {
    /// Write status, decisions, the last hour in numbers, traces, files, metrics, logs and versions into one .tar.gz; no
    /// prompts, answers, keys or tokens. What cannot be had, such as from a head that is away, is named in it with the reason.
    Bundle(bundle::BundleArgs),
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: DebugArgs) -> Result<(), Failure> {
    match args.what {
        Debug::Bundle(args) => bundle::run(global, args).await,
    }
}
