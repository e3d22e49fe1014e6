//! `cluster up`: the parts of a cluster in one process, in the order in which they need one another.
//!
//! ```text
//! start   data directory → head → worker → ingress → endpoints.json → deploy → wait until ready
//! stop    ingress finishes its requests → worker its calls → head closes the store
//! ```

mod addresses;
mod admin;
pub(crate) mod args;
mod banner;
mod door;
mod entrance;
mod openmetrics;
mod parts;
mod port_holder;
mod process_metrics;
mod signals;
pub(crate) mod store;
mod telemetry;
mod traces;

use std::time::Duration;

use millstream_head::store::Store;
use millstream_head::{DataDirLock, Tokens};
use millstream_proto::v1::DeployedPipeline;

use crate::client::{Client, check_addresses};
use crate::commands;
use crate::data_dir::{DataDir, Endpoints};
use crate::exit::Failure;
use crate::global::Global;
use crate::output::{Output, note};
use crate::pipeline_file::PipelineFile;
use crate::served::Served;
use crate::up::args::{Role, UpArgs};
use crate::up::banner::Outcome;
use crate::up::door::Door;
use crate::up::parts::{Parts, Process};
use crate::up::signals::Signals;
use crate::{bundled, join_token, progress, token};

/// How long the pipelines of the command line may take to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// Lets this process open as many files and sockets as the system allows it: what it starts with is often a quarter of that.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without it there are as many as before.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Runs the command: until a signal, or until somebody runs `cluster down`.
pub(crate) async fn run(global: &Global, args: Box<UpArgs>) -> Result<(), Failure> {
    raise_descriptors();
    let roles = args.roles();
    check_roles(&args, &roles)?;
    let door = Door::of(global, &args, &roles)?;
    let files = PipelineFile::read_all(&args.files)?;
    if let Some(head) = args.join.as_ref().filter(|_| !files.is_empty()) {
        check_addresses(head.addresses(), global.clear_text())?;
    }
    let node_name = args.node.node_name.clone().unwrap_or_else(|| default_node_name(args.join.is_some()));
    let mut data_dir = DataDir::of(global)?;
    if args.join.is_some() && global.data_dir.is_none() {
        data_dir = data_dir.for_joined(&node_name);
    }
    data_dir.create()?;
    let _lock = DataDirLock::acquire(data_dir.path()).map_err(|error| Failure::failed(error.to_string()))?;
    addresses::check_free(&args.listen, &roles)?;
    let token = match roles.contains(&Role::Head) {
        true => Some(token::find_or_make(global, &data_dir)?),
        false if files.is_empty() => None,
        // The file that is named holds the other token.
        false => Some(token::read("admin token", &data_dir.token_file())?),
    };
    let mut signals = Signals::listen()?;
    let store = args.store.open().await?;
    let (token, join_token) = match &store {
        Some(store) => share_tokens(global, &data_dir, store.as_ref()).await?,
        None => (token, None),
    };
    let join_token = match &args.join {
        None => join_token.map_or_else(|| data_dir.join_token(), Ok)?,
        Some(heads) => tokio::select! {
            found = join_token::find(global, &data_dir, heads) => found?,
            () = signals.stop() => return Ok(()),
        },
    };
    let process = Process { global, args: &args, roles, node_name, data_dir, token, join_token, store, door };
    let parts = Parts::start(&process).await?;
    let endpoints = parts.endpoints(&process);
    process.data_dir.write_endpoints(&endpoints)?;
    let outcome = tokio::select! {
        // Somebody may ask it to stop while its pipelines are not ready, which some never are.
        Err(failure) = serve(&process, &parts, &endpoints, files) => Err(failure),
        drain = parts.asked_to_stop() => Ok(drain),
        () = signals.stop() => Ok(args.drain_timeout),
    };
    let ended = match outcome {
        Ok(time) => drain(parts, time, &mut signals).await,
        Err(failure) => {
            tokio::select! {
                () = parts.drain(Duration::ZERO) => {}
                () = signals.stop() => {}
            }
            Err(failure)
        }
    };
    process.data_dir.remove_endpoints();
    ended
}

/// The tokens of a cluster whose heads share a store, as (admin, join); this machine's commands find them in the data directory.
async fn share_tokens(
    global: &Global,
    data_dir: &DataDir,
    store: &dyn Store,
) -> Result<(Option<String>, Option<String>), Failure> {
    let own = Tokens { admin: token::find_or_make(global, data_dir)?, join: data_dir.join_token()? };
    let named = global.token_file.as_ref().map(|file| (file, own.admin.clone()));
    let tokens = own.share(store).await.map_err(|error| Failure::failed(error.to_string()))?;
    match named {
        Some((file, admin)) if admin != tokens.admin => {
            return Err(Failure::usage(format!(
                "`{}` holds another admin token than the cluster on that store has; leave --token-file out",
                file.display()
            )));
        }
        _ => data_dir.keep_tokens(&tokens)?,
    }
    Ok((Some(tokens.admin), Some(tokens.join)))
}

/// Ends everything; requests under way have so much time, unless somebody does not want to wait.
async fn drain(parts: Parts, time: Duration, signals: &mut Signals) -> Result<(), Failure> {
    let shown = humantime::format_duration(time);
    note(format_args!("draining: requests under way have {shown} to end; Ctrl-C again stops at once"));
    tokio::select! {
        () = parts.drain(time) => {
            note("stopped");
            Ok(())
        }
        () = signals.stop() => Err(Failure::interrupted("stopped without waiting for requests under way")),
    }
}

/// Deploys, and tells what is served.
async fn serve(
    process: &Process<'_>,
    parts: &Parts,
    endpoints: &Endpoints,
    files: Vec<PipelineFile>,
) -> Result<(), Failure> {
    let output = Output::of(process.global);
    let (joined, exposure) = (process.args.join.as_ref(), &process.door.exposure);
    let (served, outcome) = match &process.token {
        Some(token) => {
            let mut client =
                Client::connect_to(parts.heads().clone(), token, process.global.clear_text()).await?;
            banner::listening(output, endpoints, joined, exposure);
            deploy(process, &mut client, files).await?
        }
        None => {
            banner::listening(output, endpoints, joined, exposure);
            progress::while_waiting("waiting for the head", parts.registered()).await;
            (Vec::new(), Outcome::Ready)
        }
    };
    if process.has(Role::Head) && !process.has(Role::Worker) {
        banner::no_worker(endpoints);
    }
    if let Err(failure) = banner::ready(output, endpoints, &served, outcome) {
        // A cluster serves whether or not somebody reads what it says.
        let _ = output.report(failure);
    }
    Ok(())
}

/// Deploys the files given, else the bundled example at the very first start of a cluster that has a worker; waits until all pipelines of
/// the cluster that can serve do. A pipeline that is refused or cannot start is reported, and the cluster stays up: what can
/// serve does, and the pipeline can be mended and deployed again.
async fn deploy(
    process: &Process<'_>,
    client: &mut Client,
    files: Vec<PipelineFile>,
) -> Result<(Vec<Served>, Outcome), Failure> {
    let output = Output::of(process.global);
    // Whoever has deleted the example does not want it back.
    let is_first_start = client.status().await?.epoch <= 1;
    let wants_example = !process.args.empty && process.has(Role::Worker) && is_first_start;
    let files = if wants_example && files.is_empty() && client.pipelines().await?.is_empty() {
        let (name, text) = bundled::EXAMPLE;
        let file = PipelineFile::compile(name, text, process.data_dir.path())
            .map_err(|faults| Failure::failed(format!("the bundled example is broken: {faults}")))?;
        vec![file]
    } else {
        files
    };
    let mut outcome = Outcome::Ready;
    let stored = client.deploy(PipelineFile::request(files, None)).await;
    let mut answers = stored.unwrap_or_else(|failure| {
        let _ = output.report(failure);
        outcome = Outcome::Partly;
        Vec::new()
    });
    for pipeline in client.pipelines().await? {
        if !answers.iter().any(|answer| answer.name == pipeline.name) {
            answers.push(DeployedPipeline {
                name: pipeline.name,
                revision: pipeline.revision,
                changed: false,
            });
        }
    }
    if let Err(failure) = commands::deploy::wait(client, &answers, READY_TIMEOUT).await {
        let _ = output.report(failure);
        outcome = Outcome::Partly;
    }
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
    if args.store.store.is_some() && !roles.contains(&Role::Head) {
        return Err(Failure::usage("`--store` is the head's, and this process has no role `head`"));
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
