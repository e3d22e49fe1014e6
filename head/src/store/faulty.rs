//! A store that breaks as a network does, for tests: a real store underneath, commits that get lost before or after they
//! are written, reads that fail, watches that lose their connection.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use parking_lot::Mutex;

use super::{Entry, Error, Lease, LeaseId, Listing, Store, Txn, Version, Watch, WatchEvent};

/// What happens to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It is written, and then the connection is lost.
    Written,
    /// The connection is lost first.
    Lost,
    /// It is written, and then no answer comes.
    WrittenThenHangs,
    /// It gets no answer, and is not written.
    Hangs,
}

/// See the module.
pub(crate) struct Faulty {
    store: Arc<dyn Store>,
    /// What happens to the next commits; the rest goes well.
    commits: Mutex<VecDeque<Fault>>,
    /// What happens to commits again and again.
    cycle: Vec<Fault>,
    /// How many of the next reads fail.
    failing_reads: AtomicUsize,
    /// Whether nothing is answered.
    hangs: AtomicBool,
    num_commits: AtomicUsize,
    /// Watches that were begun; every one of them breaks when commits fail again and again, half of them before any event.
    num_watches: AtomicUsize,
}

impl Faulty {
    /// Does what `store` does until it is told otherwise.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self::with_cycle(store, Vec::new())
    }

    /// Breaks commits as in `cycle`, again and again, and every watch.
    pub(crate) fn with_cycle(store: Arc<dyn Store>, cycle: Vec<Fault>) -> Self {
        Self {
            store,
            commits: Mutex::default(),
            cycle,
            failing_reads: AtomicUsize::new(0),
            hangs: AtomicBool::new(false),
            num_commits: AtomicUsize::new(0),
            num_watches: AtomicUsize::new(0),
        }
    }

    /// Breaks the next commits so.
    pub(crate) fn break_commits(&self, faults: impl IntoIterator<Item = Fault>) {
        self.commits.lock().extend(faults);
    }

    /// Lets the next reads fail.
    pub(crate) fn break_reads(&self, count: usize) {
        self.failing_reads.store(count, Ordering::SeqCst);
    }

    fn next_fault(&self) -> Fault {
        let index = self.num_commits.fetch_add(1, Ordering::SeqCst);
        let planned = self.commits.lock().pop_front();
        planned.or_else(|| self.cycle.get(index % self.cycle.len().max(1)).copied()).unwrap_or(Fault::None)
    }

    /// Answers nothing from now on.
    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    /// Comes back unless the store hangs.
    async fn reach(&self) {
        if self.hangs.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
    }

    async fn read(&self) -> Result<(), Error> {
        self.reach().await;
        let one_less = |count: usize| count.checked_sub(1);
        match self.failing_reads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(_) => Err(Error::Unavailable("the connection is lost".into())),
            Err(_) => Ok(()),
        }
    }

    /// The watch, cut off after `num_events`.
    fn cut(watch: Watch, num_events: usize) -> Watch {
        let broken = WatchEvent::Broken("the connection is lost".into());
        Watch::new(stream::unfold((watch, num_events), move |(mut watch, left)| {
            let broken = broken.clone();
            async move {
                match left.checked_sub(1) {
                    Some(left) => Some((watch.next().await?, (watch, left))),
                    None => Some((broken, (watch, 0))),
                }
            }
        }))
    }
}

impl Store for Faulty {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        async move {
            self.read().await?;
            self.store.get(key).await
        }
        .boxed()
    }

    fn list<'a>(&'a self, prefixes: &'a [&'a str]) -> BoxFuture<'a, Result<Listing, Error>> {
        async move {
            self.read().await?;
            self.store.list(prefixes).await
        }
        .boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Version, Error>> {
        async move {
            self.reach().await;
            let fault = self.next_fault();
            if matches!(fault, Fault::None | Fault::Written | Fault::WrittenThenHangs) {
                let version = self.store.commit(txn).await?;
                if fault == Fault::None {
                    return Ok(version);
                }
            }
            if matches!(fault, Fault::Hangs | Fault::WrittenThenHangs) {
                pending::<()>().await;
            }
            Err(Error::Unknown("the connection is lost".into()))
        }
        .boxed()
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Version) -> BoxFuture<'a, Result<Watch, Error>> {
        async move {
            self.reach().await;
            let watch = self.store.watch(prefix, after).await?;
            let num_events = self.num_watches.fetch_add(1, Ordering::SeqCst) % 2;
            Ok(if self.cycle.is_empty() { watch } else { Self::cut(watch, num_events) })
        }
        .boxed()
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, Error>> {
        async move {
            self.reach().await;
            self.store.grant_lease(ttl).await
        }
        .boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>> {
        async move {
            self.reach().await;
            self.store.keep_alive(lease).await
        }
        .boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            self.reach().await;
            self.store.revoke(lease).await
        }
        .boxed()
    }
}
