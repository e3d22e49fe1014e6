//! The text side of a model: everything but its numbers.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use millstream_engine::LoadError;
use millstream_pipelines::Task;
use millstream_values::CallError;

use crate::answer::failed;
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

    /// Tokens of every text or pair of a call, in order. `go_on` is asked before each.
    ///
    /// # Errors
    /// That of `go_on`; `Internal` when the tokenizer fails.
    pub fn encode(
        &self,
        call: &TextCall,
        go_on: impl Fn() -> Result<(), CallError>,
    ) -> Result<Vec<Tokens>, CallError> {
        let refused = |error: String| failed("the tokenizer", &error);
        let each = |texts: &[Arc<str>], encode: &dyn Fn(&str) -> Result<Tokens, String>| {
            let encoded = texts.iter().map(|text| {
                go_on()?;
                encode(text).map_err(refused)
            });
            encoded.collect()
        };
        match call {
            TextCall::Embed(call) => each(&call.texts, &|text| self.encode_one(text)),
            TextCall::Classify(call) => each(&call.texts, &|text| self.encode_one(text)),
            TextCall::Rerank(call) => {
                let query = self.tokenizer.query(&self.cased(&call.query)).map_err(refused)?;
                each(&call.texts, &|text| self.tokenizer.encode_pair(&query, &self.cased(text)))
            }
        }
    }

    fn cased<'a>(&self, text: &'a str) -> Cow<'a, str> {
        // Only what may be read is made lower case: a text may be much longer than that.
        let text = self.tokenizer.cut(text);
        if self.sentence.lower_case { text.to_lowercase().into() } else { text.into() }
    }

    fn encode_one(&self, text: &str) -> Result<Tokens, String> {
        match &self.sentence.prompt {
            None => self.tokenizer.encode(&self.cased(text)),
            Some(prompt) => {
                self.tokenizer.encode(&self.cased(&format!("{prompt}{}", self.tokenizer.cut(text))))
            }
        }
    }
}
