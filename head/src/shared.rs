//! What the actors and servers of one head share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use millstream_core::Timing;
use millstream_core::model::RouteTable;
use millstream_core::model::SessionId;
use millstream_core::present::series::History;
use millstream_core::present::snapshot::{Snapshot, Version};
use parking_lot::Mutex;
use ractor::{ActorRef, RpcReplyPort, call_t};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::api::auth::AdminToken;
use crate::api::table::PublishedTable;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::events::EventLog;
use crate::head::MetricsPage;
use crate::presence::Presence;
use crate::snapshots::{Shown, Snapshots, Unanswered};
use crate::store::Fenced;

/// Longest wait for the reconciler's answer.
const CALL_TIMEOUT_MS: u64 = 5_000;

/// What ingresses are to know; only the newest counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Feed {
    /// The term that the table is of.
    pub(crate) epoch: u64,
    /// The newest table; `None` until the head knows what runs.
    pub(crate) table: Option<Arc<PublishedTable>>,
    /// Set once the cluster is being shut down.
    pub(crate) leave: Option<Duration>,
}

impl Feed {
    /// The newest table of a term.
    pub(crate) fn publish(&mut self, epoch: u64, table: RouteTable) {
        self.epoch = epoch;
        self.table = Some(Arc::new(PublishedTable::new(table)));
    }
}

/// The reconciler does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head's reconciler is being restarted; retry in a second")]
pub(crate) struct Restarting;

/// The last hour of the cluster's numbers, and when its clock began.
pub(crate) struct Recorded {
    /// Locked for microseconds, never across an await.
    pub(crate) rings: Mutex<History>,
    /// Milliseconds since the Unix epoch.
    pub(crate) started_unix_ms: u64,
}

/// See the module.
pub(crate) struct Shared {
    /// Name of this head.
    pub(crate) name: String,
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    /// Whether this process runs.
    pub(crate) presence: Presence,
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
    /// Pictures of the cluster, for whoever shows it.
    pub(crate) snapshots: Snapshots,
    /// Set once somebody asks the cluster to stop.
    pub(crate) stop: watch::Sender<Option<Duration>>,
    /// Ends every stream when the head closes.
    pub(crate) closing: CancellationToken,
    pub(crate) last_session: AtomicU64,
    /// The last hour of the cluster's numbers.
    pub(crate) history: Recorded,
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
    pub(crate) async fn snapshot(&self) -> Result<Arc<Shown>, Restarting> {
        let now = self.clock.now();
        self.snapshot_when(|snapshot| snapshot.taken_at >= now, Duration::ZERO).await
    }

    /// The cluster as of that version or later. Those who follow every change share a snapshot for a while: it is not taken
    /// more often than the status interval says.
    pub(crate) async fn snapshot_of(&self, version: Version) -> Result<Arc<Shown>, Restarting> {
        self.snapshot_when(|snapshot| snapshot.version >= version, self.timing.status_interval).await
    }

    async fn snapshot_when(
        &self,
        is_new: impl Fn(&Snapshot) -> bool,
        interval: Duration,
    ) -> Result<Arc<Shown>, Restarting> {
        let ask = || {
            let reconciler = self.reconciler().map_err(|_| Unanswered)?;
            reconciler.cast(ReconcilerMsg::Snapshot).map_err(|_| Unanswered)
        };
        self.snapshots.when(is_new, interval, self.clock, ask).await.map_err(|Unanswered| Restarting)
    }
}
