//! The text side of a model: everything but its numbers.

use std::path::Path;

use millstream_engine::LoadError;
use millstream_pipelines::Task;

use crate::call::TextCall;
use crate::config::{Activation, ModelConfig, SentenceConfig};
use crate::tokens::{TextTokenizer, Tokens};

/// Tokenizer and settings of an embedder, a cross-encoder or a classifier.
pub struct TextModel {
    /// What the deployment does: `Embed`, `Rerank` or `Classify`.
    pub task: Task,
    /// `config.json`.
    pub config: ModelConfig,
    /// How texts go in and vectors come out.
    pub sentence: SentenceConfig,
    /// Applied to the head's outputs (rerank, classify).
    pub activation: Activation,
    /// Cuts texts into tokens.
    pub tokenizer: TextTokenizer,
}

impl TextModel {
    /// Reads the text side of the model in `dir`.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] for other tasks, a missing tokenizer, or settings that cannot be honoured;
    /// [`LoadError::Model`] for broken files.
    pub fn load(dir: &Path, task: Task) -> Result<Self, LoadError> {
        let config = ModelConfig::load(dir)?;
        let mut sentence = SentenceConfig::load(dir, &config)?;
        let activation = match task {
            Task::Embed => Activation::Identity,
            Task::Rerank => config.rerank_activation()?,
            Task::Classify => config.classify_activation(),
            Task::Generate | Task::Tensor | Task::Custom => {
                return Err(LoadError::Unsupported(
                    "a text encoder does `embed`, `rerank` and `classify` only; set `task` to one of them"
                        .to_owned(),
                ));
            }
        };
        if task != Task::Embed {
            // Prompts are an embedder's: a pair or a text to classify goes in as it is.
            sentence.prompt = None;
        }
        let tokenizer = TextTokenizer::load(dir, sentence.max_tokens, config.pad_token_id)?;
        Ok(Self { task, config, sentence, activation, tokenizer })
    }

    /// Tokens of every text or pair of a call, in order.
    ///
    /// # Errors
    /// The tokenizer's reason, for operators.
    pub fn encode(&self, call: &TextCall) -> Result<Vec<Tokens>, String> {
        match call {
            TextCall::Embed(call) => call.texts.iter().map(|text| self.encode_one(text)).collect(),
            TextCall::Classify(call) => call.texts.iter().map(|text| self.encode_one(text)).collect(),
            TextCall::Rerank(call) if self.sentence.lower_case => {
                let query = call.query.to_lowercase();
                call.texts
                    .iter()
                    .map(|text| self.tokenizer.encode_pair(&query, &text.to_lowercase()))
                    .collect()
            }
            TextCall::Rerank(call) => {
                call.texts.iter().map(|text| self.tokenizer.encode_pair(&call.query, text)).collect()
            }
        }
    }

    fn encode_one(&self, text: &str) -> Result<Tokens, String> {
        match (&self.sentence.prompt, self.sentence.lower_case) {
            (None, false) => self.tokenizer.encode(text),
            (prompt, lower_case) => {
                let whole = format!("{}{text}", prompt.as_deref().unwrap_or_default());
                self.tokenizer.encode(&if lower_case { whole.to_lowercase() } else { whole })
            }
        }
    }
}
