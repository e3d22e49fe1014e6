//! The node agent: registers what the machine has, runs replicas as supervised actors and hands calls to them.
//!
//! It decides nothing about placement or routes: the head commands, ingresses call. It keeps its replicas running
//! when the head is away, and starts them again from its last orders when it is started meanwhile.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Authority, Heads, Secret};
use millstream_engine::ModelStore;
use millstream_kept::load_cluster_id;
use millstream_proto::call::ReplicaClient;
use millstream_proto::{NodeId, v1};
use ractor::{Actor, ActorRef};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::engines::Engines;
use crate::head_link::HeadLinkArgs;
use crate::messages::WorkerMsg;
use crate::node::Node;
use crate::server::Server;
use crate::session::NodeFacts;
use crate::table::ReplicaTable;
use crate::worker_actor::{WorkerActor, WorkerArgs};

pub use crate::last_orders::HeadPlace;
pub use crate::resources::memory_bytes;

mod echo;
mod engines;
mod epoch;
mod head_link;
mod identity;
mod last_orders;
mod lifecycle;
mod messages;
pub mod metrics;
mod models;
mod node;
mod order;
mod random;
mod remembered;
mod replica_actor;
mod resources;
mod restart;
mod server;
mod session;
mod signatures;
mod table;
#[cfg(test)]
mod testing;
mod worker_actor;

pub use crate::signatures::signatures_in_reach;

/// What this crate decides, open to the simulation of a whole cluster: it runs this very code on a virtual clock, where
/// the actors of this crate run it on a real one. Nothing else is to be built on it.
#[doc(hidden)]
pub mod decisions {
    pub use crate::epoch::{EpochGate, Verdict};
    pub use crate::lifecycle::{Action, Event, Incarnation, Lifecycle};
    pub use crate::order::{Order, OrderError, Report};
    pub use crate::restart::{Restart, RestartPolicy};
    pub use millstream_engine::{GpuShare, LoadedModel};
}

/// What leaving may take beyond the time that calls get: engines that end, the head that reads the last words.
const LEAVE_GRACE: Duration = Duration::from_secs(7);
/// How long links of other processes may take to end once all replicas are gone.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// What a worker is started with.
pub struct Config {
    /// Name of the node, for people; unique in the cluster.
    pub node_name: String,
    /// Control addresses of the cluster's heads.
    pub heads: Heads,
    /// The cluster's join token: what the heads, and ingresses that call replicas here, must prove to know.
    pub join_token: String,
    /// Where the cluster's heads are.
    pub head: HeadPlace,
    /// Addresses of this process.
    pub listen: Listen,
    /// Folder that is this worker's own: node id, cluster id, highest epoch, last orders.
    pub data_dir: PathBuf,
    /// Labels that demands may ask for.
    pub labels: BTreeMap<String, String>,
    /// Declared devices; `None` finds real ones through NVML.
    pub gpus: Option<Vec<DeclaredGpu>>,
    /// Folders that hold models by name, searched in order.
    pub model_dirs: Vec<PathBuf>,
    /// Where ONNX Runtime's library is; `None` searches the usual places.
    pub onnxruntime: Option<PathBuf>,
    /// The environment of the process: it names folders in which ONNX Runtime's library may be.
    pub environment: Environment,
    /// The folder of this user's processes: a Unix socket for calls of ingresses of this machine goes there.
    pub socket_dir: Option<PathBuf>,
}

/// Addresses of a worker's process.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// For replica traffic; port 0 picks a free one.
    pub calls: SocketAddr,
    /// Where it has its metrics, if anywhere.
    pub admin: Option<SocketAddr>,
}

/// Variables of the environment by name, as `main` read them.
pub type Environment = BTreeMap<String, OsString>;

/// A device that the node says it has (`cluster up --gpus 4 …`), present or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredGpu {
    /// Model name that demands may ask for.
    pub model: String,
    /// Device memory.
    pub memory_bytes: u64,
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address could not be bound.
    #[error(
        "cannot listen on `{address}` for replica traffic: {source}; choose another address with --worker"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use `{}` as the worker's data directory: {source}", .path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running worker. Dropping it ends everything at once; [`drain`](Self::drain) does so politely.
pub struct Worker {
    address: SocketAddr,
    node_id: NodeId,
    client: Arc<ReplicaTable>,
    actor: ActorRef<WorkerMsg>,
    asked_to_stop: watch::Sender<Option<Duration>>,
    registered: watch::Sender<bool>,
    leave: CancellationToken,
    closing: CancellationToken,
    server: AbortOnDropHandle<()>,
}

impl Worker {
    /// Binds the listener, dials the head in the background and waits for commands. Returns once it is bound.
    ///
    /// # Errors
    /// [`StartError`] when the address or the data directory cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let found = find_out(&config).await?;
        let bind_error = |source| StartError::Bind { address: config.listen.calls, source };
        let listener = TcpListener::bind(config.listen.calls).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;

        let table = Arc::new(ReplicaTable::default());
        let node = Arc::new(Node {
            id: found.node_id.clone(),
            table: table.clone(),
            engines: Arc::new(Engines::new(config.onnxruntime, &config.data_dir, &config.environment)),
            models: ModelStore::default(),
            model_dirs: config.model_dirs.into(),
            num_cores: resources::num_cores(),
        });
        let secret = Secret::new(Authority::Member, &config.join_token);
        let facts = NodeFacts {
            id: found.node_id.clone(),
            name: config.node_name,
            listen: address,
            admin: config.listen.admin,
            labels: config.labels,
            resources: found.resources,
            secret: secret.clone(),
        };
        let (asked_to_stop, leave) = (watch::Sender::new(None), CancellationToken::new());
        let registered = watch::Sender::new(false);
        let link = HeadLinkArgs {
            heads: config.heads,
            place: config.head,
            facts: Arc::new(facts),
            data_dir: config.data_dir.clone(),
            table: table.clone(),
            asked_to_stop: asked_to_stop.clone(),
            registered: registered.clone(),
            leave: leave.clone(),
        };
        let name = format!("worker-{}-{}", found.node_id, random::uuid().simple());
        let actor = WorkerActor::spawn(Some(name), WorkerActor, WorkerArgs { node, link: Some(link) }).await;
        let (actor, ended) = actor.map_err(|error| StartError::DataDir {
            path: config.data_dir,
            source: std::io::Error::other(error.to_string()),
        })?;

        tokio::spawn(watch_over(ended, leave.clone(), asked_to_stop.clone()));

        let client = table;
        let closing = CancellationToken::new();
        let socket = server::open_socket(config.socket_dir.as_deref(), &found.node_id).await;
        let server = Server { secret, client: client.clone(), closing: closing.clone() };
        let server = AbortOnDropHandle::new(tokio::spawn(server.serve(listener, socket)));
        tracing::info!(node_id = %found.node_id, %address, "worker started");
        let node_id = found.node_id;
        Ok(Self { address, node_id, client, actor, asked_to_stop, registered, leave, closing, server })
    }

    /// The address for replica traffic.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node's id, made at the first start and kept in the data directory.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.node_id
    }

    /// Calls this worker's replicas without a network.
    #[must_use]
    pub fn client(&self) -> Arc<dyn ReplicaClient> {
        self.client.clone()
    }

    /// Waits until a head has accepted this node for the first time.
    pub async fn registered(&self) {
        // The sender lives as long as `self`, so the wait ends with the flag alone.
        let _ = self.registered.subscribe().wait_for(|registered| *registered).await;
    }

    /// Waits until the head asks this worker to stop (`cluster down`); returns the time to drain in.
    pub async fn asked_to_stop(&self) -> Duration {
        let mut asked = self.asked_to_stop.subscribe();
        match asked.wait_for(Option::is_some).await.map(|drain| *drain) {
            Ok(Some(drain)) => drain,
            // The sender lives as long as `self`, and only `Some` ends the wait.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Lets every replica finish its calls for at most `timeout`, then stops them and leaves the head.
    pub async fn drain(mut self, timeout: Duration) {
        let leave = |done| WorkerMsg::Leave { drain: timeout, done };
        let bound = timeout.saturating_add(LEAVE_GRACE);
        if tokio::time::timeout(bound, self.actor.call(leave, None)).await.is_err() {
            tracing::warn!("replicas or the head did not let go in time; left without them");
        }
        self.closing.cancel();
        let _ = tokio::time::timeout(CLOSE_GRACE, &mut self.server).await;
        tracing::info!(node_id = %self.node_id, "worker drained");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.leave.cancel();
        self.closing.cancel();
        self.actor.stop(None);
    }
}

/// Nobody in this process restarts the root of the actors: when it dies the process is to end, and its manager to start
/// it again.
async fn watch_over(
    ended: JoinHandle<()>,
    leave: CancellationToken,
    asked_to_stop: watch::Sender<Option<Duration>>,
) {
    let _ = ended.await;
    if !leave.is_cancelled() {
        tracing::error!("the worker's root actor died; this process is to be started again");
        asked_to_stop.send_replace(Some(Duration::ZERO));
    }
}

/// What is read from disk and machine before anything starts.
struct Found {
    node_id: NodeId,
    resources: v1::Resources,
}

/// Reads it off the async threads, as disks and drivers take their time.
async fn find_out(config: &Config) -> Result<Found, StartError> {
    let (path, gpus) = (config.data_dir.clone(), config.gpus.clone());
    let read = move || {
        let node_id = identity::node_id(&path)?;
        // Read again by the head link; a broken file must stop the start, not fail later.
        identity::load_epoch(&path)?;
        load_cluster_id(&path)?;
        Ok(Found { node_id, resources: resources::detect(gpus.as_deref()) })
    };
    let found =
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    found.map_err(|source| StartError::DataDir { path: config.data_dir.clone(), source })
}
