//! The `cluster` command: parses, calls, prints. It decides nothing; it is the only place that knows head, worker and
//! ingress together.
//!
//! It is a library so that tests can read the command line: the reference in `docs/cli.md` is made from it, and the
//! commands in the documentation are checked against it. `main.rs` reads the environment and calls [`run`].
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod bundled;
mod cli;
mod client;
mod commands;
mod data_dir;
mod debug_bundle;
#[cfg(test)]
mod docs;
mod exit;
mod global;
mod input;
mod join_token;
mod local_time;
mod logging;
mod output;
mod pipeline_file;
mod progress;
mod random;
mod secret;
mod served;
mod style;
mod table;
mod token;
mod up;
mod words;

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};
pub use millstream_worker::Environment;

use crate::cli::{Cli, Command};
use crate::logging::AccessLog;
use crate::output::Output;

/// The command line: subcommands, flags and their help.
#[must_use]
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments of this process name, to its end.
#[must_use]
pub fn run(environment: Environment) -> ExitCode {
    if environment.contains_key(commands::completions::VARIABLE)
        && commands::completions::answer(command_line, std::env::args_os().collect())
    {
        return ExitCode::SUCCESS;
    }
    let parsed = Cli::command().try_get_matches();
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (mut cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error),
    };
    // What somebody types counts more than what stands in the environment.
    if is_given(&matches, "data_dir") && !is_given(&matches, "cluster") {
        cli.global.cluster = None;
    }
    cli.global.environment = environment;
    let output = Output::of(&cli.global);
    match run_command(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.report(failure),
    }
}

/// Whether a flag of every command is on the command line.
fn is_given(matches: &ArgMatches, flag: &str) -> bool {
    let of_command = matches.subcommand().is_some_and(|(_, matches)| is_given(matches, flag));
    let source = matches.try_contains_id(flag).is_ok_and(|known| known).then(|| matches.value_source(flag));
    of_command || source.flatten() == Some(ValueSource::CommandLine)
}

/// Answers a command line that cannot be read, in the form that it seems to ask for.
fn refuse(error: &clap::Error) -> ExitCode {
    let Some(failure) = cli::refused::failure(error) else { error.exit() };
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if wants_json { Output::Json.report(failure) } else { Output::Text.report(failure) }
}

fn run_command(cli: Cli) -> Result<(), exit::Failure> {
    style::choose(cli.global.color);
    let access_log = match &cli.command {
        Command::Up(args) if args.edge.access_log => AccessLog::On,
        _ => AccessLog::Off,
    };
    logging::start(&cli.global, access_log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("cluster")
        .build()
        .map_err(|error| exit::Failure::failed(format!("cannot start the async runtime: {error}")))?;
    let global = cli.global;
    let outcome = runtime.block_on(async move {
        match cli.command {
            // Once a process: its kilobytes are worth no place in the others' futures.
            Command::Up(args) => Box::pin(up::run(&global, args)).await,
            Command::Down(args) => commands::down::run(&global, &args).await,
            Command::Deploy(args) => commands::deploy::run(&global, &args).await,
            Command::Validate(args) => commands::validate::run(&global, &args).await,
            Command::Get(args) => commands::get::run(&global, &args).await,
            Command::Diff(args) => commands::diff::run(&global, &args).await,
            Command::Delete(args) => commands::delete::run(&global, &args).await,
            Command::State(args) => commands::state::run(&global, &args).await,
            Command::Head(args) => commands::head::run(&global, &args).await,
            Command::Node(args) => commands::node::run(&global, &args).await,
            Command::Status(args) => commands::status::run(&global, &args).await,
            Command::Top(args) => commands::top::run(&global, &args).await,
            Command::Rollout(args) => commands::rollout::run(&global, &args).await,
            Command::Explain(args) => commands::explain::run(&global, &args).await,
            Command::Scale(args) => commands::scale::run(&global, &args).await,
            Command::Key(args) => commands::key::run(&global, args).await,
            Command::Usage(args) => commands::usage::run(&global, &args).await,
            Command::Trace(args) => commands::trace::run(&global, args).await,
            Command::Token(args) => commands::token::run(&global, args).await,
            Command::Defrag(args) => commands::defrag::run(&global, &args).await,
            Command::Simulate(args) => commands::simulate::run(&global, &args),
            Command::Debug(args) => commands::debug::run(&global, args).await,
            Command::Bench(args) => commands::bench::run(&global, &args).await,
            Command::Replay(args) => commands::replay::run(&global, &args).await,
            Command::Completions(args) => commands::completions::run(&global, &args),
        }
    });
    // An engine thread that is still inside a model must not hold the process up.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    outcome
}
