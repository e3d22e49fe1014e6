//! A model's settings as transformers and sentence-transformers write them: `config.json`, `modules.json` and the
//! files beside them. Only what changes results is read; what cannot be honoured is refused, never ignored.

use std::collections::BTreeMap;
use std::path::Path;

use millstream_engine::LoadError;
use serde::Deserialize;

use millstream_model_files::json_if_there;

/// The part of `config.json` that text encoders share.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// Family, such as `bert`.
    pub model_type: Option<String>,
    /// Classes, such as `BertForSequenceClassification`.
    pub architectures: Vec<String>,
    /// Size of a token's vector.
    pub hidden_size: Option<usize>,
    /// Longest input that positions exist for.
    pub max_position_embeddings: Option<usize>,
    /// Id that fills up short rows.
    pub pad_token_id: Option<u32>,
    /// Names of the classes by index, as text (`"0"`).
    pub id2label: BTreeMap<String, String>,
    /// Number of classes, where the names are not given.
    pub num_labels: Option<usize>,
    /// `multi_label_classification` makes classes independent.
    pub problem_type: Option<String>,
    sentence_transformers: Option<CrossEncoderConfig>,
    sbert_ce_default_activation_function: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct CrossEncoderConfig {
    activation_fn: Option<String>,
}

/// What is applied to a head's raw outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// Each to 0..1 by itself.
    Sigmoid,
    /// Together to probabilities.
    Softmax,
}

impl Activation {
    /// Applies it to one row, in place.
    pub fn apply(self, row: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Sigmoid => row.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp())),
            Self::Softmax => {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut().for_each(|value| *value = (*value - largest).exp());
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|value| *value /= sum);
            }
        }
    }
}

impl ModelConfig {
    /// Reads `config.json` in `dir`; all defaults when there is none.
    ///
    /// # Errors
    /// [`LoadError::Model`] when the file is broken.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        Ok(json_if_there(dir, "config.json")?.unwrap_or_default())
    }

    /// How many outputs the head has; transformers' default is 2.
    #[must_use]
    pub fn num_labels(&self) -> usize {
        if self.id2label.is_empty() { self.num_labels.unwrap_or(2) } else { self.id2label.len() }
    }

    /// Name of class `index`; `LABEL_3` where none is given.
    #[must_use]
    pub fn label(&self, index: usize) -> String {
        self.id2label.get(&index.to_string()).cloned().unwrap_or_else(|| format!("LABEL_{index}"))
    }

    /// What a cross-encoder applies to its single score: the activation that the model names, else a sigmoid.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] for another activation.
    pub fn rerank_activation(&self) -> Result<Activation, LoadError> {
        let own = self.sentence_transformers.as_ref().and_then(|config| config.activation_fn.as_deref());
        let Some(path) = own.or(self.sbert_ce_default_activation_function.as_deref()) else {
            return Ok(Activation::Sigmoid);
        };
        match path.rsplit('.').next() {
            Some("Identity") => Ok(Activation::Identity),
            Some("Sigmoid") => Ok(Activation::Sigmoid),
            _ => Err(LoadError::Unsupported(format!(
                "`config.json` names the activation `{path}`; supported are `Identity` and `Sigmoid`"
            ))),
        }
    }

    /// What a classifier applies: independent classes a sigmoid, else a softmax.
    #[must_use]
    pub fn classify_activation(&self) -> Activation {
        let independent = self.problem_type.as_deref() == Some("multi_label_classification");
        if independent || self.num_labels() == 1 { Activation::Sigmoid } else { Activation::Softmax }
    }

    /// Positions that a text can use; families that number positions after the padding id have fewer than they say.
    fn usable_positions(&self) -> Option<usize> {
        let positions = self.max_position_embeddings?;
        let shifted = ["roberta", "xlm-roberta", "camembert", "mpnet"];
        let offset = match self.model_type.as_deref() {
            Some(family) if shifted.contains(&family) => self.pad_token_id.unwrap_or(1) as usize + 1,
            _ => 0,
        };
        Some(positions.saturating_sub(offset))
    }
}

/// How token vectors become one vector per text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The average.
    Mean,
    /// The first token's.
    Cls,
    /// The largest value in each place.
    Max,
}

/// How texts go in and vectors come out, by the files that sentence-transformers writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentenceConfig {
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    /// Most tokens of a text, special tokens counted.
    pub max_tokens: usize,
    /// Whether texts are lower-cased first.
    pub lower_case: bool,
    /// Put before each text, where the model asks for it.
    pub prompt: Option<String>,
    /// What calls may ask to have put before their texts, by name.
    pub prompts: BTreeMap<String, String>,
}

/// Without any file that says so, longer texts are cut here.
const DEFAULT_MAX_TOKENS: usize = 512;

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SentenceBertFile {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerFile {
    // Huge numbers stand for "no limit" here, some beyond any integer type.
    model_max_length: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptFile {
    prompts: BTreeMap<String, String>,
    default_prompt_name: Option<String>,
}

impl SentenceConfig {
    /// Reads the files in `dir`. Without `modules.json` a model is mean-pooled and not normalised, as
    /// sentence-transformers does it.
    ///
    /// # Errors
    /// [`LoadError::Model`] when a file is broken, [`LoadError::Unsupported`] for modules and poolings that would be
    /// needed for the right result.
    pub fn load(dir: &Path, model: &ModelConfig) -> Result<Self, LoadError> {
        let file: SentenceBertFile = json_if_there(dir, "sentence_bert_config.json")?.unwrap_or_default();
        let tokenizer: TokenizerFile = json_if_there(dir, "tokenizer_config.json")?.unwrap_or_default();
        let prompts: PromptFile =
            json_if_there(dir, "config_sentence_transformers.json")?.unwrap_or_default();
        let mut config = Self {
            pooling: Pooling::Mean,
            normalize: false,
            max_tokens: max_tokens(&file, &tokenizer, model),
            lower_case: file.do_lower_case,
            prompt: prompts.default_prompt_name.and_then(|name| prompts.prompts.get(&name).cloned()),
            prompts: prompts.prompts,
        };
        for module in json_if_there::<Vec<Module>>(dir, "modules.json")?.unwrap_or_default() {
            match module.kind.rsplit('.').next() {
                Some("Transformer" | "Dropout") => {}
                Some("Normalize") => config.normalize = true,
                Some("Pooling") => config.pool(dir, &module.path)?,
                _ => {
                    return Err(LoadError::Unsupported(format!(
                        "`modules.json` lists a `{}`; supported are `Transformer`, `Pooling` and `Normalize`",
                        module.kind
                    )));
                }
            }
        }
        Ok(config)
    }
}

impl SentenceConfig {
    /// Reads how vectors are pooled.
    fn pool(&mut self, dir: &Path, path: &str) -> Result<(), LoadError> {
        let (pooling, includes_prompt) = pooling(dir, path)?;
        if !includes_prompt && self.prompt.is_some() {
            return Err(LoadError::Unsupported(format!(
                "`{path}/config.json` leaves the prompt out of the pooling, which is not supported"
            )));
        }
        if !includes_prompt {
            // Whoever names one is told that there is none.
            self.prompts.clear();
        }
        self.pooling = pooling;
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range: checked just before")]
fn max_tokens(file: &SentenceBertFile, tokenizer: &TokenizerFile, model: &ModelConfig) -> usize {
    let positions = model.usable_positions();
    let own = file.max_seq_length.or_else(|| {
        tokenizer.model_max_length.filter(|max| (1.0..1e6).contains(max)).map(|max| max as usize)
    });
    // At least room for `[CLS]`, one token of each text of a pair and two `[SEP]`.
    match (own, positions) {
        (Some(own), Some(positions)) => own.min(positions),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => DEFAULT_MAX_TOKENS,
    }
    .max(5)
}

/// The one pooling mode of `dir/path/config.json`, in its older form (one flag a mode) or its newer one (a name), and whether a
/// prompt's tokens are pooled too.
fn pooling(dir: &Path, path: &str) -> Result<(Pooling, bool), LoadError> {
    let name = format!("{path}/config.json");
    if path.is_empty() || path.contains("..") || Path::new(path).is_absolute() {
        return Err(LoadError::Model(format!(
            "`modules.json` has the path `{path}`, which is not a folder of the model"
        )));
    }
    let file: BTreeMap<String, serde_json::Value> = json_if_there(dir, &name)?.unwrap_or_default();
    let includes_prompt = file.get("include_prompt") != Some(&serde_json::Value::Bool(false));
    let modes: Vec<String> = match file.get("pooling_mode") {
        Some(serde_json::Value::String(mode)) => vec![mode.clone()],
        Some(other) => vec![other.to_string()],
        None => file
            .iter()
            .filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true))
            .map(|(key, _)| key.trim_start_matches("pooling_mode_").trim_end_matches("_tokens").to_owned())
            .collect(),
    };
    let pooling = match modes.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["mean"] => Pooling::Mean,
        ["cls" | "cls_token"] => Pooling::Cls,
        ["max"] => Pooling::Max,
        _ => {
            return Err(LoadError::Unsupported(format!(
                "`{name}` asks for pooling `{}`; supported are `mean`, `cls` and `max`",
                modes.join("` and `")
            )));
        }
    };
    Ok((pooling, includes_prompt))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn load(files: &[(&str, &str)]) -> Result<SentenceConfig, LoadError> {
        let dir = folder(files);
        SentenceConfig::load(dir.path(), &ModelConfig::load(dir.path())?)
    }

    const MODULES: &str = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#;

    #[test]
    fn both_forms_of_pooling_are_read() {
        let table = [
            (r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#, Ok(Pooling::Cls)),
            (r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#, Ok(Pooling::Mean)),
            (r#"{"pooling_mode": "max"}"#, Ok(Pooling::Max)),
            (r#"{"pooling_mode": "lasttoken"}"#, Err("asks for pooling `lasttoken`")),
            (
                r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#,
                Err("`cls_token` and `mean`"),
            ),
        ];
        for (text, expected) in table {
            let found = load(&[("modules.json", MODULES), ("1_Pooling/config.json", text)]);
            match (found, expected) {
                (Ok(config), Ok(pooling)) => assert_eq!((config.pooling, config.normalize), (pooling, true)),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn the_shortest_limit_counts() {
        let cases: [(&[(&str, &str)], usize); 4] = [
            (&[], 512),
            (&[("config.json", r#"{"max_position_embeddings": 128}"#)], 128),
            (
                &[
                    (
                        "config.json",
                        r#"{"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}"#,
                    ),
                    ("tokenizer_config.json", r#"{"model_max_length": 1000000000000000019884624838656}"#),
                ],
                512,
            ),
            (
                &[
                    ("config.json", r#"{"max_position_embeddings": 512}"#),
                    ("sentence_bert_config.json", r#"{"max_seq_length": 256}"#),
                ],
                256,
            ),
        ];
        for (files, expected) in cases {
            assert_eq!(load(files).unwrap().max_tokens, expected);
        }
    }

    #[test]
    fn a_module_that_would_change_results_is_refused() {
        let error = load(&[(
            "modules.json",
            r#"[{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]"#,
        )]);
        assert!(matches!(error, Err(LoadError::Unsupported(text)) if text.contains("models.Dense")));
    }

    #[test]
    fn activations_follow_the_model() {
        let activation = |text| {
            let dir = folder(&[("config.json", text)]);
            ModelConfig::load(dir.path()).unwrap().rerank_activation()
        };
        assert_eq!(activation("{}").unwrap(), Activation::Sigmoid);
        let named = r#"{"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}"#;
        assert_eq!(activation(named).unwrap(), Activation::Identity);
        assert!(activation(r#"{"sbert_ce_default_activation_function": "torch.nn.Tanh"}"#).is_err());
        let mut row = [1.0, 1.0, 1.0, 1.0];
        Activation::Softmax.apply(&mut row);
        assert_eq!(row, [0.25; 4]);
    }
}
