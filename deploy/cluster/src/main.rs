//! The `cluster` command: parses, calls, prints. It decides nothing; it is the only place that knows head, worker and
//! ingress together, and the only one that reads the environment.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]
#![expect(clippy::print_stdout, reason = "a command prints")]

mod bundled;
mod cli;
mod client;
mod clock;
mod commands;
mod data_dir;
mod exit;
mod logging;
mod progress;
mod random;
mod style;
mod up;

use std::process::ExitCode;

use clap::Parser as _;
use millstream_worker::Environment;

use crate::cli::{Cli, Command};

/// A call is made on one thread and ends on another, thousands of times a second.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    cli.global.environment = environment();
    let outcome = match &cli.command {
        Command::Completions { shell } => {
            commands::completions(*shell);
            Ok(())
        }
        _ => run(cli),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The variables of the environment. One whose name is not UTF-8 is left out: nothing here asks for it.
#[expect(clippy::disallowed_methods, reason = "read here once, and passed on")]
fn environment() -> Environment {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
}

/// Runs a command that needs the async runtime.
fn run(cli: Cli) -> Result<(), exit::Failure> {
    style::choose(cli.global.color);
    logging::start(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("cluster")
        .build()
        .map_err(|error| exit::Failure::failed(format!("cannot start the async runtime: {error}")))?;
    let global = cli.global;
    let outcome = runtime.block_on(async move {
        match cli.command {
            Command::Up(args) => up::run(&global, args).await,
            Command::Down(args) => commands::down::run(&global, &args).await,
            Command::Deploy(args) => commands::deploy::run(&global, &args).await,
            Command::Validate(args) => commands::validate::run(&global, &args).await,
            Command::Delete(args) => commands::delete::run(&global, &args).await,
            Command::Status(args) => commands::status::run(&global, &args).await,
            Command::Rollout(args) => commands::rollout::run(&global, &args).await,
            Command::Explain(args) => commands::explain::run(&global, &args).await,
            Command::Scale(args) => commands::scale::run(&global, &args).await,
            Command::Key(args) => commands::key::run(&global, args.action).await,
            Command::Defrag(args) => commands::defrag::run(&global, &args).await,
            Command::Simulate(args) => commands::simulate::run(&global, &args.what),
            Command::Bench(args) => commands::bench::run(&global, &args).await,
            Command::Completions { .. } => Ok(()),
        }
    });
    // An engine thread that is still inside a model must not hold the process up.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    outcome
}
