//! Leases of the embedded store. They live in this process: nobody else can hold one on a file that one process owns.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Inner;
use crate::clock;
use crate::store::{Error, LeaseId};

/// The leases that are alive.
#[derive(Default)]
pub(super) struct Leases {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    alive: BTreeMap<LeaseId, Lease>,
}

struct Lease {
    ttl: Duration,
    ends_at: Instant,
}

impl Leases {
    pub(super) fn grant(&self, ttl: Duration) -> LeaseId {
        let mut table = self.table.lock();
        table.last += 1;
        let id = LeaseId(table.last);
        table.alive.insert(id, Lease { ttl, ends_at: clock::instant() + ttl });
        id
    }

    pub(super) fn keep_alive(&self, id: LeaseId) -> Result<(), Error> {
        let mut table = self.table.lock();
        let lease = table.alive.get_mut(&id).ok_or(Error::LeaseEnded(id))?;
        lease.ends_at = clock::instant() + lease.ttl;
        Ok(())
    }

    pub(super) fn end(&self, id: LeaseId) -> Result<(), Error> {
        self.table.lock().alive.remove(&id).map(drop).ok_or(Error::LeaseEnded(id))
    }

    pub(super) fn is_alive(&self, id: LeaseId) -> bool {
        self.table.lock().alive.contains_key(&id)
    }

    /// When it ends as things stand; `None` when it has.
    fn ends_at(&self, id: LeaseId) -> Option<Instant> {
        self.table.lock().alive.get(&id).map(|lease| lease.ends_at)
    }
}

/// Waits until nobody has renewed the lease in time, then deletes its keys. Ends with the store.
pub(super) async fn end_when_due(store: Weak<Inner>, lease: LeaseId) {
    loop {
        let Some(ends_at) = store.upgrade().and_then(|inner| inner.leases.ends_at(lease)) else { return };
        if ends_at > clock::instant() {
            tokio::time::sleep_until(ends_at).await;
            continue;
        }
        let Some(inner) = store.upgrade() else { return };
        if inner.leases.end(lease).is_err() {
            return;
        }
        let deleted = tokio::task::spawn_blocking(move || inner.delete_leased(|ended| ended == lease)).await;
        if let Ok(Err(error)) = deleted {
            tracing::warn!(%error, "the keys of an ended lease could not be deleted");
        }
        return;
    }
}
