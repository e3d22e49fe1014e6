//! From an answer's values to tensors. What has no tensor of its own, such as a map, is one text with its JSON.

use std::borrow::Cow;

use bytes::Bytes;
use millstream_values::{DType, Tensor, Value};

use super::super::pieces::Pieces;
use super::datatype::Datatype;

/// The name of an answer that is one value: an embedder's vectors.
pub(crate) const LONE_OUTPUT: &str = "embeddings";

/// A named tensor of an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Output<'v> {
    pub(super) name: &'v str,
    pub(super) shape: Vec<usize>,
    pub(super) content: OutputContent<'v>,
}

/// What it holds.
#[derive(Debug, PartialEq)]
pub(super) enum OutputContent<'v> {
    Tensor(Tensor),
    Texts(Vec<Cow<'v, [u8]>>),
}

/// All outputs of an answer, in its order.
pub(super) fn outputs(answer: &Value) -> Vec<(&str, &Value)> {
    match answer {
        Value::Map(map) => map.iter().map(|(name, value)| (&**name, value)).collect(),
        lone => vec![(LONE_OUTPUT, lone)],
    }
}

impl<'v> Output<'v> {
    /// A value as a tensor.
    pub(super) fn of(name: &'v str, value: &'v Value) -> Self {
        let tensor = match value {
            Value::Tensor(tensor) => Some(tensor.clone()),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => of_numbers(std::slice::from_ref(value)),
            Value::List(items) => of_numbers(items).or_else(|| stacked(items)),
            _ => None,
        };
        if let Some(tensor) = tensor {
            let shape = tensor.shape().to_vec();
            return Self { name, shape, content: OutputContent::Tensor(tensor) };
        }
        if let Some(shape) = shape_of_texts(value).filter(|shape| shape.len() > 1) {
            let mut texts = Vec::with_capacity(shape.iter().product());
            flatten(value, &mut texts);
            return Self { name, shape, content: OutputContent::Texts(texts) };
        }
        let texts = match value {
            Value::None => Vec::new(),
            Value::List(items) => match items.iter().map(as_bytes).collect() {
                Some(texts) => texts,
                None => vec![as_json(value)],
            },
            value => vec![as_bytes(value).unwrap_or_else(|| as_json(value))],
        };
        Self { name, shape: vec![texts.len()], content: OutputContent::Texts(texts) }
    }

    pub(super) fn datatype(&self) -> Datatype {
        match &self.content {
            OutputContent::Tensor(tensor) => Datatype::Of(tensor.dtype()),
            OutputContent::Texts(_) => Datatype::Bytes,
        }
    }

    /// Appends its bytes, and says how many they are.
    pub(super) fn write(&self, pieces: &mut Pieces) -> usize {
        match &self.content {
            OutputContent::Tensor(tensor) => {
                pieces.push(tensor.data());
                tensor.data().len()
            }
            OutputContent::Texts(texts) => {
                let bytes = pieces.tail();
                let before = bytes.len();
                for text in texts {
                    // A text of 4 GiB does not get here: values are bounded far below.
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    bytes.extend_from_slice(&length.to_le_bytes());
                    bytes.extend_from_slice(text);
                }
                bytes.len() - before
            }
        }
    }
}

fn as_bytes(value: &Value) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
        Value::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
        _ => None,
    }
}

/// The shape of lists of texts that are all alike; `None` for others.
fn shape_of_texts(value: &Value) -> Option<Vec<usize>> {
    let Value::List(items) = value else { return as_bytes(value).map(|_| Vec::new()) };
    let (first, others) = items.split_first()?;
    let shape = shape_of_texts(first)?;
    let are_alike = others.iter().all(|item| shape_of_texts(item).as_ref() == Some(&shape));
    are_alike.then(|| std::iter::once(items.len()).chain(shape).collect())
}

fn flatten<'v>(value: &'v Value, texts: &mut Vec<Cow<'v, [u8]>>) {
    match value {
        Value::List(items) => items.iter().for_each(|item| flatten(item, texts)),
        value => texts.extend(as_bytes(value)),
    }
}

fn as_json(value: &Value) -> Cow<'_, [u8]> {
    Cow::Owned(serde_json::to_vec(value).expect("values have text keys, and writing to memory does not fail"))
}

/// Numbers of one kind, or booleans, in a row; whole numbers beside others become floats. `None` for what is neither, and for
/// nothing at all.
fn of_numbers(items: &[Value]) -> Option<Tensor> {
    let dtype = items.iter().try_fold(None, |dtype, item| {
        let own = match item {
            Value::Bool(_) => DType::Bool,
            Value::Int(_) => DType::I64,
            Value::Float(_) => DType::F64,
            _ => return None,
        };
        match dtype {
            None => Some(Some(own)),
            Some(dtype) if dtype == own => Some(Some(own)),
            Some(DType::I64 | DType::F64) if own != DType::Bool => Some(Some(DType::F64)),
            Some(_) => None,
        }
    })??;
    let mut bytes = Vec::with_capacity(items.len() * dtype.size_bytes());
    for item in items {
        match (dtype, item) {
            (_, Value::Bool(flag)) => bytes.push(u8::from(*flag)),
            (DType::I64, Value::Int(number)) => bytes.extend_from_slice(&number.to_le_bytes()),
            (_, number) => bytes.extend_from_slice(&number.as_f64()?.to_le_bytes()),
        }
    }
    Tensor::new(dtype, [items.len()], bytes.into()).ok()
}

/// Tensors of one type and shape, on a new first axis.
fn stacked(items: &[Value]) -> Option<Tensor> {
    let first = items.first()?.as_tensor()?;
    let mut bytes = Vec::with_capacity(first.data().len() * items.len());
    for item in items {
        let tensor =
            item.as_tensor().filter(|it| it.dtype() == first.dtype() && it.shape() == first.shape())?;
        bytes.extend_from_slice(tensor.data());
    }
    let shape: Vec<usize> = std::iter::once(items.len()).chain(first.shape().iter().copied()).collect();
    Tensor::new(first.dtype(), shape, Bytes::from(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &Value) -> String {
        let output = Output::of("x", value);
        let mut pieces = Pieces::default();
        let size = output.write(&mut pieces);
        assert_eq!(size, pieces.num_bytes());
        let content = match &output.content {
            OutputContent::Tensor(tensor) => serde_json::to_string(tensor).unwrap(),
            OutputContent::Texts(texts) => {
                assert_eq!(size, texts.iter().map(|text| 4 + text.len()).sum::<usize>());
                texts.iter().map(|text| String::from_utf8_lossy(text)).collect::<Vec<_>>().join("|")
            }
        };
        format!("{} {:?} {content}", output.datatype(), output.shape)
    }

    #[test]
    fn every_value_is_a_tensor() {
        let floats = |values: &[f32]| Value::Tensor(Tensor::from_f32([values.len()], values).unwrap());
        for (value, expected) in [
            (floats(&[1.0, 2.0]), "FP32 [2] [1.0,2.0]"),
            (Value::from("hi"), "BYTES [1] hi"),
            (Value::Bytes(Bytes::from_static(b"raw")), "BYTES [1] raw"),
            (Value::Int(-3), "INT64 [1] [-3]"),
            (Value::Float(0.5), "FP64 [1] [0.5]"),
            (Value::Bool(true), "BOOL [1] [true]"),
            (Value::None, "BYTES [0] "),
            (Value::list([]), "BYTES [0] "),
            (Value::list(["a", "b"].map(Value::from)), "BYTES [2] a|b"),
            (
                Value::list([Value::list([Value::from("a")]), Value::list([Value::from("b")])]),
                "BYTES [2, 1] a|b",
            ),
            (Value::list([Value::list([Value::from("a")]), Value::list([])]), "BYTES [1] [[\"a\"],[]]"),
            (Value::list([1, 2].map(Value::Int)), "INT64 [2] [1,2]"),
            (Value::list([Value::Int(1), Value::Float(0.5)]), "FP64 [2] [1.0,0.5]"),
            (Value::list([Value::Float(0.5), Value::Int(1)]), "FP64 [2] [0.5,1.0]"),
            (Value::list([true, false].map(Value::Bool)), "BOOL [2] [true,false]"),
            (Value::list([floats(&[1.0]), floats(&[2.0])]), "FP32 [2, 1] [[1.0],[2.0]]"),
            (Value::list([floats(&[1.0]), floats(&[2.0, 3.0])]), "BYTES [1] [[1.0],[2.0,3.0]]"),
            (Value::list([Value::Int(1), Value::Bool(true)]), "BYTES [1] [1,true]"),
            (Value::map([("a", Value::Int(1))]), "BYTES [1] {\"a\":1}"),
        ] {
            assert_eq!(shown(&value), expected);
        }
    }

    #[test]
    fn a_lone_answer_has_a_name() {
        let lone = Value::from("x");
        assert_eq!(outputs(&lone), [(LONE_OUTPUT, &lone)]);
        let map = Value::map([("b", Value::Int(1)), ("a", Value::Int(2))]);
        let names: Vec<_> = outputs(&map).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
