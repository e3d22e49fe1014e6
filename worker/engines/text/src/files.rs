//! Reading a model's small files, with limits: a model folder may come from anywhere.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use millstream_engine::LoadError;
use serde::de::DeserializeOwned;

/// Most bytes of a settings file such as `config.json`.
pub const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;
/// Most bytes of `tokenizer.json`.
pub const MAX_TOKENIZER_BYTES: u64 = 32 * 1024 * 1024;

/// The bytes of `dir/name`; `None` when there is no such file.
///
/// # Errors
/// [`LoadError::Model`] when the file cannot be read or is larger than `max_bytes`.
pub(crate) fn read_limited(dir: &Path, name: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, LoadError> {
    let path = dir.join(name);
    let broken = |error: std::io::Error| {
        LoadError::Model(format!("`{}` cannot be read: {error}; check the file's rights", path.display()))
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(error)),
    };
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > max_bytes {
        return Err(LoadError::Model(format!(
            "`{}` is larger than {} MiB, which no such file should be; check that the model is the right one",
            path.display(),
            max_bytes / (1024 * 1024)
        )));
    }
    Ok(Some(bytes))
}

/// The JSON file `dir/name`; `None` when there is no such file. At most [`MAX_CONFIG_BYTES`].
///
/// # Errors
/// [`LoadError::Model`] when the file cannot be read, is too large or is not what it should be.
pub fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, LoadError> {
    let Some(bytes) = read_limited(dir, name, MAX_CONFIG_BYTES)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        LoadError::Model(format!(
            "`{}` is not as expected: {error}; fetch the model anew",
            dir.join(name).display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_none_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_json::<serde_json::Value>(dir.path(), "config.json").unwrap().is_none());
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        let error = read_json::<serde_json::Value>(dir.path(), "config.json").unwrap_err().to_string();
        assert!(error.contains("config.json` is not as expected"), "{error}");
        assert!(read_limited(dir.path(), "config.json", 0).unwrap_err().to_string().contains("larger than"));
    }
}
