//! The election. Whoever has written the leader key leads, for as long as the lease lasts that the key is tied to;
//! whatever a leader writes is guarded by the key, see [`Fenced`].
//!
//! A term has a number in the store (epoch) that grows with each election. Workers refuse commands of an older term, so
//! two heads never both command.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::store::{self, Entry, Expected, Fenced, Guard, LeaseId, Store, Version, Write};
use crate::{clock, random};

/// The leader key: who leads, as JSON.
pub(crate) const LEADER: &str = "leadership";
/// The last term's number.
const EPOCH: &str = "epoch";
/// There while no replica runs: left by a head that stopped after all workers had.
pub(crate) const QUIET: &str = "quiet";
/// The cluster's id, made by the first leader.
pub(crate) const CLUSTER_ID: &str = "cluster_id";
/// There while an import is under way.
pub(crate) const IMPORTING: &str = "importing";
/// How often an election is tried when somebody else gets in between.
const MAX_ATTEMPTS: usize = 8;
/// How far above the cluster's term a worker may say that it has obeyed one: more than a store that was put back can be
/// behind. The number comes from the network, and terms cannot be taken back.
const MAX_JUMP: u64 = 100_000;

/// How long a leader may be silent before another one may win.
const LEASE: Duration = Duration::from_secs(5);
/// How often a leader renews its lease.
pub(crate) const RENEW_INTERVAL: Duration = Duration::from_millis(1500);
/// A leader stops that long before its lease ends.
const LEASE_MARGIN: Duration = Duration::from_millis(1500);

/// How often one that gives way looks whether another one leads.
const GIVE_WAY_POLL: Duration = Duration::from_millis(50);

/// Why an election failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store's number of the term is not a number.
    #[error(
        "the store's key `{EPOCH}` has the value `{0}`, which is not a number of a term; restore a backup"
    )]
    Unreadable(String),
    /// The store is half filled.
    #[error("the store holds half an import; delete it, and run `cluster state import` again")]
    HalfImported,
    /// Somebody has obeyed a term far above ours.
    #[error(
        "epoch {floor} is too far above this cluster's {last}: that worker belonged to another cluster, or its data is \
         damaged; delete the file `epoch` in its data directory if it is to join this one"
    )]
    Jump {
        /// The term that was obeyed.
        floor: u64,
        /// The last term.
        last: u64,
    },
}

/// A head, as others are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leader {
    /// Its name.
    pub(crate) name: String,
    /// HOST:PORT of its control address.
    pub(crate) address: String,
    /// HOST:PORT of its dashboard; not told by earlier versions.
    #[serde(default)]
    pub(crate) dashboard: String,
}

/// What an election came to.
pub(crate) enum Outcome {
    /// This head leads.
    Won(Won),
    /// Another head leads; the store's version when it was seen.
    Follows(Leader, Version),
}

/// What a head has that leads.
pub(crate) struct Won {
    /// The store, for as long as nobody else leads.
    pub(crate) store: Fenced,
    /// The term's number.
    pub(crate) epoch: u64,
    /// Whether replicas of the term before may still run.
    pub(crate) inherits: Inherits,
    /// The cluster's id.
    pub(crate) cluster_id: String,
    /// What makes it the leader.
    pub(crate) lease: HeldLease,
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

/// A leader's lease.
pub(crate) struct HeldLease {
    store: Arc<dyn Store>,
    id: LeaseId,
    believed_until: Instant,
}

impl HeldLease {
    /// When the leader stops, unless the lease is renewed before: earlier than the store lets others win.
    pub(crate) fn believed_until(&self) -> Instant {
        self.believed_until
    }

    /// Renews it.
    pub(crate) async fn renew(&mut self) -> Result<(), store::Error> {
        let asked = clock::instant();
        let left = self.store.keep_alive(self.id).await?;
        self.believed_until = asked + left.saturating_sub(LEASE_MARGIN);
        Ok(())
    }

    /// Releases it, so that the next leader need not wait for its end.
    pub(crate) async fn resign(self) {
        if let Err(error) = self.store.revoke(self.id).await {
            tracing::debug!(%error, "the leadership ends with its lease");
        }
    }
}

/// A head that would lead.
#[derive(Clone)]
pub(crate) struct Candidate {
    /// The store of all heads.
    pub(crate) store: Arc<dyn Store>,
    /// This head.
    pub(crate) me: Leader,
}

impl Candidate {
    /// Comes to lead in a new term, above the last one and above `floor`, unless another head leads.
    pub(crate) async fn win(&self, floor: u64) -> Result<Outcome, Error> {
        for _ in 1..MAX_ATTEMPTS {
            match self.try_win(floor).await {
                Err(Error::Store(store::Error::Conflict { .. } | store::Error::Unknown(_))) => {}
                outcome => return outcome,
            }
        }
        self.try_win(floor).await
    }

    async fn try_win(&self, floor: u64) -> Result<Outcome, Error> {
        let read = self.store.list(&[LEADER, EPOCH, QUIET, CLUSTER_ID, IMPORTING]).await?;
        if read.get(IMPORTING).is_some() {
            return Err(Error::HalfImported);
        }
        if let Some(entry) = read.get(LEADER) {
            return Ok(Outcome::Follows(leader(entry), read.version));
        }
        let entry = read.get(EPOCH);
        let last = entry.map_or(Ok(0), number)?;
        check_jump(floor, last)?;
        let epoch = last.max(floor) + 1;
        let is_quiet = read.get(QUIET).is_some();
        let inherits = if entry.is_none() || is_quiet { Inherits::Nothing } else { Inherits::Replicas };
        let known = read.get(CLUSTER_ID).map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        let cluster_id = known.clone().unwrap_or_else(|| random::uuid().to_string());
        let asked = clock::instant();
        let lease = self.store.grant_lease(LEASE).await?;
        let believed_until = asked + lease.ttl.saturating_sub(LEASE_MARGIN);
        let lease = HeldLease { store: Arc::clone(&self.store), id: lease.id, believed_until };
        let me = serde_json::to_vec(&self.me).expect("a name and an address are text");
        let mut writes = vec![
            Write::put(LEADER, Expected::Absent, me).with_lease(lease.id),
            Write::put(EPOCH, unchanged(entry), epoch.to_string()),
            Write::delete(QUIET, Expected::Any),
        ];
        if known.is_none() {
            writes.push(Write::put(CLUSTER_ID, Expected::Absent, cluster_id.as_str()));
        }
        match self.store.commit(writes.into()).await {
            Ok(version) => {
                let guard = Guard::new(LEADER, Expected::Version(version));
                let store = Fenced::new(Arc::clone(&self.store), guard);
                Ok(Outcome::Won(Won { store, epoch, inherits, cluster_id, lease }))
            }
            Err(error) => {
                // It may have been written all the same.
                lease.resign().await;
                Err(error.into())
            }
        }
    }

    /// Who leads.
    pub(crate) async fn leader(&self) -> Result<Option<Leader>, store::Error> {
        Ok(self.store.get(LEADER).await?.as_ref().map(leader))
    }

    /// Waits until another head leads, for at most so long.
    pub(crate) async fn give_way(&self, time: Duration) {
        let led = async {
            while !matches!(self.leader().await, Ok(Some(_))) {
                tokio::time::sleep(GIVE_WAY_POLL).await;
            }
        };
        let _ = tokio::time::timeout(time, led).await;
    }

    /// Waits until the leader that was seen at that version may have changed.
    pub(crate) async fn until_vacant(&self, seen_at: Version) {
        let changed = async {
            match self.store.watch(LEADER, seen_at).await {
                Ok(mut watch) => drop(watch.next().await),
                Err(_) => std::future::pending().await,
            }
        };
        let _ = tokio::time::timeout(LEASE, changed).await;
    }
}

/// Whether a term that a worker says it has obeyed can be one of this cluster's.
///
/// # Errors
/// [`Error::Jump`].
pub(crate) fn check_jump(floor: u64, last: u64) -> Result<(), Error> {
    if floor.saturating_sub(last) > MAX_JUMP || floor == u64::MAX {
        return Err(Error::Jump { floor, last });
    }
    Ok(())
}

/// Notes that nothing runs any more, so that the next head need not wait for reports.
pub(crate) async fn note_quiet(store: &Fenced) -> Result<Version, store::Error> {
    store.commit(Write::put(QUIET, Expected::Any, "").into()).await
}

/// Expects a key as it was read.
fn unchanged(entry: Option<&Entry>) -> Expected {
    entry.map_or(Expected::Absent, |entry| Expected::Version(entry.version))
}

fn number(entry: &Entry) -> Result<u64, Error> {
    let text = String::from_utf8_lossy(&entry.value);
    let number = text.parse().ok().filter(|number| *number < u64::MAX);
    number.ok_or_else(|| Error::Unreadable(text.into_owned()))
}

/// A value of another version tells nothing of its address.
fn leader(entry: &Entry) -> Leader {
    serde_json::from_slice(&entry.value).unwrap_or_else(|_| Leader {
        name: "another head".into(),
        address: String::new(),
        dashboard: String::new(),
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A head of that name.
    pub(crate) fn candidate(store: &Arc<dyn Store>, name: &str) -> Candidate {
        let me = Leader { name: name.into(), address: format!("{name}:7400"), dashboard: String::new() };
        Candidate { store: Arc::clone(store), me }
    }

    /// What a head of that name has that leads.
    pub(crate) async fn win(store: &Arc<dyn Store>, name: &str) -> Result<Won, Error> {
        match candidate(store, name).win(0).await? {
            Outcome::Won(won) => Ok(won),
            Outcome::Follows(leader, _) => panic!("{name} follows {}", leader.name),
        }
    }

    /// The store of a head that leads, for as long as a test takes.
    pub(crate) async fn lead(store: &Arc<dyn Store>) -> Fenced {
        win(store, "head").await.unwrap().store
    }

    /// The store of another head, which leads from now on.
    pub(crate) async fn take_over(store: &Arc<dyn Store>) -> Fenced {
        store.commit(Write::delete(LEADER, Expected::Any).into()).await.unwrap();
        win(store, "other").await.unwrap().store
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{candidate, win};
    use super::*;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::faulty::{Fault, Faulty};

    fn open() -> (Arc<dyn Store>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Arc::new(EmbeddedStore::open(dir.path()).unwrap()), dir)
    }

    async fn end(won: Won) -> (u64, Inherits, String) {
        won.lease.resign().await;
        (won.epoch, won.inherits, won.cluster_id)
    }

    #[tokio::test]
    async fn terms_grow_and_know_whether_something_may_run() {
        let (store, _dir) = open();
        let (epoch, inherits, cluster) = end(win(&store, "a").await.unwrap()).await;
        assert_eq!((epoch, inherits, cluster.len()), (1, Inherits::Nothing, 36));
        let second = win(&store, "a").await.unwrap();
        note_quiet(&second.store).await.unwrap();
        assert_eq!(end(second).await, (2, Inherits::Replicas, cluster.clone()));
        assert_eq!(end(win(&store, "a").await.unwrap()).await, (3, Inherits::Nothing, cluster));
        let Outcome::Won(above) = candidate(&store, "a").win(40).await.unwrap() else {
            panic!("nobody leads")
        };
        assert_eq!(above.epoch, 41);
    }

    #[tokio::test]
    async fn one_leads_and_the_others_know_who() {
        let (store, _dir) = open();
        let mut first = win(&store, "a").await.unwrap();
        first.lease.renew().await.unwrap();
        let other = candidate(&store, "b");
        let Outcome::Follows(leader, seen_at) = other.win(0).await.unwrap() else { panic!("a leads") };
        assert_eq!(leader.address, "a:7400");
        let old = first.store.clone();
        tokio::join!(other.until_vacant(seen_at), first.lease.resign());
        let Outcome::Won(second) = other.win(0).await.unwrap() else { panic!("nobody leads") };
        assert_eq!(second.epoch, 2);
        assert_eq!(
            note_quiet(&old).await,
            Err(store::Error::NotLeading),
            "who leads no longer writes nothing"
        );
    }

    #[tokio::test]
    async fn a_leader_that_is_silent_stops_before_another_one_wins() {
        let (store, _dir) = open();
        let first = win(&store, "a").await.unwrap();
        let other = candidate(&store, "b");
        let won_at = loop {
            match other.win(0).await.unwrap() {
                Outcome::Follows(_, seen_at) => other.until_vacant(seen_at).await,
                Outcome::Won(_) => break clock::instant(),
            }
        };
        assert!(first.lease.believed_until() + LEASE_MARGIN / 2 < won_at);
    }

    #[tokio::test]
    async fn a_term_whose_beginning_is_unknown_is_followed_by_the_next() {
        let (store, _dir) = open();
        let faulty = Arc::new(Faulty::new(store));
        faulty.break_commits([Fault::Written, Fault::Lost]);
        let store: Arc<dyn Store> = faulty.clone();
        assert_eq!(win(&store, "a").await.unwrap().epoch, 2);
    }

    #[tokio::test]
    async fn a_number_from_the_network_lifts_the_term_by_a_bounded_step() {
        let (store, _dir) = open();
        end(win(&store, "a").await.unwrap()).await;
        let candidate = candidate(&store, "a");
        for floor in [MAX_JUMP + 2, u64::MAX - 1, u64::MAX] {
            let Err(error) = candidate.win(floor).await else { panic!("{floor} was taken") };
            assert_eq!(error, Error::Jump { floor, last: 1 });
        }
        let Ok(Outcome::Won(won)) = candidate.win(MAX_JUMP + 1).await else { panic!("nobody leads") };
        assert_eq!(won.epoch, MAX_JUMP + 2);
    }

    #[tokio::test]
    async fn a_term_that_cannot_be_read_is_an_error() {
        let (store, _dir) = open();
        for value in ["", "seven", "-1", "18446744073709551615", "18446744073709551616"] {
            store.commit(Write::put(EPOCH, Expected::Any, value).into()).await.unwrap();
            let Err(error) = win(&store, "a").await else { panic!("`{value}` was taken for a term") };
            assert_eq!(error, Error::Unreadable(value.into()));
        }
    }
}
