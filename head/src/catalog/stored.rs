//! How what people asked for stands in the store: which keys hold what, read and written as plain functions.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use millstream_core::desired::scale::ScaleOverride;
use millstream_core::desired::{
    ApiKey, Compiled, Deleted, Desired, Keys, Pipeline, Revision, StoredRevision, StoredRollout, Verdict,
};
use millstream_pipelines::{FullName, Name};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::store::{Expected, Listing, Version, Write};

/// What every change writes: its version is [`Desired::generation`], and of two changes that follow from the same state
/// the store takes only one.
pub(super) const GENERATION: &str = "generation";
/// Keys of pipelines' heads: `pipelines/NAME`.
const PIPELINES: &str = "pipelines/";
/// Keys of revisions: `revisions/NAME/NUMBER`.
pub(crate) const REVISIONS: &str = "revisions/";
/// Keys of bounds that people have set: `scales/PIPELINE/DEPLOYMENT`.
const SCALES: &str = "scales/";
/// Keys of API keys: `keys/NAME`.
const KEYS: &str = "keys/";
/// Key of the last tenant number.
const LAST_TENANT: &str = "last_tenant";

/// Keys of tokens for the dashboard: `tokens/NAME`.
const TOKENS: &str = "tokens/";
/// Keys of nodes that are cordoned or drained: `cordons/NAME`.
const CORDONS: &str = "cordons/";

/// Everything that is read.
pub(super) const PREFIXES: [&str; 8] =
    [GENERATION, PIPELINES, REVISIONS, SCALES, KEYS, LAST_TENANT, TOKENS, CORDONS];

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
    /// Of a deleted one: what was to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<StoredRevision>,
    /// Of a deleted one: when it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_at_ms: Option<u64>,
}

impl StoredHead {
    fn of(pipeline: &Pipeline) -> Self {
        let Pipeline { newest, wanted, rollout, verdicts, .. } = pipeline;
        let verdicts = verdicts.clone();
        let (newest, wanted, rollout) = (*newest, Some(*wanted), *rollout);
        Self { newest, deleted: false, wanted, rollout, verdicts, last: None, deleted_at_ms: None }
    }

    fn deleted(Deleted { newest, last, at_ms }: &Deleted) -> Self {
        Self {
            newest: *newest,
            deleted: true,
            wanted: None,
            rollout: None,
            verdicts: BTreeMap::new(),
            last: last.clone(),
            deleted_at_ms: Some(*at_ms),
        }
    }

    /// The pipeline, before its revisions are read.
    fn into_pipeline(self) -> Pipeline {
        let Self { newest, wanted, rollout, verdicts, .. } = self;
        let wanted = wanted.unwrap_or(newest);
        Pipeline { newest, wanted, rollout, watched: None, verdicts, revisions: BTreeMap::new() }
    }
}

/// A revision's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredText {
    /// Its pipeline.
    pub pipeline: String,
    /// Its number.
    pub revision: u64,
    /// The file's name.
    pub file_name: String,
    /// The text.
    pub source: String,
}

/// The texts of the revisions that a store has, by pipeline and number. What cannot be read is left out.
pub(crate) fn texts(listing: &Listing) -> Vec<StoredText> {
    let found = listing.under(REVISIONS).filter_map(|(rest, entry)| {
        let stored: StoredRevision = serde_json::from_slice(&entry.value).ok()?;
        let (pipeline, _) = rest.split_once('/')?;
        let StoredRevision { number: revision, file_name, source, .. } = stored;
        Some(StoredText { pipeline: pipeline.to_owned(), revision, file_name, source })
    });
    found.collect()
}

/// Makes of entries what people asked for. Compiles all texts: not for an async thread.
pub(super) fn read(listing: &Listing) -> Result<Desired, Error> {
    let generation = listing.get(GENERATION).map_or(0, |entry| entry.version);
    let mut desired = Desired { generation, ..Desired::default() };
    for (rest, entry) in listing.under(PIPELINES) {
        let name = parsed(&entry.key, rest)?;
        let head: StoredHead = from_json(&entry.key, &entry.value)?;
        if head.deleted {
            let StoredHead { newest, last, deleted_at_ms, .. } = head;
            desired.deleted.insert(name, Deleted { newest, last, at_ms: deleted_at_ms.unwrap_or(0) });
        } else {
            desired.pipelines.insert(name, head.into_pipeline());
        }
    }
    for (rest, entry) in listing.under(REVISIONS) {
        let name: Name = parsed(&entry.key, rest.split_once('/').map_or(rest, |(name, _)| name))?;
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
    for (rest, entry) in listing.under(SCALES) {
        let name: FullName = parsed(&entry.key, rest)?;
        let stored: ScaleOverride = from_json(&entry.key, &entry.value)?;
        if desired.pipelines.contains_key(&name.pipeline) {
            desired.set_scale(name, stored);
        }
    }
    desired.keys = read_keys(listing)?;
    for (rest, entry) in listing.under(TOKENS) {
        desired.tokens.insert(parsed(&entry.key, rest)?, from_json(&entry.key, &entry.value)?);
    }
    for (name, entry) in listing.under(CORDONS) {
        desired.cordons.insert(name.to_owned(), from_json(&entry.key, &entry.value)?);
    }
    Ok(desired)
}

fn read_keys(listing: &Listing) -> Result<Keys, Error> {
    let stored = listing.get(LAST_TENANT).map(|entry| from_json(&entry.key, &entry.value));
    let mut last_tenant = stored.transpose()?.unwrap_or(0);
    let mut by_name = BTreeMap::new();
    for (rest, entry) in listing.under(KEYS) {
        let key: ApiKey = from_json(&entry.key, &entry.value)?;
        last_tenant = last_tenant.max(key.tenant);
        by_name.insert(parsed(&entry.key, rest)?, key);
    }
    Ok(Keys { last_tenant, by_name: Arc::new(by_name) })
}

/// The writes that make of one state the other, except for [`generation`]; the deletes come first.
pub(super) fn writes(before: &Desired, after: &Desired) -> Vec<Write> {
    let mut changes = Changes::default();
    for (name, pipeline) in &after.pipelines {
        let earlier = before.pipelines.get(name);
        let head = StoredHead::of(pipeline);
        if earlier.map(StoredHead::of).as_ref() != Some(&head) {
            changes.puts.push(put(format!("{PIPELINES}{name}"), &head));
        }
        for (number, revision) in &pipeline.revisions {
            let earlier = earlier.and_then(|earlier| earlier.revisions.get(number));
            if earlier.is_none_or(|earlier| !is_same(earlier, revision)) {
                changes.puts.push(put(revision_key(name, *number), &revision.stored));
            }
        }
    }
    for (name, earlier) in &before.pipelines {
        let pipeline = after.pipelines.get(name);
        let kept = |number| pipeline.is_some_and(|pipeline| pipeline.revisions.contains_key(number));
        let dropped = earlier.revisions.keys().filter(|number| !kept(number));
        changes.deletes.extend(dropped.map(|&number| delete(revision_key(name, number))));
    }
    let changed = after.deleted.iter().filter(|(name, deleted)| before.deleted.get(*name) != Some(deleted));
    changes.puts.extend(
        changed.map(|(name, deleted)| put(format!("{PIPELINES}{name}"), &StoredHead::deleted(deleted))),
    );
    changes.maps(SCALES, &before.scales, &after.scales);
    if before.keys.last_tenant != after.keys.last_tenant {
        changes.puts.push(put(LAST_TENANT.to_owned(), &after.keys.last_tenant));
    }
    changes.maps(KEYS, &before.keys.by_name, &after.keys.by_name);
    changes.maps(TOKENS, &before.tokens, &after.tokens);
    changes.maps(CORDONS, &before.cordons, &after.cordons);
    changes.deletes.append(&mut changes.puts);
    changes.deletes
}

/// Writes that are being collected.
#[derive(Default)]
struct Changes {
    deletes: Vec<Write>,
    puts: Vec<Write>,
}

impl Changes {
    /// One key for each of a map's entries.
    fn maps<K: Ord + Display, V: PartialEq + Serialize>(
        &mut self,
        prefix: &str,
        before: &BTreeMap<K, V>,
        after: &BTreeMap<K, V>,
    ) {
        let dropped = before.keys().filter(|key| !after.contains_key(key));
        self.deletes.extend(dropped.map(|key| delete(format!("{prefix}{key}"))));
        let changed = after.iter().filter(|(key, value)| before.get(key) != Some(value));
        self.puts.extend(changed.map(|(key, value)| put(format!("{prefix}{key}"), value)));
    }
}

/// What a change writes that follows from this generation.
pub(super) fn generation(before: Version) -> Write {
    let expected = if before == 0 { Expected::Absent } else { Expected::Version(before) };
    Write::put(GENERATION, expected, "")
}

/// Revisions of which nothing differs that the store keeps.
fn is_same(one: &Arc<Revision>, other: &Arc<Revision>) -> bool {
    Arc::ptr_eq(one, other) || one.stored == other.stored
}

fn revision_key(name: &Name, number: u64) -> String {
    format!("{REVISIONS}{name}/{number:020}")
}

/// Every change writes [`GENERATION`], which says what it follows from; nothing else need.
fn put(key: String, value: &impl Serialize) -> Write {
    let json =
        serde_json::to_vec(value).expect("these types have string keys only and no failing serialiser");
    Write::put(key, Expected::Any, json)
}

fn delete(key: String) -> Write {
    Write::delete(key, Expected::Any)
}

fn from_json<'a, T: Deserialize<'a>>(key: &str, value: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(value)
        .map_err(|error| Error::Unreadable { key: key.to_owned(), reason: error.to_string() })
}

/// What stands in a key.
fn parsed<T: std::str::FromStr<Err: ToString>>(key: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: T::Err| Error::Unreadable { key: key.to_owned(), reason: error.to_string() })
}
