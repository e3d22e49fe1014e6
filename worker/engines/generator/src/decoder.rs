//! The decoder itself: one pass over new tokens of one or several sequences, each with its own cache.
//!
//! A prompt runs as matrix products over its tokens. In decoding, one token of every sequence runs through the layers
//! together, each row computed in an order that does not depend on its neighbours: an answer is the same to the bit
//! whether other sequences run beside it or not.
//! Source of the architecture: Touvron et al. 2023 (Llama), Qwen team 2024 (Qwen2); tensor names as in transformers.

use candle_core::{Result, Tensor};
use millstream_engine::LoadError;
use millstream_engine_tensors::{
    Attention, CausalMask, Linear, Norm, View, Weights, attend, gather_rows, silu_times, with_f32,
};
use rayon::prelude::*;

use crate::config::DecoderConfig;
use crate::rope::RotaryTable;

/// Keys and values of one sequence's tokens, layer by layer, `[tokens, kv heads × head size]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cache {
    layers: Vec<LayerCache>,
    len: usize,
}

#[derive(Debug, Clone, Default)]
struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Cache {
    /// An empty cache for a model of that shape.
    pub(crate) fn new(config: &DecoderConfig) -> Self {
        Self { layers: vec![LayerCache::default(); config.num_layers], len: 0 }
    }

    /// Bytes that it takes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let floats: usize =
            self.layers.iter().map(|layer| layer.keys.capacity() + layer.values.capacity()).sum();
        4 * floats as u64
    }
}

/// A decoder-only model of Llama's or Qwen2's shape.
pub(crate) struct Decoder {
    config: DecoderConfig,
    tokens: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    output: Linear,
}

struct Layer {
    attention_norm: Norm,
    queries_keys_values: Linear,
    attention_out: Linear,
    feed_forward_norm: Norm,
    gate_and_up: Linear,
    down: Linear,
}

/// How rows go through linear layers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// As one matrix: a prompt.
    Together,
    /// Each by itself: one token of each sequence.
    Each,
}

impl Decoder {
    /// Loads the weights of a model of that shape.
    pub(crate) fn load(weights: &Weights, config: DecoderConfig) -> std::result::Result<Self, LoadError> {
        let sizes = [config.vocab_size, config.hidden_size];
        let tokens = weights.tensor("model.embed_tokens.weight", &sizes)?;
        let layers = (0..config.num_layers)
            .map(|index| Layer::load(weights, &format!("model.layers.{index}."), &config))
            .collect::<std::result::Result<_, _>>()?;
        let norm = Norm::root_mean_square(weights, "model.norm", config.hidden_size, config.norm_epsilon)?;
        let output =
            if config.tied_embeddings { tokens.clone() } else { weights.tensor("lm_head.weight", &sizes)? };
        let output =
            Linear::new(output, None).map_err(|error| LoadError::Model(format!("output layer: {error}")))?;
        Ok(Self { config, tokens, layers, norm, output })
    }

    /// The model's shape.
    pub(crate) fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Bytes of all weights.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let tied = if self.config.tied_embeddings { 0 } else { self.output.memory_bytes() };
        let layers: u64 = self.layers.iter().map(Layer::memory_bytes).sum();
        4 * self.tokens.elem_count() as u64 + tied + layers + self.norm.memory_bytes()
    }

    /// Runs new tokens of one sequence after what its cache holds; returns the logits after the last one, `[vocab]`.
    pub(crate) fn prefill(&self, ids: &[u32], cache: &mut Cache, threads: usize) -> Result<Vec<f32>> {
        let x = self.run(ids, &mut [cache], Rows::Together, threads)?;
        let last = x.narrow(0, ids.len() - 1, 1)?;
        let last = self.norm.forward(&last)?;
        with_f32(&self.output.forward_each(&last, None, threads, &|_| ())?, <[f32]>::to_vec)
    }

    /// Runs one new token of each sequence; returns the logits after each, `[sequences, vocab]` row-major.
    pub(crate) fn decode(&self, ids: &[u32], caches: &mut [&mut Cache], threads: usize) -> Result<Vec<f32>> {
        let x = self.run(ids, caches, Rows::Each, threads)?;
        let x = self.norm.forward(&x)?;
        with_f32(&self.output.forward_each(&x, None, threads, &|_| ())?, <[f32]>::to_vec)
    }

    /// Vectors after the last layer. `ids` are split evenly over the caches.
    fn run(&self, ids: &[u32], caches: &mut [&mut Cache], how: Rows, threads: usize) -> Result<Tensor> {
        let each = ids.len() / caches.len().max(1);
        let positions: Vec<usize> = caches.iter().flat_map(|cache| cache.len..cache.len + each).collect();
        let turns = self.config.rope.turns(&positions);
        let mut rows = vec![0.0; ids.len() * self.config.hidden_size];
        gather_rows(&mut rows, &self.tokens, ids.iter().map(|&id| id as usize))?;
        let mut x = Tensor::from_vec(rows, (ids.len(), self.config.hidden_size), self.tokens.device())?;
        for (index, layer) in self.layers.iter().enumerate() {
            let mut layer_caches: Vec<&mut LayerCache> =
                caches.iter_mut().map(|cache| &mut cache.layers[index]).collect();
            x = layer.forward(&x, &mut layer_caches, &turns, &self.config, (how, threads))?;
        }
        for cache in caches {
            cache.len += each;
        }
        Ok(x)
    }
}

impl Layer {
    fn load(weights: &Weights, prefix: &str, config: &DecoderConfig) -> std::result::Result<Self, LoadError> {
        let (hidden, inner, biases) = (config.hidden_size, config.intermediate_size, config.biases);
        let (q, kv) = (config.num_heads * config.head_size, config.num_kv_heads * config.head_size);
        let linear = |name: &str, sizes, bias| Linear::load(weights, &format!("{prefix}{name}"), sizes, bias);
        let norm = |name: &str| {
            Norm::root_mean_square(weights, &format!("{prefix}{name}"), hidden, config.norm_epsilon)
        };
        let join = |parts: &[Linear]| {
            Linear::side_by_side(parts)
                .map_err(|error| LoadError::Model(format!("layer `{prefix}`: {error}")))
        };
        let bias = biases.queries_keys_values;
        Ok(Self {
            attention_norm: norm("input_layernorm")?,
            queries_keys_values: join(&[
                linear("self_attn.q_proj", [hidden, q], bias)?,
                linear("self_attn.k_proj", [hidden, kv], bias)?,
                linear("self_attn.v_proj", [hidden, kv], bias)?,
            ])?,
            attention_out: linear("self_attn.o_proj", [q, hidden], biases.attention_out)?,
            feed_forward_norm: norm("post_attention_layernorm")?,
            gate_and_up: join(&[
                linear("mlp.gate_proj", [hidden, inner], biases.feed_forward)?,
                linear("mlp.up_proj", [hidden, inner], biases.feed_forward)?,
            ])?,
            down: linear("mlp.down_proj", [inner, hidden], biases.feed_forward)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        caches: &mut [&mut LayerCache],
        turns: &RotaryTable,
        config: &DecoderConfig,
        how: (Rows, usize),
    ) -> Result<Tensor> {
        let packed = apply(&self.queries_keys_values, &self.attention_norm.forward(x)?, None, how)?;
        let mut packed = with_f32(&packed, <[f32]>::to_vec)?;
        let seen = attend_cached(&mut packed, caches, turns, config, how.1);
        let seen = Tensor::from_vec(seen, (x.dims2()?.0, config.num_heads * config.head_size), x.device())?;
        let x = apply(&self.attention_out, &seen, Some(x), how)?;
        let gate_and_up = apply(&self.gate_and_up, &self.feed_forward_norm.forward(&x)?, None, how)?;
        let inner = config.intermediate_size;
        let activated: Vec<f32> = with_f32(&gate_and_up, |rows| {
            let mut out = Vec::with_capacity(rows.len() / 2);
            for row in rows.chunks_exact(2 * inner) {
                let start = out.len();
                out.extend_from_slice(&row[..inner]);
                silu_times(&mut out[start..], &row[inner..]);
            }
            out
        })?;
        let activated = Tensor::from_vec(activated, (x.dims2()?.0, inner), x.device())?;
        apply(&self.down, &activated, Some(&x), how)
    }

    fn memory_bytes(&self) -> u64 {
        let layers = [&self.queries_keys_values, &self.attention_out, &self.gate_and_up, &self.down];
        let norms = [&self.attention_norm, &self.feed_forward_norm];
        layers.iter().map(|layer| layer.memory_bytes()).sum::<u64>()
            + norms.iter().map(|norm| norm.memory_bytes()).sum::<u64>()
    }
}

fn apply(
    layer: &Linear,
    x: &Tensor,
    residual: Option<&Tensor>,
    (rows, threads): (Rows, usize),
) -> Result<Tensor> {
    match rows {
        Rows::Together => layer.forward(x, residual, threads, &|_| ()),
        Rows::Each => layer.forward_each(x, residual, threads, &|_| ()),
    }
}

/// Turns queries and keys to their positions, appends keys and values to the caches and lets every query see its
/// sequence up to itself. `packed` is `[rows, queries + keys + values]`; returns `[rows, heads × head size]`.
fn attend_cached(
    packed: &mut [f32],
    caches: &mut [&mut LayerCache],
    turns: &RotaryTable,
    config: &DecoderConfig,
    threads: usize,
) -> Vec<f32> {
    let (q, kv, size) =
        (config.num_heads * config.head_size, config.num_kv_heads * config.head_size, config.head_size);
    let width = q + 2 * kv;
    let num_rows = packed.len() / width;
    let each = num_rows / caches.len().max(1);
    for (index, row) in packed.chunks_exact_mut(width).enumerate() {
        turns.apply(&mut row[..q + kv], index);
        let cache = &mut caches[index / each];
        cache.keys.extend_from_slice(&row[q..q + kv]);
        cache.values.extend_from_slice(&row[q + kv..]);
    }
    let (packed, caches) = (&*packed, &*caches);
    #[expect(clippy::cast_precision_loss, reason = "head sizes are far below 2^24")]
    let scale = 1.0 / (size as f32).sqrt();
    let one = |sequence: usize, head: usize| {
        let (cache, kv_head) = (&caches[sequence], head / (config.num_heads / config.num_kv_heads));
        let len = cache.keys.len() / kv;
        attend(&Attention {
            queries: View::new(&packed[sequence * each * width + head * size..], each, size, width),
            keys: View::new(&cache.keys[kv_head * size..], len, size, kv),
            values: View::new(&cache.values[kv_head * size..], len, size, kv),
            scale,
            sight: CausalMask::Causal { before: len - each },
        })
    };
    let all: Vec<_> =
        (0..caches.len()).flat_map(|s| (0..config.num_heads).map(move |head| (s, head))).collect();
    let work: usize = caches.iter().map(|cache| cache.keys.len() * each).sum();
    let results: Vec<Vec<f32>> = if threads > 1 && work > 65_536 {
        all.par_iter().map(|&(sequence, head)| one(sequence, head)).collect()
    } else {
        all.iter().map(|&(sequence, head)| one(sequence, head)).collect()
    };
    let mut out = vec![0.0; num_rows * q];
    for (&(sequence, head), result) in all.iter().zip(&results) {
        let rows = out[sequence * each * q..(sequence + 1) * each * q].chunks_exact_mut(q);
        for (row, result) in rows.zip(result.chunks_exact(size)) {
            row[head * size..(head + 1) * size].copy_from_slice(result);
        }
    }
    out
}
