//! The parts of this process: started in the order in which they need one another, stopped in the reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::Heads;
use millstream_head::store::Store;
use millstream_head::{Head, MetricsPage};
use millstream_ingress::{Folders, HttpLimits, Ingress, LocalWorker, TraceConfig, Visitors};
use millstream_otlp::Sending;
use millstream_proto::IngressId;
use millstream_worker::{DeclaredGpu, HeadPlace, Listen, Worker};

use crate::data_dir::{DataDir, Endpoints};
use crate::exit::Failure;
use crate::global::Global;
use crate::join_token::{self, LeftToken};
use crate::up::admin::Admin;
use crate::up::args::{Role, UpArgs};
use crate::up::door::Door;
use crate::up::telemetry;
use crate::{bundled, random};

/// What bodies under way may take on a machine with little memory.
const MIN_BYTES_UNDER_WAY: usize = 64 << 20;

/// How long the last traces may take to the collector.
const LAST_TRACES_TIMEOUT: Duration = Duration::from_secs(3);

/// What a process is to be.
pub(crate) struct Process<'a> {
    /// Flags of every command.
    pub(crate) global: &'a Global,
    /// Flags of this one.
    pub(crate) args: &'a UpArgs,
    /// The parts to play.
    pub(crate) roles: Vec<Role>,
    /// The node's name.
    pub(crate) node_name: String,
    /// The folder that it holds.
    pub(crate) data_dir: DataDir,
    /// The admin token: of the head, if it has that role, and of its own calls. None when it makes no calls.
    pub(crate) token: Option<String>,
    /// The join token, which all processes of the cluster know.
    pub(crate) join_token: String,
    /// The store that the head shares with others; without it the head has its own in the data directory.
    pub(crate) store: Option<Arc<dyn Store>>,
    /// How others reach it.
    pub(crate) door: Door,
}

impl Process<'_> {
    /// Whether it plays that part.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// What runs in this process.
pub(crate) struct Parts {
    head: Option<Head>,
    worker: Option<Worker>,
    ingress: Option<Ingress>,
    admin: Admin,
    heads: Heads,
    /// Takes traces to a collector.
    sending: Option<Sending>,
    /// The join token, for other processes of this user.
    _left: Option<LeftToken>,
}

impl Parts {
    /// Starts the parts of the process's roles.
    pub(crate) async fn start(process: &Process<'_>) -> Result<Self, Failure> {
        let metrics = telemetry::start()?;
        let admin = Admin::start(process.args.listen.admin, metrics.clone()).await?;
        let head = if process.has(Role::Head) { Some(start_head(process, metrics).await?) } else { None };
        let heads = match (&head, &process.args.join) {
            (Some(head), _) => own_head(head)?,
            (None, Some(join)) => join.clone(),
            (None, None) => return Err(Failure::usage("name a head with --join HOST:PORT")),
        };
        let worker = if process.has(Role::Worker) {
            Some(start_worker(process, &heads, head.as_ref(), admin.address()).await?)
        } else {
            None
        };
        let (traces, sending) = process.args.traces.start(&process.node_name)?;
        let ingress = if process.has(Role::Ingress) {
            Some(start_ingress(process, &heads, worker.as_ref(), traces, admin.address()).await?)
        } else {
            None
        };
        let left = head.as_ref().and_then(|head| {
            let port = head.control_address().port();
            LeftToken::leave(&process.global.environment, port, &process.join_token)
        });
        Ok(Self { head, worker, ingress, admin, heads, sending, _left: left })
    }

    /// Where this process listens.
    pub(crate) fn endpoints(&self, process: &Process<'_>) -> Endpoints {
        Endpoints {
            pid: std::process::id(),
            node_name: process.node_name.clone(),
            ingress: self.ingress.as_ref().map(Ingress::address),
            ingress_scheme: process.door.scheme(),
            control: self.heads.to_string(),
            dashboard: self.head.as_ref().map(Head::dashboard_address),
            worker: self.worker.as_ref().map(Worker::address),
            admin: Some(self.admin.address()),
        }
    }

    /// The heads of the cluster.
    pub(crate) fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Waits until the head has accepted the worker of this process; at once without one.
    pub(crate) async fn registered(&self) {
        if let Some(worker) = &self.worker {
            worker.registered().await;
        }
    }

    /// Waits until somebody asks the cluster to stop; returns the time to drain in.
    pub(crate) async fn asked_to_stop(&self) -> Duration {
        let worker = async {
            match &self.worker {
                Some(worker) => worker.asked_to_stop().await,
                None => std::future::pending().await,
            }
        };
        let ingress = async {
            match &self.ingress {
                Some(ingress) => ingress.asked_to_leave().await,
                None => std::future::pending().await,
            }
        };
        let told = async {
            let drain = tokio::select! {
                drain = worker => drain,
                drain = ingress => drain,
            };
            // A head that leads tells workers and ingresses first, so in its own process its word is the one that counts.
            if self.head.as_ref().is_some_and(Head::leads) {
                std::future::pending::<()>().await;
            }
            drain
        };
        match &self.head {
            Some(head) => tokio::select! {
                drain = head.asked_to_stop() => drain,
                drain = told => drain,
            },
            None => told.await,
        }
    }

    /// Finishes what is under way for at most `timeout`, then stops everything.
    pub(crate) async fn drain(self, timeout: Duration) {
        if let Some(head) = &self.head {
            head.rest().await;
        }
        if let Some(ingress) = self.ingress {
            ingress.drain(timeout).await;
        }
        if let Some(sending) = self.sending {
            sending.finish(LAST_TRACES_TIMEOUT).await;
        }
        if let Some(worker) = self.worker {
            worker.drain(timeout).await;
        }
        if let Some(head) = self.head {
            head.stop().await;
        }
    }
}

/// The head of this process, as the other parts reach it.
fn own_head(head: &Head) -> Result<Heads, Failure> {
    head.control_address().to_string().parse().map_err(|error| Failure::failed(format!("{error}")))
}

async fn start_head(process: &Process<'_>, metrics: MetricsPage) -> Result<Head, Failure> {
    let config = millstream_head::Config {
        name: process.node_name.clone(),
        control: process.args.listen.control,
        dashboard: process.args.listen.dashboard,
        data_dir: process.data_dir.path().to_owned(),
        admin_token: process.token.clone().unwrap_or_default(),
        join_token: process.join_token.clone(),
        metrics: Some(metrics),
    };
    let head = match &process.store {
        Some(shared) => Head::start_shared(config, Arc::clone(shared)).await,
        None => Head::start(config).await,
    };
    head.map_err(|error| Failure::failed(error.to_string()))
}

async fn start_worker(
    process: &Process<'_>,
    heads: &Heads,
    own_head: Option<&Head>,
    admin: SocketAddr,
) -> Result<Worker, Failure> {
    let node = &process.args.node;
    let gpu = DeclaredGpu { model: node.gpu_model.clone(), memory_bytes: node.gpu_memory.as_u64() };
    let config = millstream_worker::Config {
        node_name: process.node_name.clone(),
        heads: heads.clone(),
        join_token: process.join_token.clone(),
        head: match own_head {
            Some(head) => HeadPlace::ThisProcess { cluster_id: head.cluster_id() },
            None => HeadPlace::Elsewhere,
        },
        listen: Listen { calls: process.args.listen.worker, admin: Some(admin) },
        data_dir: process.data_dir.path().to_owned(),
        labels: node.labels(),
        gpus: node.gpus.map(|count| vec![gpu; count as usize]),
        model_dirs: vec![bundled::lay_out(process.data_dir.path())?],
        onnxruntime: node.onnxruntime.clone(),
        environment: process.global.environment.clone(),
        socket_dir: join_token::own_folder(&process.global.environment).ok(),
    };
    Worker::start(config).await.map_err(|error| Failure::failed(error.to_string()))
}

async fn start_ingress(
    process: &Process<'_>,
    heads: &Heads,
    worker: Option<&Worker>,
    traces: TraceConfig,
    admin: SocketAddr,
) -> Result<Ingress, Failure> {
    let config = millstream_ingress::Config {
        name: process.node_name.clone(),
        id: IngressId::new(random::uuid().to_string()),
        listen: process.door.listen(process.args),
        admin: Some(admin),
        heads: heads.clone(),
        join_token: process.join_token.clone(),
        limits: http_limits(process.args),
        visitors: Visitors {
            require_api_key: process.door.exposure.require_api_key,
            mcp_origins: process.args.edge.mcp_origin.clone(),
        },
        traces,
        folders: Folders {
            captures: process.data_dir.captures(),
            sockets: join_token::own_folder(&process.global.environment).ok(),
            routes: (!process.has(Role::Head)).then(|| process.data_dir.path().to_owned()),
        },
        local: worker
            .map(|worker| LocalWorker { node_id: worker.node_id().clone(), client: worker.client() }),
    };
    Ingress::start(config).await.map_err(|error| Failure::failed(error.to_string()))
}

/// Bodies under way and their values take an eighth of the memory there is, and kept answers as much.
fn http_limits(args: &UpArgs) -> HttpLimits {
    let mut limits = HttpLimits::default();
    if let Some(size) = args.edge.response_store {
        limits.request.max_response_store_bytes = usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
    }
    if let Ok(memory @ 1..) = usize::try_from(millstream_worker::memory_bytes()) {
        limits.request.max_bytes_under_way = (memory / 8).max(MIN_BYTES_UNDER_WAY);
        limits.request.max_cache_bytes = memory / 8;
    }
    limits
}
