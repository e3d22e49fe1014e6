//! The parts of this process: started in the order in which they need one another, stopped in the reverse.

use std::net::SocketAddr;
use std::time::Duration;

use millstream_head::{Head, MetricsPage};
use millstream_ingress::{Ingress, LocalWorker};
use millstream_proto::IngressId;
use millstream_worker::{DeclaredGpu, Environment, Worker};

use crate::cli::{Role, UpArgs};
use crate::data_dir::{DataDir, Endpoints};
use crate::exit::Failure;
use crate::up::admin::Admin;
use crate::up::telemetry;
use crate::{bundled, random};

/// What runs in this process.
pub(crate) struct Parts {
    head: Option<Head>,
    worker: Option<Worker>,
    ingress: Option<Ingress>,
    admin: Admin,
    control: String,
}

impl Parts {
    /// Starts the parts of these roles.
    pub(crate) async fn start(
        args: &UpArgs,
        roles: &[Role],
        node_name: &str,
        data_dir: &DataDir,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let metrics = telemetry::start()?;
        let admin = Admin::start(args.admin, metrics.clone()).await?;
        let head = if roles.contains(&Role::Head) {
            Some(start_head(args, node_name, data_dir, metrics).await?)
        } else {
            None
        };
        let control = match (&head, &args.join) {
            (Some(head), _) => head.control_address().to_string(),
            (None, Some(join)) => join.clone(),
            (None, None) => return Err(Failure::usage("name a head with --join HOST:PORT")),
        };
        let worker = if roles.contains(&Role::Worker) {
            Some(start_worker(args, node_name, &control, data_dir, environment).await?)
        } else {
            None
        };
        let ingress = if roles.contains(&Role::Ingress) {
            Some(start_ingress(args, node_name, &control, worker.as_ref()).await?)
        } else {
            None
        };
        Ok(Self { head, worker, ingress, admin, control })
    }

    /// Whether this process has the head.
    pub(crate) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Where this process listens.
    pub(crate) fn endpoints(&self, node_name: &str) -> Endpoints {
        Endpoints {
            pid: std::process::id(),
            node_name: node_name.to_owned(),
            ingress: self.ingress.as_ref().map(Ingress::address),
            control: self.control.clone(),
            dashboard: self.head.as_ref().map(Head::dashboard_address),
            worker: self.worker.as_ref().map(Worker::address),
            admin: Some(self.admin.address()),
        }
    }

    /// Waits until the head has accepted the worker of this process; at once without one.
    pub(crate) async fn registered(&self) {
        if let Some(worker) = &self.worker {
            worker.registered().await;
        }
    }

    /// Waits until somebody asks the cluster to stop; gives the time to drain in.
    pub(crate) async fn asked_to_stop(&self) -> Duration {
        // The head tells workers and ingresses first, so in its own process the head's word is the one that counts.
        match (&self.head, &self.worker, &self.ingress) {
            (Some(head), _, _) => head.asked_to_stop().await,
            (None, Some(worker), Some(ingress)) => tokio::select! {
                drain = worker.asked_to_stop() => drain,
                drain = ingress.asked_to_leave() => drain,
            },
            (None, Some(worker), None) => worker.asked_to_stop().await,
            (None, None, Some(ingress)) => ingress.asked_to_leave().await,
            (None, None, None) => std::future::pending().await,
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
        if let Some(worker) = self.worker {
            worker.drain(timeout).await;
        }
        if let Some(head) = self.head {
            head.stop().await;
        }
    }
}

async fn start_head(
    args: &UpArgs,
    node_name: &str,
    data_dir: &DataDir,
    metrics: MetricsPage,
) -> Result<Head, Failure> {
    let config = millstream_head::Config {
        name: node_name.to_owned(),
        control: args.control,
        dashboard: args.dashboard,
        data_dir: data_dir.path().to_owned(),
        admin_token: data_dir.admin_token()?,
        metrics: Some(metrics),
    };
    Head::start(config).await.map_err(|error| Failure::failed(error.to_string()))
}

async fn start_worker(
    args: &UpArgs,
    node_name: &str,
    head: &str,
    data_dir: &DataDir,
    environment: &Environment,
) -> Result<Worker, Failure> {
    let gpu = DeclaredGpu { model: args.gpu_model.clone(), memory_bytes: args.gpu_memory.as_u64() };
    let config = millstream_worker::Config {
        node_name: node_name.to_owned(),
        head: head.to_owned(),
        listen: args.worker,
        data_dir: data_dir.path().to_owned(),
        labels: args.labels(),
        gpus: args.gpus.map(|count| vec![gpu; count as usize]),
        model_dirs: vec![bundled::lay_out(data_dir.path())?],
        onnxruntime: args.onnxruntime.clone(),
        environment: environment.clone(),
    };
    Worker::start(config).await.map_err(|error| Failure::failed(error.to_string()))
}

async fn start_ingress(
    args: &UpArgs,
    node_name: &str,
    head: &str,
    worker: Option<&Worker>,
) -> Result<Ingress, Failure> {
    let listen: SocketAddr = args.ingress;
    let config = millstream_ingress::Config {
        name: node_name.to_owned(),
        id: IngressId::new(random::uuid().to_string()),
        listen,
        head: head.to_owned(),
        limits: millstream_ingress::HttpLimits::default(),
        require_api_key: args.require_api_key,
        local: worker
            .map(|worker| LocalWorker { node_id: worker.node_id().clone(), client: worker.client() }),
    };
    Ingress::start(config).await.map_err(|error| Failure::failed(error.to_string()))
}
