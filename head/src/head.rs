//! A head from start to stop: store, listeners, actors.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use millstream_connect::{Authority, Secret, demand};
use millstream_core::Timing;
use millstream_listen::{ConnectionLimits, Server};
use millstream_proto::v1::control_service_server::ControlServiceServer;
use millstream_proto::v1::node_service_server::NodeServiceServer;
use millstream_proto::v1::route_service_server::RouteServiceServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;

use crate::actors::messages::ReconcilerMsg;
use crate::control;
use crate::host::Host;
use crate::leadership::election::{self, Candidate, Leader};
use crate::leadership::{Campaign, Leadership, Reach, Roll, Term};
use crate::lock::{DataDirLock, LockError};
use crate::metrics::MetricsPage;
use crate::server::auth::AdminToken;
use crate::server::grpc::control::ControlServer;
use crate::server::grpc::node::NodeServer;
use crate::server::grpc::route::RouteServer;
use crate::server::http::{self, Site};
use crate::store::Store;
use crate::store::embedded::EmbeddedStore;
use crate::store::timed::Timed;
use crate::telemetry;

/// How long connections may take to end when the head stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Largest call of the command: the texts of several pipelines.
const MAX_REQUEST_BYTES: usize = 16 << 20;

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
    /// Folder of the embedded store; of no use to a head that shares a store.
    pub data_dir: PathBuf,
    /// The admin token that callers of the control service must prove to know, or carry.
    pub admin_token: String,
    /// The join token that workers and ingresses must prove to know.
    pub join_token: String,
    /// What `/metrics` on the dashboard address answers; without it there is nothing at that path.
    pub metrics: Option<MetricsPage>,
}

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
    host: Arc<Host>,
    leadership: Leadership,
    campaign: JoinHandle<()>,
    /// Cancelled, it makes this the last term of this head.
    retired: CancellationToken,
    roll: Arc<Roll>,
    servers: Vec<Server>,
    watches: Vec<JoinHandle<()>>,
    /// The store, where it is this process's own, and the lock on its folder.
    own_store: Option<(EmbeddedStore, DataDirLock)>,
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
        let mut head = Self::start_on(config, timing, Arc::new(store.clone()), Reach::Own).await?;
        head.own_store = Some((store, lock));
        Ok(head)
    }

    /// A head on a store that it shares with others: the one that wins the election leads, the others say who does.
    ///
    /// # Errors
    /// [`StartError`] when an address or the store cannot be used.
    pub async fn start_shared(config: Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        Self::start_on(config, Timing::default(), store, Reach::Shared).await
    }

    async fn start_on(
        config: Config,
        timing: Timing,
        store: Arc<dyn Store>,
        reach: Reach,
    ) -> Result<Self, StartError> {
        let control = bind(config.control, "workers, ingresses and the command", "--control").await?;
        let dashboard = bind(config.dashboard, "the dashboard", "--dashboard").await?;
        let store: Arc<dyn Store> = Arc::new(Timed::new(store, STORE_TIMEOUT));
        let secrets = secrets(&config);
        let (control_address, control) = control;
        let (dashboard_address, dashboard) = dashboard;
        let (name, dashboard_text) = (config.name.clone(), dashboard_address.to_string());
        let me = Leader { name, address: control_address.to_string(), dashboard: dashboard_text };
        let roll = Arc::new(Roll::new(Arc::clone(&store), me.clone(), reach));
        let host = Arc::new(Host::start(config.name, timing));
        let closing = host.closing.clone().drop_guard();
        let campaign = Campaign::new(Arc::clone(&host), Candidate { store, me });
        let leadership = campaign.leadership();
        let first = campaign.attempt(0).await.map_err(|error| store_error(&error))?;
        let retired = campaign.retired();
        let campaign = tokio::spawn(campaign.run(first));
        let admin_token = AdminToken::new(&config.admin_token);
        let site = Site {
            host: Arc::clone(&host),
            leadership: leadership.clone(),
            admin_token: admin_token.clone(),
            roll: Arc::clone(&roll),
            metrics_page: config.metrics,
            is_public: !dashboard_address.ip().is_loopback(),
        };
        let service = ControlServer { leadership: leadership.clone(), roll: Arc::clone(&roll) };
        let servers = vec![
            serve_grpc(service, admin_token, secrets, control),
            serve_http(site, dashboard, dashboard_address),
        ];
        let watches = vec![
            tokio::spawn(Arc::clone(&roll).keep(host.closing.clone())),
            tokio::spawn(telemetry::observe(Arc::clone(&host), leadership.clone())),
            tokio::spawn(host.presence.clone().watch(host.clock, host.closing.clone())),
        ];
        Ok(Self {
            control: control_address,
            dashboard: dashboard_address,
            host,
            leadership,
            campaign,
            retired,
            roll,
            servers,
            watches,
            own_store: None,
            _closing: closing,
        })
    }

    /// The gRPC address.
    #[must_use]
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// The id of the cluster; not known while this head does not lead.
    #[must_use]
    pub fn cluster_id(&self) -> Option<String> {
        Some(self.leadership.term().ok()?.cluster_id.clone())
    }

    /// Whether this head leads; another one does, or nobody, while it does not.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leadership.term().is_ok()
    }

    /// The dashboard's address.
    #[must_use]
    pub fn dashboard_address(&self) -> SocketAddr {
        self.dashboard
    }

    /// Waits until somebody asks the cluster to stop (`cluster down`); workers and ingresses have been told by then.
    /// Returns the time to drain in.
    pub async fn asked_to_stop(&self) -> Duration {
        let mut stop = self.host.stop.subscribe();
        let asked = stop.wait_for(Option::is_some).await.map(|drain| *drain);
        // The sender lives as long as this head, so there is always an answer.
        asked.ok().flatten().unwrap_or_default()
    }

    /// Decides nothing any more: the process is about to end. Another head leads from now on, if there is one and the cluster goes on;
    /// else what ends with this process is not to be replaced.
    pub async fn rest(&self) {
        self.retired.cancel();
        let Ok(term) = self.leadership.term() else { return };
        let goes_on = self.host.stop.borrow().is_none();
        if goes_on && control::cluster::step_down(&term, &self.roll).await.is_ok() {
            return;
        }
        if term.ask(ReconcilerMsg::Rest).await.is_err() {
            tracing::debug!("the reconciler is being restarted, so nothing is decided");
        }
    }

    /// Closes listeners and store. When all workers have stopped by then, the next start need not wait for them.
    pub async fn stop(self) {
        if let Ok(term) = self.leadership.term()
            && becomes_quiet(&term).await
            && let Err(error) = election::note_quiet(&term.store).await
        {
            tracing::warn!(%error, "the next start will wait for workers to report");
        }
        self.host.closing.cancel();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.campaign).await;
        join_all(self.servers.into_iter().map(|server| server.drain(CLOSE_TIMEOUT))).await;
        for watch in self.watches {
            let abort = watch.abort_handle();
            if tokio::time::timeout(CLOSE_TIMEOUT, watch).await.is_err() {
                abort.abort();
            }
        }
        let Some((store, _lock)) = self.own_store else { return };
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the store was not closed cleanly");
        }
    }
}

/// Whether no replica runs any more. The last words of a worker that has just stopped may still be on their way.
async fn becomes_quiet(term: &Term) -> bool {
    let quiet = async {
        loop {
            match term.snapshot().await {
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

/// What callers of the control service may prove to know.
fn secrets(config: &Config) -> Vec<Secret> {
    let tokens = [(Authority::Member, &config.join_token), (Authority::Admin, &config.admin_token)];
    // An empty token admits nobody.
    let tokens = tokens.into_iter().filter(|(_, token)| !token.trim().is_empty());
    tokens.map(|(authority, token)| Secret::new(authority, token)).collect()
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
fn serve_grpc(
    control: ControlServer,
    token: AdminToken,
    secrets: Vec<Secret>,
    listener: TcpListener,
) -> Server {
    let leadership = control.leadership.clone();
    let control = ControlServiceServer::new(control).max_decoding_message_size(MAX_REQUEST_BYTES);
    let node = NodeServiceServer::new(NodeServer { leadership: leadership.clone() });
    let route = RouteServiceServer::new(RouteServer { leadership });
    let routes = Routes::new(InterceptedService::new(control, move |request| token.check(request)))
        .add_service(InterceptedService::new(node, demand(Authority::Member)))
        .add_service(InterceptedService::new(route, demand(Authority::Member)));
    millstream_connect::serve_grpc(listener, ConnectionLimits::members(), secrets, routes)
}

/// The dashboard's address.
fn serve_http(site: Site, listener: TcpListener, bound: SocketAddr) -> Server {
    let router = http::router(Arc::new(site), bound);
    millstream_listen::http::start(listener, ConnectionLimits::pages(), router)
}

#[cfg(test)]
mod tests {
    use millstream_proto::status::ClusterStatus;
    use millstream_proto::v1;
    use millstream_proto::v1::control_service_client::ControlServiceClient;

    use super::*;
    use crate::catalog::{Catalog, Takeover};
    use crate::control::Error;
    use crate::control::deploy::{Text, compile};

    fn config(dir: &tempfile::TempDir, name: &str) -> Config {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Config {
            name: name.into(),
            control: any,
            dashboard: any,
            data_dir: dir.path().to_owned(),
            admin_token: "secret".into(),
            join_token: "join".into(),
            metrics: None,
        }
    }

    async fn start(dir: &tempfile::TempDir) -> Head {
        Head::start(config(dir, "head")).await.unwrap()
    }

    async fn status(head: &Head) -> Result<ClusterStatus, Error> {
        Ok(head.leadership.term()?.snapshot().await?.status().clone())
    }

    async fn wait_for(head: &Head, holds: impl Fn(&ClusterStatus) -> bool) {
        let wait = async {
            loop {
                match status(head).await {
                    Ok(status) if holds(&status) => return,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the status comes to be so");
    }

    async fn candidate(name: &str) -> millstream_core::desired::change::Candidate {
        let source = format!("name = \"{name}\"\n[deployments.model]\nengine = \"echo\"\n");
        let text = Text { file_name: "p.toml".into(), source, source_dir: "/".into() };
        compile(text).await.unwrap()
    }

    #[tokio::test]
    async fn a_reconciler_that_dies_ends_its_term_and_the_next_one_begins() {
        let dir = tempfile::tempdir().unwrap();
        let head = start(&dir).await;
        let first = head.leadership.term().unwrap();
        control::deploy::deploy(&first, &[candidate("p").await], Takeover::ROLLING).await.unwrap();
        first.reconciler.kill();
        wait_for(&head, |status| status.epoch > first.epoch && status.pipelines.len() == 1).await;
        assert!(first.over.is_cancelled());
        let events = head.leadership.term().unwrap().events.about("p", 0);
        assert!(!events.is_empty(), "what was not stored yet when it died is stored at its end");
        head.stop().await;
    }

    #[tokio::test]
    async fn a_term_that_is_over_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let head = start(&dir).await;
        let first = head.leadership.term().unwrap();
        first.give_way(first.epoch + 5);
        wait_for(&head, |status| status.epoch > first.epoch + 5).await;
        let late = control::deploy::deploy(&first, &[candidate("p").await], Takeover::ROLLING).await;
        assert!(late.unwrap_err().to_string().starts_with("not_leader"));
        assert!(status(&head).await.unwrap().pipelines.is_empty());
        head.stop().await;
    }

    /// As after a commit whose answer was lost: it is stored, and nobody who asked for it is told.
    #[tokio::test]
    async fn what_is_stored_without_this_heads_knowledge_is_reconciled() {
        let dir = tempfile::tempdir().unwrap();
        let head = start(&dir).await;
        let store = Arc::clone(&head.leadership.term().unwrap().store);
        let other = Catalog::load(store).await.unwrap();
        other.deploy(&[candidate("p").await], Takeover::ROLLING, 1, |_| {}).await.unwrap();
        wait_for(&head, |status| status.pipelines.iter().any(|pipeline| pipeline.name == "p")).await;
        head.stop().await;
    }

    #[tokio::test]
    async fn of_two_heads_on_a_store_one_leads_and_the_other_says_who_until_it_takes_over() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        let on = async |name| Head::start_shared(config(&dir, name), Arc::clone(&store)).await.unwrap();
        let (first, second) = (on("first").await, on("second").await);
        let term = first.leadership.term().unwrap();
        control::deploy::deploy(&term, &[candidate("p").await], Takeover::ROLLING).await.unwrap();
        let leader = first.control_address().to_string();
        assert_eq!(second.leadership.term().err().unwrap().leader, Some(leader.clone()));

        let endpoint = format!("http://{}", second.control_address());
        let mut client = ControlServiceClient::connect(endpoint).await.unwrap();
        let mut request = tonic::Request::new(v1::StatusRequest {});
        request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
        let refused = client.status(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert_eq!(refused.metadata().get("millstream-leader").unwrap(), leader.as_str());

        first.stop().await;
        wait_for(&second, |status| status.epoch > term.epoch && status.pipelines.len() == 1).await;
        assert!(second.leadership.term().unwrap().cluster_id == term.cluster_id);
        let late = control::deploy::deploy(&term, &[candidate("q").await], Takeover::ROLLING).await;
        assert!(late.unwrap_err().to_string().starts_with("not_leader"));
        second.stop().await;
    }
}
