//! What people asked for, in the store. One change at a time in this process; each is one commit that fails as a whole
//! when somebody else has changed anything meanwhile.
//!
//! Whoever replaces what is known here publishes it: readers and subscribers see each state once it is stored, and wait
//! for no commit. After a commit whose outcome is unknown the store is read again before anything else is decided.

mod stored;

pub use stored::StoredText;
pub(crate) use stored::{REVISIONS, texts};

use std::sync::Arc;
use std::time::Duration;

use millstream_core::desired::change::{self, After, Candidate, Refusal};
use millstream_core::desired::scale::{self, ScaleRequest};
use millstream_core::desired::{Cordons, Desired, Keys, Mode, Tokens};
use millstream_pipelines::{FullName, Name};
use tokio::sync::{Mutex, watch};

use crate::store::{self, Fenced, MAX_TXN_OPERATIONS, Store, Txn, Version, WatchEvent, Write};

/// How often a change is tried when somebody else gets in between.
const MAX_ATTEMPTS: usize = 5;
/// Writes of one commit; beside them stand the generation and the fence's guard.
const MAX_WRITES: usize = MAX_TXN_OPERATIONS - 2;
/// How long to wait before a store is followed again that cannot be reached.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It does not fit.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store holds something that is not understood.
    #[error("the store's key `{key}` cannot be read: {reason}; restore a backup, or delete that pipeline")]
    Unreadable {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// The stored pipelines, scales and API keys.
pub(crate) struct Catalog {
    store: Arc<Fenced>,
    /// What people asked for, as last known.
    current: watch::Sender<Arc<Desired>>,
    /// Held over a change.
    writer: Mutex<Writer>,
}

/// How deployed texts are to take over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Takeover {
    /// How requests come to them; as their files say where that is not asked for.
    pub(crate) mode: Option<Mode>,
    /// Only when this revision is the wanted one.
    pub(crate) expected: Option<u64>,
}

/// What a deployed text came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The revision that is wanted now.
    pub(crate) revision: u64,
    /// Whether another one was before, or another part of the requests came to it.
    pub(crate) is_new: bool,
}

#[cfg(test)]
impl Takeover {
    /// As `cluster deploy` without flags.
    pub(crate) const ROLLING: Self = Self { mode: Some(Mode::Rolling), expected: None };
}

/// What the next change must know.
struct Writer {
    /// Whether the store may hold something else than what is known.
    is_stale: bool,
    /// What a change was made from of which it is not known whether it was stored.
    unresolved: Option<Arc<Desired>>,
    /// The store's version when something was read or written last; a watch may begin after it.
    version: Version,
}

impl Catalog {
    /// Reads everything from the store.
    pub(crate) async fn load(store: Arc<Fenced>) -> Result<Self, Error> {
        let (desired, version) = read(&store).await?;
        let writer = Writer { is_stale: false, unresolved: None, version };
        Ok(Self { store, current: watch::Sender::new(Arc::new(desired)), writer: Mutex::new(writer) })
    }

    /// What people asked for.
    pub(crate) fn desired(&self) -> Arc<Desired> {
        Arc::clone(&self.current.borrow())
    }

    /// What people asked for, now and whenever that changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Desired>> {
        self.current.subscribe()
    }

    /// Stores texts as new revisions, all or none, each unless it is there already. `note` hears of it before anybody else does, as in all changes.
    pub(crate) async fn deploy(
        &self,
        candidates: &[Candidate],
        takeover: Takeover,
        now_ms: u64,
        note: impl FnOnce(&Vec<Stored>),
    ) -> Result<Vec<Stored>, Error> {
        let Takeover { mode, expected } = takeover;
        let deploy = |desired: &Desired| {
            let mut desired = desired.clone();
            let mut stored = Vec::with_capacity(candidates.len());
            for candidate in candidates {
                expect_wanted(&desired, &candidate.compiled.name, expected)?;
                match change::deploy_by(&desired, candidate.clone(), mode, now_ms)? {
                    After::Unchanged { revision } => stored.push(Stored { revision, is_new: false }),
                    After::OtherPart { revision, desired: after } => {
                        stored.push(Stored { revision, is_new: true });
                        desired = *after;
                    }
                    After::Changed { revision, desired: after, .. } => {
                        let revision = revision.stored.number;
                        stored.push(Stored { revision, is_new: true });
                        desired = *after;
                    }
                }
            }
            Ok((stored, desired))
        };
        Ok(self.change(deploy, note).await?.0)
    }

    /// Deletes a pipeline.
    pub(crate) async fn delete(&self, name: &Name, now_ms: u64, note: impl FnOnce(&())) -> Result<(), Error> {
        let delete = |desired: &Desired| {
            change::delete(desired, name)?;
            let mut desired = desired.clone();
            desired.remove(name, now_ms);
            Ok(((), desired))
        };
        self.change(delete, note).await.map(drop)
    }

    /// Changes how a pipeline's wanted revision takes over, or which one that is; returns what `change` gave.
    pub(crate) async fn change_rollout<T>(
        &self,
        change: impl Fn(&mut Desired) -> Result<T, Refusal>,
        note: impl FnOnce(&T),
    ) -> Result<T, Error> {
        let change = |desired: &Desired| {
            let mut desired = desired.clone();
            let outcome = change(&mut desired)?;
            Ok((outcome, desired))
        };
        Ok(self.change(change, note).await?.0)
    }

    /// Sets or resets a deployment's bounds; returns whether that changed anything.
    pub(crate) async fn scale(&self, name: &FullName, request: ScaleRequest) -> Result<bool, Error> {
        let scale = |desired: &Desired| Ok(((), scale::scale(desired, name, request)?));
        Ok(self.change(scale, |()| {}).await?.1)
    }

    /// Changes the API keys; returns the name of the key concerned, and whether that changed anything.
    pub(crate) async fn change_keys(
        &self,
        change: impl Fn(&Keys) -> Result<(Keys, Name), Refusal>,
        note: impl FnOnce(&Name),
    ) -> Result<(Name, bool), Error> {
        let change = |desired: &Desired| {
            let (keys, name) = change(&desired.keys)?;
            Ok((name, Desired { keys, ..desired.clone() }))
        };
        self.change(change, note).await
    }

    /// Changes the tokens for the dashboard; returns the name of the token concerned.
    pub(crate) async fn change_tokens(
        &self,
        change: impl Fn(&Tokens) -> Result<(Tokens, Name), Refusal>,
        note: impl FnOnce(&Name),
    ) -> Result<Name, Error> {
        let change = |desired: &Desired| {
            let (tokens, name) = change(&desired.tokens)?;
            Ok((name, Desired { tokens, ..desired.clone() }))
        };
        Ok(self.change(change, note).await?.0)
    }

    /// Changes which nodes are cordoned; returns whether that changed anything.
    pub(crate) async fn change_cordons(
        &self,
        change: impl Fn(&Cordons) -> Result<Cordons, Refusal>,
        note: impl FnOnce(),
    ) -> Result<bool, Error> {
        let change =
            |desired: &Desired| Ok(((), Desired { cordons: change(&desired.cordons)?, ..desired.clone() }));
        Ok(self.change(change, |()| note()).await?.1)
    }

    /// Publishes what is stored by others, or late, for as long as the store is open.
    pub(crate) async fn follow(&self) {
        loop {
            if let Err(error) = self.follow_until_it_breaks().await {
                tracing::debug!(%error, "the store is not followed for a moment");
            }
            tokio::time::sleep(FOLLOW_PAUSE).await;
        }
    }

    async fn follow_until_it_breaks(&self) -> Result<(), Error> {
        let after = self.writer.lock().await.version;
        let mut watch = self.store.watch(stored::GENERATION, after).await?;
        while let Some(event) = watch.next().await {
            let mut writer = self.writer.lock().await;
            let is_missed = match event {
                WatchEvent::Changed { version, .. } => version > self.current.borrow().generation,
                WatchEvent::Gap => true,
                WatchEvent::Broken(reason) => return Err(store::Error::Unavailable(reason).into()),
            };
            if is_missed {
                self.read(&mut writer).await?;
            }
        }
        Ok(())
    }

    /// Changes what people ask for, by a plain function of it; returns whether anything is other than before. A change that
    /// changes nothing is not stored.
    async fn change<T>(
        &self,
        decide: impl Fn(&Desired) -> Result<(T, Desired), Refusal>,
        note: impl FnOnce(&T),
    ) -> Result<(T, bool), Error> {
        let mut writer = self.writer.lock().await;
        let mut failed: Option<store::Error> = None;
        let mut attempts = 0;
        loop {
            if writer.is_stale
                && let Err(error) = self.read(&mut writer).await
            {
                return Err(failed.map_or(error, Error::Store));
            }
            let before = self.desired();
            let earlier = writer.unresolved.as_deref();
            if let Some(outcome) = earlier.and_then(|earlier| was_stored(&decide, earlier, &before)) {
                writer.unresolved = None;
                note(&outcome);
                return Ok((outcome, true));
            }
            let (outcome, after) = decide(&before)?;
            let writes = stored::writes(&before, &after);
            if writes.is_empty() {
                return Ok((outcome, false));
            }
            attempts += 1;
            match self.commit(&mut writer, before, after, writes).await {
                Ok(desired) => {
                    note(&outcome);
                    self.current.send_replace(desired);
                    return Ok((outcome, true));
                }
                Err(error) if attempts < MAX_ATTEMPTS && is_worth_another(&error, failed.as_ref()) => {
                    failed = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Commits; returns what is to be published. Whoever asked may leave at any await: what is known counts as stale until
    /// the outcome is known.
    async fn commit(
        &self,
        writer: &mut Writer,
        before: Arc<Desired>,
        after: Desired,
        writes: Vec<Write>,
    ) -> Result<Arc<Desired>, store::Error> {
        use store::Error::{Conflict, Unknown};
        let begun_from = before.generation;
        let mut generation = begun_from;
        writer.is_stale = true;
        let earlier = writer.unresolved.replace(before);
        for mut batch in batches(writes) {
            batch.push(stored::generation(generation));
            match self.store.commit(Txn::from(batch)).await {
                Ok(version) => generation = version,
                Err(error) => {
                    writer.is_stale =
                        matches!(error, Conflict { .. } | Unknown(_)) || generation != begun_from;
                    if !matches!(error, Unknown(_)) {
                        writer.unresolved = earlier;
                    }
                    return Err(error);
                }
            }
        }
        *writer = Writer { is_stale: false, unresolved: None, version: generation };
        Ok(Arc::new(Desired { generation, ..after }))
    }

    /// Reads everything again, and publishes it if it is new.
    async fn read(&self, writer: &mut Writer) -> Result<(), Error> {
        let (desired, version) = read(&self.store).await?;
        (writer.is_stale, writer.version) = (false, version);
        self.current.send_if_modified(|current| {
            let is_new = desired.generation != current.generation;
            if is_new {
                *current = Arc::new(desired);
            }
            is_new
        });
        Ok(())
    }
}

/// Everything in the store, and the version at which it was read.
async fn read(store: &Fenced) -> Result<(Desired, Version), Error> {
    let listing = store.list(&stored::PREFIXES).await?;
    let version = listing.version;
    let read = tokio::task::spawn_blocking(move || stored::read(&listing)).await;
    let reason = "compiling a stored text made the compiler fail".to_owned();
    let desired = read.unwrap_or(Err(Error::Unreadable { key: stored::REVISIONS.into(), reason }))?;
    Ok((desired, version))
}

/// Whether to read again and retry at once: always after a conflict, once when the outcome is unknown.
fn is_worth_another(error: &store::Error, earlier: Option<&store::Error>) -> bool {
    match error {
        store::Error::Conflict { .. } => true,
        store::Error::Unknown(_) => !matches!(earlier, Some(store::Error::Unknown(_))),
        _ => false,
    }
}

/// What the change gives if it was stored: made from `earlier`, of which the outcome is unknown, it comes to what there
/// is now.
fn was_stored<T>(
    decide: impl Fn(&Desired) -> Result<(T, Desired), Refusal>,
    earlier: &Desired,
    now: &Desired,
) -> Option<T> {
    let (outcome, after) = decide(earlier).ok()?;
    let is_change = !stored::writes(earlier, &after).is_empty();
    (is_change && stored::writes(now, &after).is_empty()).then_some(outcome)
}

/// Parts of a change that fit into commits: nearly always one. Deletes come first, so that a change which is cut short
/// has not happened yet, and does when it is asked for again.
fn batches(mut writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut batches = Vec::new();
    while writes.len() > MAX_WRITES {
        let rest = writes.split_off(MAX_WRITES);
        batches.push(std::mem::replace(&mut writes, rest));
    }
    batches.push(writes);
    batches
}

/// Refuses when another revision than `expected` is wanted.
pub(crate) fn expect_wanted(desired: &Desired, name: &Name, expected: Option<u64>) -> Result<(), Refusal> {
    let wanted = desired.pipelines.get(name).map(|pipeline| pipeline.wanted);
    if expected.is_none() || wanted == expected {
        return Ok(());
    }
    Err(match wanted {
        None => Refusal::NotFound(name.clone()),
        Some(wanted) => Refusal::NotNow(format!(
            "somebody else changed `{name}` meanwhile: revision {wanted} is wanted by now; see `cluster rollout status \
             {name}` and ask again"
        )),
    })
}

#[cfg(test)]
mod tests;
