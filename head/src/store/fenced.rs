//! The store of a head that leads, as long as it leads: every commit happens only while the leader key is as that head
//! wrote it. Nothing of a head writes past it, except for the election that makes it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Entry, Error, Guard, Lease, LeaseId, Listing, Store, Txn, Version, Watch};

/// See the module. Cloning shares the store.
#[derive(Clone)]
pub struct Fenced {
    store: Arc<dyn Store>,
    guard: Guard,
}

impl Fenced {
    /// Writes to `store` only where `guard` holds.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, guard: Guard) -> Self {
        Self { store, guard }
    }
}

impl Store for Fenced {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        self.store.get(key)
    }

    fn list<'a>(&'a self, prefixes: &'a [&'a str]) -> BoxFuture<'a, Result<Listing, Error>> {
        self.store.list(prefixes)
    }

    fn commit(&self, mut txn: Txn) -> BoxFuture<'_, Result<Version, Error>> {
        txn.guards.insert(0, self.guard.clone());
        async move {
            match self.store.commit(txn).await {
                Err(Error::Conflict { key }) if key == self.guard.key => Err(Error::NotLeading),
                outcome => outcome,
            }
        }
        .boxed()
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Version) -> BoxFuture<'a, Result<Watch, Error>> {
        self.store.watch(prefix, after)
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, Error>> {
        self.store.grant_lease(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>> {
        self.store.keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.store.revoke(lease)
    }
}
