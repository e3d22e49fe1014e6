//! One picture of the cluster for all who show it. Whoever wants one says how old it may be; the reconciler takes a new one
//! only when nobody has one that is new enough, and all who wait get the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millstream_core::present::snapshot::{Snapshot, Version};
use millstream_proto::status::ClusterStatus;
use millstream_proto::summary::ClusterSummary;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::{Clock, unix_ms};

/// Longest wait for the reconciler.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A snapshot and what is made of it, each once, however many ask.
#[derive(Debug)]
pub(crate) struct Shown {
    leader: String,
    snapshot: Snapshot,
    status: OnceLock<ClusterStatus>,
    json: OnceLock<Arc<str>>,
    summary_json: OnceLock<Arc<str>>,
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

    /// The status without single replicas as JSON.
    pub(crate) fn summary_json(&self) -> Arc<str> {
        let json = || {
            let summary = ClusterSummary::of(self.status(), self.snapshot.traffic(), unix_ms());
            serde_json::to_string(&summary).expect("a summary has text keys only")
        };
        Arc::clone(self.summary_json.get_or_init(|| json().into()))
    }
}

/// The newest snapshot, and whether another one is being taken.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    newest: watch::Sender<Option<Arc<Shown>>>,
    is_asked: AtomicBool,
    /// The reconciler's version, which grows whenever there is something new to show.
    version: watch::Sender<Version>,
}

impl Snapshots {
    /// From the reconciler: a snapshot, as somebody asked.
    pub(crate) fn publish(&self, leader: &str, snapshot: Snapshot) {
        let shown = Shown {
            leader: leader.to_owned(),
            snapshot,
            status: OnceLock::new(),
            json: OnceLock::new(),
            summary_json: OnceLock::new(),
        };
        self.is_asked.store(false, Ordering::Release);
        self.newest.send_replace(Some(Arc::new(shown)));
    }

    /// From the reconciler: there is something new to show.
    pub(crate) fn announce(&self, version: Version) {
        self.version.send_replace(version);
    }

    /// The reconciler's versions.
    pub(crate) fn versions(&self) -> watch::Receiver<Version> {
        self.version.subscribe()
    }
}

/// The reconciler did not answer, or is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unanswered;

impl Snapshots {
    /// The newest snapshot, once it is one that `is_new` says yes to. It is asked for by `ask`, once for all who wait, and not
    /// again before the newest one is as old as `interval`.
    pub(crate) async fn when(
        &self,
        is_new: impl Fn(&Snapshot) -> bool,
        interval: Duration,
        clock: Clock,
        ask: impl Fn() -> Result<(), Unanswered>,
    ) -> Result<Arc<Shown>, Unanswered> {
        let mut newest = self.newest.subscribe();
        loop {
            let known = newest.borrow_and_update().clone();
            let mut wait = Duration::ZERO;
            if let Some(shown) = known {
                if is_new(&shown.snapshot) {
                    return Ok(shown);
                }
                wait = (shown.snapshot.taken_at + interval).saturating_sub(clock.now());
            }
            if !wait.is_zero() {
                let _ = timeout(wait, newest.changed()).await;
                continue;
            }
            if !self.is_asked.swap(true, Ordering::AcqRel) {
                ask().inspect_err(|_| self.is_asked.store(false, Ordering::Release))?;
            }
            if !matches!(timeout(TIMEOUT, newest.changed()).await, Ok(Ok(()))) {
                self.is_asked.store(false, Ordering::Release);
                return Err(Unanswered);
            }
        }
    }
}
