//! From text to token ids.

use std::path::Path;

use millstream_engine::LoadError;
use millstream_model_files::{TokenizerFile, tokenizer_file};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

/// One text (or pair of texts) as the model sees it, special tokens included, not padded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// 0 for the first text, 1 for the second; as long as `ids`.
    pub type_ids: Vec<u32>,
}

impl Tokens {
    /// How many tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Bytes of text for each token that the model reads. English has four of them.
const BYTES_PER_TOKEN: usize = 32;

/// A model's tokenizer, cutting texts at the model's limit.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    max_tokens: usize,
    pad_id: u32,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` in `dir`; texts are cut to `max_tokens`, special tokens counted, pairs at the longer side first.
    /// Without `pad_id` the tokenizer's own padding token is used, else 0.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] without a `tokenizer.json`, [`LoadError::Model`] when it is broken.
    pub fn load(dir: &Path, max_tokens: usize, pad_id: Option<u32>) -> Result<Self, LoadError> {
        let path = dir.join("tokenizer.json");
        let TokenizerFile { mut tokenizer, pad_id: own_pad_id } = tokenizer_file(dir)?.ok_or_else(|| {
            LoadError::Unsupported(format!(
                "`{}` is missing; texts need the model's fast tokenizer beside its weights",
                path.display()
            ))
        })?;
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| {
            LoadError::Model(format!("`{}` cannot cut texts: {error}; fetch the model anew", path.display()))
        })?;
        Ok(Self { tokenizer, max_tokens, pad_id: pad_id.or(own_pad_id).unwrap_or(0) })
    }

    /// What of a text may come to tokens that the model reads: the rest is not looked at, however long it is. Only texts with
    /// fewer tokens than one for each 32 bytes lose something by it.
    #[must_use]
    pub fn cut<'a>(&self, text: &'a str) -> &'a str {
        &text[..text.floor_char_boundary(self.max_tokens.saturating_mul(BYTES_PER_TOKEN))]
    }

    /// Tokens of one text.
    ///
    /// # Errors
    /// The tokenizer's reason, for operators.
    pub fn encode(&self, text: &str) -> Result<Tokens, String> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(tokens_of(&encoding))
    }

    /// The first text of pairs, to be read once for all of them.
    ///
    /// # Errors
    /// The tokenizer's reason, for operators.
    pub fn query(&self, text: &str) -> Result<Query, String> {
        self.plain(text).map(Query)
    }

    /// Tokens of a pair, as cross-encoders read query and document.
    ///
    /// # Errors
    /// The tokenizer's reason, for operators.
    pub fn encode_pair(&self, query: &Query, second: &str) -> Result<Tokens, String> {
        let mut second = self.plain(second)?;
        second.set_type_ids(vec![1; second.len()]);
        let pair = self.tokenizer.post_process(query.0.clone(), Some(second), true);
        Ok(tokens_of(&pair.map_err(|error| error.to_string())?))
    }

    /// A text's own tokens, as many as the model could read of it alone.
    fn plain(&self, text: &str) -> Result<Encoding, String> {
        self.tokenizer.encode_fast(text, false).map_err(|error| error.to_string())
    }

    /// Most tokens of one text or pair.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Fills up shorter rows of a batch.
    #[must_use]
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// How many tokens there are, added ones included.
    #[must_use]
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}

/// The first text of pairs, cut into tokens.
pub struct Query(Encoding);

fn tokens_of(encoding: &Encoding) -> Tokens {
    Tokens { ids: encoding.get_ids().to_vec(), type_ids: encoding.get_type_ids().to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(max_tokens: usize) -> TextTokenizer {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../pipelines/models/mini-reranker");
        TextTokenizer::load(&dir, max_tokens, None).unwrap()
    }

    /// How many tokens there are, and how many of the second text.
    fn lengths(tokens: &Tokens) -> (usize, usize) {
        (tokens.len(), tokens.type_ids.iter().filter(|id| **id == 1).count())
    }

    #[test]
    fn a_query_that_is_read_once_makes_the_same_pairs() {
        let texts =
            ["", "flour", "What needs flour?", &"bread and butter ".repeat(20), &"salt, ".repeat(200)];
        for max_tokens in [8, 9, 64, 512] {
            let tokenizer = tokenizer(max_tokens);
            for first in texts {
                let query = tokenizer.query(first).unwrap();
                for second in texts {
                    let pair = tokenizer.encode_pair(&query, second).unwrap();
                    let whole = tokens_of(&tokenizer.tokenizer.encode_fast((first, second), true).unwrap());
                    let ((total, of_second), (expected, expected_of_second)) =
                        (lengths(&pair), lengths(&whole));
                    // Where both texts are too long, one of them has one token more than the other: either may.
                    let is_tie = total == max_tokens && of_second.abs_diff(expected_of_second) == 1;
                    assert!(
                        pair == whole || is_tie,
                        "{max_tokens}: {first:?} {second:?}: {pair:?} {whole:?}"
                    );
                    assert_eq!(total, expected);
                }
            }
        }
    }

    #[test]
    fn only_what_may_be_read_is_looked_at() {
        let tokenizer = tokenizer(16);
        let long = "flour ".repeat(1_000_000);
        assert_eq!(tokenizer.cut(&long).len(), 16 * BYTES_PER_TOKEN);
        assert_eq!(tokenizer.encode(tokenizer.cut(&long)).unwrap(), tokenizer.encode(&long).unwrap());
        assert_eq!(tokenizer.cut("ä flour"), "ä flour");
        let broken_at = "ä".repeat(16 * BYTES_PER_TOKEN);
        assert!(tokenizer.cut(&broken_at).chars().all(|letter| letter == 'ä'));
    }
}
