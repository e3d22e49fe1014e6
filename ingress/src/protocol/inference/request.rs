//! The body of an inference request: JSON that describes the tensors, and behind it the bytes of those that are sent in binary.

use std::collections::HashSet;

use bytes::Bytes;
use http::HeaderName;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::super::Problem;
use super::super::fields::{self, Items};
use super::super::problem::shown;
use super::data;
use super::datatype::Datatype;
use super::tensors::{Content, Input, Inputs, tensor};

/// How many bytes of a body are its JSON; what follows are the bytes of tensors.
pub(crate) const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What a tensor is told that names a region of it.
pub(super) const NO_SHARED_MEMORY: &str = "shared memory is not supported; send the data with the request";

/// A request that was read.
#[derive(Debug)]
pub(super) struct InferRequest {
    /// The client's own id, which the answer repeats.
    pub(super) id: Option<String>,
    /// The inputs; no name is there twice.
    pub(super) inputs: Vec<Input>,
    /// The outputs that are asked for; empty for all.
    pub(super) outputs: Vec<Wanted>,
    /// How outputs come that do not say it themselves.
    pub(super) encoding: Encoding,
}

/// An output that is asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) encoding: Encoding,
}

/// How a tensor is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Binary,
}

impl Encoding {
    /// As a client's `binary_data` says it.
    fn of(is_binary: bool) -> Self {
        if is_binary { Self::Binary } else { Self::Json }
    }
}

#[derive(Deserialize)]
struct RawRequest<'b> {
    id: Option<String>,
    parameters: Option<RequestParameters>,
    #[serde(borrow)]
    inputs: Items<RawInput<'b>>,
    outputs: Option<Items<RawOutput>>,
}

#[derive(Deserialize)]
struct RequestParameters {
    binary_data_output: Option<bool>,
}

#[derive(Deserialize)]
struct RawInput<'b> {
    name: String,
    shape: Items<i64>,
    datatype: String,
    parameters: Option<InputParameters>,
    #[serde(borrow)]
    data: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct InputParameters {
    binary_data_size: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawOutput {
    name: String,
    parameters: Option<OutputParameters>,
}

#[derive(Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
}

/// Reads a body whose first `json_length` bytes are JSON; all of them where it is not said. Tensors in binary are views of it.
///
/// # Errors
/// The problem to answer with (400).
pub(super) fn read(body: &Bytes, json_length: Option<usize>) -> Result<InferRequest, Problem> {
    let json_length = json_length.unwrap_or(body.len());
    let Some(json) = body.get(..json_length) else {
        return Err(Problem::malformed(format!(
            "header `{HEADER_LENGTH}` is {json_length}, but the body has {} bytes",
            body.len()
        )));
    };
    let raw: RawRequest<'_> = fields::read(json)?;
    let mut binary = Binary { rest: body.slice(json_length..) };
    let mut inputs = Inputs::default();
    for input in raw.inputs.0 {
        let content = binary.content(&input, &mut inputs);
        inputs.add(&input.name, content)?;
    }
    if !binary.rest.is_empty() {
        return Err(Problem::malformed(format!(
            "{} bytes at the end of the body belong to no input; `binary_data_size` says which do",
            binary.rest.len()
        )));
    }
    let whole = raw.parameters.and_then(|parameters| parameters.binary_data_output);
    let encoding = whole.map_or(Encoding::Json, Encoding::of);
    let outputs = raw.outputs.map(|outputs| outputs.0).unwrap_or_default();
    let outputs = outputs.into_iter().map(|output| output.check(encoding)).collect::<Result<Vec<_>, _>>()?;
    Ok(InferRequest { id: raw.id, inputs: inputs.into_all(), outputs: each_once(outputs)?, encoding })
}

/// The outputs that are asked for. Each once: a small request must not have an answer without bound.
///
/// # Errors
/// A problem (400) that names one that is there twice.
pub(super) fn each_once(outputs: Vec<Wanted>) -> Result<Vec<Wanted>, Problem> {
    let mut names = HashSet::new();
    if let Some(twice) = outputs.iter().find(|output| !names.insert(&output.name)) {
        return Err(Problem::malformed(format!("output `{}` is asked for twice", shown(&twice.name))));
    }
    Ok(outputs)
}

/// That an output is asked for in a way that there is not.
pub(super) fn unsupported(name: &str, what: &str) -> Problem {
    Problem::malformed(format!("output `{}`: {what} is not supported", shown(name)))
}

impl RawOutput {
    /// How it is to come; as all do where it does not say it.
    fn check(self, encoding: Encoding) -> Result<Wanted, Problem> {
        let Self { name, parameters } = self;
        let Some(parameters) = parameters else { return Ok(Wanted { name, encoding }) };
        if parameters.shared_memory_region.is_some() {
            return Err(unsupported(&name, "shared memory"));
        }
        if parameters.classification.is_some_and(|num_classes| num_classes > 0) {
            return Err(unsupported(&name, "`classification`"));
        }
        Ok(Wanted { name, encoding: parameters.binary_data.map_or(encoding, Encoding::of) })
    }
}

/// The part of a body behind its JSON, as far as no input has taken it.
struct Binary {
    rest: Bytes,
}

impl Binary {
    fn content(&mut self, input: &RawInput<'_>, inputs: &mut Inputs) -> Result<Content, String> {
        let head = inputs.head(&input.datatype, &input.shape.0)?;
        let parameters = input.parameters.as_ref();
        if parameters.is_some_and(|parameters| parameters.shared_memory_region.is_some()) {
            return Err(NO_SHARED_MEMORY.to_owned());
        }
        match (input.data, parameters.and_then(|parameters| parameters.binary_data_size)) {
            (Some(data), None) => {
                let elements = data::read(data, head.datatype, &head.shape)?;
                match head.datatype {
                    Datatype::Bytes => Ok(head.of_texts(elements.texts)),
                    Datatype::Of(dtype) => tensor(dtype, &head.shape, elements.bytes.into()),
                }
            }
            (None, Some(size)) => head.of_bytes(self.take(size)?),
            (Some(_), Some(_)) => Err("has `data` and `binary_data_size`; give one of them".to_owned()),
            (None, None) => {
                Err("has no data; give `data`, or `binary_data_size` for bytes behind the JSON".to_owned())
            }
        }
    }

    fn take(&mut self, size: u64) -> Result<Bytes, String> {
        match usize::try_from(size) {
            Ok(size) if size <= self.rest.len() => Ok(self.rest.split_to(size)),
            _ => Err(format!(
                "`binary_data_size` is {size}, but {} bytes of the body are left",
                self.rest.len()
            )),
        }
    }
}
