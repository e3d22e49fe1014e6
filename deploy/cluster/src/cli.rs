//! The command line: every command with its arguments, which are declared beside what they do.

use clap::{Parser, Subcommand};

use crate::commands::bench::BenchArgs;
use crate::commands::completions::CompletionsArgs;
use crate::commands::debug::DebugArgs;
use crate::commands::defrag::DefragArgs;
use crate::commands::delete::DeleteArgs;
use crate::commands::deploy::DeployArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::down::DownArgs;
use crate::commands::explain::ExplainArgs;
use crate::commands::get::GetArgs;
use crate::commands::head::HeadArgs;
use crate::commands::key::KeyArgs;
use crate::commands::node::NodeArgs;
use crate::commands::replay::ReplayArgs;
use crate::commands::rollout::RolloutArgs;
use crate::commands::scale::ScaleArgs;
use crate::commands::simulate::SimulateArgs;
use crate::commands::state::StateArgs;
use crate::commands::status::StatusArgs;
use crate::commands::token::TokenArgs;
use crate::commands::top::TopArgs;
use crate::commands::trace::TraceArgs;
use crate::commands::usage::UsageArgs;
use crate::commands::validate::ValidateArgs;
use crate::exit;
use crate::global::Global;
use crate::up::args::UpArgs;

mod examples;
#[cfg(test)]
mod reference;
pub(crate) mod refused;

/// Serves pipelines of models on a cluster: one TOML file in, HTTP calls out.
#[derive(Debug, Parser)]
#[command(name = "cluster", version, max_term_width = 110, after_help = exit::help())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring up a cluster on this machine, or join one with --join; deploys the files given, else the bundled example.
    #[command(after_help = examples::UP)]
    Up(Box<UpArgs>),
    /// Drain and stop the whole cluster.
    Down(DownArgs),
    /// Deploy pipeline files and wait until they are ready.
    #[command(after_help = examples::DEPLOY)]
    Deploy(DeployArgs),
    /// Check pipeline files; needs no cluster, and asks one about other pipelines' deployments when it is in reach.
    Validate(ValidateArgs),
    /// Print a pipeline's file as it was deployed.
    Get(GetArgs),
    /// Show what of pipeline files is other than what is deployed, and what deploying them would do.
    Diff(DiffArgs),
    /// Remove pipelines; `rollout undo` brings one back within an hour.
    Delete(DeleteArgs),
    /// Show pipelines, replicas and nodes, or one of them.
    #[command(visible_aliases = ["list", "ps", "describe"])]
    Status(StatusArgs),
    /// Watch deployments live on a terminal: load, replicas, GPU shares and decisions; with --json a line each second.
    #[command(after_help = examples::TOP)]
    Top(TopArgs),
    /// Write what people asked for to a file, or put such a file into an empty store: backups, and the way to etcd.
    State(StateArgs),
    /// List the heads, and let another one lead.
    Head(HeadArgs),
    /// List the nodes, and remove those that are gone for good.
    Node(NodeArgs),
    /// See, promote, abort or undo how a new revision takes over.
    #[command(after_help = examples::ROLLOUT)]
    Rollout(RolloutArgs),
    /// Show every scaling, placement and rollout decision, with the figures that led to it.
    Explain(ExplainArgs),
    /// Show where the time of a request went: those that failed or were slow, and some others.
    Trace(TraceArgs),
    /// Set how many replicas a deployment has, or between which numbers it scales, in place of its file.
    Scale(ScaleArgs),
    /// Make, list, change and delete API keys, with limits for the requests and tokens of each, and what it may call.
    Key(KeyArgs),
    /// Show what API keys have used: requests and tokens by key, model and hour.
    #[command(after_help = examples::USAGE)]
    Usage(UsageArgs),
    /// Make, list and delete tokens that open the dashboard for reading.
    Token(TokenArgs),
    /// Show which moves of replicas would make whole GPUs free.
    #[command(hide = true)] // until moves can be made too
    Defrag(DefragArgs),
    /// Ask the decision code what would happen, on a virtual clock, a recorded workload or a debug bundle; needs no cluster.
    #[command(after_help = examples::SIMULATE)]
    Simulate(SimulateArgs),
    /// Collect what is known of a cluster in one file, to look at later or to send to somebody.
    #[command(after_help = examples::DEBUG)]
    Debug(DebugArgs),
    /// Send HTTP requests at a rate and measure how long the answers take. Works with any HTTP server.
    #[command(after_help = examples::BENCH)]
    Bench(BenchArgs),
    /// Send captured requests to a revision and compare its answers with those of then.
    #[command(after_help = examples::REPLAY)]
    Replay(Box<ReplayArgs>),
    /// Print a completion script for a shell.
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
