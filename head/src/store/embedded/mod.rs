//! The store of one machine: a single redb file, `DIR/head.redb`.
//!
//! Reads and commits run on blocking threads. A commit that the disk refuses (full, or failing) leaves the database
//! handle unusable by design of the library; it is opened again at once or at the next operation, so that the store works
//! again without a restart once there is room.

mod fanout;
mod lease;
mod open;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redb::Database;
use tokio::sync::Semaphore;

use super::{Entry, Error, Lease, LeaseId, Listing, Store, Txn, Version, Watch};
use fanout::Fanout;
use lease::Leases;
pub use open::{FILE_NAME, OpenError};
use table::{Failed, Written};

/// Operations that may occupy a thread at a time: the others wait without one when the disk hangs.
const MAX_THREADS: usize = 4;

/// How a database is opened again after an I/O error.
type Reopen = Box<dyn Fn() -> Result<Database, OpenError> + Send + Sync>;

/// The embedded store. Cloning shares it.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
    threads: Arc<Semaphore>,
}

struct Inner {
    /// Held over each operation: commits have an order, watchers see it, and a lease ends before or after a commit.
    state: Mutex<State>,
    reopen: Reopen,
    leases: Leases,
}

struct State {
    database: Handle,
    fanout: Fanout,
}

/// The database.
enum Handle {
    Open(Database),
    /// After an I/O error, until it is opened again.
    Failed,
    /// For good, by [`EmbeddedStore::close`].
    Closed,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, made if there is none. Blocks for the time of reading the file.
    ///
    /// # Errors
    /// [`OpenError`]; a damaged file is never written to.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let database = open::open(dir)?;
        let again: PathBuf = dir.to_owned();
        Self::with_database(database, Box::new(move || open::reopen(&again))).map_err(|error| OpenError::Io {
            path: dir.join(open::FILE_NAME),
            source: std::io::Error::other(error),
        })
    }

    /// Closes the file and ends all watches; whoever still has the store gets [`Error::Unavailable`]. Blocks while a
    /// commit runs.
    pub fn close(&self) {
        let mut state = self.inner.state.lock();
        state.database = Handle::Closed;
        state.fanout.close();
    }

    fn with_database(database: Database, reopen: Reopen) -> Result<Self, Error> {
        let version = table::read_version(&database).map_err(certain)?;
        let state = State { database: Handle::Open(database), fanout: Fanout::new(version) };
        let inner = Inner { state: Mutex::new(state), reopen, leases: Leases::default() };
        // Leases lived in the process that is gone.
        inner.delete_leased(|_| true)?;
        Ok(Self { inner: Arc::new(inner), threads: Arc::new(Semaphore::new(MAX_THREADS)) })
    }

    /// Runs `work` on a blocking thread; `died` makes the error of one that panics.
    fn run<T: Send + 'static>(
        &self,
        died: fn(String) -> Error,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let (inner, threads) = (Arc::clone(&self.inner), Arc::clone(&self.threads));
        async move {
            let thread = threads.acquire_owned().await;
            let work = move || {
                let _thread = thread;
                work(&inner)
            };
            tokio::task::spawn_blocking(work)
                .await
                .unwrap_or_else(|error| Err(died(format!("the store's thread ended: {error}"))))
        }
        .boxed()
    }
}

impl Inner {
    /// Runs `work` on the database; an I/O error closes it, to be opened again by the next call.
    fn with<T>(
        &self,
        state: &mut State,
        work: impl FnOnce(&Database) -> Result<T, Failed>,
    ) -> Result<T, Error> {
        let database = self.open(state)?;
        let result = work(database);
        if matches!(result, Err(Failed::Database(_) | Failed::Writing(..))) {
            // The library refuses every later write after an I/O error.
            state.database = Handle::Failed;
        }
        result.map_err(|failed| match failed {
            Failed::Writing(version, error) => self.outcome(state, version, &error),
            failed => certain(failed),
        })
    }

    /// What became of a commit of this version that failed half way: the file tells.
    fn outcome(&self, state: &mut State, version: Version, error: &redb::Error) -> Error {
        match self.open(state).map(table::read_version) {
            Ok(Ok(there)) if there < version => store_error(error),
            _ => Error::Unknown(error.to_string()),
        }
    }

    /// The database, opened again if need be.
    fn open<'a>(&self, state: &'a mut State) -> Result<&'a Database, Error> {
        let State { database, fanout } = state;
        if matches!(database, Handle::Failed) {
            let opened = (self.reopen)().map_err(|error| match error {
                OpenError::Io { source, .. } if is_full(&source) => Error::Full,
                other => Error::Unavailable(other.to_string()),
            })?;
            fanout.resume_at(table::read_version(&opened).map_err(certain)?);
            *database = Handle::Open(opened);
        }
        match database {
            Handle::Open(database) => Ok(database),
            Handle::Failed | Handle::Closed => Err(Error::Unavailable("the head is stopping".into())),
        }
    }

    fn read<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failed>) -> Result<T, Error> {
        self.with(&mut self.state.lock(), work)
    }

    fn commit(&self, txn: &Txn) -> Result<Version, Error> {
        txn.check()?;
        let mut state = self.state.lock();
        txn.writes.iter().filter_map(|write| write.lease).try_for_each(|lease| self.leases.check(lease))?;
        let Written { version, changes } = self.with(&mut state, |database| table::write(database, txn))?;
        state.fanout.publish(version, changes);
        Ok(version)
    }

    /// Deletes the keys of a lease that has ended, and forgets it.
    fn end_lease(&self, lease: LeaseId) -> Result<(), Error> {
        self.delete_leased(|ended| ended == lease)?;
        self.leases.forget(lease);
        Ok(())
    }

    fn delete_leased(&self, ended: impl Fn(LeaseId) -> bool) -> Result<(), Error> {
        let mut state = self.state.lock();
        if let Some(written) = self.with(&mut state, |database| table::delete_leased(database, ended))? {
            state.fanout.publish(written.version, written.changes);
        }
        Ok(())
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn store_error(error: &redb::Error) -> Error {
    match error {
        redb::Error::Io(source) if is_full(source) => Error::Full,
        other => Error::Unavailable(other.to_string()),
    }
}

/// The error of work that has written nothing.
fn certain(failed: Failed) -> Error {
    match failed {
        Failed::Database(error) | Failed::Writing(_, error) => store_error(&error),
        Failed::Refused(error) => error,
    }
}

impl Store for EmbeddedStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        let key = key.to_owned();
        self.run(Error::Unavailable, move |inner| inner.read(|database| table::read_key(database, &key)))
    }

    fn list<'a>(&'a self, prefixes: &'a [&'a str]) -> BoxFuture<'a, Result<Listing, Error>> {
        let prefixes: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
        self.run(Error::Unavailable, move |inner| {
            inner.read(|database| table::read_prefixes(database, &prefixes))
        })
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Version, Error>> {
        self.run(Error::Unknown, move |inner| inner.commit(&txn))
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Version) -> BoxFuture<'a, Result<Watch, Error>> {
        let prefix = prefix.to_owned();
        self.run(Error::Unavailable, move |inner| Ok(inner.state.lock().fanout.watch(&prefix, after)))
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, Error>> {
        async move {
            let lease = self.inner.leases.grant(ttl);
            tokio::spawn(lease::end_when_due(Arc::downgrade(&self.inner), lease.id));
            Ok(lease)
        }
        .boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>> {
        async move { self.inner.leases.keep_alive(lease) }.boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.run(Error::Unknown, move |inner| {
            inner.leases.revoke(lease)?;
            inner.end_lease(lease)
        })
    }
}

#[cfg(test)]
mod tests;
