//! The part of `config.json` that gives a BERT-family model its shape.

use std::path::Path;

use millstream_engine::LoadError;
use millstream_model_files::json_if_there;
use serde::Deserialize;

/// Sizes of the model; checked: a value of this type can be computed with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BertConfig {
    pub(crate) family: Family,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_layers: usize,
    pub(crate) num_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_positions: usize,
    /// Position of a text's first token.
    pub(crate) first_position: usize,
    pub(crate) num_token_types: usize,
    pub(crate) norm_epsilon: f32,
    pub(crate) activation: HiddenActivation,
}

/// Which names and heads a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Bert,
    Roberta,
}

impl Family {
    /// What tensor names begin with in a model that has a head.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert.",
            Self::Roberta => "roberta.",
        }
    }
}

/// The nonlinearity inside feed-forward layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HiddenActivation {
    Gelu,
    GeluTanh,
    Relu,
}

#[derive(Deserialize)]
struct RawConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "default_epsilon")]
    layer_norm_eps: f32,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    pad_token_id: Option<usize>,
}

#[derive(Deserialize)]
struct ModelType {
    model_type: Option<String>,
}

fn two() -> usize {
    2
}

fn default_epsilon() -> f32 {
    1e-12
}

impl BertConfig {
    /// Reads `config.json` in `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self, LoadError> {
        let missing = || LoadError::Unsupported(format!("`{}` has no `config.json`", dir.display()));
        // The family first: another family's file need not have these fields.
        let kind: ModelType = json_if_there(dir, "config.json")?.ok_or_else(missing)?;
        let family = family(kind.model_type.as_deref())?;
        let raw: RawConfig = json_if_there(dir, "config.json")?.ok_or_else(missing)?;
        Self::check(family, &raw)
    }

    fn check(family: Family, raw: &RawConfig) -> Result<Self, LoadError> {
        let activation = match raw.hidden_act.as_deref().unwrap_or("gelu") {
            "gelu" => HiddenActivation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => HiddenActivation::GeluTanh,
            "relu" => HiddenActivation::Relu,
            other => return Err(unsupported("hidden_act", other, "`gelu`, `gelu_new` and `relu`")),
        };
        match raw.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => return Err(unsupported("position_embedding_type", other, "`absolute`")),
        }
        if raw.num_attention_heads == 0
            || raw.hidden_size == 0
            || !raw.hidden_size.is_multiple_of(raw.num_attention_heads)
        {
            return Err(LoadError::Model(format!(
                "`config.json`: `hidden_size` {} cannot be split over {} heads",
                raw.hidden_size, raw.num_attention_heads
            )));
        }
        let first_position = match family {
            Family::Bert => 0,
            Family::Roberta => raw.pad_token_id.unwrap_or(1) + 1,
        };
        Ok(Self {
            family,
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            num_layers: raw.num_hidden_layers,
            num_heads: raw.num_attention_heads,
            intermediate_size: raw.intermediate_size,
            num_positions: raw.max_position_embeddings,
            first_position,
            num_token_types: raw.type_vocab_size,
            norm_epsilon: raw.layer_norm_eps,
            activation,
        })
    }
}

fn family(model_type: Option<&str>) -> Result<Family, LoadError> {
    match model_type {
        Some("bert") => Ok(Family::Bert),
        Some("roberta" | "xlm-roberta" | "camembert") => Ok(Family::Roberta),
        other => {
            Err(unsupported("model_type", other.unwrap_or_default(), "`bert`, `roberta`, `xlm-roberta`"))
        }
    }
}

fn unsupported(key: &str, value: &str, supported: &str) -> LoadError {
    LoadError::Unsupported(format!("`config.json`: `{key}` is `{value}`; `candle` runs {supported}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(json: &str) -> Result<BertConfig, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), json).unwrap();
        BertConfig::load(dir.path())
    }

    fn json(extra: &str) -> String {
        format!(
            r#"{{"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 4, "max_position_embeddings": 16, {extra}}}"#
        )
    }

    #[test]
    fn families_differ_in_their_first_position() {
        assert_eq!(load(&json(r#""model_type": "bert""#)).unwrap().first_position, 0);
        let roberta = load(&json(r#""model_type": "xlm-roberta", "pad_token_id": 1"#)).unwrap();
        assert_eq!((roberta.family, roberta.first_position), (Family::Roberta, 2));
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_key() {
        for (extra, expected) in [
            (r#""model_type": "llama""#, "`model_type` is `llama`"),
            (r#""model_type": "bert", "hidden_act": "mish""#, "`hidden_act` is `mish`"),
            (r#""model_type": "bert", "position_embedding_type": "relative_key""#, "`relative_key`"),
            (r#""model_type": "bert", "num_attention_heads": 3"#, "duplicate field"),
        ] {
            let error = load(&json(extra)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = load(
            &json(r#""model_type": "bert""#)
                .replace("\"num_attention_heads\": 2", "\"num_attention_heads\": 3"),
        );
        assert!(error.unwrap_err().to_string().contains("`hidden_size` 8 cannot be split over 3 heads"));
    }
}
