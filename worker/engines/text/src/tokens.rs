//! From text to token ids.

use std::path::Path;

use millstream_engine::LoadError;
use millstream_model_files::{TokenizerFile, tokenizer_file};
use tokenizers::utils::truncation::truncate_encodings;
use tokenizers::{Encoding, PostProcessor as _, Tokenizer, TruncationDirection, TruncationParams};

use crate::cut::{Cut, Truncate};

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

/// Why a text has no tokens for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodeError {
    /// The tokenizer's reason, for operators.
    Failed(String),
    /// It has more tokens than the model reads, and is not to be cut.
    TooLong {
        /// At least so many.
        tokens: usize,
        /// As many as are read.
        max_tokens: usize,
    },
}

impl From<tokenizers::Error> for EncodeError {
    fn from(error: tokenizers::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Bytes of text for each token that the model reads. English has four of them.
const BYTES_PER_TOKEN: usize = 32;

/// A model's tokenizer, cutting texts at the model's limit.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    max_tokens: usize,
    /// Special tokens of a pair.
    num_added_to_pair: usize,
    pad_id: u32,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` in `dir`; the model reads `max_tokens`, special tokens counted. Without `pad_id` the tokenizer's own
    /// padding token is used, else 0.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] without a `tokenizer.json`, [`LoadError::Model`] when it is broken.
    pub fn load(dir: &Path, max_tokens: usize, pad_id: Option<u32>) -> Result<Self, LoadError> {
        let path = dir.join("tokenizer.json");
        let TokenizerFile { tokenizer, pad_id: own_pad_id } = tokenizer_file(dir)?.ok_or_else(|| {
            LoadError::Unsupported(format!(
                "`{}` is missing; texts need the model's fast tokenizer beside its weights",
                path.display()
            ))
        })?;
        let num_added = |is_pair| tokenizer.get_post_processor().map_or(0, |it| it.added_tokens(is_pair));
        if num_added(false) >= max_tokens {
            return Err(LoadError::Model(format!(
                "`{}` adds {} tokens to a text, and the model reads {max_tokens}; fetch the model anew",
                path.display(),
                num_added(false)
            )));
        }
        let num_added_to_pair = num_added(true);
        Ok(Self { tokenizer, max_tokens, num_added_to_pair, pad_id: pad_id.or(own_pad_id).unwrap_or(0) })
    }

    /// What of a text may come to tokens that the model reads: the rest is not looked at, however long it is. Only texts with
    /// fewer tokens than one for each 32 bytes lose something by it.
    #[must_use]
    pub fn cut<'a>(&self, text: &'a str, truncate: Truncate) -> &'a str {
        let max_bytes = self.max_tokens.saturating_mul(BYTES_PER_TOKEN);
        match truncate {
            Truncate::End => &text[..text.floor_char_boundary(max_bytes)],
            Truncate::Start => &text[text.ceil_char_boundary(text.len().saturating_sub(max_bytes))..],
            // One byte more shows that there is more.
            Truncate::Never => &text[..text.ceil_char_boundary(text.len().min(max_bytes + 1))],
        }
    }

    /// Tokens of one text that was [`cut`](Self::cut).
    ///
    /// # Errors
    /// The tokenizer's, and for a text that is too long and not to be cut.
    pub fn encode(&self, text: &str, cut: Cut) -> Result<Tokens, EncodeError> {
        let encoding = self.tokenizer.encode_fast(text, true)?;
        let max_tokens = cut.max_tokens(self.max_tokens);
        if encoding.len() <= max_tokens && !self.is_endless(text, cut) {
            return Ok(tokens_of(&encoding));
        }
        match cut.truncate {
            Truncate::Never => Err(too_long(encoding.len(), max_tokens)),
            truncate => Ok(shortened(&encoding, max_tokens, truncate)),
        }
    }

    /// Whether a text has more bytes than are looked at, where that is an error: how many tokens it has is not known.
    fn is_endless(&self, text: &str, cut: Cut) -> bool {
        cut.truncate == Truncate::Never && text.len() > self.max_tokens.saturating_mul(BYTES_PER_TOKEN)
    }

    /// The first text of pairs, to be read once for all of them.
    ///
    /// # Errors
    /// The tokenizer's, and for a text that is too long and not to be cut.
    pub fn query(&self, text: &str, cut: Cut) -> Result<Query, EncodeError> {
        let mut encoding = self.plain(text)?;
        let max_tokens = cut.max_tokens(self.max_tokens);
        match cut.truncate {
            Truncate::Never if encoding.len() > max_tokens || self.is_endless(text, cut) => {
                return Err(too_long(encoding.len(), max_tokens));
            }
            Truncate::Never => {}
            // More of it is in no pair.
            truncate => encoding.truncate(max_tokens, 0, direction(truncate)),
        }
        drop(encoding.take_overflowing());
        Ok(Query(encoding))
    }

    /// Tokens of a pair, as cross-encoders read query and document; of the document at most so many, where that is said. Of a pair that is
    /// too long the longer side is cut first.
    ///
    /// # Errors
    /// The tokenizer's, and for a pair that is too long and not to be cut.
    pub fn encode_pair(
        &self,
        query: &Query,
        second: &str,
        cut: Cut,
        max_second: Option<usize>,
    ) -> Result<Tokens, EncodeError> {
        let mut first = query.0.clone();
        let mut other = self.plain(second)?;
        if let Some(max) = max_second.filter(|max| *max < other.len()) {
            other.truncate(max, 0, direction(cut.truncate));
            drop(other.take_overflowing());
        }
        let max_tokens = cut.max_tokens(self.max_tokens);
        let num_tokens = first.len() + other.len() + self.num_added_to_pair;
        if num_tokens > max_tokens || self.is_endless(second, cut) {
            if cut.truncate == Truncate::Never {
                return Err(too_long(num_tokens, max_tokens));
            }
            let params = TruncationParams {
                max_length: max_tokens.saturating_sub(self.num_added_to_pair),
                direction: direction(cut.truncate),
                ..TruncationParams::default()
            };
            let shorter = truncate_encodings(first, Some(other), &params)?;
            first = shorter.0;
            other = shorter.1.unwrap_or_default();
        }
        other.set_type_ids(vec![1; other.len()]);
        Ok(tokens_of(&self.tokenizer.post_process(first, Some(other), true)?))
    }

    /// A text's own tokens.
    fn plain(&self, text: &str) -> Result<Encoding, EncodeError> {
        Ok(self.tokenizer.encode_fast(text, false)?)
    }

    /// The tokenizer itself, which cuts nothing.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
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

fn too_long(tokens: usize, max_tokens: usize) -> EncodeError {
    // A text of few tokens for its bytes was not read to its end.
    EncodeError::TooLong { tokens: tokens.max(max_tokens + 1), max_tokens }
}

fn direction(truncate: Truncate) -> TruncationDirection {
    match truncate {
        Truncate::Start => TruncationDirection::Left,
        Truncate::End | Truncate::Never => TruncationDirection::Right,
    }
}

/// The tokens of a text with special ones around it, of which so many are kept: all special ones, and of the text its beginning or
/// its end.
fn shortened(encoding: &Encoding, max_tokens: usize, truncate: Truncate) -> Tokens {
    let is_special = encoding.get_special_tokens_mask();
    let num_own = is_special.iter().filter(|&&bit| bit == 0).count();
    let num_kept = max_tokens.saturating_sub(encoding.len() - num_own);
    let first = if truncate == Truncate::Start { num_own.saturating_sub(num_kept) } else { 0 };
    let mut tokens = Tokens::default();
    let mut own = 0;
    for (at, &bit) in is_special.iter().enumerate() {
        let is_kept = bit == 1 || (first..first + num_kept).contains(&own);
        own += usize::from(bit == 0);
        if is_kept {
            tokens.ids.push(encoding.get_ids()[at]);
            tokens.type_ids.push(encoding.get_type_ids()[at]);
        }
    }
    tokens
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
            let its_own = truncating(&tokenizer, TruncationDirection::Right);
            for first in texts {
                let query = tokenizer.query(first, Cut::default()).unwrap();
                for second in texts {
                    let pair = tokenizer.encode_pair(&query, second, Cut::default(), None).unwrap();
                    let whole = tokens_of(&its_own.encode_fast((first, second), true).unwrap());
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

    /// The library's own way to cut.
    fn truncating(tokenizer: &TextTokenizer, direction: TruncationDirection) -> Tokenizer {
        let mut its_own = tokenizer.tokenizer.clone();
        let params = TruncationParams { max_length: tokenizer.max_tokens, direction, ..Default::default() };
        its_own.with_truncation(Some(params)).unwrap();
        its_own
    }

    #[test]
    fn texts_are_cut_at_either_end_as_the_library_does_it() {
        let texts = ["", "flour", "What needs flour?", &"bread and butter ".repeat(20)];
        for max_tokens in [5, 8, 64] {
            let tokenizer = tokenizer(max_tokens);
            for truncate in [Truncate::End, Truncate::Start] {
                let its_own = truncating(&tokenizer, direction(truncate));
                let cut = Cut { truncate, max_tokens: None };
                for text in texts {
                    let whole = tokens_of(&its_own.encode_fast(text, true).unwrap());
                    assert_eq!(tokenizer.encode(text, cut).unwrap(), whole, "{truncate:?} {text:?}");
                    let query = tokenizer.query("bread", cut).unwrap();
                    let pair = tokens_of(&its_own.encode_fast(("bread", text), true).unwrap());
                    assert_eq!(
                        tokenizer.encode_pair(&query, text, cut, None).unwrap(),
                        pair,
                        "{truncate:?} {text:?}"
                    );
                }
            }
        }
        let fewer = Cut { max_tokens: Some(4), ..Cut::default() };
        assert_eq!(tokenizer(64).encode(texts[2], fewer).unwrap().len(), 4);
        let more = Cut { max_tokens: Some(400), ..Cut::default() };
        assert_eq!(tokenizer(8).encode(texts[3], more).unwrap().len(), 8);
        let one = Cut { max_tokens: Some(1), ..Cut::default() };
        assert_eq!(tokenizer(8).encode(texts[3], one).unwrap().len(), 2, "those that stand around a text");
    }

    #[test]
    fn documents_may_have_fewer_tokens_than_fit() {
        let tokenizer = tokenizer(64);
        let query = tokenizer.query("What needs flour?", Cut::default()).unwrap();
        let long = "bread and butter ".repeat(20);
        let num_of_query = lengths(&tokenizer.encode_pair(&query, "", Cut::default(), None).unwrap()).0;
        let start = Cut { truncate: Truncate::Start, max_tokens: None };
        for cut in [Cut::default(), start] {
            let pair = tokenizer.encode_pair(&query, &long, cut, Some(5)).unwrap();
            assert_eq!(lengths(&pair).0, num_of_query + 5, "the query's tokens are not among them");
            let whole = tokenizer.encode_pair(&query, "bread", cut, None).unwrap();
            assert_eq!(tokenizer.encode_pair(&query, "bread", cut, Some(500)).unwrap(), whole);
        }
        assert_eq!(tokenizer.encode_pair(&query, &long, start, Some(500)).unwrap().len(), 64);
    }

    #[test]
    fn what_is_not_to_be_cut_is_refused_with_its_length() {
        let tokenizer = tokenizer(8);
        let cut = Cut { truncate: Truncate::Never, max_tokens: None };
        let long = "bread ".repeat(20);
        let TextTokenizer { tokenizer: own, .. } = &tokenizer;
        let tokens = own.encode_fast(&*long, true).unwrap().len();
        assert_eq!(tokenizer.encode(&long, cut), Err(EncodeError::TooLong { tokens, max_tokens: 8 }));
        assert!(tokenizer.encode("bread", cut).is_ok());
        assert!(matches!(tokenizer.query(&long, cut), Err(EncodeError::TooLong { .. })));
        let query = tokenizer.query("bread", cut).unwrap();
        assert!(tokenizer.encode_pair(&query, "bread", cut, None).is_ok());
        assert!(
            matches!(tokenizer.encode_pair(&query, &long, cut, None), Err(EncodeError::TooLong { tokens, .. }) if tokens > 8)
        );
        // Long in bytes, and of few tokens as far as it is read.
        let blank = " ".repeat(1_000_000);
        let read = tokenizer.cut(&blank, Truncate::Never);
        assert!(
            read.len() < 300
                && tokenizer.encode(read, cut) == Err(EncodeError::TooLong { tokens: 9, max_tokens: 8 })
        );
    }

    #[test]
    fn only_what_may_be_read_is_looked_at() {
        let tokenizer = tokenizer(16);
        let long = "flour ".repeat(1_000_000);
        for truncate in [Truncate::End, Truncate::Start] {
            let cut = Cut { truncate, max_tokens: None };
            let read = tokenizer.cut(&long, truncate);
            assert!(read.len() <= 16 * BYTES_PER_TOKEN && read.len() > 500);
            assert_eq!(tokenizer.encode(read, cut).unwrap(), tokenizer.encode(&long[..6000], cut).unwrap());
            assert_eq!(tokenizer.cut("ä flour", truncate), "ä flour");
            let broken_at = format!("x{}", "ä".repeat(16 * BYTES_PER_TOKEN));
            assert!(tokenizer.cut(&broken_at, truncate).len() >= 16 * BYTES_PER_TOKEN - 1);
        }
    }
}
