//! What a model's file says of its tensors, without their contents.
//!
//! The file is protobuf (onnx.proto of the ONNX specification): this walks the messages that can hold tensors and skips
//! all else, weights included, without reading them.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use millstream_pipelines::Element;
use millstream_values::DType;

/// Graphs within graphs deeper than this are refused.
const MAX_DEPTH: usize = 64;
/// Longest name of a file or of a tensor.
const MAX_NAME_BYTES: u64 = 4096;
/// A tensor with more dimensions is none of ours.
const MAX_DIMS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// The files outside that hold contents of tensors, each once.
    pub(crate) locations: Vec<String>,
    /// The weights of all graphs of the model.
    pub(crate) initializers: Vec<Initializer>,
    /// The inputs of all graphs. A weight of the same name is a default that a call may replace.
    pub(crate) inputs: Vec<PortOutline>,
    /// The outputs of all graphs.
    pub(crate) outputs: Vec<PortOutline>,
}

/// An input or output of a graph (`ValueInfoProto` of onnx.proto).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct PortOutline {
    pub(crate) name: String,
    /// What it consists of; `None` for what pipelines do not have, and for what is not a tensor.
    pub(crate) element: Option<Element>,
    /// Sizes of its axes, `None` for any; `None` where that is open too.
    pub(crate) shape: Option<Vec<Option<u64>>>,
    /// Whether it belongs to the model's own graph, and not to one within that.
    pub(crate) is_of_main_graph: bool,
}

/// A weight of a graph (`TensorProto` of onnx.proto).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Initializer {
    pub(crate) name: String,
    pub(crate) dims: Vec<i64>,
    /// Type of its elements; `None` for one that pipelines do not have.
    pub(crate) dtype: Option<DType>,
    /// Where its elements are in the file, if they are there as they are in memory.
    pub(crate) raw_data: Option<Range<u64>>,
    /// Whether it belongs to the model's own graph, and not to one within that.
    pub(crate) is_of_main_graph: bool,
}

impl Initializer {
    /// One that has too many keeps one too many, which fits no contents.
    fn push_dim(&mut self, dim: u64) {
        if self.dims.len() <= MAX_DIMS {
            self.dims.push(i64::try_from(dim).unwrap_or(-1));
        }
    }
}

impl Message {
    /// A field that is a number.
    fn number(&mut self, number: u64, value: u64, port: &mut PortOutline) {
        match (self.kind, number) {
            (Kind::TensorType, 1) => port.element = element_of(value),
            (Kind::Dim, 1) => {
                if let Some(size) = port.shape.as_mut().and_then(|shape| shape.last_mut()) {
                    *size = Some(value);
                }
            }
            (Kind::Initializer, 1) => self.weight.push_dim(value),
            (Kind::Initializer, 2) => self.weight.dtype = dtype_of(value),
            _ => {}
        }
    }
}

impl Outline {
    /// Reads a model's file from its start.
    ///
    /// # Errors
    /// When it is not protobuf of that form.
    pub(crate) fn read(source: &File) -> io::Result<Self> {
        let end = source.metadata()?.len();
        let mut source = BufReader::new(source);
        source.seek(SeekFrom::Start(0))?;
        let mut walker = Walker { source, at: 0, found: Self::default(), port: PortOutline::default() };
        walker.message(Kind::Model, end, 0)?;
        let mut found = walker.found;
        found.locations.sort_unstable();
        found.locations.dedup();
        Ok(found)
    }
}

/// Messages of onnx.proto on the way to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Training,
    SparseTensor,
    Initializer,
    Tensor,
    Entry,
    Input,
    Output,
    Type,
    TensorType,
    Shape,
    Dim,
}

/// The message in field `number` of a message, if it is one of these.
fn child(kind: Kind, number: u64) -> Option<Kind> {
    Some(match (kind, number) {
        (Kind::Model, 7) => Kind::Graph,
        (Kind::Model, 20) => Kind::Training,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Training, 1 | 2) => Kind::Graph,
        (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
        (Kind::Graph, 5) => Kind::Initializer,
        (Kind::Graph, 11) => Kind::Input,
        (Kind::Graph, 12) => Kind::Output,
        (Kind::Graph, 15) => Kind::SparseTensor,
        (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
        (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Attribute, 22 | 23) => Kind::SparseTensor,
        (Kind::SparseTensor, 1 | 2) => Kind::Tensor,
        (Kind::Initializer | Kind::Tensor, 13) => Kind::Entry,
        (Kind::Input | Kind::Output, 2) => Kind::Type,
        (Kind::Type, 1) => Kind::TensorType,
        (Kind::TensorType, 2) => Kind::Shape,
        (Kind::Shape, 1) => Kind::Dim,
        _ => return None,
    })
}

struct Walker<'a> {
    source: BufReader<&'a File>,
    at: u64,
    found: Outline,
    /// The input or output that is being read.
    port: PortOutline,
}

/// A message that is being read.
struct Message {
    kind: Kind,
    /// How many messages it is within.
    depth: usize,
    /// An initializer, as far as it has been read.
    weight: Initializer,
    /// An entry, as far as it has been read.
    key: String,
    value: String,
}

impl Walker<'_> {
    /// Reads the message that ends at `end`.
    fn message(&mut self, kind: Kind, end: u64, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(invalid("it is nested too deeply"));
        }
        // The model's own graph is its child, and the weight that graph's.
        let weight = Initializer { is_of_main_graph: depth == 2, ..Initializer::default() };
        let mut message = Message { kind, depth, weight, key: String::new(), value: String::new() };
        self.begin(kind, depth);
        while self.at < end {
            let tag = self.varint()?;
            let (number, form) = (tag >> 3, tag & 7);
            let length = match form {
                0 => {
                    let value = self.varint()?;
                    message.number(number, value, &mut self.port);
                    continue;
                }
                1 => 8,
                2 => self.varint()?,
                5 => 4,
                _ => return Err(invalid("it has a field of an unknown kind")),
            };
            let stop = self.at.checked_add(length).filter(|stop| *stop <= end);
            let stop = stop.ok_or_else(|| invalid("it is cut off"))?;
            match form {
                2 => self.field(&mut message, number, stop)?,
                _ => self.skip_to(stop)?,
            }
        }
        let Message { weight, key, value, .. } = message;
        match kind {
            Kind::Initializer => self.found.initializers.push(weight),
            Kind::Input => self.found.inputs.push(std::mem::take(&mut self.port)),
            Kind::Output => self.found.outputs.push(std::mem::take(&mut self.port)),
            _ => {}
        }
        if key == "location" {
            self.found.locations.push(value);
        }
        Ok(())
    }

    /// Notes that a part of an input or output begins.
    fn begin(&mut self, kind: Kind, depth: usize) {
        match kind {
            Kind::Input | Kind::Output => {
                self.port = PortOutline { is_of_main_graph: depth == 2, ..PortOutline::default() };
            }
            Kind::Shape => self.port.shape = Some(Vec::new()),
            Kind::Dim => {
                if let Some(shape) = self.port.shape.as_mut().filter(|shape| shape.len() <= MAX_DIMS) {
                    shape.push(None);
                }
            }
            _ => {}
        }
    }

    /// Reads a field with contents, which end at `stop`.
    fn field(&mut self, message: &mut Message, number: u64, stop: u64) -> io::Result<()> {
        let weight = &mut message.weight;
        match (message.kind, number) {
            (Kind::Entry, 1) => message.key = self.text(stop)?,
            (Kind::Entry, 2) => message.value = self.text(stop)?,
            (Kind::Input | Kind::Output, 1) => self.port.name = self.text(stop)?,
            (Kind::Initializer, 8) => weight.name = self.text(stop)?,
            (Kind::Initializer, 9) => {
                weight.raw_data = Some(self.at..stop);
                self.skip_to(stop)?;
            }
            (Kind::Initializer, 1) => {
                while self.at < stop {
                    weight.push_dim(self.varint()?);
                }
            }
            (kind, number) => match child(kind, number) {
                Some(kind) => self.message(kind, stop, message.depth + 1)?,
                None => self.skip_to(stop)?,
            },
        }
        Ok(())
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid("it has a number that is too long"))
    }

    fn text(&mut self, stop: u64) -> io::Result<String> {
        let length = stop - self.at;
        if length > MAX_NAME_BYTES {
            return Err(invalid("it has a name that is too long"));
        }
        let mut text = String::new();
        (&mut self.source).take(length).read_to_string(&mut text)?;
        self.at += length;
        Ok(text)
    }

    fn skip_to(&mut self, stop: u64) -> io::Result<()> {
        let distance = i64::try_from(stop - self.at).map_err(|_| invalid("it is cut off"))?;
        self.source.seek_relative(distance)?;
        self.at = stop;
        Ok(())
    }
}

/// What a tensor of that `TensorProto.DataType` consists of.
fn element_of(data_type: u64) -> Option<Element> {
    if data_type == 8 { Some(Element::Text) } else { dtype_of(data_type).map(Element::Of) }
}

/// `TensorProto.DataType` in our terms; `None` for those that pipelines do not have.
fn dtype_of(data_type: u64) -> Option<DType> {
    Some(match data_type {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        _ => return None,
    })
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
