//! `cluster completions`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;

/// Flags of `cluster completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

/// Prints a completion script for this command line.
pub(crate) fn run(global: &Global, args: &CompletionsArgs, mut cli: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "cluster", &mut script);
    Output::of(global).text(&String::from_utf8_lossy(&script))
}
