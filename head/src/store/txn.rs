//! What a commit is: compares and writes that happen together or not at all, within limits that every store can keep.

use super::{Error, LeaseId, Version};

/// Most guards and writes of one commit, taken together (etcd's default `--max-txn-ops`). A [`super::Fenced`] store
/// adds one guard to each commit, so that whoever writes through it has one less.
pub const MAX_TXN_OPERATIONS: usize = 128;

/// Most bytes of one commit, [`OPERATION_BYTES`] for each guard and write included. Below etcd's default
/// `--max-request-bytes` of 1.5 MiB.
pub const MAX_TXN_BYTES: usize = 1_500_000;

/// What a guard or a write counts beside its key and value.
pub const OPERATION_BYTES: usize = 128;

/// What a key must be like for a commit to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The key does not exist.
    Absent,
    /// The key was last written by this version.
    Version(Version),
    /// Anything.
    Any,
}

/// A compare that writes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The key.
    pub key: String,
    /// What must be there.
    pub expected: Expected,
}

impl Guard {
    /// Expects `expected` at `key`.
    #[must_use]
    pub fn new(key: impl Into<String>, expected: Expected) -> Self {
        Self { key: key.into(), expected }
    }
}

/// One key's new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// What must be there.
    pub expected: Expected,
    /// The new value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
    /// The key is deleted when this lease ends. A write without a lease takes the key out of the one it had.
    pub lease: Option<LeaseId>,
}

impl Write {
    /// Writes a value.
    #[must_use]
    pub fn put(key: impl Into<String>, expected: Expected, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), expected, value: Some(value.into()), lease: None }
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(key: impl Into<String>, expected: Expected) -> Self {
        Self { key: key.into(), expected, value: None, lease: None }
    }

    /// Ties the key to a lease.
    #[must_use]
    pub fn with_lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    fn bytes(&self) -> usize {
        OPERATION_BYTES + self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// A commit: all writes if every guard and every write finds what it expects, else none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// Compares that write nothing.
    pub guards: Vec<Guard>,
    /// Compares that write. No key is named twice.
    pub writes: Vec<Write>,
}

impl Txn {
    /// Checks what needs no store: every implementation calls it before it tries anything.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`MAX_TXN_OPERATIONS`] or [`MAX_TXN_BYTES`]; [`Error::Invalid`] for an empty key, or
    /// one that is written twice.
    pub fn check(&self) -> Result<(), Error> {
        let operations = self.guards.len() + self.writes.len();
        if operations > MAX_TXN_OPERATIONS {
            return Err(Error::TooLarge { what: "operations", found: operations, max: MAX_TXN_OPERATIONS });
        }
        let guards: usize = self.guards.iter().map(|guard| OPERATION_BYTES + guard.key.len()).sum();
        let bytes = guards + self.writes.iter().map(Write::bytes).sum::<usize>();
        if bytes > MAX_TXN_BYTES {
            return Err(Error::TooLarge { what: "bytes", found: bytes, max: MAX_TXN_BYTES });
        }
        let mut keys: Vec<_> = self.writes.iter().map(|write| write.key.as_str()).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Invalid(format!("the key `{}` is written twice", twice[0])));
        }
        if keys.contains(&"") || self.guards.iter().any(|guard| guard.key.is_empty()) {
            return Err(Error::Invalid("a key is empty".into()));
        }
        Ok(())
    }
}

impl From<Vec<Write>> for Txn {
    fn from(writes: Vec<Write>) -> Self {
        Self { guards: Vec::new(), writes }
    }
}

impl From<Write> for Txn {
    fn from(write: Write) -> Self {
        vec![write].into()
    }
}
