//! The part of `config.json` and `generation_config.json` that gives a decoder-only model its shape and its end tokens.

use std::path::Path;

use millstream_engine::LoadError;
use millstream_engine_answers::SamplingDefaults;
use millstream_model_files::{json, json_if_there};
use serde::Deserialize;

use crate::rope::{RawRope, Rope};
use crate::unsupported::unsupported;

/// Sizes of the model; checked: a value of this type can be computed with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecoderConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_layers: usize,
    pub(crate) num_heads: usize,
    pub(crate) num_kv_heads: usize,
    pub(crate) head_size: usize,
    /// Most tokens of prompt and answer together.
    pub(crate) max_context_tokens: usize,
    pub(crate) norm_epsilon: f32,
    pub(crate) rope: Rope,
    pub(crate) biases: Biases,
    /// Whether the table of token vectors is the output layer too.
    pub(crate) tied_embeddings: bool,
    /// Tokens that end an answer.
    pub(crate) end_tokens: Vec<u32>,
    /// What `generation_config.json` says about sampling: greedy where it says nothing.
    pub(crate) defaults: SamplingDefaults,
}

/// Which layers add a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Biases {
    pub(crate) queries_keys_values: bool,
    pub(crate) attention_out: bool,
    pub(crate) feed_forward: bool,
}

#[derive(Deserialize)]
struct ModelType {
    model_type: Option<String>,
}

#[derive(Deserialize)]
struct RawConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    #[serde(default)]
    hidden_act: Option<String>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    #[serde(default)]
    eos_token_id: EndTokens,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
enum EndTokens {
    One(u32),
    Several(Vec<u32>),
    #[default]
    None,
}

impl EndTokens {
    fn into_vec(self) -> Option<Vec<u32>> {
        match self {
            Self::One(token) => Some(vec![token]),
            Self::Several(tokens) => Some(tokens),
            Self::None => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GenerationConfig {
    eos_token_id: EndTokens,
    do_sample: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Qwen2,
}

impl DecoderConfig {
    /// Reads the configuration in `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self, LoadError> {
        if !dir.join("config.json").is_file() {
            return Err(LoadError::Unsupported(format!("`{}` has no `config.json`", dir.display())));
        }
        // The family first: another family's file need not have these fields.
        let kind: ModelType = json(dir, "config.json")?;
        let family = match kind.model_type.as_deref() {
            Some("llama") => Family::Llama,
            Some("qwen2") => Family::Qwen2,
            other => return Err(unsupported("model_type", other.unwrap_or_default(), "`llama` and `qwen2`")),
        };
        let raw = json(dir, "config.json")?;
        let generation =
            json_if_there::<GenerationConfig>(dir, "generation_config.json")?.unwrap_or_default();
        Self::check(family, raw, generation)
    }

    fn check(family: Family, raw: RawConfig, generation: GenerationConfig) -> Result<Self, LoadError> {
        if !matches!(raw.hidden_act.as_deref(), None | Some("silu")) {
            return Err(unsupported("hidden_act", raw.hidden_act.as_deref().unwrap_or_default(), "`silu`"));
        }
        if raw.use_sliding_window {
            return Err(unsupported("use_sliding_window", "true", "models without sliding windows"));
        }
        let (heads, kv_heads) =
            (raw.num_attention_heads, raw.num_key_value_heads.unwrap_or(raw.num_attention_heads));
        let head_size = raw.head_dim.unwrap_or_else(|| raw.hidden_size.checked_div(heads).unwrap_or(0));
        if heads == 0
            || kv_heads == 0
            || heads % kv_heads != 0
            || head_size == 0
            || !head_size.is_multiple_of(2)
        {
            return Err(LoadError::Model(format!(
                "`config.json`: {heads} heads of size {head_size} with {kv_heads} key-value heads are no model; \
                 check `num_attention_heads`, `num_key_value_heads` and `head_dim`"
            )));
        }
        let raw_rope = raw.rope_parameters.or(raw.rope_scaling).unwrap_or_default();
        let rope = Rope::new(&raw_rope, raw.rope_theta, head_size)?;
        let sampled = generation.do_sample.unwrap_or(false);
        let defaults = SamplingDefaults {
            temperature: if sampled { generation.temperature.unwrap_or(1.0).clamp(0.0, 2.0) } else { 0.0 },
            top_p: generation.top_p.filter(|top_p| sampled && *top_p > 0.0 && *top_p <= 1.0).unwrap_or(1.0),
        };
        let qwen2 = family == Family::Qwen2;
        Ok(Self {
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_layers: raw.num_hidden_layers,
            num_heads: heads,
            num_kv_heads: kv_heads,
            head_size,
            max_context_tokens: raw.max_position_embeddings,
            norm_epsilon: raw.rms_norm_eps,
            rope,
            biases: Biases {
                queries_keys_values: qwen2 || raw.attention_bias,
                attention_out: !qwen2 && raw.attention_bias,
                feed_forward: !qwen2 && raw.mlp_bias,
            },
            tied_embeddings: raw.tie_word_embeddings,
            end_tokens: generation
                .eos_token_id
                .into_vec()
                .or(raw.eos_token_id.into_vec())
                .unwrap_or_default(),
            defaults,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(extra: &str, generation: Option<&str>) -> Result<DecoderConfig, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let json = format!(
            r#"{{"vocab_size": 9, "hidden_size": 8, "intermediate_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 16, "rms_norm_eps": 1e-6, {extra}}}"#
        );
        std::fs::write(dir.path().join("config.json"), json).unwrap();
        if let Some(generation) = generation {
            std::fs::write(dir.path().join("generation_config.json"), generation).unwrap();
        }
        DecoderConfig::load(dir.path())
    }

    #[test]
    fn end_tokens_are_one_or_several_and_the_generation_file_wins() {
        let end = |config: Result<DecoderConfig, LoadError>| config.unwrap().end_tokens;
        assert_eq!(end(load(r#""model_type": "llama", "eos_token_id": 2"#, None)), [2]);
        assert_eq!(end(load(r#""model_type": "llama", "eos_token_id": [2, 3]"#, Some("{}"))), [2, 3]);
        assert_eq!(
            end(load(r#""model_type": "llama", "eos_token_id": 2"#, Some(r#"{"eos_token_id": [4]}"#))),
            [4]
        );
        assert!(end(load(r#""model_type": "llama", "eos_token_id": null"#, None)).is_empty());
    }

    #[test]
    fn families_differ_in_their_biases_and_sampling_is_greedy_unless_the_model_says_otherwise() {
        let qwen = load(r#""model_type": "qwen2""#, None).unwrap();
        assert!(qwen.biases.queries_keys_values && !qwen.biases.attention_out);
        assert_eq!(qwen.defaults.temperature, 0.0);
        let sampled = r#"{"do_sample": true, "temperature": 0.7, "top_p": 0.8}"#;
        let llama = load(r#""model_type": "llama""#, Some(sampled)).unwrap();
        assert!(!llama.biases.queries_keys_values);
        assert_eq!((llama.defaults.temperature, llama.defaults.top_p), (0.7, 0.8));
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_key() {
        for (extra, expected) in [
            (r#""model_type": "bert""#, "`model_type` is `bert`"),
            (r#""model_type": "qwen2", "use_sliding_window": true"#, "`use_sliding_window` is `true`"),
            (r#""model_type": "llama", "hidden_act": "gelu""#, "`hidden_act` is `gelu`"),
            (
                r#""model_type": "llama", "num_key_value_heads": 3"#,
                "2 heads of size 4 with 3 key-value heads",
            ),
            (r#""model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 4}"#, "`yarn`"),
        ] {
            let error = load(extra, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
