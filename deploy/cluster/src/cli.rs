//! What can be typed: commands, flags and their help.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use millstream_worker::Environment;

use crate::commands::bench::BenchArgs;
use crate::commands::defrag::DefragArgs;
use crate::exit;

#[cfg(test)]
mod reference;

/// Serves pipelines of models on a cluster: one TOML file in, HTTP calls out.
#[derive(Debug, Parser)]
#[command(name = "cluster", version, max_term_width = 110, after_help = exit::help())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print JSON on stdout instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The cluster's control address; without it the one in the data directory, else 127.0.0.1:7400.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) cluster: Option<String>,
    /// Folder for the store, models, tokens and endpoints.json [default: ~/.local/share/millstream].
    #[arg(long, global = true, value_name = "DIR", env = "MILLSTREAM_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// File that holds the admin token; without it `admin.token` in the data directory.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// What to log on stderr, such as `info` or `warn,millstream_head=debug`.
    #[arg(long, global = true, value_name = "FILTER", env = "MILLSTREAM_LOG", default_value = "warn")]
    pub(crate) log: String,
    /// How to log.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
    /// The environment as `main` found it, for settings that have no flag.
    #[arg(skip)]
    pub(crate) environment: Environment,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring up a cluster on this machine, or join one with --join; deploys the files given, else the bundled example.
    Up(Box<UpArgs>),
    /// Drain and stop the whole cluster.
    Down(DownArgs),
    /// Deploy pipeline files and wait until they are ready.
    Deploy(DeployArgs),
    /// Check pipeline files; needs no cluster, and asks one about other pipelines' deployments when it is in reach.
    Validate(ValidateArgs),
    /// Remove pipelines.
    Delete(DeleteArgs),
    /// Show nodes, pipelines and replicas.
    Status(StatusArgs),
    /// See, promote, abort or undo how a new revision takes over.
    Rollout(RolloutArgs),
    /// Show every scaling, placement and rollout decision, with the figures that led to it.
    Explain(ExplainArgs),
    /// Set how many replicas a deployment has, or between which numbers it scales, in place of its file.
    Scale(ScaleArgs),
    /// Make, list, change and delete API keys, with limits for the requests of each.
    Key(KeyArgs),
    /// Show which moves of replicas would make whole GPUs free.
    Defrag(DefragArgs),
    /// Ask the decision code what would happen, on a virtual clock or a recorded workload; needs no cluster.
    Simulate(SimulateArgs),
    /// Send HTTP requests at a rate and measure how long the answers take. Works with any HTTP server.
    Bench(BenchArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// A part that a process may play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// The control plane.
    Head,
    /// Runs replicas.
    Worker,
    /// Takes HTTP requests.
    Ingress,
}

/// Flags of `cluster up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Pipeline files to deploy.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Join the cluster whose head has this control address.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) join: Option<String>,
    /// Parts to play [default: head,worker,ingress; with --join: worker].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROLES")]
    pub(crate) roles: Vec<Role>,
    /// HTTP address for requests; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub(crate) ingress: SocketAddr,
    /// gRPC address of the head.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub(crate) control: SocketAddr,
    /// HTTP address of the dashboard and REST.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8265")]
    pub(crate) dashboard: SocketAddr,
    /// HTTP address of this process's /metrics; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) admin: SocketAddr,
    /// gRPC address for replica traffic.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) worker: SocketAddr,
    /// Name of this node, unique in the cluster [default: the host name; with --join the host name and the process id].
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Labels that deployments can ask for.
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Declare this many GPUs instead of asking the driver; 0 hides those there are.
    #[arg(long, value_name = "N")]
    pub(crate) gpus: Option<u32>,
    /// Memory of each declared GPU.
    #[arg(long, value_name = "SIZE", default_value = "80GiB", requires = "gpus")]
    pub(crate) gpu_memory: ByteSize,
    /// Model name of the declared GPUs.
    #[arg(long, value_name = "NAME", default_value = "declared", requires = "gpus")]
    pub(crate) gpu_model: String,
    /// ONNX Runtime's library; without it the usual places are searched.
    #[arg(long, value_name = "FILE", env = "ORT_DYLIB_PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// How long requests under way may take when the process stops.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) drain_timeout: Duration,
    /// Refuse requests without an API key (`cluster key create`) at this process's ingress.
    #[arg(long)]
    pub(crate) require_api_key: bool,
    /// Accept listeners on addresses that other machines reach, without TLS and keys: everybody who reaches them can
    /// call your models and join the cluster.
    #[arg(long)]
    pub(crate) insecure: bool,
}

impl UpArgs {
    /// The labels as a map; the last of equal keys counts.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }

    /// The parts to play.
    pub(crate) fn roles(&self) -> Vec<Role> {
        match (&self.roles[..], &self.join) {
            ([], None) => vec![Role::Head, Role::Worker, Role::Ingress],
            ([], Some(_)) => vec![Role::Worker],
            (roles, _) => roles.to_vec(),
        }
    }
}

/// Flags of `cluster down`.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// How long requests under way may take.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) drain_timeout: Duration,
}

/// Flags of `cluster deploy`.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// Pipeline files.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Return once the cluster has stored the pipelines, before they are ready.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait until they are ready.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
    /// Give the new revision this part of the requests until `cluster rollout promote` or `abort`.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, conflicts_with = "shadow")]
    pub(crate) canary: Option<u16>,
    /// Give the new revision copies of this part of the requests, whose answers nobody sees but which are compared,
    /// until `cluster rollout promote` or `abort`; of all requests when no percentage is given.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, num_args = 0..=1, default_missing_value = "100%")]
    pub(crate) shadow: Option<u16>,
    /// Print what would start, stop and change, and change nothing.
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) dry_run: bool,
}

/// Flags of `cluster rollout`.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: RolloutAction,
}

/// What can be done with rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutAction {
    /// Show how revisions take over, and why others do not serve.
    Status {
        /// The pipeline; all of them without it.
        #[arg(value_name = "PIPELINE")]
        name: Option<String>,
        /// Show it again at each change, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Let the canary or shadow take over.
    Promote {
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
    },
    /// Take back the revision that takes over; the one before serves on.
    Abort {
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
    },
    /// Go back to the revision before, or to the one given.
    Undo {
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
        /// The revision to go back to.
        #[arg(long, value_name = "REVISION")]
        to: Option<u64>,
    },
}

/// Flags of `cluster explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A deployment (`rag/embedder`) or a pipeline (`rag`); everything without it.
    #[arg(value_name = "TARGET", default_value = "")]
    pub(crate) target: String,
    /// Only what was decided since then.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) since: Option<Duration>,
}

/// Flags of `cluster validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Pipeline files.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// Flags of `cluster delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Names of pipelines.
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
}

/// Flags of `cluster status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show it again at each change, until Ctrl-C.
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Flags of `cluster scale`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct ScaleArgs {
    /// The deployment.
    #[arg(value_name = "PIPELINE/DEPLOYMENT")]
    pub(crate) deployment: String,
    /// Exactly this many replicas: the same as --min N --max N.
    #[arg(long, value_name = "N", group = "what", conflicts_with_all = ["min", "max", "reset"])]
    pub(crate) replicas: Option<u32>,
    /// Fewest replicas; 0 lets it idle to none.
    #[arg(long, value_name = "N", group = "what")]
    pub(crate) min: Option<u32>,
    /// Most replicas.
    #[arg(long, value_name = "N", group = "what")]
    pub(crate) max: Option<u32>,
    /// Go back to what the file says.
    #[arg(long, group = "what", conflicts_with_all = ["min", "max"])]
    pub(crate) reset: bool,
}

/// Flags of `cluster key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: KeyAction,
}

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyAction {
    /// Make a key and print its secret, which nobody can show again.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        limits: KeyLimits,
    },
    /// Show the keys and their limits.
    List,
    /// Change a key's limits in place; those that are not given stay as they are.
    Set {
        /// Its name.
        name: String,
        #[command(flatten)]
        limits: KeyLimits,
    },
    /// Delete a key: its secret is refused from then on.
    Delete {
        /// Its name.
        name: String,
    },
}

/// Limits of an API key. They are texts here, so that all that is wrong with them is told at once.
#[derive(Debug, Args)]
pub(crate) struct KeyLimits {
    /// Requests a second in the whole cluster, or `none` for no limit [default: none for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) rate: Option<String>,
    /// Requests that may come at once, or `none` for those of a second [default: none for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) burst: Option<String>,
    /// Requests under way at a time in the whole cluster, or `none` for no limit [default: none for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) concurrency: Option<String>,
    /// The key's share beside others where requests wait, 1 to 1000 [default: 1 for a new key].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) weight: Option<String>,
    /// The highest priority that its requests may have: high, normal or low [default: normal for a new key].
    #[arg(long, value_name = "PRIORITY")]
    pub(crate) priority: Option<String>,
}

/// Flags of `cluster simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    #[command(subcommand)]
    pub(crate) what: Simulate,
}

/// What can be simulated.
#[derive(Debug, Subcommand)]
pub(crate) enum Simulate {
    /// Replay a trace of requests against the autoscaler: what it costs, how long requests wait.
    Autoscaling(crate::commands::simulate::autoscaling::AutoscalingArgs),
    /// How much of a cluster's GPU gets work when tasks arrive in random order until they ask for more than there is.
    Placement(crate::commands::simulate::placement::PlacementArgs),
}

/// Thousandths out of `10%` or `0.5%`.
fn parse_percent(text: &str) -> Result<u16, String> {
    let help = || format!("`{text}` is no part of the requests; write 0.1% to 100%, such as 10%");
    let number = text.strip_suffix('%').ok_or_else(help)?;
    let percent: f64 = number.trim().parse().map_err(|_| help())?;
    let permille = (percent * 10.0).round();
    if !(1.0..=1000.0).contains(&permille) {
        return Err(help());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 to 1000")]
    let permille = permille as u16;
    Ok(permille)
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not a label; write it as key=value")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn joining_means_worker_unless_said_otherwise() {
        let roles = |line: &[&str]| match Cli::try_parse_from(line).unwrap().command {
            Command::Up(args) => args.roles(),
            other => panic!("{other:?}"),
        };
        assert_eq!(roles(&["cluster", "up"]), [Role::Head, Role::Worker, Role::Ingress]);
        assert_eq!(roles(&["cluster", "up", "--join", "a:1"]), [Role::Worker]);
        assert_eq!(
            roles(&["cluster", "up", "--join", "a:1", "--roles", "ingress,worker"]),
            [Role::Ingress, Role::Worker]
        );
    }

    #[test]
    fn parts_of_the_requests_are_percents() {
        assert_eq!(
            ["10%", "0.1%", "33.3 %", "100%"].map(|text| parse_percent(text).unwrap()),
            [100, 1, 333, 1000]
        );
        for text in ["10", "0%", "100.1%", "-5%", "NaN%", "inf%", "%", ""] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_need_a_key() {
        assert_eq!(parse_label("zone=a").unwrap(), ("zone".to_owned(), "a".to_owned()));
        assert!(parse_label("zone").is_err());
        assert!(parse_label("=a").is_err());
    }
}
