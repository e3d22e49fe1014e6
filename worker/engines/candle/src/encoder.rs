//! The encoder as the text engine uses it: takes a rectangle of tokens, drops the padding, runs groups of texts on
//! the engine's threads, and gives one row a text.

use std::path::Path;
use std::sync::Arc;

use candle_core::Result;
use millstream_engine::LoadError;
use millstream_engine_tensors::{Queries, Weights, with_f32};
use millstream_engine_text::{
    Company, Encoder, EncoderError, Pooling, Rows, TextModel, TokenBatch, Tokens, pool,
};
use millstream_pipelines::Task;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::bert::{Bert, Packed};
use crate::config::BertConfig;
use crate::head::Head;

/// Most tokens that are worked on together: the activations of so many stay in the cache between layers.
const GROUP_TOKENS: usize = 512;
/// Fewer tokens than this are not split over threads: a group reads all weights.
const MIN_GROUP_TOKENS: usize = 64;

/// A loaded model with its threads; what is cloned shares them.
#[derive(Clone)]
pub(crate) struct BertEncoder {
    model: Arc<Model>,
    threads: usize,
    /// For runs that have the engine for themselves. `None` with one thread: the caller's own is enough.
    pool: Option<Arc<ThreadPool>>,
}

/// A model's weights for one task.
pub(crate) struct Model {
    bert: Bert,
    output: Output,
}

enum Output {
    Vectors(Pooling),
    Scores(Head),
}

impl Model {
    /// Loads the weights in `dir` for the task of `model`.
    pub(crate) fn load(dir: &Path, model: &TextModel) -> std::result::Result<Self, LoadError> {
        let config = BertConfig::load(dir)?;
        let weights = Weights::open(dir)?;
        let vocabulary = model.tokenizer.vocabulary_size();
        if vocabulary > config.vocab_size {
            return Err(LoadError::Model(format!(
                "`tokenizer.json` has {vocabulary} tokens, but `config.json` says `vocab_size` {}; \
                 they are of different models",
                config.vocab_size
            )));
        }
        let output = match model.task {
            Task::Rerank => Output::Scores(Head::load(&weights, &config, 1)?),
            Task::Classify => Output::Scores(Head::load(&weights, &config, model.config.num_labels())?),
            _ => Output::Vectors(model.sentence.pooling),
        };
        let prefix = config.family.prefix();
        let has_prefix = weights.has(&format!("{prefix}embeddings.word_embeddings.weight"));
        let bert = Bert::load(&weights, if has_prefix { prefix } else { "" }, config)?;
        Ok(Self { bert, output })
    }
}

impl BertEncoder {
    /// One that runs this model on so many threads.
    pub(crate) fn new(model: Arc<Model>, threads: usize) -> std::result::Result<Self, LoadError> {
        let pool = (threads > 1).then(|| ThreadPoolBuilder::new().num_threads(threads).build()).transpose();
        let pool = pool
            .map_err(|error| LoadError::NotInstalled(format!("cannot start {threads} threads: {error}")))?;
        Ok(Self { model, threads, pool: pool.map(Arc::new) })
    }

    fn run_group(&self, texts: &Packed, threads: usize) -> Result<Rows> {
        match &self.model.output {
            Output::Scores(head) => {
                let first = self.model.bert.forward(texts, Queries::First, threads)?;
                let scores = head.forward(&first, threads)?;
                Ok(Rows { width: scores.dims2()?.1, data: with_f32(&scores, <[f32]>::to_vec)? })
            }
            Output::Vectors(Pooling::Cls) => {
                let first = self.model.bert.forward(texts, Queries::First, threads)?;
                Ok(Rows { width: self.model.bert.hidden_size(), data: with_f32(&first, <[f32]>::to_vec)? })
            }
            Output::Vectors(pooling) => {
                let hidden = self.model.bert.forward(texts, Queries::All, threads)?;
                let width = self.model.bert.hidden_size();
                let data = with_f32(&hidden, |hidden| pool_each(hidden, texts, width, *pooling))?;
                Ok(Rows { width, data })
            }
        }
    }
}

impl Encoder for BertEncoder {
    fn run(&mut self, batch: &TokenBatch, company: Company) -> std::result::Result<Rows, EncoderError> {
        let pool = self.pool.as_ref().filter(|_| company == Company::Alone);
        let threads = if pool.is_some() { self.threads } else { 1 };
        let groups = groups(batch, threads);
        let inner = if groups.len() >= threads { 1 } else { threads };
        let results: Result<Vec<Rows>> = match pool {
            Some(pool) => {
                pool.install(|| groups.par_iter().map(|group| self.run_group(group, inner)).collect())
            }
            None => groups.iter().map(|group| self.run_group(group, 1)).collect(),
        };
        let results = results.map_err(|error| EncoderError(error.to_string()))?;
        let width = results.first().map_or(self.model.bert.hidden_size(), |rows| rows.width);
        Ok(Rows { width, data: results.into_iter().flat_map(|rows| rows.data).collect() })
    }

    fn memory_bytes(&self) -> u64 {
        let head = match &self.model.output {
            Output::Scores(head) => head.memory_bytes(),
            Output::Vectors(_) => 0,
        };
        self.model.bert.memory_bytes() + head
    }
}

/// Splits a batch, in order, into groups of texts without padding: as many as keep all threads busy, none much larger
/// than [`GROUP_TOKENS`] unless one text is.
fn groups(batch: &TokenBatch, threads: usize) -> Vec<Packed> {
    let total: usize = batch.mask.iter().map(|&bit| bit as usize).sum();
    let target = total.div_ceil(threads.max(1)).clamp(MIN_GROUP_TOKENS, GROUP_TOKENS);
    let mut groups: Vec<Packed> = Vec::new();
    for row in 0..batch.rows {
        let range = row * batch.width..(row + 1) * batch.width;
        let length = batch.mask[range.clone()].iter().filter(|&&bit| bit == 1).count();
        let tokens = range.start..range.start + length;
        let fits = groups.last().is_some_and(|group| group.ids.len() + length <= target);
        if !fits {
            groups.push(Packed::default());
        }
        if let Some(group) = groups.last_mut() {
            group.ids.extend_from_slice(&batch.ids[tokens.clone()]);
            group.type_ids.extend_from_slice(&batch.type_ids[tokens]);
            group.lengths.push(length);
        }
    }
    groups
}

/// Pools each text's rows of `hidden`, `[tokens, size]`.
fn pool_each(hidden: &[f32], texts: &Packed, size: usize, pooling: Pooling) -> Vec<f32> {
    let mut out = Vec::with_capacity(texts.lengths.len() * size);
    let mut start = 0;
    for &length in &texts.lengths {
        let tokens = Tokens { ids: vec![0; length], type_ids: vec![0; length] };
        let one = TokenBatch::of([&tokens], 0);
        // A text without tokens is one row of padding.
        let padding = vec![0.0; if length == 0 { size } else { 0 }];
        let rows = if length == 0 { &padding[..] } else { &hidden[start * size..(start + length) * size] };
        out.extend(pool(rows, &one, size, pooling));
        start += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lengths: &[usize]) -> TokenBatch {
        let texts: Vec<Tokens> = lengths
            .iter()
            .enumerate()
            .map(|(at, &length)| Tokens {
                ids: vec![u32::try_from(at).unwrap() + 1; length],
                type_ids: vec![0; length],
            })
            .collect();
        TokenBatch::of(&texts, 0)
    }

    #[test]
    fn groups_keep_order_drop_padding_and_feed_every_thread() {
        type Case<'a> = (&'a [usize], usize, &'a [&'a [usize]]);
        let table: [Case<'_>; 5] = [
            (&[5, 3, 4], 2, &[&[5, 3, 4]]),
            (&[100, 100, 90, 90], 2, &[&[100], &[100, 90], &[90]]),
            (&[300, 300, 100, 2000, 7], 1, &[&[300], &[300, 100], &[2000], &[7]]),
            (&[0, 2], 1, &[&[0, 2]]),
            (&[], 2, &[]),
        ];
        for (lengths, threads, expected) in table {
            let groups = groups(&batch(lengths), threads);
            let found: Vec<_> = groups.iter().map(|group| group.lengths.clone()).collect();
            assert_eq!(found, expected, "{lengths:?} on {threads} threads");
            let ids: Vec<u32> = groups.iter().flat_map(|group| group.ids.clone()).collect();
            let expected = lengths.iter().zip(1..).flat_map(|(&length, id)| std::iter::repeat_n(id, length));
            assert!(ids.into_iter().eq(expected));
        }
    }

    #[test]
    fn a_text_without_tokens_pools_to_zeros() {
        let texts = Packed { lengths: vec![0, 2], ..Packed::default() };
        assert_eq!(pool_each(&[1.0, 2.0, 3.0, 4.0], &texts, 2, Pooling::Mean), [0.0, 0.0, 2.0, 3.0]);
    }
}
