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
        self.snapshot_since(self.clock.now()).await
    }

    /// The cluster as it was then, or later.
    pub(crate) async fn snapshot_since(&self, since: Duration) -> Result<Arc<Shown>, Restarting> {
        let Snapshots { newest, is_asked } = &self.snapshots;
        let mut newest = newest.subscribe();
        loop {
            let known = newest.borrow_and_update().clone();
            if let Some(shown) = known.filter(|shown| shown.snapshot.taken_at >= since) {
                return Ok(shown);
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
