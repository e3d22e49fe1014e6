//! What every store must do, as one function that each implementation's tests call. It panics with the name of the
//! rule that does not hold.
//!
//! A store that tests break on purpose is held to the same rules, except for what [`Excuse`] names.

mod commits;
mod leases;
mod watches;

use std::time::Duration;

use super::{Entry, Error, Listing, Store, Txn, Version, WatchEvent, Write};

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most attempts at a commit of which it cannot be told whether it was written.
const MAX_ATTEMPTS: usize = 10;

/// What a store may do that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excuse {
    /// A commit may end with [`Error::Unknown`], whether it was written or not. Reading tells.
    UnknownCommits,
    /// A watch may end with [`WatchEvent::Broken`] before any event. It resumes from the last version.
    BrokenWatches,
}

/// Runs the whole suite, each part on a fresh store; `make_store` gives one with whatever keeps it alive. All keys of
/// the suite begin with `suite/`.
///
/// # Panics
/// When a rule does not hold.
pub async fn run<S: Store, G>(excuses: &[Excuse], make_store: impl AsyncFn() -> (S, G)) {
    for part in 0..NUM_PARTS {
        let (store, _guard) = make_store().await;
        run_part(part, &Subject { store, excuses }).await;
    }
}

const NUM_PARTS: usize = 10;

async fn run_part(part: usize, subject: &Subject<'_, impl Store>) {
    match part {
        0 => commits::reads_and_writes(subject).await,
        1 => commits::several_prefixes_are_read_at_one_version(subject).await,
        2 => commits::all_or_nothing(subject).await,
        3 => commits::guards(subject).await,
        4 => commits::limits(subject).await,
        5 => commits::concurrent_creates_have_one_winner(subject).await,
        6 => watches::order_and_resumption(subject).await,
        7 => watches::an_old_version_gives_all_or_a_gap(subject).await,
        8 => leases::ends(subject).await,
        _ => leases::bindings(subject).await,
    }
}

/// The store under test, asked so that what is excused does not show.
struct Subject<'a, S> {
    store: S,
    excuses: &'a [Excuse],
}

impl<S: Store> Subject<'_, S> {
    fn excuses(&self, excuse: Excuse) -> bool {
        self.excuses.contains(&excuse)
    }

    /// Commits, as often as it takes to know the outcome.
    async fn try_commit(&self, txn: impl Into<Txn>) -> Result<Version, Error> {
        let txn = txn.into();
        let before = self.version().await;
        for _ in 0..MAX_ATTEMPTS {
            match self.store.commit(txn.clone()).await {
                Err(Error::Unknown(_)) if self.excuses(Excuse::UnknownCommits) => {
                    if let Some(version) = self.written_after(before, &txn).await {
                        return Ok(version);
                    }
                }
                outcome => return outcome,
            }
        }
        panic!("{MAX_ATTEMPTS} commits in a row had no known outcome");
    }

    /// The version at which the writes were made, if they were. Nobody else writes in the suite.
    async fn written_after(&self, before: Version, txn: &Txn) -> Option<Version> {
        let listing = self.list("suite/").await;
        let holds = |write: &Write| {
            let entry = listing.get(&write.key);
            entry.map(|entry| &entry.value) == write.value.as_ref()
                && entry.is_none_or(|entry| entry.version > before)
        };
        (listing.version > before && txn.writes.iter().all(holds)).then_some(listing.version)
    }

    async fn commit(&self, txn: impl Into<Txn>) -> Version {
        ok(self.try_commit(txn).await)
    }

    async fn put(&self, write: Write) -> Version {
        self.commit(write).await
    }

    async fn get(&self, key: &str) -> Option<Entry> {
        ok(self.store.get(key).await)
    }

    async fn list(&self, prefix: &str) -> Listing {
        ok(self.store.list(&[prefix]).await)
    }

    async fn version(&self) -> Version {
        self.list("suite/").await.version
    }

    /// Follows a prefix from a version on.
    async fn follow<'a>(&'a self, prefix: &'a str, after: Version) -> Follower<'a, S> {
        Follower { subject: self, prefix, after, watch: ok(self.store.watch(prefix, after).await) }
    }
}

/// A watch that resumes where that is excused.
struct Follower<'a, S> {
    subject: &'a Subject<'a, S>,
    prefix: &'a str,
    after: Version,
    watch: super::Watch,
}

impl<S: Store> Follower<'_, S> {
    async fn next(&mut self) -> WatchEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.watch.next()).await;
            match event.expect("a watch event comes in time").expect("the watch goes on") {
                WatchEvent::Broken(_) if self.subject.excuses(Excuse::BrokenWatches) => {
                    assert_eq!(self.watch.next().await, None, "nothing follows a broken connection");
                    self.watch = ok(self.subject.store.watch(self.prefix, self.after).await);
                }
                WatchEvent::Changed { version, changes } => {
                    assert!(version > self.after, "a watch gives nothing twice, and versions grow");
                    self.after = version;
                    return WatchEvent::Changed { version, changes };
                }
                event => return event,
            }
        }
    }
}

fn ok<T>(result: Result<T, Error>) -> T {
    result.expect("the store does what it is asked")
}

/// Keys of a listing, without the suite's prefix.
fn keys(listing: &Listing) -> Vec<&str> {
    listing.under("suite/").map(|(key, _)| key).collect()
}
