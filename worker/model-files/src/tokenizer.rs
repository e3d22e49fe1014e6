//! A model's tokenizer, read with care: its library trusts the tables in the file.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_engine::LoadError;
use serde::Deserialize;
use tokenizers::Tokenizer;

use crate::read_if_there;

/// Most bytes of `tokenizer.json`.
pub const MAX_TOKENIZER_BYTES: u64 = 32 << 20;

/// A model's tokenizer, without padding and truncation of its own.
pub struct TokenizerFile {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The token that it would pad with.
    pub pad_id: Option<u32>,
}

/// The tokenizer in `dir`; `None` when there is none.
///
/// # Errors
/// [`LoadError::Model`] when the file cannot be read, is too large, or is not a tokenizer.
pub fn tokenizer_file(dir: &Path) -> Result<Option<TokenizerFile>, LoadError> {
    let path = dir.join("tokenizer.json");
    let Some(bytes) = read_if_there(&path, MAX_TOKENIZER_BYTES)? else { return Ok(None) };
    let broken = |reason: &str| {
        LoadError::Model(format!("`{}` is not a tokenizer: {reason}; fetch the model anew", path.display()))
    };
    let tables: Tables = serde_json::from_slice(&bytes).map_err(|error| broken(&error.to_string()))?;
    if tables.normalizer.is_some_and(|normalizer| !normalizer.is_sound(0)) {
        return Err(broken("the table of its normalizer is longer than itself"));
    }
    let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|error| broken(&error.to_string()))?;
    let pad_id = tokenizer.get_padding().map(|padding| padding.pad_id);
    tokenizer.with_padding(None).with_truncation(None).map_err(|error| broken(&error.to_string()))?;
    Ok(Some(TokenizerFile { tokenizer, pad_id }))
}

#[derive(Deserialize)]
struct Tables {
    normalizer: Option<Normalizer>,
}

/// What is looked at of a normalizer.
#[derive(Deserialize)]
struct Normalizer {
    #[serde(default)]
    normalizers: Vec<Self>,
    /// In base64: the length of a table in bytes (u32, little-endian), and the table.
    precompiled_charsmap: Option<String>,
}

/// Normalizers within normalizers deeper than this are refused.
const MAX_DEPTH: usize = 16;

impl Normalizer {
    /// Whether its tables have the bytes that they say: the library would reserve what they say.
    fn is_sound(&self, depth: usize) -> bool {
        let table = self.precompiled_charsmap.as_deref().is_none_or(is_sound_table);
        table && depth < MAX_DEPTH && self.normalizers.iter().all(|inner| inner.is_sound(depth + 1))
    }
}

fn is_sound_table(base64: &str) -> bool {
    if base64.is_empty() {
        return true;
    }
    // Eight letters are six bytes; the first four say how many follow.
    let head = base64.get(..8).and_then(|head| STANDARD.decode(head).ok());
    let Some([a, b, c, d, ..]) = head.as_deref() else { return false };
    let num_bytes = base64.trim_end_matches('=').len() * 3 / 4;
    usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).is_ok_and(|length| length <= num_bytes - 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Option<TokenizerFile>, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer.json"), text).unwrap();
        tokenizer_file(dir.path())
    }

    #[test]
    fn what_is_no_tokenizer_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(tokenizer_file(dir.path()).unwrap().is_none());
        for text in ["{}", "[", "{\"normalizer\": 7}"] {
            let error = load(text).err().unwrap().to_string();
            assert!(error.contains("tokenizer.json` is not a tokenizer"), "{error}");
        }
    }

    #[test]
    fn a_file_beyond_its_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("tokenizer.json")).unwrap();
        file.set_len(MAX_TOKENIZER_BYTES + 1).unwrap();
        let error = tokenizer_file(dir.path()).err().unwrap().to_string();
        assert!(error.contains("larger than 32 MiB"), "{error}");
    }

    #[test]
    fn a_table_that_says_more_than_it_has_is_refused_before_anything_is_reserved() {
        // 4 bytes of length and 2 more: lengths of 2 and of 2^30.
        for (table, sound) in
            [("AgAAAAAA", true), ("AAAAQAAA", false), ("/////w==", false), ("", true), ("A", false)]
        {
            assert_eq!(is_sound_table(table), sound, "{table}");
        }
        let nested = r#"{"normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": "AAAAQAAA"}]}}"#;
        let error = load(nested).err().unwrap().to_string();
        assert!(error.contains("longer than itself"), "{error}");
    }
}
