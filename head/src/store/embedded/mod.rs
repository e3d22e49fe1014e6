//! The store of one machine: a single redb file, `DIR/head.redb`.
//!
//! Reads and commits run on blocking threads. A commit that the disk refuses (full, or failing) leaves the database
//! handle unusable by design of the library; it is opened again at the next operation, so that the store works again
//! without a restart once there is room.

mod fanout;
mod lease;
mod open;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::{Change, Entry, Error, Expected, LeaseId, Listing, Store, Version, Watch, Write};
use fanout::Fanout;
use lease::Leases;
pub use open::OpenError;

/// Key to version (8 bytes), lease (8 bytes, 0 for none) and value.
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// `version`: the last commit; `format`: of this file.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The format that this program writes.
const FORMAT: u64 = 1;
/// Bytes before a value.
const HEADER: usize = 16;

/// How a database is opened again after an I/O error.
type Reopen = Box<dyn Fn() -> Result<Database, OpenError> + Send + Sync>;

/// The embedded store. Cloning shares it.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` after an I/O error, until it is opened again.
    database: Mutex<Option<Database>>,
    reopen: Reopen,
    /// Set for good by [`EmbeddedStore::close`].
    closed: AtomicBool,
    /// Held over a commit, so that watchers see commits in order.
    fanout: Mutex<Fanout>,
    leases: Leases,
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

    /// Closes the file; whoever still has the store gets [`Error::Unavailable`]. Blocks while a commit runs.
    pub fn close(&self) {
        let mut slot = self.inner.database.lock();
        self.inner.closed.store(true, Ordering::Release);
        slot.take();
    }

    fn with_database(database: Database, reopen: Reopen) -> Result<Self, Error> {
        let version = read_version(&database).map_err(|error| store_error(&error))?;
        let inner = Inner {
            database: Mutex::new(Some(database)),
            reopen,
            closed: AtomicBool::new(false),
            fanout: Mutex::new(Fanout::new(version)),
            leases: Leases::default(),
        };
        // Leases lived in the process that is gone.
        inner.delete_leased(|_| true)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs `work` on a blocking thread.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let inner = Arc::clone(&self.inner);
        async move {
            tokio::task::spawn_blocking(move || work(&inner))
                .await
                .unwrap_or_else(|error| Err(Error::Unavailable(format!("the store's thread ended: {error}"))))
        }
        .boxed()
    }
}

impl Inner {
    /// Runs `work` on the database; an I/O error closes it, to be opened again by the next call.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failed>) -> Result<T, Error> {
        let mut slot = self.database.lock();
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Unavailable("the head is stopping".into()));
        }
        let database = match slot.take() {
            Some(database) => database,
            None => (self.reopen)().map_err(|error| match error {
                OpenError::Io { source, .. } if is_full(&source) => Error::Full,
                other => Error::Unavailable(other.to_string()),
            })?,
        };
        match work(&database) {
            Err(Failed::Database(error)) => {
                // The library refuses every later write after an I/O error.
                drop(database);
                Err(store_error(&error))
            }
            Err(Failed::Refused(error)) => {
                *slot = Some(database);
                Err(error)
            }
            Ok(value) => {
                *slot = Some(database);
                Ok(value)
            }
        }
    }

    fn commit(&self, writes: &[Write]) -> Result<Version, Error> {
        let ended = writes.iter().filter_map(|write| write.lease).find(|&lease| !self.leases.is_alive(lease));
        if let Some(lease) = ended {
            return Err(Error::LeaseEnded(lease));
        }
        let mut fanout = self.fanout.lock();
        let (version, changes) = self.with(|database| write_all(database, writes))?;
        if !changes.is_empty() {
            fanout.publish(version, changes);
        }
        Ok(version)
    }

    /// Deletes the keys of the leases that `ended` names.
    fn delete_leased(&self, ended: impl Fn(LeaseId) -> bool) -> Result<(), Error> {
        let keys = self.with(|database| {
            let table =
                database.begin_read().map_err(Failed::from)?.open_table(ENTRIES).map_err(Failed::from)?;
            let mut keys = Vec::new();
            for entry in table.iter().map_err(Failed::from)? {
                let (key, row) = entry.map_err(Failed::from)?;
                let (_, lease, _) = decode(row.value())?;
                if lease != 0 && ended(LeaseId(lease)) {
                    keys.push(key.value().to_owned());
                }
            }
            Ok(keys)
        })?;
        if keys.is_empty() {
            return Ok(());
        }
        let writes: Vec<_> = keys.into_iter().map(|key| Write::delete(key, Expected::Any)).collect();
        self.commit(&writes).map(drop)
    }
}

/// How work on the database ended early.
enum Failed {
    /// The database failed.
    Database(redb::Error),
    /// The work was refused; the database is fine.
    Refused(Error),
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// One transaction: checks every expectation, writes, gives the new version and what changed.
fn write_all(database: &Database, writes: &[Write]) -> Result<(Version, Vec<Change>), Failed> {
    let mut transaction = database.begin_write()?;
    // A crash can then never be repaired by going back to the commit before.
    transaction.set_two_phase_commit(true);
    let mut changes = Vec::with_capacity(writes.len());
    let version;
    {
        let mut meta = transaction.open_table(META)?;
        let mut entries = transaction.open_table(ENTRIES)?;
        version = meta.get("version")?.map_or(0, |version| version.value()) + 1;
        meta.insert("version", version)?;
        for write in writes {
            let there = entries
                .get(write.key.as_str())?
                .map(|row| decode(row.value()).map(|row| row.0))
                .transpose()?;
            let holds = match write.expected {
                Expected::Absent => there.is_none(),
                Expected::Version(version) => there == Some(version),
                Expected::Any => true,
            };
            if !holds {
                return Err(Failed::Refused(Error::Conflict { key: write.key.clone() }));
            }
        }
        for write in writes {
            match &write.value {
                Some(value) => {
                    let row = encode(version, write.lease, value);
                    entries.insert(write.key.as_str(), row.as_slice())?;
                }
                None if entries.remove(write.key.as_str())?.is_none() => continue,
                None => {}
            }
            changes.push(Change { key: write.key.clone(), value: write.value.clone() });
        }
    }
    transaction.commit()?;
    Ok((version, changes))
}

fn encode(version: Version, lease: Option<LeaseId>, value: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEADER + value.len());
    row.extend_from_slice(&version.to_le_bytes());
    row.extend_from_slice(&lease.map_or(0, |lease| lease.0).to_le_bytes());
    row.extend_from_slice(value);
    row
}

fn decode(row: &[u8]) -> Result<(Version, u64, &[u8]), Failed> {
    let short = || Failed::Database(redb::Error::Corrupted("an entry is too short".into()));
    let (version, rest) = row.split_first_chunk().ok_or_else(short)?;
    let (lease, value) = rest.split_first_chunk().ok_or_else(short)?;
    Ok((u64::from_le_bytes(*version), u64::from_le_bytes(*lease), value))
}

fn read_version(database: &Database) -> Result<Version, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let version = meta.get("version")?.map_or(0, |version| version.value());
    Ok(version)
}

fn read_prefix(database: &Database, prefix: &str) -> Result<Listing, Failed> {
    let transaction = database.begin_read()?;
    let version = transaction.open_table(META)?.get("version")?.map_or(0, |version| version.value());
    let table = transaction.open_table(ENTRIES)?;
    let mut entries = Vec::new();
    for entry in table.range(prefix..)? {
        let (key, row) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        let (version, _, value) = decode(row.value())?;
        entries.push(Entry { key: key.value().to_owned(), value: value.to_vec(), version });
    }
    Ok(Listing { entries, version })
}

fn read_key(database: &Database, key: &str) -> Result<Option<Entry>, Failed> {
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let Some(row) = table.get(key)? else { return Ok(None) };
    let (version, _, value) = decode(row.value())?;
    Ok(Some(Entry { key: key.to_owned(), value: value.to_vec(), version }))
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

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        store_error(&error.into())
    }
}

impl Store for EmbeddedStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        let key = key.to_owned();
        self.run(move |inner| inner.with(|database| read_key(database, &key)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>> {
        let prefix = prefix.to_owned();
        self.run(move |inner| inner.with(|database| read_prefix(database, &prefix)))
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Version, Error>> {
        self.run(move |inner| inner.commit(&writes))
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Version) -> BoxFuture<'a, Result<Watch, Error>> {
        let prefix = prefix.to_owned();
        self.run(move |inner| Ok(inner.fanout.lock().watch(&prefix, after)))
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>> {
        async move {
            let lease = self.inner.leases.grant(ttl);
            tokio::spawn(lease::end_when_due(Arc::downgrade(&self.inner), lease));
            Ok(lease)
        }
        .boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        async move { self.inner.leases.keep_alive(lease) }.boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.run(move |inner| {
            inner.leases.end(lease)?;
            inner.delete_leased(|ended| ended == lease)
        })
    }
}

#[cfg(test)]
mod tests;
