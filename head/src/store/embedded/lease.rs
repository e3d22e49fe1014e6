//! Leases of the embedded store. They live in this process: nobody else can hold one on a file that one process owns.
//!
//! A lease ends by its time, or by being revoked; from then on it takes no keys. Its keys are deleted after that, and it
//! is forgotten once they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Inner;
use crate::clock;
use crate::store::{Error, Lease, LeaseId};

/// First wait before keys that could not be deleted are tried again; doubles to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The leases that are not forgotten.
#[derive(Default)]
pub(super) struct Leases {
    table: Mutex<Table>,
    /// Wakes who waits for the end of a lease.
    revoked: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    last: u64,
    leases: BTreeMap<LeaseId, State>,
}

struct State {
    ttl: Duration,
    ends_at: Instant,
    /// It ended before its time.
    revoked: bool,
}

impl State {
    fn is_alive(&self) -> bool {
        !self.revoked && clock::instant() < self.ends_at
    }
}

/// What is to be done about a lease.
enum Due {
    /// Nothing before this time.
    Later(Instant),
    /// Its keys are to be deleted.
    Now,
    /// Nothing any more.
    Never,
}

impl Leases {
    pub(super) fn grant(&self, ttl: Duration) -> Lease {
        let mut table = self.table.lock();
        table.last += 1;
        let id = LeaseId(table.last);
        table.leases.insert(id, State { ttl, ends_at: clock::instant() + ttl, revoked: false });
        Lease { id, ttl }
    }

    pub(super) fn keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        let mut table = self.table.lock();
        let lease =
            table.leases.get_mut(&id).filter(|lease| lease.is_alive()).ok_or(Error::LeaseEnded(id))?;
        lease.ends_at = clock::instant() + lease.ttl;
        Ok(lease.ttl)
    }

    /// Ends a lease before its time.
    pub(super) fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        let mut table = self.table.lock();
        let lease =
            table.leases.get_mut(&id).filter(|lease| lease.is_alive()).ok_or(Error::LeaseEnded(id))?;
        lease.revoked = true;
        self.revoked.notify_waiters();
        Ok(())
    }

    /// Fails when the lease has ended.
    pub(super) fn check(&self, id: LeaseId) -> Result<(), Error> {
        let table = self.table.lock();
        table.leases.get(&id).filter(|lease| lease.is_alive()).map(drop).ok_or(Error::LeaseEnded(id))
    }

    /// Forgets a lease whose keys are deleted.
    pub(super) fn forget(&self, id: LeaseId) {
        self.table.lock().leases.remove(&id);
    }

    fn due(&self, id: LeaseId) -> Due {
        match self.table.lock().leases.get(&id) {
            None => Due::Never,
            Some(lease) if lease.is_alive() => Due::Later(lease.ends_at),
            Some(_) => Due::Now,
        }
    }
}

/// Waits until nobody has renewed the lease in time, then deletes its keys, as often as it takes. Ends with the store.
pub(super) async fn end_when_due(store: Weak<Inner>, lease: LeaseId) {
    let mut backoff = MIN_BACKOFF;
    loop {
        let Some(inner) = store.upgrade() else { return };
        let notify = Arc::clone(&inner.leases.revoked);
        let revoked = notify.notified();
        match inner.leases.due(lease) {
            Due::Never => return,
            Due::Later(at) => {
                drop(inner);
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = revoked => {}
                }
            }
            Due::Now => {
                let deleted = tokio::task::spawn_blocking(move || inner.end_lease(lease)).await;
                if let Ok(Err(error)) = deleted {
                    tracing::warn!(%error, "the keys of an ended lease could not be deleted yet");
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
}
