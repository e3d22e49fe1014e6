//! A store whose operations are timed, for metrics, and end: one that takes too long is given up, so that a store that
//! hangs holds nobody up. What was asked may still happen.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Entry, Error, Lease, LeaseId, Listing, Store, Txn, Version, Watch};
use crate::{clock, metrics};

/// Times what another store does, and ends it.
pub(crate) struct Timed {
    store: Arc<dyn Store>,
    limit: Duration,
}

impl Timed {
    /// Each call of `store` may take as long as `limit`.
    pub(crate) fn new(store: Arc<dyn Store>, limit: Duration) -> Self {
        Self { store, limit }
    }

    /// The work, timed; after the limit the error that `late` makes.
    fn timed<'a, T>(
        &self,
        operation: &'static str,
        late: fn(String) -> Error,
        work: impl Future<Output = Result<T, Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Error>> {
        let limit = self.limit;
        Box::pin(async move {
            let start = clock::instant();
            let result = tokio::time::timeout(limit, work).await;
            metrics::store_took(operation, clock::since(start));
            let late = |_| Err(late(format!("it did not answer within {} ms", limit.as_millis())));
            let result = result.unwrap_or_else(late);
            if matches!(result, Err(Error::Unavailable(_) | Error::Unknown(_))) {
                metrics::store_failed(operation);
            }
            result
        })
    }
}

impl Store for Timed {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        self.timed("get", Error::Unavailable, self.store.get(key))
    }

    fn list<'a>(&'a self, prefixes: &'a [&'a str]) -> BoxFuture<'a, Result<Listing, Error>> {
        self.timed("list", Error::Unavailable, self.store.list(prefixes))
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Version, Error>> {
        self.timed("commit", Error::Unknown, self.store.commit(txn))
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Version) -> BoxFuture<'a, Result<Watch, Error>> {
        self.timed("watch", Error::Unavailable, self.store.watch(prefix, after))
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, Error>> {
        self.timed("grant_lease", Error::Unavailable, self.store.grant_lease(ttl))
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>> {
        self.timed("keep_alive", Error::Unavailable, self.store.keep_alive(lease))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.timed("revoke", Error::Unknown, self.store.revoke(lease))
    }
}
