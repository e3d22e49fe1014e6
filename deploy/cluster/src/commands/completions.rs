//! `cluster completions`, and what the script that it prints asks at each key press: `COMPLETE=bash cluster -- WORD…`.
//! So names of pipelines, deployments, nodes and keys are those of the cluster that is up.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Args, FromArgMatches as _};
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate, PathCompleter, ValueCompleter as _};
use clap_complete::env::{CompleteEnv, Shells};

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;

/// The variable by which a shell's script asks.
pub(crate) const VARIABLE: &str = "COMPLETE";
/// Whoever presses a key waits no longer than this for names.
const PATIENCE: Duration = Duration::from_millis(500);

/// Flags of `cluster completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

/// Prints a completion script for this command.
pub(crate) fn run(global: &Global, args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    let shell = args.shell.to_string();
    let shells = Shells::builtins();
    let written = shells
        .completer(&shell)
        .ok_or_else(|| Failure::failed(format!("there are no completions for {shell}")))?
        .write_registration(VARIABLE, "cluster", "cluster", "cluster", &mut script);
    written.map_err(|error| Failure::failed(format!("the script cannot be written: {error}")))?;
    Output::of(global).text(&String::from_utf8_lossy(&script))
}

/// Answers a shell's script; false when none asks.
pub(crate) fn answer(command_line: fn() -> clap::Command, words: Vec<OsString>) -> bool {
    // The words follow `--`, the command's name first.
    let typed: Vec<_> = words.iter().skip_while(|word| *word != "--").skip(1).cloned().collect();
    let global = global_of(command_line(), typed);
    let command = move || with_names(command_line(), &global);
    let folder = std::env::current_dir().ok();
    CompleteEnv::with_factory(command).var(VARIABLE).try_complete(words, folder.as_deref()).unwrap_or(true)
}

/// The flags of every command, as far as they have been typed or stand in the environment.
fn global_of(command_line: clap::Command, typed: Vec<OsString>) -> Option<Global> {
    let matches = command_line.ignore_errors(true).try_get_matches_from(typed).ok()?;
    let of_command = matches.subcommand().map(|(_, matches)| matches);
    Global::from_arg_matches(of_command.unwrap_or(&matches)).ok()
}

/// What the word that is completed names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Pipeline,
    Deployment,
    Node,
    Anything,
    Key,
    Token,
}

impl Named {
    /// What an argument with that name names.
    fn by(command: &str, argument: &str) -> Option<Self> {
        match (command, argument) {
            (_, "PIPELINE" | "PIPELINE[@REVISION]") => Some(Self::Pipeline),
            (_, "PIPELINE/DEPLOYMENT") => Some(Self::Deployment),
            (_, "NODE") => Some(Self::Node),
            ("status", "NAME") | ("explain", "TARGET") => Some(Self::Anything),
            (_, "KEY") => Some(Self::Key),
            (_, "TOKEN") => Some(Self::Token),
            _ => None,
        }
    }
}

/// The command with completers for all arguments that name something of the cluster, and for files.
fn with_names(command: clap::Command, global: &Option<Global>) -> clap::Command {
    let name = command.get_name().to_owned();
    let command = command.mut_args(|argument| {
        let value = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        match value.as_deref() {
            Some("FILE" | "CAPTURE" | "BUNDLE") => {
                argument.add(clap_complete::ArgValueCompleter::new(|current: &OsStr| {
                    PathCompleter::file().stdio().complete(current)
                }))
            }
            Some(value) => match Named::by(&name, value) {
                Some(named) => {
                    let global = global.clone();
                    argument.add(ArgValueCandidates::new(move || names(global.as_ref(), named)))
                }
                None => argument,
            },
            None => argument,
        }
    });
    command.mut_subcommands(|command| with_names(command, global))
}

/// The names there are; none when no cluster answers in time: a key press is no place for an error.
fn names(global: Option<&Global>, named: Named) -> Vec<CompletionCandidate> {
    let Some(global) = global else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let asked = async { tokio::time::timeout(PATIENCE, ask(global, named)).await };
    let found = runtime.block_on(asked).ok().and_then(Result::ok).unwrap_or_default();
    found.into_iter().map(CompletionCandidate::new).collect()
}

async fn ask(global: &Global, named: Named) -> Result<Vec<String>, Failure> {
    let mut client = Client::connect(global).await?;
    match named {
        Named::Key => return Ok(client.keys().await?.into_iter().map(|key| key.name).collect()),
        Named::Token => return Ok(client.tokens().await?.into_iter().map(|token| token.name).collect()),
        _ => {}
    }
    let status = client.status().await?;
    let pipelines = status.pipelines.iter();
    let deployments = pipelines.clone().flat_map(|pipeline| &pipeline.deployments);
    let pipelines = pipelines.map(|pipeline| pipeline.name.clone());
    let deployments = deployments.map(|deployment| deployment.full_name.clone());
    let nodes = status.nodes.iter().map(|node| node.name.clone());
    Ok(match named {
        Named::Pipeline => pipelines.collect(),
        Named::Deployment => deployments.collect(),
        Named::Node => nodes.collect(),
        Named::Anything => pipelines.chain(deployments).chain(nodes).collect(),
        Named::Key | Named::Token => Vec::new(),
    })
}
