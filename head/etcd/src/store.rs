//! The operations of the store, as etcd's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{
    Client, GetOptions, KeyValue, KvClient, ResponseHeader, Txn as EtcdTxn, TxnOp, TxnOpResponse,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use millstream_head::store::{Entry, Error, Lease, LeaseId, Listing, Store, Txn, Version, Watch};
use tokio::time::timeout;

use crate::access::Access;
use crate::address::Address;
use crate::commit::{self, version};
use crate::failure::Failure;
use crate::members::{MAX_ANSWER_BYTES, Members, Repeat};
use crate::watch;

/// How values are written; another number is of another release.
const FORMAT: &str = "1";
/// How long etcd may take to answer at the start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A lease that an operation has nothing to do with.
const NO_LEASE: LeaseId = LeaseId(0);

/// Why a store on etcd could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// etcd does not answer, or does not let us in.
    #[error("store_unavailable: {address}: {reason}; check that etcd runs and that --store names it")]
    Unreachable {
        /// Of the store.
        address: String,
        /// What is known.
        reason: String,
    },
    /// It was written by another release.
    #[error(
        "{address} is in format {found}, and this release reads format {FORMAT}; use the release that wrote it, export its state \
         with `cluster state export`, and import that into a new prefix"
    )]
    Format {
        /// Of the store.
        address: String,
        /// What it says.
        found: String,
    },
}

/// A store on etcd. Cloning shares it.
#[derive(Clone)]
pub struct EtcdStore {
    members: Arc<Members>,
    /// What all keys begin with.
    prefix: String,
}

impl EtcdStore {
    /// Opens the store at that address; one that nobody has used is empty.
    ///
    /// # Errors
    /// [`OpenError`] when no member answers in time, or the store has another format.
    pub async fn open(address: &Address, access: &Access) -> Result<Self, OpenError> {
        let members = Arc::new(Members::new(&address.members, access));
        let store = Self { members, prefix: format!("/{}/keys/", address.prefix) };
        let unreachable = |reason| OpenError::Unreachable { address: address.to_string(), reason };
        let format = timeout(OPEN_TIMEOUT, store.format(format!("/{}/format", address.prefix))).await;
        let format =
            format.unwrap_or_else(|_| Err(Error::Unavailable(format!("no answer in {OPEN_TIMEOUT:?}"))));
        let found = format.map_err(|error| match error {
            Error::Unavailable(reason) | Error::Unknown(reason) => unreachable(reason),
            other => unreachable(other.to_string()),
        })?;
        if found != FORMAT {
            return Err(OpenError::Format { address: address.to_string(), found });
        }
        Ok(store)
    }

    /// In which format the store is; one without any comes to be in ours.
    async fn format(&self, key: String) -> Result<String, Error> {
        use etcd_client::{Compare, CompareOp};
        let work = |client: Client| {
            let absent = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
            let put = TxnOp::put(key.as_str(), FORMAT, None);
            let txn = EtcdTxn::new().when([absent]).and_then([put]).or_else([TxnOp::get(key.as_str(), None)]);
            async move { kv(&client).txn(txn).await }
        };
        // Done twice, it says what is there.
        let response =
            self.members.ask(Repeat::Harmless, work).await.map_err(|failure| failure.of_read(NO_LEASE))?;
        let found = response.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(read) => {
                read.kvs().first().map(|entry| String::from_utf8_lossy(entry.value()).into())
            }
            _ => None,
        });
        Ok(found.unwrap_or_else(|| FORMAT.into()))
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// An entry of ours; keys that are not text are of somebody else.
    fn entry(&self, entry: &KeyValue) -> Option<Entry> {
        let key = entry.key_str().ok()?.strip_prefix(&self.prefix)?.to_owned();
        Some(Entry { key, value: entry.value().to_vec(), version: version(entry.mod_revision()) })
    }

    async fn read_prefixes(&self, prefixes: &[&str]) -> Result<Listing, Failure> {
        let work = |client: Client| {
            let read = |prefix: &&str| TxnOp::get(self.full(prefix), Some(GetOptions::new().with_prefix()));
            let txn = EtcdTxn::new().and_then(prefixes.iter().map(read).collect::<Vec<_>>());
            async move { kv(&client).txn(txn).await }
        };
        let response = self.members.ask(Repeat::Harmless, work).await?;
        let mut entries = Vec::new();
        for response in response.op_responses() {
            let TxnOpResponse::Get(read) = response else { continue };
            entries.extend(read.kvs().iter().filter_map(|entry| self.entry(entry)));
        }
        entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        entries.dedup_by(|one, other| one.key == other.key);
        Ok(Listing { entries, version: version(response.header().map_or(0, ResponseHeader::revision)) })
    }

    async fn write(&self, txn: Txn) -> Result<Version, Error> {
        txn.check()?;
        let work = |client: Client| {
            let txn = commit::transaction(&txn, &self.prefix);
            async move { kv(&client).txn(txn).await }
        };
        let response = self.members.ask(Repeat::Never, work).await;
        match response {
            Ok(response) => commit::outcome(&txn, &response),
            Err(Failure::NoLease) => Err(Error::LeaseEnded(self.ended_lease(&txn).await?)),
            Err(failure) => Err(failure.of_write(NO_LEASE)),
        }
    }

    /// Which of the leases of a commit has ended: etcd says only that one of them has.
    async fn ended_lease(&self, txn: &Txn) -> Result<LeaseId, Error> {
        let mut leases: Vec<_> = txn.writes.iter().filter_map(|write| write.lease).collect();
        leases.dedup();
        let last = leases.pop().unwrap_or(NO_LEASE);
        for lease in leases {
            let work = |client: Client| async move {
                client.lease_client().time_to_live(lease.0.cast_signed(), None).await
            };
            match self.members.ask(Repeat::Harmless, work).await {
                Ok(left) if left.ttl() > 0 => {}
                Ok(_) | Err(Failure::NoLease) => return Ok(lease),
                Err(failure) => return Err(failure.of_read(lease)),
            }
        }
        Ok(last)
    }
}

/// Reads answers of any size.
fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(MAX_ANSWER_BYTES)
}

/// A time to live that etcd has told.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}

/// Renews a lease; the first answer of etcd is hidden by its client, so it is asked twice.
async fn renew(client: Client, lease: LeaseId) -> Result<i64, etcd_client::Error> {
    let ended = || etcd_client::Error::LeaseKeepAliveError("lease not found".into());
    let (mut keeper, mut answers) = client.lease_client().keep_alive(lease.0.cast_signed()).await?;
    keeper.keep_alive().await?;
    let answer = answers
        .message()
        .await?
        .ok_or_else(|| etcd_client::Error::WatchError("etcd ended a renewal without an answer".into()))?;
    if answer.ttl() > 0 { Ok(answer.ttl()) } else { Err(ended()) }
}

impl Store for EtcdStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, Error>> {
        async move {
            let full = self.full(key);
            let work = |client: Client| {
                let full = full.clone();
                async move { kv(&client).get(full, None).await }
            };
            let read = self
                .members
                .ask(Repeat::Harmless, work)
                .await
                .map_err(|failure| failure.of_read(NO_LEASE))?;
            Ok(read.kvs().first().and_then(|entry| self.entry(entry)))
        }
        .boxed()
    }

    fn list<'a>(&'a self, prefixes: &'a [&'a str]) -> BoxFuture<'a, Result<Listing, Error>> {
        self.read_prefixes(prefixes).map(|read| read.map_err(|failure| failure.of_read(NO_LEASE))).boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Version, Error>> {
        self.write(txn).boxed()
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Version) -> BoxFuture<'a, Result<Watch, Error>> {
        async move {
            let key = self.full(prefix);
            let work = |client: Client| watch::begin(client, key.clone(), after).boxed();
            let begun = self.members.ask(Repeat::Harmless, work).await;
            let begun = begun.map_err(|failure| failure.of_read(NO_LEASE))?;
            Ok(begun.events(self.prefix.clone()))
        }
        .boxed()
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, Error>> {
        async move {
            let seconds_asked = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
            let work = |client: Client| async move { client.lease_client().grant(seconds_asked, None).await };
            // A lease whose answer was lost ends by itself.
            let granted = self.members.ask(Repeat::Harmless, work).await;
            let granted = granted.map_err(|failure| failure.of_read(NO_LEASE))?;
            Ok(Lease { id: LeaseId(granted.id().cast_unsigned()), ttl: seconds(granted.ttl()) })
        }
        .boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>> {
        async move {
            let left = self.members.ask(Repeat::Harmless, |client| renew(client, lease).boxed()).await;
            left.map(seconds).map_err(|failure| failure.of_read(lease))
        }
        .boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let tries = AtomicUsize::new(0);
            let work = |client: Client| {
                tries.fetch_add(1, Ordering::Relaxed);
                async move { client.lease_client().revoke(lease.0.cast_signed()).await }
            };
            match self.members.ask(Repeat::Harmless, work).await {
                // A try whose answer was lost has revoked it.
                Err(Failure::NoLease) if tries.load(Ordering::Relaxed) > 1 => Ok(()),
                revoked => revoked.map(drop).map_err(|failure| failure.of_write(lease)),
            }
        }
        .boxed()
    }
}
