//! A file that says what it is and whether it is whole. Its first line names the format, its version, what is kept, the cluster,
//! the time, the length and a hash of all that; the content follows:
//!
//! ```text
//! millstream-kept 1 orders CLUSTER_ID UNIX_MS LENGTH SHA256
//! ```
//!
//! The hash finds damage, not forgers: whoever can write the file may do as its owner.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::write_private;

/// What every such file begins with.
const MAGIC: &str = "millstream-kept";
/// The version of the format that is written, and the only one that is read.
const VERSION: &str = "1";
/// The longest first line.
const MAX_LINE_BYTES: usize = 1024;
/// Larger files are not read: nothing that is kept comes near.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A file of that kind, there or not.
#[derive(Debug, Clone)]
pub struct KeptFile {
    path: PathBuf,
    kind: &'static str,
}

/// What was in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// When it was written, in milliseconds since the Unix epoch.
    pub written_unix_ms: u64,
    /// What is kept.
    pub content: Vec<u8>,
}

impl Kept {
    /// How long ago it was written; zero where the clock was put back since.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_millis(millstream_clock::unix_ms().saturating_sub(self.written_unix_ms))
    }
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is not such a file.
    #[error("it is not a file of this kind, or its first line is damaged")]
    NotOne,
    /// It was written by another version of the program.
    #[error("its format has version `{0}`, and this program reads version {VERSION}")]
    OtherVersion(String),
    /// A part of it is missing, or there is more than there should be.
    #[error("it should have {expected} bytes after its first line, and has {found}")]
    OtherLength {
        /// As its first line says.
        expected: usize,
        /// As it is.
        found: usize,
    },
    /// Its hash is another one.
    #[error("its hash does not fit its content: it is damaged")]
    Damaged,
    /// It was written in another cluster.
    #[error("it is of cluster `{found}`, and this data directory belongs to `{expected}`")]
    OtherCluster {
        /// Of the data directory.
        expected: String,
        /// Of the file.
        found: String,
    },
}

impl KeptFile {
    /// The file of what is kept under that name, such as `orders`, in a data directory.
    #[must_use]
    pub fn new(data_dir: &Path, kind: &'static str) -> Self {
        Self { path: data_dir.join(format!("{kind}.kept")), kind }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces it; returns once it is on disk.
    ///
    /// # Errors
    /// What the system says; also for an id of a cluster that has blanks, which no cluster has.
    pub fn write(&self, cluster_id: &str, content: &[u8]) -> io::Result<()> {
        if cluster_id.is_empty() || cluster_id.contains(char::is_whitespace) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the cluster has no proper id"));
        }
        let kind = self.kind;
        let (now, length) = (millstream_clock::unix_ms(), content.len());
        let about = format!("{MAGIC} {VERSION} {kind} {cluster_id} {now} {length}");
        let hash = hash_of(&about, content);
        let line = format!("{about} {hash}\n");
        write_private(&self.path, [line.as_bytes(), content].concat())
    }

    /// What is kept for that cluster; `None` where there is no such file.
    ///
    /// # Errors
    /// Why the file is not to be used.
    pub fn read(&self, cluster_id: &str) -> Result<Option<Kept>, Unusable> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        self.open(&bytes, cluster_id).map(Some)
    }

    /// The same; a file that is not to be used is left out with a warning.
    #[must_use]
    pub fn load(&self, cluster_id: &str) -> Option<Kept> {
        self.read(cluster_id).unwrap_or_else(|error| {
            self.warn(&error.to_string());
            None
        })
    }

    /// Tells people why the file is not used.
    pub fn warn(&self, reason: &str) {
        tracing::warn!(file = %self.path.display(), error = reason, "what was kept is not used");
    }

    fn open(&self, bytes: &[u8], cluster_id: &str) -> Result<Kept, Unusable> {
        let end = bytes.iter().take(MAX_LINE_BYTES).position(|byte| *byte == b'\n');
        let (line, content) = bytes.split_at(end.ok_or(Unusable::NotOne)?);
        let content = &content[1..];
        let line = str::from_utf8(line).map_err(|_| Unusable::NotOne)?;
        let mut words = line.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(Unusable::NotOne);
        }
        // Everything behind the version is that version's business.
        match words.next() {
            Some(VERSION) => {}
            Some(other) => return Err(Unusable::OtherVersion(other.escape_debug().to_string())),
            None => return Err(Unusable::NotOne),
        }
        let words: Vec<&str> = words.collect();
        let [kind, cluster, written, length, hash] = words[..] else { return Err(Unusable::NotOne) };
        let expected: usize = length.parse().map_err(|_| Unusable::NotOne)?;
        if expected != content.len() {
            return Err(Unusable::OtherLength { expected, found: content.len() });
        }
        let about = line.strip_suffix(hash).and_then(|about| about.strip_suffix(' '));
        if about.is_none_or(|about| hash_of(about, content) != hash) {
            return Err(Unusable::Damaged);
        }
        let written_unix_ms = written.parse().map_err(|_| Unusable::NotOne)?;
        if kind != self.kind {
            return Err(Unusable::NotOne);
        }
        if cluster != cluster_id {
            return Err(Unusable::OtherCluster {
                expected: cluster_id.to_owned(),
                found: cluster.to_owned(),
            });
        }
        Ok(Kept { written_unix_ms, content: content.to_vec() })
    }
}

fn hash_of(about: &str, content: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(about);
    hasher.update(b"\n");
    hasher.update(content);
    format!("{:x}", hasher.finalize())
}

#[cfg(test)]
mod tests;
