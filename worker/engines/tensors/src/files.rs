//! Configuration and tokenizer files of a model, read within limits, with errors that name the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use millstream_engine::LoadError;
use serde::de::DeserializeOwned;
use tokenizers::Tokenizer;

/// Largest tokenizer file.
pub const MAX_TOKENIZER_BYTES: u64 = 32 << 20;
/// Largest header of a safetensors file.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Largest other JSON file (configurations, the index of a model in several files).
pub const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Reads `dir/name` as JSON into `T`.
///
/// # Errors
/// [`LoadError::Model`] when the file is missing, too large, or not what `T` says.
pub fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T, LoadError> {
    let bytes = read_bounded(&dir.join(name), MAX_CONFIG_BYTES)?;
    parse(dir, name, &bytes)
}

/// Reads `dir/name` as JSON into `T`, or gives `None` when there is no such file.
///
/// # Errors
/// [`LoadError::Model`] when the file is there but too large or not what `T` says.
pub fn read_json_if_there<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, LoadError> {
    if dir.join(name).exists() { read_json(dir, name).map(Some) } else { Ok(None) }
}

/// Reads `dir/tokenizer.json`, at most [`MAX_TOKENIZER_BYTES`], with its own padding and truncation taken out:
/// engines set theirs.
///
/// # Errors
/// [`LoadError::Model`] when the file is missing, too large or no tokenizer.
pub fn read_tokenizer(dir: &Path) -> Result<Tokenizer, LoadError> {
    let path = dir.join("tokenizer.json");
    let bytes = read_bounded(&path, MAX_TOKENIZER_BYTES)?;
    let mut tokenizer = Tokenizer::from_bytes(&bytes)
        .map_err(|error| LoadError::Model(format!("`{}` is no tokenizer: {error}", path.display())))?;
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(None)
        .map_err(|error| LoadError::Model(format!("`{}`: {error}", path.display())))?;
    Ok(tokenizer)
}

fn parse<T: DeserializeOwned>(dir: &Path, name: &str, bytes: &[u8]) -> Result<T, LoadError> {
    serde_json::from_slice(bytes)
        .map_err(|error| LoadError::Model(format!("`{}` cannot be used: {error}", dir.join(name).display())))
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    let failed =
        |error: std::io::Error| LoadError::Model(format!("`{}` cannot be read: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(LoadError::Model(format!(
            "`{}` is larger than {} MiB, the most that is read of such a file",
            path.display(),
            limit >> 20
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_and_one_that_is_no_tokenizer_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = read_json::<serde_json::Value>(dir.path(), "config.json").unwrap_err().to_string();
        assert!(missing.contains("config.json` cannot be read"), "{missing}");
        assert_eq!(read_json_if_there::<serde_json::Value>(dir.path(), "config.json").unwrap(), None);
        std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        let broken = read_tokenizer(dir.path()).unwrap_err().to_string();
        assert!(broken.contains("tokenizer.json` is no tokenizer"), "{broken}");
    }

    #[test]
    fn a_file_beyond_its_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        File::create(&path).unwrap().set_len(MAX_TOKENIZER_BYTES + 1).unwrap();
        let error = read_tokenizer(dir.path()).unwrap_err().to_string();
        assert!(error.contains("larger than 32 MiB"), "{error}");
    }
}
