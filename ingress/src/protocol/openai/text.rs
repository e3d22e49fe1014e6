//! What chat and plain completions share: the settings of a generator's call, and how its answer is told whole and in chunks.

use millstream_pipelines::{Plan, Task};
use millstream_values::{Map, Value};
use serde::{Deserialize, Serialize};

use super::super::fields::{Neutral, Texts, Unsupported};
use super::{Usage, unix_seconds};
use crate::protocol::task::check_task;
use crate::protocol::{Asked, Form, Problem, Spent, sse};

/// Most stop texts of a request.
const MAX_STOPS: usize = 4;

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
    pub(super) model: String,
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

/// A request for text, read.
pub(super) struct TextRequest {
    pub(super) model: String,
    /// The fields of the call.
    fields: Map,
    form: Form,
    /// Whether the last chunk tells the tokens.
    pub(super) tells_usage: bool,
}

impl TextRequest {
    /// With these settings, for this input.
    ///
    /// # Errors
    /// A problem (400) that names the field.
    pub(super) fn new(settings: Settings, name: &str, input: Value) -> Result<Self, Problem> {
        let Settings { model, temperature, top_p, seed, stop, max_tokens, max_completion_tokens, .. } =
            settings;
        let mut fields = Map::from_iter([(name.into(), input)]);
        let mut set = |name: &str, value: Option<Value>| {
            value.into_iter().for_each(|value| drop(fields.insert(name.into(), value)));
        };
        set("temperature", temperature.map(Value::from));
        set("top_p", top_p.map(Value::from));
        set("seed", seed.map(Value::from));
        set("max_tokens", max_completion_tokens.or(max_tokens).map(Value::from));
        if let Some(stops) = stop.map(Texts::all).filter(|stops| !stops.is_empty()) {
            if stops.len() > MAX_STOPS {
                let text = format!("there are {} stop texts, at most {MAX_STOPS} are taken", stops.len());
                return Err(Problem::bad_field("/stop", text));
            }
            set("stop", Some(Value::list(stops.into_iter().map(Value::from))));
        }
        let form = if settings.stream == Some(true) { Form::Parts } else { Form::Whole };
        let tells_usage = settings.stream_options.and_then(|options| options.include_usage) == Some(true);
        Ok(Self { model, fields, form, tells_usage })
    }

    /// What it asks of a deployment.
    ///
    /// # Errors
    /// A problem for one that generates no text, and for settings that do not fit.
    pub(super) fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        check_task(plan, Task::Generate, &self.model)?;
        let request = plan.check_request(self.fields.clone())?;
        Ok(Asked { fields: request.fields, num_values: request.num_values, form: self.form })
    }

    /// Nobody asks any more.
    pub(super) fn asked(&mut self) {
        self.fields = Map::new();
    }
}

/// A generator's answer.
pub(super) struct Answer<'v> {
    pub(super) text: &'v str,
    pub(super) finish_reason: &'v str,
}

impl<'v> Answer<'v> {
    pub(super) fn of(value: &'v Value) -> Self {
        let text = |name| value.get(name).and_then(Value::as_text).unwrap_or_default();
        Self { text: text("text"), finish_reason: text("finish_reason") }
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
