//! What stands on the encoder: the layers that turn a text's first vector into scores.

use candle_core::{Result, Tensor};
use millstream_engine::LoadError;
use millstream_engine_tensors::{Linear, Weights};

use crate::config::{BertConfig, Family};

/// A layer with tanh, then one to the scores: `BertPooler` and `classifier`, or RoBERTa's classification head.
pub(crate) struct Head {
    dense: Linear,
    out: Linear,
}

impl Head {
    /// Loads the head of `num_labels` scores.
    pub(crate) fn load(
        weights: &Weights,
        config: &BertConfig,
        num_labels: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (dense, out) = match config.family {
            Family::Bert => ("bert.pooler.dense", "classifier"),
            Family::Roberta => ("classifier.dense", "classifier.out_proj"),
        };
        if !weights.has(&format!("{out}.weight")) {
            return Err(LoadError::Unsupported(format!(
                "the model has no tensor `{out}.weight`: it gives vectors, not scores; use it with `task = \"embed\"`"
            )));
        }
        let hidden = config.hidden_size;
        Ok(Self {
            dense: Linear::load(weights, dense, [hidden, hidden], true)?,
            out: Linear::load(weights, out, [hidden, num_labels], true)?,
        })
    }

    /// Scores of each text, `[texts, labels]`, of its first vector.
    pub(crate) fn forward(&self, first: &Tensor, threads: usize) -> Result<Tensor> {
        let tanh = |rows: &mut [f32]| rows.iter_mut().for_each(|value| *value = value.tanh());
        let pooled = self.dense.forward(first, None, threads, &tanh)?;
        self.out.forward(&pooled, None, threads, &|_| ())
    }

    /// Bytes of its weights.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.dense.memory_bytes() + self.out.memory_bytes()
    }
}
