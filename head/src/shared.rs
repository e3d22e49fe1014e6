//! What the actors and servers of one head share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use millstream_core::Timing;
use millstream_core::present::series::History;
use millstream_core::reconcile::SessionId;
use millstream_core::reconcile::routes::RouteTable;
use millstream_proto::status::ClusterStatus;
use parking_lot::Mutex;
use ractor::{ActorRef, RpcReplyPort, call_t};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::api::auth::AdminToken;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::events::EventLog;
use crate::head::MetricsPage;
use crate::store::Fenced;

/// Longest wait for the reconciler's answer.
const CALL_TIMEOUT_MS: u64 = 5_000;

/// What ingresses are to know; only the newest counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Feed {
    /// The term that the table is of.
    pub(crate) epoch: u64,
    /// The newest table; `None` until the head knows what runs.
    pub(crate) table: Option<RouteTable>,
    /// Set once the cluster is being shut down.
    pub(crate) leave: Option<Duration>,
}

/// The reconciler does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head's reconciler is being restarted; retry in a second")]
pub(crate) struct Restarting;

/// See the module.
pub(crate) struct Shared {
    /// Name of this head.
    pub(crate) name: String,
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    /// Writable as long as this head leads.
    pub(crate) store: Arc<Fenced>,
    pub(crate) catalog: Catalog,
    /// What was decided lately, and why.
    pub(crate) events: EventLog,
    pub(crate) admin_token: AdminToken,
    /// The current term.
    pub(crate) epoch: AtomicU64,
    /// The running reconciler.
    pub(crate) reconciler: ArcSwapOption<ActorRef<ReconcilerMsg>>,
    /// Route tables for ingresses.
    pub(crate) feed: watch::Sender<Feed>,
    /// Grows whenever the status may have changed.
    pub(crate) changes: watch::Sender<u64>,
    /// Set once somebody asks the cluster to stop.
    pub(crate) stop: watch::Sender<Option<Duration>>,
    /// Ends every stream when the head closes.
    pub(crate) closing: CancellationToken,
    pub(crate) last_session: AtomicU64,
    /// The last hour of the cluster's numbers; locked for microseconds, never across an await.
    pub(crate) history: Mutex<History>,
    /// When the clock began, in milliseconds since the Unix epoch.
    pub(crate) started_unix_ms: u64,
    /// What `/metrics` answers.
    pub(crate) metrics_page: Option<MetricsPage>,
}

impl Shared {
    /// An id for a stream.
    pub(crate) fn next_session(&self) -> SessionId {
        SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The current term.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The running reconciler.
    pub(crate) fn reconciler(&self) -> Result<ActorRef<ReconcilerMsg>, Restarting> {
        self.reconciler.load_full().map(|actor| ActorRef::clone(&actor)).ok_or(Restarting)
    }

    /// Asks the reconciler and waits for the answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> ReconcilerMsg,
    ) -> Result<T, Restarting> {
        let reconciler = self.reconciler()?;
        call_t!(reconciler, message, CALL_TIMEOUT_MS).map_err(|_| Restarting)
    }

    /// The cluster as it is now.
    pub(crate) async fn status(&self) -> Result<ClusterStatus, Restarting> {
        self.ask(ReconcilerMsg::Status).await
    }
}
