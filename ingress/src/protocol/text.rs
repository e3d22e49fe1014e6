//! Requests for text, whatever API they come by: what they ask of a generator, and what it answers.

use std::sync::{Arc, OnceLock};

use millstream_pipelines::{Chat, FieldFault, Plan, RequestError, Task};
use millstream_values::{Map, Value};

use super::task::check_task;
use super::{Asked, Form, Problem};
use crate::model::StreamPart;

/// The field with a conversation.
const MESSAGES: &str = "messages";
/// Most stop texts of a request.
const MAX_STOPS: usize = 4;

/// How the text is to be made.
#[derive(Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) seed: Option<i64>,
    /// Texts that end it.
    pub(crate) stop: Vec<String>,
    pub(crate) max_tokens: Option<i64>,
}

/// What it is to follow on.
pub(crate) struct Input<'n> {
    /// `prompt` or `messages`.
    pub(crate) name: &'n str,
    pub(crate) value: Value,
}

/// A request for text, read.
pub(crate) struct TextRequest {
    /// The model that it names.
    pub(crate) model: String,
    /// The fields of the call.
    fields: Map,
    form: Form,
    /// Settings that a pipeline need not take.
    forgiven: &'static [&'static str],
    /// The field of a pipeline's response that is the text, once a pipeline was asked.
    answer: OnceLock<Arc<str>>,
    /// Whether a part of the text was told.
    has_told: bool,
}

impl TextRequest {
    /// A request to that model.
    ///
    /// # Errors
    /// A problem (400) that names the field.
    pub(crate) fn new(
        model: String,
        sampling: Sampling,
        form: Form,
        input: Input<'_>,
    ) -> Result<Self, Problem> {
        let Sampling { temperature, top_p, seed, stop, max_tokens } = sampling;
        let mut fields = Map::from_iter([(input.name.into(), input.value)]);
        let mut set = |name: &str, value: Option<Value>| {
            value.into_iter().for_each(|value| drop(fields.insert(name.into(), value)));
        };
        set("temperature", temperature.map(Value::from));
        set("top_p", top_p.map(Value::from));
        set("seed", seed.map(Value::from));
        set("max_tokens", max_tokens.map(Value::from));
        if stop.len() > MAX_STOPS {
            let text = format!("there are {} stop texts, at most {MAX_STOPS} are taken", stop.len());
            return Err(Problem::bad_field("/stop", text));
        }
        if !stop.is_empty() {
            set("stop", Some(Value::list(stop.into_iter().map(Value::from))));
        }
        Ok(Self { model, fields, form, forgiven: &[], answer: OnceLock::new(), has_told: false })
    }

    /// Gives a field of its call a value.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.fields.insert(name.into(), value);
    }

    /// The same, of an API whose requests always have these settings: a pipeline may leave them unheeded.
    pub(crate) fn forgiving(self, settings: &'static [&'static str]) -> Self {
        Self { forgiven: settings, ..self }
    }

    /// What it asks of a deployment, or of a pipeline that answers conversations.
    ///
    /// # Errors
    /// A problem for one that generates no text, and for settings that do not fit.
    pub(crate) fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        let request = match plan.chat().filter(|_| self.fields.contains_key(MESSAGES)) {
            Some(chat) => {
                let fields = self.fields_for(chat)?;
                let _ = self.answer.set(chat.answer().clone());
                plan.check_request(fields).map_err(|error| in_terms_of_the_client(error, chat))?
            }
            None => {
                check_task(plan, Task::Generate, &self.model)?;
                plan.check_request(self.fields.clone())?
            }
        };
        Ok(Asked { fields: request.fields, num_values: request.num_values, form: self.form })
    }

    /// The fields of a pipeline's request.
    fn fields_for(&self, chat: &Chat) -> Result<Map, Problem> {
        let is_lost = |name: &&str| **name != *MESSAGES && !chat.uses(name) && !self.forgiven.contains(name);
        if let Some(name) = self.fields.keys().map(|name| &**name).find(is_lost) {
            let text = format!(
                "the pipeline `{}` heeds no `{name}`; leave it out, or let the `[chat]` of its file make a field of it",
                self.model
            );
            return Err(Problem::bad_field(format!("/{name}"), text));
        }
        chat.request(&self.fields).map_err(|error| Problem::bad_field(format!("/{MESSAGES}"), error.message))
    }

    /// What an answer says.
    pub(crate) fn answer<'v>(&self, value: &'v Value) -> Answer<'v> {
        match self.answer.get() {
            Some(name) => {
                let text = value.get(name).and_then(Value::as_text).unwrap_or_default();
                Answer { text, finish_reason: "stop" }
            }
            None => Answer::of(value),
        }
    }

    /// The text of a part of the answer; `None` for a part of something else.
    pub(crate) fn part<'p>(&mut self, part: &'p StreamPart) -> Option<&'p str> {
        let is_text = self.answer.get().is_none_or(|name| *name == part.field);
        self.has_told |= is_text;
        is_text.then_some(&*part.text)
    }

    /// At the end of an answer in parts: the text, if none of it came in parts.
    pub(crate) fn untold<'v>(&self, value: &'v Value) -> Option<&'v str> {
        Some(self.answer(value).text).filter(|text| !self.has_told && !text.is_empty())
    }

    /// Nobody asks any more.
    pub(crate) fn asked(&mut self) {
        self.fields = Map::new();
    }
}

/// What is wrong with the fields that a pipeline's `[chat]` has made, as faults of what the client has sent.
fn in_terms_of_the_client(error: RequestError, chat: &Chat) -> Problem {
    let RequestError::Invalid(faults) = error else { return error.into() };
    let told = |fault: FieldFault| {
        let field = fault.path.split('/').nth(1).unwrap_or_default();
        let source = chat.sources(field).and_then(|names| names.first());
        let path = format!("/{}", source.map_or(MESSAGES, |name| name));
        FieldFault { path, message: format!("the pipeline's `{field}`: {}", fault.message) }
    };
    RequestError::Invalid(faults.into_iter().map(told).collect()).into()
}

/// An answer.
pub(crate) struct Answer<'v> {
    pub(crate) text: &'v str,
    pub(crate) finish_reason: &'v str,
}

impl<'v> Answer<'v> {
    /// What the value of a generator's call says.
    fn of(value: &'v Value) -> Self {
        let text = |name| value.get(name).and_then(Value::as_text).unwrap_or_default();
        Self { text: text("text"), finish_reason: text("finish_reason") }
    }
}
