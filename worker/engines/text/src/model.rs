//! The text side of a model: everything but its numbers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use millstream_engine::{LoadError, invalid_input};
use millstream_model_files::TokenCall;
use millstream_pipelines::Task;
use millstream_values::{CallError, Value};

use crate::answer::failed;
use crate::call::{PromptChoice, TextCall};
use crate::config::{Activation, ModelConfig, SentenceConfig};
use crate::cut::{Cut, Truncate};
use crate::tokens::{EncodeError, TextTokenizer, Tokens};

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
            sentence.prompts.clear();
        }
        let tokenizer = TextTokenizer::load(dir, sentence.max_tokens, config.pad_token_id)?;
        Ok(Self { task, config, sentence, activation, tokenizer })
    }

    /// The same with these prompts, beside those of its files or in place of them.
    #[must_use]
    pub fn with_prompts(mut self, prompts: &BTreeMap<String, String>) -> Self {
        self.sentence.prompts.extend(prompts.iter().map(|(name, text)| (name.clone(), text.clone())));
        self
    }

    /// Tokens of every text or pair of a call, in order. `go_on` is asked before each.
    ///
    /// # Errors
    /// That of `go_on`; `Invalid` for a prompt that is not there and for texts that are too long and not to be cut; `Internal`
    /// when the tokenizer fails.
    pub fn encode(
        &self,
        call: &TextCall,
        go_on: impl Fn() -> Result<(), CallError>,
    ) -> Result<Vec<Tokens>, CallError> {
        let each = |name: &str, texts: &[Arc<str>], encode: &dyn Fn(&str) -> Result<Tokens, EncodeError>| {
            let encoded = texts.iter().enumerate().map(|(at, text)| {
                go_on()?;
                encode(text).map_err(|error| refused(error, &format!("`{name}[{at}]`")))
            });
            encoded.collect()
        };
        match call {
            TextCall::Embed(call) => {
                let prompt = self.prompt(&call.prompt)?.unwrap_or_default();
                each("texts", &call.texts, &|text| self.encode_one(prompt, text, call.cut))
            }
            TextCall::Classify(call) => {
                each("texts", &call.texts, &|text| self.encode_one("", text, call.cut))
            }
            TextCall::Rerank(call) => {
                let query = self.tokenizer.query(&self.cased(&call.query, call.cut.truncate), call.cut);
                let query = query.map_err(|error| refused(error, "`query`"))?;
                each("documents", &call.texts, &|text| {
                    let text = self.cased(text, call.cut.truncate);
                    self.tokenizer.encode_pair(&query, &text, call.cut, call.max_document_tokens)
                })
            }
            TextCall::Tokens(_) => Ok(Vec::new()),
        }
    }

    /// The answer to a call for tokens.
    ///
    /// # Errors
    /// Class `Invalid` for a prompt that is not there, and for what an encoder does not have, such as a chat template.
    pub fn answer_tokens(&self, call: &TokenCall) -> Result<Value, CallError> {
        let prompt = match call.prompt_name() {
            None => "",
            Some(name) => self.prompt(&PromptChoice::Named(name.clone()))?.unwrap_or_default(),
        };
        let written = |text: &str| {
            let text = format!("{prompt}{text}");
            Ok(if self.sentence.lower_case { text.to_lowercase() } else { text })
        };
        call.answer(self.tokenizer.tokenizer(), self.tokenizer.max_tokens(), written)
    }

    /// The text of a prompt; `None` where there is none to be put before texts.
    fn prompt(&self, choice: &PromptChoice) -> Result<Option<&str>, CallError> {
        let prompts = &self.sentence.prompts;
        let default = self.sentence.prompt.as_deref();
        match choice {
            PromptChoice::Default => Ok(default),
            PromptChoice::For(kind) => {
                let names: &[&str] = match &**kind {
                    "query" => &["query", "search_query"],
                    "document" => &["document", "passage", "search_document", "corpus"],
                    kind => &[kind],
                };
                Ok(names.iter().find_map(|name| prompts.get(*name)).map(String::as_str).or(default))
            }
            PromptChoice::Named(name) => match prompts.get(&**name) {
                Some(prompt) => Ok(Some(prompt)),
                None if prompts.is_empty() => Err(invalid_input("the model has no prompts; name none")),
                None => {
                    let names: Vec<&str> = prompts.keys().map(String::as_str).collect();
                    let names = names.join("`, `");
                    Err(invalid_input(format!("the model has no such prompt; it has `{names}`")))
                }
            },
        }
    }

    fn cased<'a>(&self, text: &'a str, truncate: Truncate) -> Cow<'a, str> {
        // Only what may be read is made lower case: a text may be much longer than that.
        let text = self.tokenizer.cut(text, truncate);
        if self.sentence.lower_case { text.to_lowercase().into() } else { text.into() }
    }

    fn encode_one(&self, prompt: &str, text: &str, cut: Cut) -> Result<Tokens, EncodeError> {
        if prompt.is_empty() {
            return self.tokenizer.encode(&self.cased(text, cut.truncate), cut);
        }
        let whole = format!("{prompt}{}", self.tokenizer.cut(text, cut.truncate));
        self.tokenizer.encode(&self.cased(&whole, cut.truncate), cut)
    }
}

fn refused(error: EncodeError, place: &str) -> CallError {
    match error {
        EncodeError::Failed(reason) => failed("the tokenizer", &reason),
        EncodeError::TooLong { tokens, max_tokens } => invalid_input(format!(
            "{place} has {tokens} tokens, {} more than the {max_tokens} that are read; send a shorter text, or let it be truncated",
            tokens - max_tokens
        )),
    }
}
