//! One picture of the cluster for all who show it. Whoever wants one says how old it may be; the reconciler takes a new one
//! only when nobody has one that is new enough, and all who wait get the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millstream_core::present::snapshot::Snapshot;
use millstream_proto::status::ClusterStatus;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::shared::{Restarting, Shared};

/// Longest wait for the reconciler.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A snapshot and what is made of it, each once, however many ask.
#[derive(Debug)]
pub(crate) struct Shown {
    leader: String,
    snapshot: Snapshot,
    status: OnceLock<ClusterStatus>,
    json: OnceLock<Arc<str>>,
}

impl Shown {
    /// The snapshot.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The whole status.
    pub(crate) fn status(&self) -> &ClusterStatus {
        self.status.get_or_init(|| self.snapshot.status(&self.leader))
    }

    /// The whole status as JSON.
    pub(crate) fn json(&self) -> Arc<str> {
        let json = || serde_json::to_string(self.status()).expect("a status has text keys only");
        Arc::clone(self.json.get_or_init(|| json().into()))
    }
}

/// The newest snapshot, and whether another one is being taken.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    newest: watch::Sender<Option<Arc<Shown>>>,
    is_asked: AtomicBool,
}

impl Snapshots {
    /// From the reconciler: a snapshot, as somebody asked.
    pub(crate) fn publish(&self, leader: &str, snapshot: Snapshot) {
        let shown =
            Shown { leader: leader.to_owned(), snapshot, status: OnceLock::new(), json: OnceLock::new() };
        self.is_asked.store(false, Ordering::Release);
        self.newest.send_replace(Some(Arc::new(shown)));
    }

    /// A reconciler begins: what was known before is forgotten, and what was asked of another is asked again.
    pub(crate) fn reset(&self) {
        self.is_asked.store(false, Ordering::Release);
        self.newest.send_replace(None);
    }
}

impl Shared {
    /// The cluster as it is now.
    pub(crate) async fn snapshot(&self) -> Result<Arc<Shown>, Restarting> {
        let now = self.clock.now();
        self.snapshot_when(|snapshot| snapshot.taken_at >= now, Duration::ZERO).await
    }

    /// The cluster as of that version or later. Those who follow every change share a snapshot for a while: it is not taken
    /// more often than the status interval says.
    pub(crate) async fn snapshot_of(&self, version: (u64, u64)) -> Result<Arc<Shown>, Restarting> {
        let interval = self.timing.status_interval;
        self.snapshot_when(|snapshot| snapshot.version >= version, interval).await
    }

    async fn snapshot_when(
        &self,
        is_new: impl Fn(&Snapshot) -> bool,
        interval: Duration,
    ) -> Result<Arc<Shown>, Restarting> {
        let Snapshots { newest, is_asked } = &self.snapshots;
        let mut newest = newest.subscribe();
        loop {
            let known = newest.borrow_and_update().clone();
            let mut wait = Duration::ZERO;
            if let Some(shown) = known {
                if is_new(&shown.snapshot) {
                    return Ok(shown);
                }
                wait = (shown.snapshot.taken_at + interval).saturating_sub(self.clock.now());
            }
            if !wait.is_zero() {
                let _ = timeout(wait, newest.changed()).await;
                continue;
            }
            let reconciler = self.reconciler()?;
            if !is_asked.swap(true, Ordering::AcqRel) && reconciler.cast(ReconcilerMsg::Snapshot).is_err() {
                is_asked.store(false, Ordering::Release);
                return Err(Restarting);
            }
            if !matches!(timeout(TIMEOUT, newest.changed()).await, Ok(Ok(()))) {
                is_asked.store(false, Ordering::Release);
                return Err(Restarting);
            }
        }
    }
}
