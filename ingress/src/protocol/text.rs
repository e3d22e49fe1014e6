//! Requests for text, whatever API they come by: what they ask of a generator, and what it answers.

use millstream_pipelines::{Plan, Task};
use millstream_values::{Map, Value};

use super::task::check_task;
use super::{Asked, Form, Problem};

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
        Ok(Self { model, fields, form })
    }

    /// What it asks of a deployment.
    ///
    /// # Errors
    /// A problem for one that generates no text, and for settings that do not fit.
    pub(crate) fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        check_task(plan, Task::Generate, &self.model)?;
        let request = plan.check_request(self.fields.clone())?;
        Ok(Asked { fields: request.fields, num_values: request.num_values, form: self.form })
    }

    /// Nobody asks any more.
    pub(crate) fn asked(&mut self) {
        self.fields = Map::new();
    }
}

/// A generator's answer.
pub(crate) struct Answer<'v> {
    pub(crate) text: &'v str,
    pub(crate) finish_reason: &'v str,
}

impl<'v> Answer<'v> {
    /// What the value of a generator's call says.
    pub(crate) fn of(value: &'v Value) -> Self {
        let text = |name| value.get(name).and_then(Value::as_text).unwrap_or_default();
        Self { text: text("text"), finish_reason: text("finish_reason") }
    }
}
