//! What people asked for, kept: a small ordered key-value store with versions, watches and leases.
//!
//! Only the head writes it. One trait, so that one machine runs on a single file ([`embedded`]) and several can share
//! etcd; [`conformance`] says what every implementation must do.

pub mod conformance;
pub mod embedded;
pub(crate) mod timed;

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};

/// A point in the store's history; each commit makes the next one.
pub type Version = u64;

/// A key's value and when it was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// Version of the commit that wrote it.
    pub version: Version,
}

/// All entries under a prefix at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The entries, by key.
    pub entries: Vec<Entry>,
    /// The store's version when they were read; a watch may start after it.
    pub version: Version,
}

/// What a write expects to find; a commit whose expectation fails changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The key does not exist.
    Absent,
    /// The key was last written by this version.
    Version(Version),
    /// Anything.
    Any,
}

/// A lease's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// One key's part of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// What must be there.
    pub expected: Expected,
    /// The new value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
    /// The key is deleted when this lease ends.
    pub lease: Option<LeaseId>,
}

impl Write {
    /// Writes a value.
    #[must_use]
    pub fn put(key: impl Into<String>, expected: Expected, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), expected, value: Some(value.into()), lease: None }
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(key: impl Into<String>, expected: Expected) -> Self {
        Self { key: key.into(), expected, value: None, lease: None }
    }

    /// Ties the key to a lease.
    #[must_use]
    pub fn with_lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }
}

/// A key's new value (`None`: it was deleted).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its value now.
    pub value: Option<Vec<u8>>,
}

/// What a watch yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// A commit touched these keys under the prefix.
    Changed {
        /// The commit.
        version: Version,
        /// The keys, in the order they were written.
        changes: Vec<Change>,
    },
    /// Changes were missed; list again and watch from there. Nothing follows.
    Gap,
}

/// Changes under a prefix, in order, none twice.
pub struct Watch {
    events: BoxStream<'static, WatchEvent>,
}

impl Watch {
    /// A watch that yields these events.
    pub fn new(events: impl futures_util::Stream<Item = WatchEvent> + Send + 'static) -> Self {
        Self { events: events.boxed() }
    }

    /// The next event; `None` when the store is closed or after a gap.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.next().await
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An expectation failed; nothing was written.
    #[error("`{key}` was changed by somebody else meanwhile; read again and retry")]
    Conflict {
        /// The first key whose expectation failed.
        key: String,
    },
    /// No room; nothing was written.
    #[error("storage_full: the disk under the store is full; free some space and retry, nothing was changed")]
    Full,
    /// The store cannot be reached or used just now; nothing was written, or it cannot be told.
    #[error("store_unavailable: {0}; retry later")]
    Unavailable(String),
    /// The lease has ended.
    #[error("lease {} has ended; take a new one", .0.0)]
    LeaseEnded(LeaseId),
}

/// A store. Each method is one round trip; commits are durable when they return.
pub trait Store: Send + Sync + 'static {
    /// One key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>>;

    /// All keys that start with `prefix`, at one version.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>>;

    /// Writes all or nothing: compare-and-swap over every key of `writes`. Gives the new version.
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Version, Error>>;

    /// Changes under `prefix` after version `after`. When they are no longer all known, the first event is
    /// [`WatchEvent::Gap`].
    fn watch<'a>(&'a self, prefix: &'a str, after: Version) -> BoxFuture<'a, Result<Watch, Error>>;

    /// A lease that ends `ttl` after its last [`Store::keep_alive`], or with the store's process when it is embedded.
    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>>;

    /// Renews a lease for its full time.
    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>>;

    /// Ends a lease now and deletes its keys.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>>;
}
