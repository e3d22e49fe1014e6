//! What chat and plain completions share: the settings of a generator's call, and how its answer is told whole and in chunks.

use millstream_values::Value;
use serde::{Deserialize, Serialize};

use super::super::fields::{Neutral, Texts, Unsupported};
use super::{Usage, unix_seconds};
use crate::protocol::text::{Input, Sampling, TextRequest};
use crate::protocol::{Form, Problem, Spent, sse};

/// Fields of both APIs that no generator here honours.
pub(super) const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "n", neutral: &[Neutral::One] },
    Unsupported { name: "logprobs", neutral: &[] },
    Unsupported { name: "top_logprobs", neutral: &[] },
    Unsupported { name: "logit_bias", neutral: &[] },
    Unsupported { name: "presence_penalty", neutral: &[] },
    Unsupported { name: "frequency_penalty", neutral: &[] },
    Unsupported { name: "best_of", neutral: &[Neutral::One] },
    Unsupported { name: "echo", neutral: &[] },
    Unsupported { name: "suffix", neutral: &[] },
    Unsupported { name: "tools", neutral: &[] },
    Unsupported { name: "tool_choice", neutral: &[Neutral::Text("none"), Neutral::Text("auto")] },
    Unsupported { name: "functions", neutral: &[] },
    Unsupported { name: "function_call", neutral: &[Neutral::Text("none"), Neutral::Text("auto")] },
    Unsupported { name: "response_format", neutral: &[Neutral::Text("text")] },
    Unsupported { name: "modalities", neutral: &[] },
    Unsupported { name: "audio", neutral: &[] },
    Unsupported { name: "prediction", neutral: &[] },
    Unsupported { name: "web_search_options", neutral: &[] },
    Unsupported { name: "reasoning_effort", neutral: &[Neutral::Text("none")] },
    Unsupported { name: "service_tier", neutral: &[Neutral::Text("auto"), Neutral::Text("default")] },
];

/// The settings that both have.
#[derive(Debug, Deserialize)]
pub(super) struct Settings {
    model: String,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<Texts>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Settings {
    /// What they ask for, for this input.
    ///
    /// # Errors
    /// A problem (400) that names the field.
    pub(super) fn ask(self, name: &str, input: Value) -> Result<TextRequest, Problem> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
            stop: self.stop.map(Texts::all).unwrap_or_default(),
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
        };
        let form = if self.stream == Some(true) { Form::Parts } else { Form::Whole };
        TextRequest::new(self.model, sampling, form, Input { name, value: input })
    }

    /// Whether the last chunk tells the tokens.
    pub(super) fn tells_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true)
    }
}

/// What a completion, or a chunk of one, is around its choice.
#[derive(Serialize)]
pub(super) struct Envelope<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [C],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// Who tells an answer: its id and model.
pub(super) struct Teller {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) created: u64,
}

impl Teller {
    pub(super) fn new(prefix: &str, object: &'static str) -> Self {
        Self { id: super::new_id(prefix), object, created: unix_seconds() }
    }

    /// The document with these choices.
    pub(super) fn envelope<'a, C>(
        &'a self,
        model: &'a str,
        choices: &'a [C],
        spent: Option<Spent>,
    ) -> Envelope<'a, C> {
        let usage = spent.map(Usage::of_text);
        Envelope { id: &self.id, object: self.object, created: self.created, model, choices, usage }
    }

    /// Appends a chunk.
    pub(super) fn chunk<C: Serialize>(
        &self,
        model: &str,
        choices: &[C],
        spent: Option<Spent>,
        bytes: &mut Vec<u8>,
    ) {
        let json = serde_json::to_vec(&self.envelope(model, choices, spent));
        sse::data(&json.expect("texts and numbers have a JSON form"), bytes);
    }
}

/// What ends a stream.
pub(super) const DONE: &[u8] = b"[DONE]";
