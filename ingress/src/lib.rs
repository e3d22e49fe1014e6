//! The HTTP edge: takes requests, validates them, executes plans by calling replicas, answers.
//!
//! It learns routes from the head and serves on from the last ones when the head is away, also after a restart. It decides admission and
//! replica choice; how many replicas there are is the head's business, how a model runs the worker's.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod cache;
mod capture;
mod deadline;
mod dispatch;
mod execute;
#[cfg(test)]
mod fuzz;
mod http;
mod keys;
mod limits;
pub mod metrics;
mod model;
mod protocol;
mod random;
mod routes;
mod trace;
mod transport;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Authority, Heads, Secret};
pub use millstream_listen::ConnectionLimits;
use millstream_listen::Server;
use millstream_listen::tls::ServerCertificate;
use millstream_proto::IngressId;
use millstream_proto::status::AcceptedRisk;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::capture::Captures;
pub use crate::http::ACCESS_LOG;
use crate::http::Edge;
pub use crate::limits::{HttpLimits, RequestLimits, Visitors};
use crate::metrics::RequestMeter;
use crate::protocol::PROTOCOLS;
use crate::protocol::openai::ResponseStore;
use crate::routes::{Hello, LastRoutes, Routes};
use crate::trace::Traces;
pub use crate::trace::{Exporter, TraceConfig};
pub use crate::transport::LocalWorker;
use crate::transport::Transports;

/// What this crate decides, open to the simulation of a whole cluster: it runs this very code on a virtual clock, where
/// the rest of this crate runs it on a real one. Nothing else is to be built on it.
#[doc(hidden)]
pub mod decisions {
    pub use crate::dispatch::outcomes::{CallCounts, Outcomes};
    pub use crate::dispatch::pool::{
        Admission, Eligibility, Grant, Key, Member, Pool, PoolLimits, QueueClass, Requested, RoutingRequest,
        Shed, ShedReason, Standing, StartFailure, Ticket,
    };
    pub use crate::dispatch::router::Locality;
    pub use crate::execute::retry::{
        Attempt, DEFAULT_RETRIES, Decision, Forwarded, Idempotent, WhenSpent, backoff, decide, within_budget,
    };
    pub use crate::model::{Outcome, TrafficShare};
    pub use crate::routes::split::{Asked, choose};
}

/// What an ingress reads and answers over HTTP, for the reference in `docs/http.md`.
pub mod reference {
    pub use crate::http::{endpoints, request_headers, response_headers};
    pub use crate::protocol::problem::{KINDS, Kind, kind_of};
}

/// What every request goes through, for benchmarks. Nothing else is to be built on it.
#[doc(hidden)]
pub mod measured {
    pub use crate::http::endpoints_for;
}

/// How long the head may take to store what keys have used last.
const LAST_USAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often is looked whether requests are under way, while the process is about to end.
const LEAVING_TICK: Duration = Duration::from_millis(20);
/// How long the last captures may take to their disk or sink.
const LAST_CAPTURES_TIMEOUT: Duration = Duration::from_secs(3);

/// What an ingress is started with.
pub struct Config {
    /// Name of the node, for people.
    pub name: String,
    /// Id of this process; new at each start.
    pub id: IngressId,
    /// Where requests are taken.
    pub listen: Listen,
    /// Where this process has its metrics, if anywhere.
    pub admin: Option<SocketAddr>,
    /// Control addresses of the cluster's heads.
    pub heads: Heads,
    /// The cluster's join token: heads and workers must prove to know it.
    pub join_token: String,
    /// The worker of this process, whose replicas are called without a network.
    pub local: Option<LocalWorker>,
    /// Bounds of the HTTP edge; [`HttpLimits::default`] is what the documentation says.
    pub limits: HttpLimits,
    /// Who may call.
    pub visitors: Visitors,
    /// Which requests are traced, and where traces go.
    pub traces: TraceConfig,
    /// Its folders.
    pub folders: Folders,
}

/// The folders of an ingress.
#[derive(Debug, Clone)]
pub struct Folders {
    /// For captures; made when a pipeline has some.
    pub captures: PathBuf,
    /// That of this user's processes: where workers of this machine have Unix sockets for calls.
    pub sockets: Option<PathBuf>,
    /// The process's data directory, where the last routes are kept for a start without a head; `None` where a head is in this
    /// process.
    pub routes: Option<PathBuf>,
}

/// Where and how requests are taken.
#[derive(Debug)]
pub struct Listen {
    /// Address of the HTTP listener; port 0 picks a free one.
    pub address: SocketAddr,
    /// TLS is spoken with this; without it clear text.
    pub certificate: Option<ServerCertificate>,
    /// What the operator accepted, for people who look at the cluster.
    pub accepted_risks: Vec<AcceptedRisk>,
}

/// In clear text.
impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self { address, certificate: None, accepted_risks: Vec::new() }
    }
}

/// Why an ingress did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP address could not be bound.
    #[error("cannot listen on `{address}` for HTTP: {source}; choose another address with --ingress")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running ingress. Dropping it ends everything at once; see [`Ingress::drain`] for the polite way.
pub struct Ingress {
    address: SocketAddr,
    server: Server,
    edge: Arc<Edge>,
    leave: watch::Receiver<Option<Duration>>,
    captures: Captures,
    _route_watch: AbortOnDropHandle<()>,
    _cache_tender: AbortOnDropHandle<()>,
    _response_sweeper: Option<AbortOnDropHandle<()>>,
}

impl Ingress {
    /// Binds the listener, dials the head in the background and serves. Returns once the listener is bound.
    ///
    /// # Errors
    /// [`StartError::Bind`] when the address is taken or not ours.
    #[expect(clippy::unused_async, reason = "needs a runtime, and says so by its type")]
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let Listen { address, certificate, accepted_risks } = config.listen;
        let bind_error = |source| StartError::Bind { address, source };
        let listener = millstream_listen::bind(address).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let secret = Secret::new(Authority::Member, &config.join_token);
        let transports = Transports::new(config.local, secret.clone(), config.folders.sockets);
        let captures = Captures::new(config.folders.captures);
        let routes = Arc::new(Routes::new(transports, captures.clone()));
        let (leave_sender, leave) = watch::channel(None);
        let (traces, kept) = Traces::new(config.traces, config.name.clone());
        let tls = certificate.is_some();
        let hello =
            Hello { id: config.id, name: config.name, address, tls, accepted_risks, admin: config.admin };
        let last_routes = Arc::new(LastRoutes::new(config.folders.routes));
        let outbox = routes::Outbox { kept, leave: leave_sender, last_routes };
        let route_watch = tokio::spawn(routes::watch(config.heads, secret, hello, routes.clone(), outbox));
        let max_cache_bytes = config.limits.request.max_cache_bytes as u64;
        let cache_tender = tokio::spawn(routes::tend_caches(routes.clone(), max_cache_bytes));
        let unrouted = RequestMeter::of_none();
        let (guards, shadows) = (Arc::default(), http::Shadows::default());
        let (limits, visitors) = (config.limits, config.visitors);
        let bytes = http::ByteBudget::new(limits.request.max_bytes_under_way);
        let require_key = visitors.require_api_key;
        let own_site_only = address.ip().is_loopback() && !require_key;
        let entry = http::EntryRules { own_site_only, require_key, mcp_origins: visitors.mcp_origins };
        let responses = match limits.request.max_response_store_bytes {
            0 => None,
            max_bytes => Some(Arc::new(ResponseStore::new(max_bytes, limits.request.max_response_age))),
        };
        let response_sweeper =
            responses.clone().map(|store| AbortOnDropHandle::new(tokio::spawn(store.sweep())));
        let (protocols, services) = (PROTOCOLS, http::Services::new(Default::default()));
        let edge = Edge {
            protocols,
            services,
            routes,
            limits,
            bytes,
            entry,
            guards,
            responses,
            shadows,
            log: http::RequestLog::new(millstream_clock::now()),
            traces,
            unrouted,
        };
        let edge = Arc::new(edge);
        let server = http::start(listener, certificate, edge.clone());
        Ok(Self {
            address,
            server,
            edge,
            leave,
            captures,
            _route_watch: AbortOnDropHandle::new(route_watch),
            _cache_tender: AbortOnDropHandle::new(cache_tender),
            _response_sweeper: response_sweeper,
        })
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the head asks this ingress to leave (`cluster down`); returns the time to drain in.
    pub async fn asked_to_leave(&self) -> Duration {
        let mut leave = self.leave.clone();
        let asked = leave.wait_for(Option::is_some).await.ok().and_then(|asked| *asked);
        match asked {
            Some(drain) => drain,
            // The watch ends only with the process: nobody will ask any more.
            None => std::future::pending().await,
        }
    }

    /// Finishes what is under way for at most `timeout`, then stops. As long as there is something, those that come are told to go
    /// elsewhere. Routes are followed meanwhile.
    pub async fn drain(self, timeout: Duration) {
        let began = millstream_clock::now();
        self.edge.guards.leave();
        self.server.finish_connections();
        while self.edge.guards.are_busy() && millstream_clock::since(began) < timeout {
            tokio::time::sleep(LEAVING_TICK).await;
        }
        self.server.drain(timeout.saturating_sub(millstream_clock::since(began))).await;
        // A head that does not answer has it counted neither.
        let _ = tokio::time::timeout(LAST_USAGE_TIMEOUT, self.edge.routes.book().flush()).await;
        self.captures.flush(LAST_CAPTURES_TIMEOUT).await;
    }
}
