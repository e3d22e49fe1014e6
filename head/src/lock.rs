//! One process per data directory: an operating-system lock on `DIR/lock` that dies with its process, however that
//! ends. The file names the holder, for the message that a second process prints.
//!
//! The `cluster` command takes the lock for the whole data directory before it starts any role; a head started later
//! in the same process joins it, so each part may also be started alone.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Locks that this process holds, by folder.
static HELD: Mutex<BTreeMap<PathBuf, Weak<File>>> = Mutex::new(BTreeMap::new());

/// Why a data directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works on it.
    #[error(
        "data directory `{}` is held by process {pid}; stop that one (`cluster down`), or choose another with --data-dir",
        .dir.display()
    )]
    Held {
        /// The folder.
        dir: PathBuf,
        /// The holder, as it stands in the lock file; `unknown` when it has not written it yet.
        pid: String,
    },
    /// The folder or the lock file cannot be used.
    #[error("cannot use `{}` as the data directory: {source}; choose another with --data-dir", .dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The hold on a data directory; dropping it (and every [`DataDirLock::join`]ed one) gives the directory free.
#[derive(Debug, Clone)]
pub struct DataDirLock {
    _file: Arc<File>,
}

impl DataDirLock {
    /// Makes the folder if need be and takes its lock for this process.
    ///
    /// # Errors
    /// [`LockError::Held`] when any process (this one included) has it; [`LockError::Io`] when the folder cannot be
    /// used.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let key = dir.canonicalize().map_err(io)?;
        let mut held = HELD.lock();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(key.join("lock"))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let pid = pid.trim();
                let pid = if pid.is_empty() { "unknown" } else { pid };
                return Err(LockError::Held { dir: dir.to_owned(), pid: pid.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        let file = Arc::new(file);
        held.retain(|_, file| file.strong_count() > 0);
        held.insert(key, Arc::downgrade(&file));
        Ok(Self { _file: file })
    }

    /// Whether any process (this one included) has the folder.
    #[must_use]
    pub fn is_held(dir: &Path) -> bool {
        File::open(dir.join("lock"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The same hold again when this process has the folder already, else [`DataDirLock::acquire`].
    ///
    /// # Errors
    /// As [`DataDirLock::acquire`]; [`LockError::Held`] only for other processes.
    pub fn join(dir: &Path) -> Result<Self, LockError> {
        if let Ok(key) = dir.canonicalize()
            && let Some(file) = HELD.lock().get(&key).and_then(Weak::upgrade)
        {
            return Ok(Self { _file: file });
        }
        Self::acquire(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_has_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DataDirLock::acquire(dir.path()).unwrap();
        let refused = DataDirLock::acquire(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("is held by process {}", std::process::id())), "{refused}");
        let joined = DataDirLock::join(dir.path()).unwrap();
        drop(lock);
        assert!(DataDirLock::is_held(dir.path()));
        assert!(DataDirLock::acquire(dir.path()).is_err(), "the joined hold keeps the directory");
        drop(joined);
        assert!(!DataDirLock::is_held(dir.path()));
        DataDirLock::acquire(dir.path()).unwrap();
    }
}
