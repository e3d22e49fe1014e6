//! Reading a model's files. A model folder may come from anywhere: what is read is a plain file of that folder, no link, no pipe, no
//! device; it has a limit; and what was checked is what is read, as both go through one descriptor. Errors name the file.
//! Calls for what a model's tokenizer alone can say ([`TokenCall`]) are answered here too, as engines of several kinds have one.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod token_call;
mod tokenizer;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use millstream_engine::LoadError;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

pub use token_call::{Detokenize, TokenCall, TokenInput, Tokenize};
pub use tokenizer::{MAX_TOKENIZER_BYTES, TokenizerFile, tokenizer_file};

/// Most bytes of a JSON file of settings, such as `config.json`, or of the index of a model in several files.
pub const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// The file at `path`, if it is a plain one; `None` where there is nothing.
///
/// # Errors
/// [`LoadError::Model`] for links, pipes, folders and devices, and when the file cannot be opened.
pub fn open_if_there(path: &Path) -> Result<Option<File>, LoadError> {
    // Without blocking: opening a pipe would wait for somebody who writes into it.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => {
            return Err(LoadError::Model(format!(
                "`{}` is a link, and of models only files in their own folder are read; copy the folder with what its links lead \
                 to (`cp -rL`)",
                path.display()
            )));
        }
        Err(error) => return Err(unreadable(path, &error.into())),
    };
    if file.metadata().map_err(|error| unreadable(path, &error))?.is_file() {
        return Ok(Some(file));
    }
    Err(LoadError::Model(format!("`{}` is not a plain file; fetch the model anew", path.display())))
}

/// The file at `path`.
///
/// # Errors
/// As [`open_if_there`], and [`LoadError::Model`] where there is nothing.
pub fn open(path: &Path) -> Result<File, LoadError> {
    open_if_there(path)?.ok_or_else(|| unreadable(path, &io::ErrorKind::NotFound.into()))
}

/// The bytes of the file at `path`, at most `limit`; `None` where there is nothing.
///
/// # Errors
/// As [`open_if_there`], and [`LoadError::Model`] for more bytes.
pub fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, LoadError> {
    let Some(file) = open_if_there(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(LoadError::Model(format!(
            "`{}` is larger than {} MiB, which no such file should be; check that the model is the right one",
            path.display(),
            limit >> 20
        )));
    }
    Ok(Some(bytes))
}

/// The JSON file `dir/name`, at most [`MAX_CONFIG_BYTES`]; `None` when there is no such file.
///
/// # Errors
/// As [`read_if_there`], and [`LoadError::Model`] when it is not what `T` says.
pub fn json_if_there<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, LoadError> {
    let path = dir.join(name);
    let Some(bytes) = read_if_there(&path, MAX_CONFIG_BYTES)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        LoadError::Model(format!("`{}` is not as expected: {error}; fetch the model anew", path.display()))
    })
}

/// The JSON file `dir/name`.
///
/// # Errors
/// As [`json_if_there`], and [`LoadError::Model`] when there is no such file.
pub fn json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T, LoadError> {
    let missing = || unreadable(&dir.join(name), &io::ErrorKind::NotFound.into());
    json_if_there(dir, name)?.ok_or_else(missing)
}

/// What is told of a file that cannot be read.
#[must_use]
pub fn unreadable(path: &Path, error: &io::Error) -> LoadError {
    LoadError::Model(format!("`{}` cannot be read: {error}; check the file's rights", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_none_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(json_if_there::<serde_json::Value>(dir.path(), "config.json").unwrap().is_none());
        let missing = json::<serde_json::Value>(dir.path(), "config.json").unwrap_err().to_string();
        assert!(missing.contains("config.json` cannot be read"), "{missing}");
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        let error = json::<serde_json::Value>(dir.path(), "config.json").unwrap_err().to_string();
        assert!(error.contains("config.json` is not as expected"), "{error}");
        let large = read_if_there(&dir.path().join("config.json"), 0).unwrap_err().to_string();
        assert!(large.contains("larger than"), "{large}");
    }

    #[test]
    fn links_pipes_and_folders_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        std::fs::write(place("secret"), "of somebody else").unwrap();
        std::os::unix::fs::symlink(place("secret"), place("link.json")).unwrap();
        std::os::unix::fs::symlink(place("nothing"), place("dangling.json")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, place("pipe.json"), Mode::RUSR | Mode::WUSR).unwrap();
        std::fs::create_dir(place("folder.json")).unwrap();
        for (name, reason) in [
            ("link.json", "is a link"),
            ("dangling.json", "is a link"),
            ("pipe.json", "is not a plain file"),
            ("folder.json", "is not a plain file"),
        ] {
            let error = json_if_there::<serde_json::Value>(dir.path(), name).unwrap_err().to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
    }
}
