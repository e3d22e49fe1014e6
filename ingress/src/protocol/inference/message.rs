//! A request over gRPC (`ModelInferRequest`), read where it lies: tensors in raw contents are views of the message. A message of a few
//! bytes can announce much, so that lists are bounded as they are read.

use bytes::Bytes;
use millstream_pipelines::MAX_ITEMS;

use super::super::Problem;
use super::super::problem::shown;
use super::super::wire::{Field, Fields, WireValue};
use super::contents;
use super::request::{Encoding, InferRequest, NO_SHARED_MEMORY, Wanted, each_once, unsupported};
use super::tensors::{Content, Inputs};

/// Sizes of a shape that are read; fewer are taken.
const MAX_SIZES: usize = 64;

/// The parts of a message, not looked into yet.
#[derive(Debug, Default)]
pub(super) struct InferMessage<'m> {
    pub(super) model: &'m str,
    pub(super) version: &'m str,
    pub(super) id: &'m str,
    /// Whether the text is to come in parts, where that is said.
    pub(super) stream: Option<bool>,
    /// Whether an answer without outputs is to say that there will be no more.
    pub(super) empty_final_response: bool,
    inputs: Vec<&'m [u8]>,
    outputs: Vec<&'m [u8]>,
    raw: Vec<&'m [u8]>,
}

/// Parameters, as far as they say anything here.
struct Parameter<'m> {
    name: &'m str,
    /// Whether it is `true`, or a number other than 0.
    is_set: bool,
}

impl<'m> InferMessage<'m> {
    /// Reads the outermost fields.
    ///
    /// # Errors
    /// A problem (400) for what is no such message.
    pub(super) fn read(message: &'m [u8]) -> Result<Self, Problem> {
        let mut found = Self::default();
        for field in Fields::of(message) {
            let Field { number, value } = field?;
            match number {
                1 => found.model = value.text()?,
                2 => found.version = value.text()?,
                3 => found.id = value.text()?,
                4 => found.parameter(&Parameter::read(value)?),
                5 => push(&mut found.inputs, value, "inputs")?,
                6 => push(&mut found.outputs, value, "outputs")?,
                7 => push(&mut found.raw, value, "raw_input_contents")?,
                _ => {}
            }
        }
        Ok(found)
    }

    fn parameter(&mut self, parameter: &Parameter<'_>) {
        match parameter.name {
            "stream" => self.stream = Some(parameter.is_set),
            "triton_enable_empty_final_response" => self.empty_final_response = parameter.is_set,
            _ => {}
        }
    }

    /// The revision that it names.
    ///
    /// # Errors
    /// 404: versions are numbers.
    pub(super) fn revision(&self) -> Result<Option<u64>, Problem> {
        super::path::revision(self.model, Some(self.version).filter(|version| !version.is_empty()))
    }

    /// The request; `message` is what was read.
    ///
    /// # Errors
    /// A problem (400) that names the tensor.
    pub(super) fn request(&self, message: &Bytes) -> Result<InferRequest, Problem> {
        let mut inputs = Inputs::default();
        let mut raw = (!self.raw.is_empty()).then(|| self.raw.iter());
        for input in &self.inputs {
            let input = RawInput::read(input)?;
            let content = input.content(message, raw.as_mut(), &mut inputs);
            inputs.add(input.name, content)?;
        }
        if raw.is_some_and(|raw| raw.len() > 0) {
            return Err(Problem::malformed(format!(
                "there are {} `raw_input_contents` for {} inputs",
                self.raw.len(),
                self.inputs.len()
            )));
        }
        let outputs = self.outputs.iter().map(|output| wanted(output)).collect::<Result<Vec<_>, _>>()?;
        Ok(InferRequest {
            id: Some(self.id.to_owned()).filter(|id| !id.is_empty()),
            inputs: inputs.into_all(),
            outputs: each_once(outputs)?,
            encoding: Encoding::Binary,
        })
    }
}

fn push<'m>(list: &mut Vec<&'m [u8]>, value: WireValue<'m>, name: &str) -> Result<(), Problem> {
    if list.len() == MAX_ITEMS {
        return Err(Problem::malformed(format!("`{name}` has more than {MAX_ITEMS} items")));
    }
    list.push(value.bytes()?);
    Ok(())
}

impl<'m> Parameter<'m> {
    /// An entry of a map of them.
    fn read(entry: WireValue<'m>) -> Result<Self, Problem> {
        let mut found = Self { name: "", is_set: false };
        for field in Fields::of(entry.bytes()?) {
            let Field { number, value } = field?;
            match number {
                1 => found.name = value.text()?,
                2 => {
                    for choice in Fields::of(value.bytes()?) {
                        found.is_set = matches!(choice?.value, WireValue::Varint(1..));
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether it asks for memory that client and server share.
    fn is_shared_memory(&self) -> bool {
        self.name == "shared_memory_region"
    }
}

/// An input (`InferInputTensor`).
#[derive(Default)]
struct RawInput<'m> {
    name: &'m str,
    datatype: &'m str,
    shape: Vec<i64>,
    contents: Option<&'m [u8]>,
    is_shared_memory: bool,
}

impl<'m> RawInput<'m> {
    fn read(message: &'m [u8]) -> Result<Self, Problem> {
        let mut found = Self::default();
        for field in Fields::of(message) {
            let Field { number, value } = field?;
            match number {
                1 => found.name = value.text()?,
                2 => found.datatype = value.text()?,
                3 => value.each_number(|size| {
                    if found.shape.len() == MAX_SIZES {
                        let name = shown(found.name);
                        return Err(Problem::malformed(format!(
                            "input `{name}`: the shape has more than {MAX_SIZES} axes"
                        )));
                    }
                    found.shape.push(size.cast_signed());
                    Ok(())
                })?,
                4 => found.is_shared_memory |= Parameter::read(value)?.is_shared_memory(),
                5 if found.contents.is_some() => {
                    return Err(Problem::malformed(format!(
                        "input `{}` has `contents` twice",
                        shown(found.name)
                    )));
                }
                5 => found.contents = Some(value.bytes()?),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Its elements: its own contents, or the next raw ones.
    fn content(
        &self,
        message: &Bytes,
        raw: Option<&mut std::slice::Iter<'_, &[u8]>>,
        inputs: &mut Inputs,
    ) -> Result<Content, String> {
        let head = inputs.head(self.datatype, &self.shape)?;
        if self.is_shared_memory {
            return Err(NO_SHARED_MEMORY.to_owned());
        }
        match (self.contents, raw) {
            (Some(contents), None) => contents::read(&head, message, contents),
            (None, None) if head.num_elements() == Some(0) => head.of_bytes(Bytes::new()),
            (None, None) => Err("has no data; give `contents` or `raw_input_contents`".to_owned()),
            (Some(_), Some(_)) => {
                Err("has `contents` beside `raw_input_contents`; all inputs have the one or the other"
                    .to_owned())
            }
            (None, Some(raw)) => {
                let bytes =
                    raw.next().ok_or("has no data; there are fewer `raw_input_contents` than inputs")?;
                head.of_bytes(message.slice_ref(bytes))
            }
        }
    }
}

/// An output that is asked for (`InferRequestedOutputTensor`).
fn wanted(message: &[u8]) -> Result<Wanted, Problem> {
    let (mut name, mut unknown) = ("", None);
    for field in Fields::of(message) {
        let Field { number, value } = field?;
        match number {
            1 => name = value.text()?,
            2 => {
                let parameter = Parameter::read(value)?;
                if parameter.is_shared_memory() {
                    unknown = Some("shared memory");
                } else if parameter.name == "classification" && parameter.is_set {
                    unknown = Some("`classification`");
                }
            }
            _ => {}
        }
    }
    match unknown {
        None => Ok(Wanted { name: name.to_owned(), encoding: Encoding::Binary }),
        Some(what) => Err(unsupported(name, what)),
    }
}
