//! A head from start to stop: store, listeners, actors.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use millstream_core::Timing;
use millstream_proto::v1::control_service_server::ControlServiceServer;
use millstream_proto::v1::node_service_server::NodeServiceServer;
use millstream_proto::v1::route_service_server::RouteServiceServer;
use parking_lot::Mutex;
use ractor::{Actor, ActorRef};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::actors::head_actor::{HeadActor, HeadMsg};
use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::api::auth::AdminToken;
use crate::api::control_service::ControlServer;
use crate::api::dashboard;
use crate::api::node_service::NodeServer;
use crate::api::rollouts;
use crate::api::route_service::RouteServer;
use crate::catalog::Catalog;
use crate::clock::{Clock, unix_ms};
use crate::events::EventLog;
use crate::leader;
use crate::lock::{DataDirLock, LockError};
use crate::presence::Presence;
use crate::shared::{Feed, Recorded, Shared};
use crate::snapshots::Snapshots;
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;
use crate::store::timed::Timed;
use crate::telemetry;

/// A peer that answers nothing for this long and [`KEEPALIVE_TIMEOUT`] is gone.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connections may take to end when the head stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for the store: a change that it does not take is refused within two of them.
const STORE_TIMEOUT: Duration = Duration::from_millis(900);

/// How long a head that stops waits for the last words of workers that stopped just before it.
const QUIET_TIMEOUT: Duration = Duration::from_millis(300);
const QUIET_POLL: Duration = Duration::from_millis(5);

/// What a head is started with.
pub struct Config {
    /// Name of this head, for people.
    pub name: String,
    /// gRPC address for workers, ingresses and the command; port 0 picks a free one.
    pub control: SocketAddr,
    /// HTTP address for the dashboard and REST; port 0 picks a free one.
    pub dashboard: SocketAddr,
    /// Folder of the embedded store.
    pub data_dir: PathBuf,
    /// The admin token that control calls must carry.
    pub admin_token: String,
    /// What `/metrics` on the dashboard address answers; without it there is nothing at that path.
    pub metrics: Option<MetricsPage>,
}

/// Renders the metrics of this process in Prometheus's text form.
pub type MetricsPage = Arc<dyn Fn() -> String + Send + Sync>;

/// Why a head did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on `{address}` for {purpose}: {source}; choose another address with {flag}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// The flag that changes it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process works on the data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
}

/// A running head.
pub struct Head {
    control: SocketAddr,
    dashboard: SocketAddr,
    shared: Arc<Shared>,
    store: EmbeddedStore,
    actor: ActorRef<HeadMsg>,
    actor_end: JoinHandle<()>,
    servers: Vec<JoinHandle<()>>,
    _lock: DataDirLock,
    /// A head that is dropped without [`Head::stop`] ends its streams and listeners too.
    _closing: DropGuard,
}

impl Head {
    /// Opens the store, binds the listeners and starts to reconcile. Returns once both are bound.
    ///
    /// # Errors
    /// [`StartError`] when an address or the store cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Timing::default()).await
    }

    /// [`Head::start`] with other intervals.
    ///
    /// # Errors
    /// As [`Head::start`].
    pub async fn start_with(config: Config, timing: Timing) -> Result<Self, StartError> {
        let lock = DataDirLock::join(&config.data_dir)?;
        let dir = config.data_dir.clone();
        let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir)).await;
        let store = opened.map_err(|error| store_error(&error))?.map_err(|error| store_error(&error))?;
        let control = bind(config.control, "workers, ingresses and the command", "--control").await?;
        let dashboard = bind(config.dashboard, "the dashboard", "--dashboard").await?;
        let timed: Arc<dyn Store> = Arc::new(Timed::new(Arc::new(store.clone()), STORE_TIMEOUT));
        let won = leader::win(&timed, &config.name).await.map_err(|error| store_error(&error))?;
        let (fenced, term) = (Arc::new(won.store), won.term);
        let catalog = Catalog::load(Arc::clone(&fenced)).await.map_err(|error| store_error(&error))?;
        let events = EventLog::load(&fenced, term.epoch).await.map_err(|error| store_error(&error))?;
        let closing = CancellationToken::new();
        let (clock, presence) = (Clock::start(), Presence::default());
        let shared = Arc::new(Shared {
            name: config.name,
            timing,
            clock,
            presence: presence.clone(),
            store: fenced,
            catalog,
            events,
            admin_token: AdminToken::new(&config.admin_token),
            epoch: AtomicU64::new(term.epoch),
            reconciler: ArcSwapOption::empty(),
            feed: watch::Sender::new(Feed::default()),
            snapshots: Snapshots::default(),
            stop: watch::Sender::new(None),
            closing: closing.clone(),
            last_session: AtomicU64::new(0),
            history: Recorded { rings: Mutex::default(), started_unix_ms: unix_ms() },
            metrics_page: config.metrics,
        });
        let (actor, actor_end) = HeadActor::spawn(None, HeadActor { shared: Arc::clone(&shared) }, term)
            .await
            .map_err(|error| store_error(&error))?;
        let (control_address, control) = control;
        let (dashboard_address, dashboard) = dashboard;
        let servers = vec![
            tokio::spawn(serve_grpc(Arc::clone(&shared), control)),
            tokio::spawn(serve_http(Arc::clone(&shared), dashboard, dashboard_address)),
            tokio::spawn(write_events(Arc::clone(&shared))),
            tokio::spawn(follow_store(Arc::clone(&shared))),
            tokio::spawn(apply_changes(Arc::clone(&shared))),
            tokio::spawn(telemetry::observe(Arc::clone(&shared))),
            tokio::spawn(presence.watch(clock, closing.clone())),
        ];
        tracing::info!(epoch = term.epoch, control = %control_address, "head leads");
        Ok(Self {
            control: control_address,
            dashboard: dashboard_address,
            shared,
            store,
            actor,
            actor_end,
            servers,
            _lock: lock,
            _closing: closing.drop_guard(),
        })
    }

    /// The gRPC address.
    #[must_use]
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// The dashboard's address.
    #[must_use]
    pub fn dashboard_address(&self) -> SocketAddr {
        self.dashboard
    }

    /// Waits until somebody asks the cluster to stop (`cluster down`); workers and ingresses have been told by then.
    /// Gives the time to drain in.
    pub async fn asked_to_stop(&self) -> Duration {
        let mut stop = self.shared.stop.subscribe();
        let asked = stop.wait_for(Option::is_some).await.map(|drain| *drain);
        // The sender lives as long as this head, so there is always an answer.
        asked.ok().flatten().unwrap_or_default()
    }

    /// Decides nothing any more: the process is about to end, and what ends with it is not to be replaced.
    pub async fn rest(&self) {
        if self.shared.ask(ReconcilerMsg::Rest).await.is_err() {
            tracing::debug!("the reconciler is being restarted, so nothing is decided");
        }
    }

    /// Closes listeners and store. When all workers have stopped by then, the next start need not wait for them.
    pub async fn stop(self) {
        if becomes_quiet(&self.shared).await
            && let Err(error) = leader::note_quiet(&self.shared.store).await
        {
            tracing::warn!(%error, "the next start will wait for workers to report");
        }
        self.shared.closing.cancel();
        self.actor.stop(None);
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.actor_end).await;
        for server in self.servers {
            let abort = server.abort_handle();
            if tokio::time::timeout(CLOSE_TIMEOUT, server).await.is_err() {
                abort.abort();
            }
        }
        let store = self.store;
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the store was not closed cleanly");
        }
    }
}

/// Keeps events in the store.
async fn write_events(shared: Arc<Shared>) {
    shared.events.keep(&shared.store, shared.closing.clone()).await;
}

/// Hears of changes that were stored late, or by others.
async fn follow_store(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.closing.cancelled() => {}
        () = shared.catalog.follow() => {}
    }
}

/// Tells the reconciler of what is stored, also of what nobody waits for.
async fn apply_changes(shared: Arc<Shared>) {
    let mut changes = shared.catalog.subscribe();
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        let desired = Arc::clone(&changes.borrow_and_update());
        rollouts::apply(&shared, desired).await;
    }
}

/// Whether no replica runs any more. The last words of a worker that has just stopped may still be on their way.
async fn becomes_quiet(shared: &Shared) -> bool {
    let quiet = async {
        loop {
            match shared.snapshot().await {
                Ok(shown) if shown.snapshot().state().nodes.values().all(|node| node.replicas.is_empty()) => {
                    return true;
                }
                Ok(_) => tokio::time::sleep(QUIET_POLL).await,
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(QUIET_TIMEOUT, quiet).await.unwrap_or(false)
}

fn store_error(error: &impl ToString) -> StartError {
    StartError::Store(error.to_string())
}

async fn bind(
    address: SocketAddr,
    purpose: &'static str,
    flag: &'static str,
) -> Result<(SocketAddr, TcpListener), StartError> {
    let error = |source| StartError::Bind { address, purpose, flag, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    Ok((listener.local_addr().map_err(error)?, listener))
}

/// Workers, ingresses and the command.
fn serve_grpc(shared: Arc<Shared>, listener: TcpListener) -> impl Future<Output = ()> + Send {
    let token = shared.admin_token.clone();
    let control = ControlServer { shared: Arc::clone(&shared) };
    let closing = shared.closing.clone();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(ControlServiceServer::with_interceptor(control, move |request| token.check(request)))
        .add_service(NodeServiceServer::new(NodeServer { shared: Arc::clone(&shared) }))
        .add_service(RouteServiceServer::new(RouteServer { shared }))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            closing.cancelled_owned(),
        );
    async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the control listener ended");
        }
    }
}

/// The dashboard's address.
async fn serve_http(shared: Arc<Shared>, listener: TcpListener, bound: SocketAddr) {
    let closing = shared.closing.clone();
    let served = axum::serve(listener, dashboard::router(shared, bound))
        .with_graceful_shutdown(closing.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the dashboard's listener ended");
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::desired::Mode;
    use millstream_proto::status::ClusterStatus;

    use super::*;
    use crate::api::control_service::compile;

    async fn start(dir: &tempfile::TempDir) -> Head {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config {
            name: "head".into(),
            control: any,
            dashboard: any,
            data_dir: dir.path().to_owned(),
            admin_token: "secret".into(),
            metrics: None,
        };
        Head::start(config).await.unwrap()
    }

    async fn wait_for(head: &Head, holds: impl Fn(&ClusterStatus) -> bool) {
        let wait = async {
            loop {
                match head.shared.snapshot().await {
                    Ok(shown) if holds(shown.status()) => return,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the status comes to be so");
    }

    #[tokio::test]
    async fn a_reconciler_that_dies_is_restarted_in_a_new_term() {
        let dir = tempfile::tempdir().unwrap();
        let head = start(&dir).await;
        let first = head.shared.snapshot().await.unwrap().status().epoch;
        head.shared.reconciler().unwrap().kill();
        wait_for(&head, |status| status.epoch > first).await;
        assert!(!head.actor_end.is_finished());
        head.stop().await;
    }

    /// As after a commit whose answer was lost: it is stored, and nobody who asked for it is told.
    #[tokio::test]
    async fn what_is_stored_without_this_heads_knowledge_is_reconciled() {
        let dir = tempfile::tempdir().unwrap();
        let head = start(&dir).await;
        let other = Catalog::load(Arc::clone(&head.shared.store)).await.unwrap();
        let text = "name = \"p\"\n[deployments.model]\nengine = \"echo\"\n";
        let candidate = compile("p.toml".into(), text.into(), "/".into()).await.unwrap();
        other.deploy(candidate, Mode::Rolling, None, 1).await.unwrap();
        wait_for(&head, |status| status.pipelines.iter().any(|pipeline| pipeline.name == "p")).await;
        head.stop().await;
    }
}
