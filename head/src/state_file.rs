//! All that people asked for, in one file: for backups, and to move from one store to another.
//!
//! ```text
//! {"millstream_state": 1, "cluster_id": …, "taken_at_ms": …}      what it is
//! {"key": …, "text": …}  or  {"key": …, "base64": …}              an entry each, by key
//! {"entries": …, "sha256": …}                                     how many, and the hash of all lines before this one
//! ```
//!
//! What belongs to heads that run (who leads, who is entered, their tokens) is left out. An import goes into an empty store, and a head
//! starts on it only once all of it is there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::leadership::election::{CLUSTER_ID, IMPORTING, LEADER, QUIET};
use crate::store::{Error, Expected, Guard, Listing, MAX_TXN_BYTES, OPERATION_BYTES, Store, Txn, Write};
use crate::{clock, tokens};

const FORMAT: u32 = 1;
/// Writes of one commit of an import; beside them stands the mark that it is under way.
const WRITES_PER_COMMIT: usize = 100;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    millstream_state: u32,
    cluster_id: String,
    taken_at_ms: u64,
}

/// A line for an entry.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Footer {
    entries: usize,
    sha256: String,
}

/// Why a file is no state of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It begins with something else.
    #[error("it is no file of `cluster state export`")]
    Foreign,
    /// Another release wrote it.
    #[error(
        "it is in format {0}, and this release reads format {FORMAT}; import it with the release that wrote it"
    )]
    OtherFormat(u32),
    /// It is not as it was written.
    #[error("line {line}: {reason}; the file is damaged, take another backup")]
    Damaged {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Why a state was not put into a store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It holds something.
    #[error(
        "the store is not empty: it has the key `{0}`; import into a data directory or a prefix that no head has used, or delete what is \
         there"
    )]
    NotEmpty(String),
    /// The store refused it.
    #[error("{0}; the store is half filled: delete it before the next try")]
    Store(#[from] Error),
}

/// What people asked for, as a file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Of the cluster.
    pub cluster_id: String,
    /// Milliseconds since the Unix epoch.
    pub taken_at_ms: u64,
    /// Keys and values, by key.
    pub entries: Vec<(String, Vec<u8>)>,
}

impl State {
    /// What is kept in a store, at one version.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn take(store: &dyn Store) -> Result<Self, Error> {
        let listing: Listing = store.list(&[""]).await?;
        let cluster_id =
            listing.get(CLUSTER_ID).map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        let kept = listing.entries.into_iter().filter(|entry| is_kept(&entry.key));
        let entries = kept.map(|entry| (entry.key, entry.value)).collect();
        Ok(Self { cluster_id: cluster_id.unwrap_or_default(), taken_at_ms: clock::unix_ms(), entries })
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let header = Header {
            millstream_state: FORMAT,
            cluster_id: self.cluster_id.clone(),
            taken_at_ms: self.taken_at_ms,
        };
        let mut text = line_of(&header);
        for (key, value) in &self.entries {
            let (as_text, base64) = match std::str::from_utf8(value) {
                Ok(text) => (Some(text.to_owned()), None),
                Err(_) => (None, Some(BASE64.encode(value))),
            };
            text.push_str(&line_of(&Line { key: key.clone(), text: as_text, base64 }));
        }
        let footer = Footer { entries: self.entries.len(), sha256: hash(&text) };
        text.push_str(&line_of(&footer));
        text
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// [`FormatError`] where it is another file, of another release, or not whole.
    pub fn from_text(text: &str) -> Result<Self, FormatError> {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let header: Header = serde_json::from_str(first).map_err(|_| FormatError::Foreign)?;
        if header.millstream_state != FORMAT {
            return Err(FormatError::OtherFormat(header.millstream_state));
        }
        let mut entries = Vec::new();
        let mut read = first.len() + 1;
        for (index, line) in rest.lines().enumerate() {
            let damaged = |reason| FormatError::Damaged { line: index + 2, reason };
            if let Ok(footer) = serde_json::from_str::<Footer>(line) {
                let is_whole = footer.entries == entries.len() && footer.sha256 == hash(&text[..read]);
                let Header { cluster_id, taken_at_ms, .. } = header;
                return match is_whole {
                    true => Ok(Self { cluster_id, taken_at_ms, entries }),
                    false => Err(damaged("the lines before are not those that were written")),
                };
            }
            let line_read: Line = serde_json::from_str(line).map_err(|_| damaged("it is no entry"))?;
            entries.push(line_read.entry().ok_or_else(|| damaged("its value cannot be read"))?);
            read += line.len() + 1;
        }
        Err(FormatError::Damaged { line: entries.len() + 2, reason: "the end is missing" })
    }

    /// Puts it into an empty store. Until all of it is there, no head starts on that store.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn import(self, store: &dyn Store) -> Result<usize, ImportError> {
        let there = store.list(&[""]).await?;
        if let Some(entry) = there.entries.iter().find(|entry| entry.key != tokens::KEY) {
            return Err(ImportError::NotEmpty(entry.key.clone()));
        }
        let num_entries = self.entries.len();
        let mark = store.commit(Write::put(IMPORTING, Expected::Absent, "").into()).await?;
        let guard = || Guard::new(IMPORTING, Expected::Version(mark));
        let (mut writes, mut bytes) = (Vec::new(), 0);
        for (key, value) in self.entries {
            let more = 2 * OPERATION_BYTES + key.len() + value.len();
            if writes.len() == WRITES_PER_COMMIT || bytes + more > MAX_TXN_BYTES {
                store.commit(Txn { guards: vec![guard()], writes: std::mem::take(&mut writes) }).await?;
                bytes = 0;
            }
            bytes += more;
            writes.push(Write::put(key, Expected::Absent, value));
        }
        if !writes.is_empty() {
            store.commit(Txn { guards: vec![guard()], writes }).await?;
        }
        store.commit(Write::delete(IMPORTING, Expected::Version(mark)).into()).await?;
        Ok(num_entries)
    }
}

impl Line {
    fn entry(self) -> Option<(String, Vec<u8>)> {
        match (self.text, self.base64) {
            (Some(text), None) => Some((self.key, text.into_bytes())),
            (None, Some(base64)) => Some((self.key, BASE64.decode(base64).ok()?)),
            _ => None,
        }
    }
}

/// Whether a key is what people asked for, and not of a head that runs.
fn is_kept(key: &str) -> bool {
    ![LEADER, QUIET, IMPORTING, tokens::KEY].contains(&key) && !key.starts_with(crate::leadership::HEADS)
}

fn line_of(document: &impl Serialize) -> String {
    let mut line = serde_json::to_string(document).expect("texts and numbers");
    line.push('\n');
    line
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::leadership::election::testing::{candidate, win};
    use crate::store::embedded::EmbeddedStore;

    fn state() -> State {
        let entries = vec![("a".to_owned(), b"text\n\"".to_vec()), ("b/\u{fc}".to_owned(), vec![0xff, 0])];
        State { cluster_id: "c".into(), taken_at_ms: 7, entries }
    }

    fn open() -> (Arc<dyn Store>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Arc::new(EmbeddedStore::open(dir.path()).unwrap()), dir)
    }

    #[test]
    fn a_file_comes_back_as_it_was_or_says_what_is_wrong() {
        let text = state().to_text();
        assert_eq!(State::from_text(&text), Ok(state()));
        assert_eq!(State::from_text("{}\n"), Err(FormatError::Foreign));
        assert_eq!(State::from_text(""), Err(FormatError::Foreign));
        let newer = text.replacen("\"millstream_state\":1", "\"millstream_state\":2", 1);
        assert_eq!(State::from_text(&newer), Err(FormatError::OtherFormat(2)));
        for cut in 0..text.len() - 1 {
            assert!(State::from_text(&text[..text.floor_char_boundary(cut)]).is_err(), "cut at {cut}");
        }
        let changed = text.replace("text\\n", "test\\n");
        assert!(matches!(State::from_text(&changed), Err(FormatError::Damaged { line: 4, .. })));
    }

    #[tokio::test]
    async fn a_state_moves_to_an_empty_store_and_to_no_other() {
        let (store, _dir) = open();
        let won = win(&store, "a").await.unwrap();
        for n in 0..250 {
            won.store.commit(Write::put(format!("k/{n:03}"), Expected::Absent, "v").into()).await.unwrap();
        }
        won.store.commit(Write::put("big", Expected::Absent, vec![0xff; 1_400_000]).into()).await.unwrap();
        let taken = State::take(store.as_ref()).await.unwrap();
        assert_eq!(taken.cluster_id, won.cluster_id);
        assert_eq!(taken.entries.len(), 251 + 2, "the cluster's id and its term too");
        let (other, _other_dir) = open();
        let read = State::from_text(&taken.to_text()).unwrap();
        assert_eq!(read.clone().import(&*other).await.unwrap(), 253);
        let again = win(&other, "b").await.unwrap();
        assert_eq!((again.cluster_id, again.epoch), (won.cluster_id, won.epoch + 1));
        assert_eq!(other.list(&["k/"]).await.unwrap().entries.len(), 250);
        assert!(matches!(read.import(&*other).await, Err(ImportError::NotEmpty(_))));
    }

    #[tokio::test]
    async fn no_head_starts_on_half_an_import() {
        let (store, _dir) = open();
        store.commit(Write::put(IMPORTING, Expected::Absent, "").into()).await.unwrap();
        let Err(error) = candidate(&store, "a").win(0).await else { panic!("it was won") };
        assert!(error.to_string().contains("import"), "{error}");
    }
}
