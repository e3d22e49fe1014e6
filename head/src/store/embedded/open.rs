//! Opens the store's file, and refuses to touch one that is damaged.
//!
//! The database would repair a damaged file by rolling back or dropping what it cannot read, in place. So the file is
//! first read into memory and opened and verified there (all checksums); only a file that passes is opened for real.
//! Commits are in two phases, so a process killed at any time leaves a file that passes.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

use super::table::{ENTRIES, META};

/// Name of the store's file in its folder.
pub const FILE_NAME: &str = "head.redb";

/// The format that this program writes.
const FORMAT: u64 = 1;

/// The database's page cache: the store is small.
const CACHE_BYTES: usize = 4 << 20;

/// Why the embedded store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is damaged; it was left as it is.
    #[error(
        "the store `{}` is damaged ({reason}) and was left as it is; put back a backup of it, or move it away to start \
         without pipelines and deploy them again",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer version of this program wrote it.
    #[error(
        "the store `{}` has format {found}, this program knows {known}; start the newer version that wrote it",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest known format.
        known: u64,
    },
    /// Somebody has it open.
    #[error("the store `{}` is open already; stop the process that uses it, or choose another --data-dir", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file or folder cannot be used.
    #[error("cannot use the store `{}`: {source}; check the folder's owner and the disk's free space", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens the store in `dir`, made if there is none.
pub(super) fn open(dir: &Path) -> Result<Database, OpenError> {
    let path = dir.join(FILE_NAME);
    let io = |source| OpenError::Io { path: path.clone(), source };
    fs::create_dir_all(dir).map_err(io)?;
    match fs::read(&path) {
        Ok(bytes) => verify(&path, bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(dir, &path)?,
        Err(error) => return Err(io(error)),
    }
    reopen(dir)
}

/// Opens a file that is known to be sound.
pub(super) fn reopen(dir: &Path) -> Result<Database, OpenError> {
    let path = dir.join(FILE_NAME);
    Builder::new().set_cache_size(CACHE_BYTES).open(&path).map_err(|error| convert(&path, error))
}

/// Makes an empty store under another name first: a file named `head.redb` is always a whole one.
fn create(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let new = dir.join(format!("{FILE_NAME}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let database =
        Builder::new().set_cache_size(CACHE_BYTES).create(&new).map_err(|error| convert(path, error))?;
    initialise(&database).map_err(|error| io(io::Error::other(error)))?;
    drop(database);
    fs::rename(&new, path).map_err(io)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
}

/// Makes the tables of an empty database.
pub(super) fn initialise(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        transaction.open_table(ENTRIES)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("version", 0)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Checks a copy of the file in memory; the file itself is not written.
fn verify(path: &Path, bytes: Vec<u8>) -> Result<(), OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    if bytes.is_empty() {
        return Err(damaged("it is empty".into()));
    }
    let checked = catch_unwind(AssertUnwindSafe(|| check_copy(bytes)))
        .unwrap_or_else(|_| Err("its structure makes no sense".into()));
    let format = checked.map_err(damaged)?;
    if format > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found: format, known: FORMAT });
    }
    Ok(())
}

/// Opens the bytes as a database, verifies every page and reads the format.
fn check_copy(bytes: Vec<u8>) -> Result<u64, String> {
    let copy = InMemoryBackend::new();
    copy.set_len(bytes.len() as u64).and_then(|()| copy.write(0, &bytes)).map_err(|e| e.to_string())?;
    drop(bytes);
    let mut database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(copy)
        .map_err(|error| error.to_string())?;
    if !database.check_integrity().map_err(|error| error.to_string())? {
        return Err("its checksums do not match".into());
    }
    read_format(&database).map_err(|error| error.to_string())
}

fn read_format(database: &Database) -> Result<u64, redb::Error> {
    use redb::{ReadableDatabase, ReadableTable};
    let transaction = database.begin_read()?;
    for entry in transaction.open_table(ENTRIES)?.iter()? {
        entry?;
    }
    let meta = transaction.open_table(META)?;
    let format = meta.get("format")?.map_or(0, |format| format.value());
    Ok(format)
}

fn convert(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        DatabaseError::Storage(StorageError::Io(source)) => OpenError::Io { path, source },
        other => OpenError::Damaged { path, reason: other.to_string() },
    }
}
