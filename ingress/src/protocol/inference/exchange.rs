//! One inference: what it asks of a plan, and its answer.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use millstream_pipelines::Plan;
use millstream_values::{Tensor, Value};
use serde::Serialize;

use super::super::pieces::Pieces;
use super::super::problem::shown;
use super::super::{Asked, Exchange, Form, Last, Problem, Target, Told, json};
use super::error::document;
use super::inputs;
use super::outputs::{LONE_OUTPUT, Output, OutputContent, outputs};
use super::request::{Encoding, HEADER_LENGTH, InferRequest, Wanted};

/// See the module.
pub(super) struct InferExchange {
    model: String,
    /// The revision that the request names.
    asked_version: Option<u64>,
    /// The one that it runs on.
    version: u64,
    request: InferRequest,
}

#[derive(Serialize)]
struct Document<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<OutputHead<'a>>,
}

#[derive(Serialize)]
struct OutputHead<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Parameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
struct Parameters {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    /// One axis, as the protocol has it.
    Flat(Tensor),
    Texts(Vec<&'a str>),
}

impl InferExchange {
    pub(super) fn new(model: String, asked_version: Option<u64>, request: InferRequest) -> Self {
        Self { model, asked_version, version: 0, request }
    }

    /// Refuses outputs that the plan is known not to have, before anything is spent on the request.
    fn check_outputs(&self, plan: &Plan) -> Result<(), Problem> {
        if self.request.outputs.is_empty() {
            return Ok(());
        }
        let interface = plan.answer_interface();
        let name_of = |name: &str| if name.is_empty() { LONE_OUTPUT.to_owned() } else { name.to_owned() };
        let known: Vec<_> = interface.fields.iter().map(|field| name_of(&field.name)).collect();
        let unknown = self.request.outputs.iter().find(|wanted| !known.contains(&wanted.name));
        match unknown {
            Some(wanted) if !interface.is_open => {
                Err(no_output(&wanted.name, known.iter().map(String::as_str)))
            }
            _ => Ok(()),
        }
    }

    /// Whether that output is to be in the answer.
    pub(super) fn wants(&self, name: &str) -> bool {
        let outputs = &self.request.outputs;
        outputs.is_empty() || outputs.iter().any(|wanted| wanted.name == name)
    }

    /// The model, the revision that answers, and the client's own id.
    pub(super) fn told(&self) -> (&str, u64, Option<&str>) {
        (&self.model, self.version, self.request.id.as_deref())
    }

    /// The outputs to answer with, and how.
    ///
    /// # Errors
    /// A problem (400) that names an output that the answer does not have.
    pub(super) fn wanted<'v>(&self, value: &'v Value) -> Result<Vec<(Output<'v>, Encoding)>, Problem> {
        let all = outputs(value);
        if self.request.outputs.is_empty() {
            let whole = |(name, value)| (Output::of(name, value), self.request.encoding);
            return Ok(all.into_iter().map(whole).collect());
        }
        let find = |wanted: &Wanted| {
            let found = all.iter().find(|(name, _)| *name == wanted.name);
            let (name, value) =
                found.ok_or_else(|| no_output(&wanted.name, all.iter().map(|(name, _)| *name)))?;
            Ok((Output::of(name, value), wanted.encoding))
        };
        self.request.outputs.iter().map(find).collect()
    }

    fn respond(&self, value: &Value) -> Result<Response<Last>, Problem> {
        let outputs = self.wanted(value)?;
        let mut binary = Pieces::default();
        let mut heads = Vec::with_capacity(outputs.len());
        for (output, encoding) in &outputs {
            let (parameters, data) = match encoding {
                Encoding::Binary => (Some(Parameters { binary_data_size: output.write(&mut binary) }), None),
                Encoding::Json => (None, Some(data(output)?)),
            };
            let datatype = output.datatype().as_str();
            heads.push(OutputHead { name: output.name, datatype, shape: &output.shape, parameters, data });
        }
        let document = Document {
            model_name: &self.model,
            model_version: self.version.to_string(),
            id: self.request.id.as_deref(),
            outputs: heads,
        };
        if outputs.iter().all(|(_, encoding)| *encoding == Encoding::Json) {
            return Ok(json(&document));
        }
        let mut pieces = Pieces::default();
        serde_json::to_writer(pieces.tail(), &document).expect("texts and numbers have a JSON form");
        let header_length = pieces.num_bytes();
        pieces.append(binary);
        let mut response = Response::new(Last::from(pieces));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(HEADER_LENGTH, HeaderValue::from(header_length));
        Ok(response)
    }
}

fn no_output<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
    Problem::malformed(format!(
        "there is no output `{}`; the model has {}",
        shown(name),
        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
    ))
}

/// The elements as JSON.
fn data<'a>(output: &'a Output<'_>) -> Result<Data<'a>, Problem> {
    match &output.content {
        OutputContent::Tensor(tensor) => {
            let flat = Tensor::new(tensor.dtype(), [tensor.num_elements()], tensor.data().clone());
            flat.map(Data::Flat).map_err(|_| Problem::internal("an output has no flat form"))
        }
        OutputContent::Texts(texts) => {
            let texts: Result<Vec<_>, _> = texts.iter().map(|text| str::from_utf8(text)).collect();
            texts.map(Data::Texts).map_err(|_| {
                let name = shown(output.name);
                Problem::malformed(format!("output `{name}` is not UTF-8; ask for it with `binary_data`"))
            })
        }
    }
}

impl Exchange for InferExchange {
    fn target(&self) -> Option<Target<'_>> {
        Some(Target::Named { name: &self.model, version: self.asked_version })
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        self.check_outputs(plan)?;
        let request = plan.check_request(inputs::fields(plan, &self.request.inputs)?)?;
        Ok(Asked { fields: request.fields, num_values: request.num_values, form: Form::Whole })
    }

    fn asked(&mut self) {
        self.request.inputs = Vec::new();
    }

    fn runs_on(&mut self, revision: u64) {
        self.version = revision;
    }

    fn answer(&mut self, value: &Value, _: Told<'_>) -> Response<Last> {
        self.respond(value).unwrap_or_else(|problem| document(&problem))
    }
}
