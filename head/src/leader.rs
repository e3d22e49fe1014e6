//! Leading. The head that leads has written the leader key last; whatever it writes is guarded by that, see [`Fenced`].
//! On the embedded store the one head there is takes the key over at its start.
//!
//! A term (epoch) is a number in the store that grows with each head that comes to lead. Workers refuse commands of an
//! older term, so two heads never both command.

use std::sync::Arc;
use std::time::Duration;

use crate::store::{self, Entry, Expected, Fenced, Guard, Store, Version, Write};

/// The key that the head writes which leads: its name.
const LEADER: &str = "leader";
/// The term's key.
const EPOCH: &str = "epoch";
/// There while no replica runs: left by a head that stopped after all workers had.
const QUIET: &str = "quiet";
/// How often a change of the term is tried when somebody else gets in between.
const MAX_ATTEMPTS: usize = 8;
/// The last term: versions of route tables are made of the term and 32 bits.
const MAX_EPOCH: u64 = u32::MAX as u64;
/// How far above the cluster's term a worker may say that it has obeyed one: more than a store that was put back can be
/// behind. The number comes from the network, and terms cannot be taken back.
const MAX_JUMP: u64 = 100_000;

/// Why no term begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store's number of the term is not one.
    #[error(
        "the store's key `{EPOCH}` has the value `{0}`, which is not a number of a term; restore a backup"
    )]
    Unreadable(String),
    /// Somebody has obeyed a term far above ours.
    #[error(
        "epoch {floor} is too far above this cluster's {last}: that worker belonged to another cluster, or its data is \
         damaged; delete the file `epoch` in its data directory if it is to join this one"
    )]
    Jump {
        /// The term that was obeyed.
        floor: u64,
        /// The store's last term.
        last: u64,
    },
    /// There are no more numbers.
    #[error(
        "epoch {MAX_EPOCH} was the last that there is; move the store away and deploy the pipelines again"
    )]
    Exhausted,
}

/// A term that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// Its number.
    pub(crate) epoch: u64,
    /// Whether replicas of the term before may still run.
    pub(crate) inherits: Inherits,
}

/// What a term may find running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inherits {
    /// Nothing: the head before stopped after everything else had.
    Nothing,
    /// Replicas that workers will report when they dial again.
    Replicas,
}

impl Inherits {
    /// How long to wait for reports.
    pub(crate) fn settle(self, settle: Duration) -> Duration {
        match self {
            Self::Nothing => Duration::ZERO,
            Self::Replicas => settle,
        }
    }
}

/// What a head has that leads.
pub(crate) struct Leadership {
    /// The store, for as long as nobody else leads.
    pub(crate) store: Fenced,
    /// Its first term.
    pub(crate) term: Term,
}

/// Comes to lead, in a new term; whoever led before writes nothing any more.
pub(crate) async fn win(store: &Arc<dyn Store>, name: &str) -> Result<Leadership, Error> {
    let (term, version) = begin(&**store, 0, Some(name)).await?;
    let guard = Guard::new(LEADER, Expected::Version(version));
    Ok(Leadership { store: Fenced::new(Arc::clone(store), guard), term })
}

/// Begins a new term of a head that leads, above the last one and above `floor`.
pub(crate) async fn begin_term(store: &Fenced, floor: u64) -> Result<Term, Error> {
    Ok(begin(store, floor, None).await?.0)
}

/// Notes that nothing runs any more, so that the next head need not wait for reports.
pub(crate) async fn note_quiet(store: &Fenced) -> Result<Version, store::Error> {
    store.commit(Write::put(QUIET, Expected::Any, "").into()).await
}

/// Tries again when somebody else got in between, and when it cannot be told whether a term began: the next one is above
/// it in any case.
async fn begin(store: &dyn Store, floor: u64, leader: Option<&str>) -> Result<(Term, Version), Error> {
    for _ in 1..MAX_ATTEMPTS {
        match try_begin(store, floor, leader).await {
            Err(Error::Store(store::Error::Conflict { .. } | store::Error::Unknown(_))) => {}
            outcome => return outcome,
        }
    }
    try_begin(store, floor, leader).await
}

/// Begins a term, which `leader` comes to lead when it is given. Gives the version of that commit.
async fn try_begin(store: &dyn Store, floor: u64, leader: Option<&str>) -> Result<(Term, Version), Error> {
    let read = store.list(&[LEADER, EPOCH, QUIET]).await?;
    let entry = read.get(EPOCH);
    let is_quiet = read.get(QUIET).is_some();
    let inherits = if entry.is_none() || is_quiet { Inherits::Nothing } else { Inherits::Replicas };
    let last = entry.map_or(Ok(0), number)?;
    if floor.saturating_sub(last) > MAX_JUMP {
        return Err(Error::Jump { floor, last });
    }
    let epoch = last.max(floor).checked_add(1).filter(|epoch| *epoch <= MAX_EPOCH).ok_or(Error::Exhausted)?;
    let mut writes =
        vec![Write::put(EPOCH, unchanged(entry), epoch.to_string()), Write::delete(QUIET, Expected::Any)];
    writes.extend(leader.map(|name| Write::put(LEADER, unchanged(read.get(LEADER)), name)));
    let version = store.commit(writes.into()).await?;
    Ok((Term { epoch, inherits }, version))
}

/// Expects a key as it was read.
fn unchanged(entry: Option<&Entry>) -> Expected {
    entry.map_or(Expected::Absent, |entry| Expected::Version(entry.version))
}

fn number(entry: &Entry) -> Result<u64, Error> {
    let text = String::from_utf8_lossy(&entry.value);
    text.parse().map_err(|_| Error::Unreadable(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::faulty::{Fault, Faulty};

    fn term(epoch: u64, inherits: Inherits) -> Term {
        Term { epoch, inherits }
    }

    fn open() -> (Arc<dyn Store>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Arc::new(EmbeddedStore::open(dir.path()).unwrap()), dir)
    }

    #[tokio::test]
    async fn terms_grow_and_know_whether_something_may_run() {
        let (store, _dir) = open();
        let first = win(&store, "a").await.unwrap();
        assert_eq!(first.term, term(1, Inherits::Nothing));
        let second = win(&store, "a").await.unwrap();
        assert_eq!(second.term, term(2, Inherits::Replicas));
        note_quiet(&second.store).await.unwrap();
        let third = win(&store, "a").await.unwrap();
        assert_eq!(third.term, term(3, Inherits::Nothing));
        assert_eq!(begin_term(&third.store, 0).await, Ok(term(4, Inherits::Replicas)));
        assert_eq!(begin_term(&third.store, 40).await, Ok(term(41, Inherits::Replicas)));
    }

    #[tokio::test]
    async fn who_leads_no_longer_begins_no_term_and_notes_nothing() {
        let (store, _dir) = open();
        let old = win(&store, "a").await.unwrap().store;
        let new = win(&store, "b").await.unwrap().store;
        assert_eq!(begin_term(&old, 0).await, Err(Error::Store(store::Error::NotLeading)));
        assert_eq!(note_quiet(&old).await, Err(store::Error::NotLeading));
        assert_eq!(begin_term(&new, 0).await, Ok(term(3, Inherits::Replicas)));
    }

    #[tokio::test]
    async fn a_term_whose_beginning_is_unknown_is_followed_by_the_next() {
        let (store, _dir) = open();
        let faulty = Arc::new(Faulty::new(store));
        faulty.break_commits([Fault::Written, Fault::Lost]);
        let store: Arc<dyn Store> = faulty.clone();
        let won = win(&store, "a").await.unwrap();
        assert_eq!(won.term.epoch, 2);
        faulty.break_commits([Fault::Written]);
        assert_eq!(begin_term(&won.store, 0).await.unwrap().epoch, 4);
    }

    #[tokio::test]
    async fn a_number_from_the_network_lifts_the_term_by_a_bounded_step_and_never_wraps() {
        let (store, _dir) = open();
        let mine = win(&store, "a").await.unwrap().store;
        for floor in [MAX_JUMP + 2, u64::MAX - 1, u64::MAX] {
            assert_eq!(begin_term(&mine, floor).await, Err(Error::Jump { floor, last: 1 }));
        }
        assert_eq!(begin_term(&mine, MAX_JUMP + 1).await.unwrap().epoch, MAX_JUMP + 2);
        let last = MAX_EPOCH.to_string();
        store.commit(Write::put(EPOCH, Expected::Any, last).into()).await.unwrap();
        assert_eq!(begin_term(&mine, u64::from(u32::MAX) + 5).await, Err(Error::Exhausted));
        assert_eq!(begin_term(&mine, 0).await, Err(Error::Exhausted));
    }

    #[tokio::test]
    async fn a_term_that_cannot_be_read_is_an_error() {
        let (store, _dir) = open();
        for value in ["", "seven", "-1", "18446744073709551616"] {
            store.commit(Write::put(EPOCH, Expected::Any, value).into()).await.unwrap();
            let Err(error) = win(&store, "a").await else { panic!("`{value}` was taken for a term") };
            assert_eq!(error, Error::Unreadable(value.into()));
        }
    }
}
