//! What people asked for, in the store. One change at a time in this process; each is one commit that fails as a whole
//! when somebody else has changed the same pipeline meanwhile.

mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::desired::change::{self, After, Candidate, Refusal};
use millstream_core::desired::scale::{self, ScaleOverride, ScaleRequest};
use millstream_core::desired::{
    Compiled, Desired, Mode, Pipeline, Revision, StoredRevision, StoredRollout, Verdict,
};
use millstream_pipelines::{FullName, Name};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::store::{self, Expected, Store, Version, Write};

/// Keys of pipelines' heads: `pipelines/NAME`.
const PIPELINES: &str = "pipelines/";
/// Keys of revisions: `revisions/NAME/NUMBER`.
const REVISIONS: &str = "revisions/";
/// Keys of bounds that people have set: `scales/PIPELINE/DEPLOYMENT`.
const SCALES: &str = "scales/";
/// How often a change is tried when somebody else gets in between.
const MAX_ATTEMPTS: usize = 5;

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It does not fit.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store holds something that is none of ours.
    #[error("the store's key `{key}` cannot be read: {reason}; restore a backup, or delete that pipeline")]
    Unreadable {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// What the store keeps of a pipeline beside its revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredHead {
    newest: u64,
    deleted: bool,
    /// Absent: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wanted: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<StoredRollout>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    verdicts: BTreeMap<u64, Verdict>,
}

impl StoredHead {
    fn of(pipeline: &Pipeline) -> Self {
        let Pipeline { newest, wanted, rollout, verdicts, .. } = pipeline;
        let verdicts = verdicts.clone();
        Self { newest: *newest, deleted: false, wanted: Some(*wanted), rollout: *rollout, verdicts }
    }

    fn deleted(newest: u64) -> Self {
        Self { newest, deleted: true, wanted: None, rollout: None, verdicts: BTreeMap::new() }
    }

    /// The pipeline, before its revisions are read.
    fn into_pipeline(self) -> Pipeline {
        let Self { newest, wanted, rollout, verdicts, .. } = self;
        let wanted = wanted.unwrap_or(newest);
        Pipeline { newest, wanted, rollout, verdicts, revisions: BTreeMap::new() }
    }
}

/// The stored pipelines.
pub(crate) struct Catalog {
    store: Arc<dyn Store>,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    desired: Arc<Desired>,
    /// Versions of the pipelines' heads, for compare-and-swap.
    versions: BTreeMap<Name, Version>,
    /// Version of what every change of API keys writes.
    keys_version: Option<Version>,
}

/// Whose version a commit is guarded by, and changes.
enum Guard<'a> {
    /// A pipeline's head.
    Pipeline(&'a Name),
    /// That of all API keys.
    Keys,
}

impl Catalog {
    /// Reads everything from the store.
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<Self, Error> {
        let current = read(&*store, 0).await?;
        Ok(Self { store, current: Mutex::new(current) })
    }

    /// What people asked for.
    pub(crate) async fn desired(&self) -> Arc<Desired> {
        Arc::clone(&self.current.lock().await.desired)
    }

    /// Stores a text as a new revision, unless it is there already. Gives the number, whether that changed anything,
    /// and what people ask for now.
    pub(crate) async fn deploy(
        &self,
        candidate: Candidate,
        mode: Mode,
        now_ms: u64,
    ) -> Result<(u64, bool, Arc<Desired>), Error> {
        let mut current = self.current.lock().await;
        let name = candidate.compiled.name.clone();
        for _ in 1..MAX_ATTEMPTS {
            let after = change::deploy_by(&current.desired, candidate.clone(), mode, now_ms)?;
            let (revision, desired, dropped) = match after {
                After::Unchanged { revision } => {
                    return Ok((revision, false, Arc::clone(&current.desired)));
                }
                After::Changed { revision, desired, dropped } => (revision, *desired, dropped),
            };
            let number = revision.stored.number;
            let mut writes = vec![
                put_head(&name, &StoredHead::of(&desired.pipelines[&name]), current.versions.get(&name)),
                Write::put(revision_key(&name, number), Expected::Absent, to_json(&revision.stored)),
            ];
            writes.extend(
                dropped.iter().map(|&number| Write::delete(revision_key(&name, number), Expected::Any)),
            );
            writes.extend(dropped_scales(&current.desired, &desired));
            if self.commit(&mut current, Guard::Pipeline(&name), desired, writes).await? {
                return Ok((number, true, Arc::clone(&current.desired)));
            }
        }
        Err(store::Error::Conflict { key: format!("{PIPELINES}{name}") }.into())
    }

    /// Deletes a pipeline; gives what people ask for now.
    pub(crate) async fn delete(&self, name: &Name) -> Result<Arc<Desired>, Error> {
        let mut current = self.current.lock().await;
        for _ in 1..MAX_ATTEMPTS {
            change::delete(&current.desired, name)?;
            let mut desired = Desired::clone(&current.desired);
            let pipeline = desired.pipelines.get(name).cloned();
            desired.remove(name);
            let revisions = pipeline.iter().flat_map(|pipeline| pipeline.revisions.keys());
            let mut writes: Vec<_> =
                revisions.map(|&number| Write::delete(revision_key(name, number), Expected::Any)).collect();
            let newest = pipeline.as_ref().map_or(0, |pipeline| pipeline.newest);
            writes.extend(dropped_scales(&current.desired, &desired));
            writes.push(put_head(name, &StoredHead::deleted(newest), current.versions.get(name)));
            if self.commit(&mut current, Guard::Pipeline(name), desired, writes).await? {
                return Ok(Arc::clone(&current.desired));
            }
        }
        Err(store::Error::Conflict { key: format!("{PIPELINES}{name}") }.into())
    }

    /// Changes how a pipeline's wanted revision takes over, or which one that is; gives what `change` gave and what
    /// people ask for now. A change that changes nothing is not stored.
    pub(crate) async fn change_rollout<T>(
        &self,
        name: &Name,
        change: impl Fn(&mut Desired) -> Result<T, Refusal>,
    ) -> Result<(T, Arc<Desired>), Error> {
        let mut current = self.current.lock().await;
        for _ in 1..MAX_ATTEMPTS {
            let mut desired = Desired::clone(&current.desired);
            let outcome = change(&mut desired)?;
            let (before, after) = (current.desired.pipelines.get(name), desired.pipelines.get(name));
            let Some((before, after)) = before.zip(after).filter(|(before, after)| before != after) else {
                return Ok((outcome, Arc::clone(&current.desired)));
            };
            let dropped = before.revisions.keys().filter(|number| !after.revisions.contains_key(number));
            let dropped = dropped.map(|&number| Write::delete(revision_key(name, number), Expected::Any));
            let head = put_head(name, &StoredHead::of(after), current.versions.get(name));
            let writes = std::iter::once(head).chain(dropped).collect();
            if self.commit(&mut current, Guard::Pipeline(name), desired, writes).await? {
                return Ok((outcome, Arc::clone(&current.desired)));
            }
        }
        Err(store::Error::Conflict { key: format!("{PIPELINES}{name}") }.into())
    }

    /// Sets or resets a deployment's bounds; gives whether that changed anything, and what people ask for now.
    pub(crate) async fn scale(
        &self,
        name: &FullName,
        request: ScaleRequest,
    ) -> Result<(bool, Arc<Desired>), Error> {
        let mut current = self.current.lock().await;
        let pipeline = &name.pipeline;
        for _ in 1..MAX_ATTEMPTS {
            let desired = scale::scale(&current.desired, name, request)?;
            if desired == *current.desired {
                return Ok((false, Arc::clone(&current.desired)));
            }
            // The head is written as it was: who changes the pipeline at the same time is found out.
            let head = StoredHead::of(&desired.pipelines[pipeline]);
            let mut writes = vec![put_head(pipeline, &head, current.versions.get(pipeline))];
            writes.extend(dropped_scales(&current.desired, &desired));
            let set = desired.scales.get(name);
            writes.extend(set.map(|set| Write::put(scale_key(name), Expected::Any, to_json(set))));
            if self.commit(&mut current, Guard::Pipeline(pipeline), desired, writes).await? {
                return Ok((true, Arc::clone(&current.desired)));
            }
        }
        Err(store::Error::Conflict { key: scale_key(name) }.into())
    }

    /// Commits; false (and everything read again) when somebody else was faster.
    async fn commit(
        &self,
        current: &mut Current,
        guard: Guard<'_>,
        mut desired: Desired,
        writes: Vec<Write>,
    ) -> Result<bool, Error> {
        let generation = current.desired.generation + 1;
        desired.generation = generation;
        match self.store.commit(writes).await {
            Ok(version) => {
                current.desired = Arc::new(desired);
                match guard {
                    Guard::Pipeline(name) => drop(current.versions.insert(name.clone(), version)),
                    Guard::Keys => current.keys_version = Some(version),
                }
                Ok(true)
            }
            Err(store::Error::Conflict { .. }) => {
                *current = read(&*self.store, generation).await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn put_head(name: &Name, head: &StoredHead, version: Option<&Version>) -> Write {
    let expected = version.map_or(Expected::Absent, |&version| Expected::Version(version));
    Write::put(format!("{PIPELINES}{name}"), expected, to_json(head))
}

fn revision_key(name: &Name, number: u64) -> String {
    format!("{REVISIONS}{name}/{number:020}")
}

fn scale_key(name: &FullName) -> String {
    format!("{SCALES}{name}")
}

/// Bounds that are no longer set.
fn dropped_scales(before: &Desired, after: &Desired) -> Vec<Write> {
    let dropped = before.scales.keys().filter(|name| !after.scales.contains_key(*name));
    dropped.map(|name| Write::delete(scale_key(name), Expected::Any)).collect()
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these types have string keys only and no failing serialiser")
}

fn from_json<'a, T: Deserialize<'a>>(key: &str, value: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(value)
        .map_err(|error| Error::Unreadable { key: key.to_owned(), reason: error.to_string() })
}

/// Splits what follows a prefix: the pipeline's name.
fn name_of(key: &str, rest: &str) -> Result<Name, Error> {
    rest.parse().map_err(|error| Error::Unreadable { key: key.to_owned(), reason: format!("{error}") })
}

async fn read(store: &dyn Store, generation: u64) -> Result<Current, Error> {
    let mut current = Current::default();
    let mut desired = Desired { generation, ..Desired::default() };
    for entry in store.list(PIPELINES).await?.entries {
        let name = name_of(&entry.key, &entry.key[PIPELINES.len()..])?;
        let head: StoredHead = from_json(&entry.key, &entry.value)?;
        if head.deleted {
            desired.deleted.insert(name.clone(), head.newest);
        } else {
            desired.pipelines.insert(name.clone(), head.into_pipeline());
        }
        current.versions.insert(name, entry.version);
    }
    for entry in store.list(REVISIONS).await?.entries {
        let rest = &entry.key[REVISIONS.len()..];
        let name = name_of(&entry.key, rest.split_once('/').map_or(rest, |(name, _)| name))?;
        let stored: StoredRevision = from_json(&entry.key, &entry.value)?;
        let compiled = Compiled::from_text(&stored.file_name, &stored.source);
        if let Err(faults) = &compiled {
            tracing::error!(pipeline = %name, revision = stored.number, error = %faults,
                "a stored revision is not understood any more; deploy a corrected file");
        }
        if let Some(pipeline) = desired.pipelines.get_mut(&name) {
            pipeline.revisions.insert(stored.number, Arc::new(Revision { stored, compiled }));
        }
    }
    for entry in store.list(SCALES).await?.entries {
        let rest = &entry.key[SCALES.len()..];
        let name: FullName = rest
            .parse()
            .map_err(|error| Error::Unreadable { key: entry.key.clone(), reason: format!("{error}") })?;
        let stored: ScaleOverride = from_json(&entry.key, &entry.value)?;
        if desired.pipelines.contains_key(&name.pipeline) {
            desired.set_scale(name, stored);
        }
    }
    desired.keys = keys::read(store, &mut current).await?;
    current.desired = Arc::new(desired);
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;
    use millstream_core::desired::rollout;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A pipeline whose text differs by a comment.
    fn candidate(comment: &str) -> Candidate {
        let source = format!("# {comment}\nname = \"p\"\n[deployments.model]\nengine = \"echo\"\n");
        let compiled = Compiled::from_text("p.toml", &source).unwrap();
        Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled }
    }

    async fn num_keys(store: &dyn Store, prefix: &str) -> usize {
        store.list(prefix).await.unwrap().entries.len()
    }

    #[tokio::test]
    async fn only_the_last_revisions_stay_in_the_store_and_numbers_survive_a_delete() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        let catalog = Catalog::load(Arc::clone(&store)).await.unwrap();
        for n in 1..=12 {
            let (number, changed, _) =
                catalog.deploy(candidate(&n.to_string()), Mode::Rolling, n).await.unwrap();
            assert_eq!((number, changed), (n, true));
            let complete = |desired: &mut Desired| {
                rollout::complete(desired, &name("p"), n);
                Ok(())
            };
            catalog.change_rollout(&name("p"), complete).await.unwrap();
        }
        assert!(!catalog.deploy(candidate("12"), Mode::Rolling, 13).await.unwrap().1);
        assert_eq!(num_keys(&*store, REVISIONS).await, 10);
        let loaded = Catalog::load(Arc::clone(&store)).await.unwrap().desired().await;
        let pipeline = &loaded.pipelines[&name("p")];
        assert_eq!((pipeline.newest, pipeline.revisions.len()), (12, 10));
        assert_eq!(
            pipeline.wanted().unwrap().stored,
            catalog.desired().await.pipelines[&name("p")].wanted().unwrap().stored
        );
        catalog.delete(&name("p")).await.unwrap();
        assert_eq!(num_keys(&*store, REVISIONS).await, 0);
        let again = Catalog::load(Arc::clone(&store)).await.unwrap();
        assert_eq!(again.deploy(candidate("1"), Mode::Rolling, 14).await.unwrap().0, 13);
    }

    #[tokio::test]
    async fn a_change_by_somebody_else_is_read_before_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        let one = Catalog::load(Arc::clone(&store)).await.unwrap();
        let other = Catalog::load(Arc::clone(&store)).await.unwrap();
        assert_eq!(one.deploy(candidate("a"), Mode::Rolling, 1).await.unwrap().0, 1);
        assert_eq!(other.deploy(candidate("b"), Mode::Rolling, 1).await.unwrap().0, 2);
        assert_eq!(one.deploy(candidate("c"), Mode::Rolling, 1).await.unwrap().0, 3);
    }

    #[tokio::test]
    async fn bounds_that_people_set_are_stored_and_leave_with_their_pipeline() {
        const TEXT: &str = "name = \"p\"\n[deployments.model]\nengine = \"echo\"\n";
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        let catalog = Catalog::load(Arc::clone(&store)).await.unwrap();
        let compiled = Compiled::from_text("p.toml", TEXT).unwrap();
        let candidate =
            Candidate { file_name: "p.toml".into(), source: TEXT.into(), source_dir: "/".into(), compiled };
        catalog.deploy(candidate.clone(), Mode::Rolling, 1).await.unwrap();
        let full: FullName = "p/model".parse().unwrap();
        let request = ScaleRequest::Bounds(Some(2), Some(5));
        assert!(catalog.scale(&full, request).await.unwrap().0);
        assert!(!catalog.scale(&full, request).await.unwrap().0, "the same again changes nothing");
        let loaded = Catalog::load(Arc::clone(&store)).await.unwrap();
        let generation = catalog.desired().await.generation;
        let same = Desired { generation, ..Desired::clone(&*loaded.desired().await) };
        assert_eq!(same, *catalog.desired().await);
        let newest = loaded.desired().await.pipelines[&name("p")].wanted().cloned().unwrap();
        assert_eq!(newest.spec(&name("model")).unwrap().autoscaling.max_replicas, 5);
        assert!(catalog.scale(&full, ScaleRequest::Reset).await.unwrap().0);
        assert_eq!(num_keys(&*store, SCALES).await, 0);
        catalog.scale(&full, request).await.unwrap();
        catalog.delete(&name("p")).await.unwrap();
        assert_eq!(num_keys(&*store, SCALES).await, 0);
    }

    #[tokio::test]
    async fn a_key_that_makes_no_sense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        store.commit(vec![Write::put("pipelines/p", Expected::Any, "{")]).await.unwrap();
        let Err(error) = Catalog::load(store).await else { panic!("read what is no JSON") };
        assert!(error.to_string().contains("`pipelines/p` cannot be read"), "{error}");
    }
}
