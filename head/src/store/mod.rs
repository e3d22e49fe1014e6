//! What people asked for, kept: a small ordered key-value store with versions, watches and leases.
//!
//! Only the head that leads writes it. One trait, so that one machine runs on a single file ([`embedded`]) and several
//! can share etcd; [`conformance`] says what every implementation must do. Above an implementation stand two others that
//! pass on what they are asked: `Timed` ends calls that hang, [`Fenced`] refuses whatever is written by a head that leads
//! no longer.

pub mod conformance;
pub mod embedded;
#[cfg(test)]
pub(crate) mod faulty;
mod fenced;
pub(crate) mod timed;
mod txn;
mod watch;

use std::time::Duration;

use futures_util::future::BoxFuture;

pub use fenced::Fenced;
pub use txn::{Expected, Guard, MAX_TXN_BYTES, MAX_TXN_OPERATIONS, OPERATION_BYTES, Txn, Write};
pub use watch::{Change, Watch, WatchEvent};

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

/// All entries under some prefixes at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The entries, by key, none twice.
    pub entries: Vec<Entry>,
    /// The store's version when they were read; a watch may start after it.
    pub version: Version,
}

impl Listing {
    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|entry| entry.key.as_str().cmp(key)).ok()?;
        self.entries.get(index)
    }

    /// The entries under a prefix, each with what follows the prefix in its key.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.entries.iter().filter_map(move |entry| Some((entry.key.strip_prefix(prefix)?, entry)))
    }
}

/// A lease's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// A lease as it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// How long it lasts unless it is kept alive; a store may grant another time than it was asked for. Counted from the
    /// moment of the call, not of its answer: a holder that counts so never believes in its lease longer than the store.
    pub ttl: Duration,
}

/// Why the store did not do what it was asked. After each of them but [`Error::Unknown`] nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An expectation failed.
    #[error("`{key}` was changed by somebody else meanwhile; read again and retry")]
    Conflict {
        /// The first key whose expectation failed; guards come before writes.
        key: String,
    },
    /// The head that writes leads no longer.
    #[error("not_leader: another head leads the cluster now; retry, so that the command reaches it")]
    NotLeading,
    /// No room.
    #[error("storage_full: the disk under the store is full; free some space and retry, nothing was changed")]
    Full,
    /// The commit is beyond the limits.
    #[error(
        "too_large: a change of {found} {what} is more than the store takes at once ({max}); make it smaller"
    )]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The commit makes no sense.
    #[error("the store was asked for something that makes no sense: {0}; please report it")]
    Invalid(String),
    /// The store cannot be reached or used just now.
    #[error("store_unavailable: {0}; nothing was changed, retry later")]
    Unavailable(String),
    /// The store was asked to write, and whether it did cannot be told. Read again before the next attempt.
    #[error(
        "store_unavailable: it cannot be told whether the change was stored ({0}); retry later, a change that was \
             stored is not made twice"
    )]
    Unknown(String),
    /// The lease has ended.
    #[error("lease {} has ended; take a new one", .0.0)]
    LeaseEnded(LeaseId),
}

/// A store. Each method is one round trip; commits are durable when they return.
pub trait Store: Send + Sync + 'static {
    /// One key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>>;

    /// All keys that start with one of `prefixes`, at one version.
    fn list<'a>(&'a self, prefixes: &'a [&'a str]) -> BoxFuture<'a, Result<Listing, Error>>;

    /// Writes all or nothing, see [`Txn`]. Returns the store's version after it. What [`Txn::check`] refuses is not tried.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Version, Error>>;

    /// Changes under `prefix` after version `after`. When they are no longer all known, the first event is
    /// [`WatchEvent::Gap`].
    fn watch<'a>(&'a self, prefix: &'a str, after: Version) -> BoxFuture<'a, Result<Watch, Error>>;

    /// A lease that ends once it was not kept alive for its time, or with the store's process when it is embedded. Its
    /// keys are deleted then, as soon as the store can.
    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, Error>>;

    /// Renews a lease. Returns the time that is left, counted from the moment of the call as in [`Lease::ttl`].
    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>>;

    /// Ends a lease now and deletes its keys.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>>;
}

#[cfg(test)]
mod tests;
