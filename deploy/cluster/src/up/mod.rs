//! `cluster up`: the parts of a cluster in one process, in the order in which they need one another.
//!
//! ```text
//! start   data directory → head → worker → ingress → endpoints.json → deploy → wait until ready
//! stop    ingress finishes its requests → worker its calls → head closes the store
//! ```

mod addresses;
mod admin;
mod banner;
mod parts;
mod process_metrics;
mod signals;
mod telemetry;

use std::time::Duration;

use millstream_head::DataDirLock;
use millstream_proto::v1::DeployResponse;

use crate::cli::{Global, Role, UpArgs};
use crate::client::Client;
use crate::commands::{self, PipelineFile};
use crate::data_dir::{DataDir, Endpoints};
use crate::exit::Failure;
use crate::up::banner::{Outcome, Served};
use crate::up::parts::Parts;
use crate::up::signals::Signals;
use crate::{bundled, progress};

/// How long the pipelines of the command line may take to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs the command: until a signal, or until somebody runs `cluster down`.
pub(crate) async fn run(global: &Global, args: Box<UpArgs>) -> Result<(), Failure> {
    let roles = args.roles();
    check_roles(&args, &roles)?;
    addresses::check(&args, &roles)?;
    let files = commands::read_files(&args.files, global)?;
    let node_name = args.node_name.clone().unwrap_or_else(|| default_node_name(args.join.is_some()));
    let mut data_dir = DataDir::of(global)?;
    if args.join.is_some() && global.data_dir.is_none() {
        data_dir = data_dir.for_joined(&node_name);
    }
    data_dir.create()?;
    let _lock = DataDirLock::acquire(data_dir.path()).map_err(|error| Failure::failed(error.to_string()))?;

    let mut signals = Signals::listen()?;
    let parts = Parts::start(&args, &roles, &node_name, &data_dir, &global.environment).await?;
    let endpoints = parts.endpoints(&node_name);
    data_dir.write_endpoints(&endpoints)?;
    let outcome = tokio::select! {
        outcome = serve(global, &args, &parts, &endpoints, &data_dir, files) => outcome,
        () = signals.stop() => Ok(args.drain_timeout),
    };
    let (drain, outcome) = match outcome {
        Ok(drain) => (drain, Ok(())),
        Err(failure) => (Duration::ZERO, Err(failure)),
    };
    tokio::select! {
        () = parts.drain(drain) => {}
        () = signals.stop() => eprintln!("stopped without waiting for requests under way"),
    }
    data_dir.remove_endpoints();
    outcome
}

/// Deploys, tells what is served, and waits until somebody asks the cluster to stop; gives the time to drain in.
async fn serve(
    global: &Global,
    args: &UpArgs,
    parts: &Parts,
    endpoints: &Endpoints,
    data_dir: &DataDir,
    files: Vec<PipelineFile>,
) -> Result<Duration, Failure> {
    let leading = parts.has_head();
    if leading || !files.is_empty() {
        let token = match &global.token_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| {
                    Failure::failed(format!("cannot read the token file `{}`: {error}", path.display()))
                })?
                .trim()
                .to_owned(),
            None => data_dir.admin_token()?,
        };
        let mut client = Client::connect_to(&endpoints.control, &token).await?;
        banner::listening(global, endpoints, args.join.as_deref());
        let (served, outcome) = deploy(&mut client, files, data_dir).await?;
        banner::ready(global, endpoints, &served, outcome);
    } else {
        banner::listening(global, endpoints, args.join.as_deref());
        progress::while_waiting("waiting for the head", parts.registered()).await;
        banner::ready(global, endpoints, &[], Outcome::Ready);
    }
    Ok(parts.asked_to_stop().await)
}

/// Deploys the files given, else the bundled example on a cluster that has nothing yet; waits until all pipelines of
/// the cluster that can serve do.
async fn deploy(
    client: &mut Client,
    files: Vec<PipelineFile>,
    data_dir: &DataDir,
) -> Result<(Vec<Served>, Outcome), Failure> {
    let stored = client.pipelines().await?;
    let files = if files.is_empty() && stored.is_empty() {
        let (name, text) = bundled::EXAMPLE;
        let file = commands::compile(name, text, data_dir.path())
            .map_err(|faults| Failure::failed(format!("the bundled example is broken: {faults}")))?;
        vec![file]
    } else {
        files
    };
    let mut answers = commands::deploy::store(client, files).await?;
    for pipeline in stored {
        if !answers.iter().any(|answer| answer.name == pipeline.name) {
            answers.push(DeployResponse { name: pipeline.name, revision: pipeline.revision, changed: false });
        }
    }
    let outcome = match commands::deploy::wait(client, &answers, READY_TIMEOUT).await {
        Ok(()) => Outcome::Ready,
        Err(failure) => {
            // The cluster stays up: what can serve does, and the pipeline can be mended and deployed again.
            let _ = failure.report();
            Outcome::Partly
        }
    };
    let status = client.status().await?;
    let stored = client.pipelines().await?;
    Ok((stored.into_iter().filter_map(|stored| Served::of(stored, &status)).collect(), outcome))
}

fn check_roles(args: &UpArgs, roles: &[Role]) -> Result<(), Failure> {
    if args.join.is_some() && roles.contains(&Role::Head) {
        return Err(Failure::usage(
            "`--join` names another machine's head, so `--roles` cannot have `head` too",
        ));
    }
    if args.join.is_none() && !roles.contains(&Role::Head) {
        return Err(Failure::usage(
            "without `head` among `--roles` there is nobody to obey; name a head with --join HOST:PORT",
        ));
    }
    Ok(())
}

/// The host's name; a joined process adds its id, so that several on one machine differ.
fn default_node_name(joined: bool) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = if host.is_empty() { "node".to_owned() } else { host };
    if joined { format!("{host}-{}", std::process::id()) } else { host }
}
