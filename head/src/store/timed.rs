//! A store whose operations are timed, for metrics.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Entry, Error, LeaseId, Listing, Store, Version, Watch, Write};
use crate::{clock, metrics};

/// Times what another store does.
pub(crate) struct Timed(pub(crate) Arc<dyn Store>);

/// The work, timed.
fn timed<'a, T>(operation: &'static str, work: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(async move {
        let start = clock::instant();
        let result = work.await;
        metrics::store_took(operation, clock::since(start));
        result
    })
}

impl Store for Timed {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        timed("get", self.0.get(key))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>> {
        timed("list", self.0.list(prefix))
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Version, Error>> {
        timed("commit", self.0.commit(writes))
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Version) -> BoxFuture<'a, Result<Watch, Error>> {
        timed("watch", self.0.watch(prefix, after))
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>> {
        timed("grant_lease", self.0.grant_lease(ttl))
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        timed("keep_alive", self.0.keep_alive(lease))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        timed("revoke", self.0.revoke(lease))
    }
}
