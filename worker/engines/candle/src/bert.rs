//! The encoder itself: embeddings and transformer layers over texts laid end to end, without padding.
//!
//! A layer is four fused calls: one product for queries, keys and values; attention inside each text; output layer,
//! residual and normalisation; feed-forward with its activation, residual and normalisation.
//! Source of the architecture: Devlin et al. 2018; tensor names as in transformers.

use candle_core::{Result, Tensor};
use millstream_engine::LoadError;
use millstream_engine_tensors::{
    Linear, Norm, Queries, Weights, attend_packed, gather_rows, gelu, gelu_tanh, relu, with_f32,
};

use crate::config::{BertConfig, HiddenActivation};

/// Texts laid end to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packed {
    /// Token ids.
    pub(crate) ids: Vec<u32>,
    /// 0 or 1 for each token.
    pub(crate) type_ids: Vec<u32>,
    /// Tokens of each text.
    pub(crate) lengths: Vec<usize>,
}

/// A BERT- or RoBERTa-shaped encoder.
pub(crate) struct Bert {
    config: BertConfig,
    words: Tensor,
    positions: Tensor,
    token_types: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    queries_keys_values: Linear,
    attention_out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    out_norm: Norm,
}

impl Bert {
    /// Loads the tensors whose names begin with `prefix`.
    pub(crate) fn load(
        weights: &Weights,
        prefix: &str,
        config: BertConfig,
    ) -> std::result::Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let table = |name: &str, rows: usize| {
            weights.tensor(&format!("{prefix}embeddings.{name}_embeddings.weight"), &[rows, hidden])
        };
        let words = table("word", config.vocab_size)?;
        let positions = table("position", config.num_positions)?;
        let token_types = table("token_type", config.num_token_types)?;
        let norm =
            Norm::layer(weights, &format!("{prefix}embeddings.LayerNorm"), hidden, config.norm_epsilon)?;
        let layers = (0..config.num_layers)
            .map(|index| Layer::load(weights, &format!("{prefix}encoder.layer.{index}."), &config))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { config, words, positions, token_types, norm, layers })
    }

    /// Size of a token's vector.
    pub(crate) fn hidden_size(&self) -> usize {
        self.config.hidden_size
    }

    /// Bytes of all weights.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let tables = [&self.words, &self.positions, &self.token_types];
        let tables: u64 = tables.iter().map(|table| 4 * table.elem_count() as u64).sum();
        tables + self.norm.memory_bytes() + self.layers.iter().map(Layer::memory_bytes).sum::<u64>()
    }

    /// Vectors of the last layer: of every token, `[tokens, hidden]`, or of each text's first one, `[texts, hidden]`.
    pub(crate) fn forward(&self, texts: &Packed, wanted: Queries, threads: usize) -> Result<Tensor> {
        let mut x = self.embed(texts)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let who = if index + 1 == self.layers.len() { wanted } else { Queries::All };
            x = layer.forward(&x, &texts.lengths, &self.config, who, threads)?;
        }
        if self.layers.is_empty() && wanted == Queries::First {
            first_rows(&x, &texts.lengths)
        } else {
            Ok(x)
        }
    }

    fn embed(&self, texts: &Packed) -> Result<Tensor> {
        let mut rows = vec![0.0; texts.ids.len() * self.config.hidden_size];
        gather_rows(&mut rows, &self.words, texts.ids.iter().map(|&id| id as usize))?;
        let first = self.config.first_position;
        let positions: Vec<usize> = texts.lengths.iter().flat_map(|&length| first..first + length).collect();
        gather_rows(&mut rows, &self.positions, positions.into_iter())?;
        // Families with one token type give every token that one.
        let last_type = self.config.num_token_types.saturating_sub(1);
        gather_rows(
            &mut rows,
            &self.token_types,
            texts.type_ids.iter().map(|&id| (id as usize).min(last_type)),
        )?;
        self.norm.apply(&mut rows);
        Tensor::from_vec(rows, (texts.ids.len(), self.config.hidden_size), self.words.device())
    }
}

impl Layer {
    fn load(weights: &Weights, prefix: &str, config: &BertConfig) -> std::result::Result<Self, LoadError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |name: &str, sizes| Linear::load(weights, &format!("{prefix}{name}"), sizes, true);
        let norm = |name: &str| Norm::layer(weights, &format!("{prefix}{name}"), hidden, config.norm_epsilon);
        let square = |name: &str| linear(name, [hidden, hidden]);
        let parts =
            [square("attention.self.query")?, square("attention.self.key")?, square("attention.self.value")?];
        let together = Linear::side_by_side(&parts)
            .map_err(|error| LoadError::Model(format!("layer `{prefix}attention`: {error}")))?;
        Ok(Self {
            queries_keys_values: together,
            attention_out: square("attention.output.dense")?,
            attention_norm: norm("attention.output.LayerNorm")?,
            up: linear("intermediate.dense", [hidden, inner])?,
            down: linear("output.dense", [inner, hidden])?,
            out_norm: norm("output.LayerNorm")?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        lengths: &[usize],
        config: &BertConfig,
        who: Queries,
        threads: usize,
    ) -> Result<Tensor> {
        let packed = self.queries_keys_values.forward(x, None, threads, &|_| ())?;
        let seen = attend_packed(&packed, lengths, config.num_heads, who, threads)?;
        let first;
        let residual = match who {
            Queries::All => x,
            Queries::First => {
                first = first_rows(x, lengths)?;
                &first
            }
        };
        let x = self
            .attention_out
            .forward(&seen, Some(residual), threads, &|rows| self.attention_norm.apply(rows))?;
        let up = self.up.forward(
            &x,
            None,
            threads,
            match config.activation {
                HiddenActivation::Gelu => &gelu,
                HiddenActivation::GeluTanh => &gelu_tanh,
                HiddenActivation::Relu => &relu,
            },
        )?;
        self.down.forward(&up, Some(&x), threads, &|rows| self.out_norm.apply(rows))
    }

    fn memory_bytes(&self) -> u64 {
        let layers = [&self.queries_keys_values, &self.attention_out, &self.up, &self.down];
        let norms = [&self.attention_norm, &self.out_norm];
        layers.iter().map(|layer| layer.memory_bytes()).sum::<u64>()
            + norms.iter().map(|norm| norm.memory_bytes()).sum::<u64>()
    }
}

/// The first row of each text; zeros for a text without tokens.
fn first_rows(x: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let size = x.dims2()?.1;
    let rows = with_f32(x, |x| {
        let mut rows = Vec::with_capacity(lengths.len() * size);
        let mut start = 0;
        for &length in lengths {
            match x.get(start * size..(start + 1) * size) {
                Some(row) if length > 0 => rows.extend_from_slice(row),
                _ => rows.resize(rows.len() + size, 0.0),
            }
            start += length;
        }
        rows
    })?;
    Tensor::from_vec(rows, (lengths.len(), size), x.device())
}
