//! The body of an inference request: JSON that describes the tensors, and behind it the bytes of those that are sent in binary.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use millstream_pipelines::{MAX_ITEMS, MAX_VALUES};
use millstream_values::{DType, Tensor};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::super::Problem;
use super::super::fields::{self, Items};
use super::super::problem::shown;
use super::data;
use super::datatype::Datatype;

/// How many bytes of a body are its JSON; what follows are the bytes of tensors.
pub(crate) const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Most axes of a tensor.
const MAX_AXES: usize = 8;
/// Most elements of a tensor of texts; each is a value of its own.
const MAX_TEXTS: usize = MAX_ITEMS;

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

/// A named tensor.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) name: Arc<str>,
    pub(super) content: Content,
}

/// What a tensor holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// Numbers or booleans.
    Tensor(Tensor),
    /// Texts or bytes.
    Texts(Texts),
}

/// A tensor of texts or bytes, row by row; there are as many as the shape says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Texts {
    pub(super) shape: Vec<usize>,
    pub(super) texts: Vec<Bytes>,
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
    let mut binary = Binary { rest: body.slice(json_length..), num_texts: 0 };
    let mut inputs: Vec<Input> = Vec::with_capacity(raw.inputs.0.len().min(64));
    let mut names = HashSet::new();
    for input in raw.inputs.0 {
        let refused =
            |reason: String| Problem::malformed(format!("input `{}`: {reason}", shown(&input.name)));
        let content = binary.content(&input).map_err(refused)?;
        let name: Arc<str> = input.name.as_str().into();
        if !names.insert(name.clone()) {
            return Err(refused("is given twice".to_owned()));
        }
        inputs.push(Input { name, content });
    }
    if !binary.rest.is_empty() {
        return Err(Problem::malformed(format!(
            "{} bytes at the end of the body belong to no input; `binary_data_size` says which do",
            binary.rest.len()
        )));
    }
    let whole = raw.parameters.and_then(|parameters| parameters.binary_data_output);
    let encoding = whole.map_or(Encoding::Json, Encoding::of);
    let outputs = wanted(raw.outputs.map(|outputs| outputs.0).unwrap_or_default(), encoding)?;
    Ok(InferRequest { id: raw.id, inputs, outputs, encoding })
}

/// The outputs that are asked for. Each once: a small request must not have an answer without bound.
fn wanted(outputs: Vec<RawOutput>, encoding: Encoding) -> Result<Vec<Wanted>, Problem> {
    let mut names = HashSet::new();
    let mut all = Vec::with_capacity(outputs.len().min(64));
    for output in outputs {
        let own = output.check()?.map(Encoding::of);
        if !names.insert(output.name.clone()) {
            let name = shown(&output.name);
            return Err(Problem::malformed(format!("output `{name}` is asked for twice")));
        }
        all.push(Wanted { name: output.name, encoding: own.unwrap_or(encoding) });
    }
    Ok(all)
}

impl RawOutput {
    /// Whether it is to come in binary, where that is said.
    fn check(&self) -> Result<Option<bool>, Problem> {
        let Some(parameters) = &self.parameters else { return Ok(None) };
        let refused = |what: &str| {
            Err(Problem::malformed(format!("output `{}`: {what} is not supported", shown(&self.name))))
        };
        if parameters.shared_memory_region.is_some() {
            return refused("shared memory");
        }
        if parameters.classification.is_some_and(|num_classes| num_classes > 0) {
            return refused("`classification`");
        }
        Ok(parameters.binary_data)
    }
}

/// The part of a body behind its JSON, as far as no input has taken it.
struct Binary {
    rest: Bytes,
    /// Texts of all inputs so far.
    num_texts: usize,
}

impl Binary {
    fn content(&mut self, input: &RawInput<'_>) -> Result<Content, String> {
        let datatype = Datatype::parse(&input.datatype).ok_or_else(|| {
            format!(
                "the datatype `{}` is unknown; it is one of {}",
                shown(&input.datatype),
                Datatype::names()
            )
        })?;
        let shape = shape_of(&input.shape.0)?;
        if datatype == Datatype::Bytes {
            // Lists are made of them, also where an axis of size zero leaves no elements.
            let num_lists =
                shape.iter().try_fold(1, |product: usize, &size| product.checked_mul(size.max(1)));
            if num_lists.is_none_or(|number| number > MAX_TEXTS) {
                return Err(format!("the shape has more than {MAX_TEXTS} elements"));
            }
            self.num_texts += shape.iter().product::<usize>();
            if self.num_texts > MAX_VALUES {
                return Err(format!("the inputs have more than {MAX_VALUES} elements of type BYTES"));
            }
        }
        let parameters = input.parameters.as_ref();
        if parameters.is_some_and(|parameters| parameters.shared_memory_region.is_some()) {
            return Err("shared memory is not supported; send the data with the request".to_owned());
        }
        match (input.data, parameters.and_then(|parameters| parameters.binary_data_size)) {
            (Some(data), None) => {
                let elements = data::read(data, datatype, &shape)?;
                match datatype {
                    Datatype::Bytes => Ok(Content::Texts(Texts { shape, texts: elements.texts })),
                    Datatype::Of(dtype) => tensor(dtype, &shape, elements.bytes.into()),
                }
            }
            (None, Some(size)) => {
                let bytes = self.take(size)?;
                match datatype {
                    Datatype::Bytes => {
                        let texts = texts(bytes, shape.iter().product())?;
                        Ok(Content::Texts(Texts { shape, texts }))
                    }
                    Datatype::Of(dtype) => tensor(dtype, &shape, bytes),
                }
            }
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

fn shape_of(sizes: &[i64]) -> Result<Vec<usize>, String> {
    if sizes.len() > MAX_AXES {
        return Err(format!("the shape has {} axes, at most {MAX_AXES} fit", sizes.len()));
    }
    let size = |&size: &i64| usize::try_from(size).map_err(|_| format!("the shape has the size {size}"));
    sizes.iter().map(size).collect()
}

/// Numbers or booleans in their bytes.
fn tensor(dtype: DType, shape: &[usize], bytes: Bytes) -> Result<Content, String> {
    // Code behind this takes for granted that one is 0 or 1.
    if dtype == DType::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Err("is of type BOOL and has bytes other than 0 and 1".to_owned());
    }
    let size = bytes.len();
    let tensor = Tensor::new(dtype, shape, bytes).map_err(|_| {
        let datatype = Datatype::Of(dtype);
        format!("{size} bytes do not make a tensor of type {datatype} and shape {shape:?}")
    })?;
    Ok(Content::Tensor(tensor))
}

/// Texts in binary: each behind its length, of 4 bytes, least significant byte first.
fn texts(mut bytes: Bytes, num_texts: usize) -> Result<Vec<Bytes>, String> {
    let mut texts = Vec::new();
    while let Some((length, _)) = bytes.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let left = bytes.len() - 4;
        if length > left {
            return Err(format!(
                "element {} has the length {length}, but {left} bytes are left",
                texts.len()
            ));
        }
        if texts.len() == num_texts {
            return Err(format!("has more elements than the shape, which has {num_texts}"));
        }
        let mut text = bytes.split_to(4 + length);
        texts.push(text.split_off(4));
    }
    if !bytes.is_empty() {
        return Err(format!("ends with {} bytes that are no length of 4 bytes", bytes.len()));
    }
    if texts.len() != num_texts {
        return Err(format!("has {} elements, the shape {num_texts}", texts.len()));
    }
    Ok(texts)
}
