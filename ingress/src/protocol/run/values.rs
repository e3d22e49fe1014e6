//! Values of requests and answers as messages (`PipelineValue`).

use std::sync::Arc;

use bytes::Bytes;
use millstream_pipelines::{MAX_ITEMS, MAX_VALUES};
use millstream_proto::v1::{self, pipeline_value::Kind};
use millstream_values::{DType, MAX_DEPTH, Map, Tensor, Value};

use super::super::Problem;
use super::super::problem::shown;
use super::super::wire::{Field, Fields, WireValue};

/// The fields of a request (`Fields`); `message` is what the bytes are a part of.
///
/// # Errors
/// A problem (400) for what is no such message, is nested too deep or has too many values.
pub(super) fn fields(message: &Bytes, fields: &[u8]) -> Result<Map, Problem> {
    Reader { message, num_values: 0, depth: 0 }.map(fields)
}

struct Reader<'m> {
    message: &'m Bytes,
    num_values: usize,
    depth: usize,
}

impl Reader<'_> {
    fn map(&mut self, bytes: &[u8]) -> Result<Map, Problem> {
        let mut map = Map::new();
        for field in Fields::of(bytes) {
            let Field { number: 1, value } = field? else { continue };
            let (mut key, mut content) = ("", None);
            for field in Fields::of(value.bytes()?) {
                match field? {
                    Field { number: 1, value } => key = value.text()?,
                    Field { number: 2, value } => content = Some(self.value(value.bytes()?)?),
                    _ => {}
                }
            }
            let content = content.ok_or_else(|| no_value(key))?;
            if map.insert(Arc::from(key), content).is_some() {
                return Err(Problem::malformed(format!("the key `{}` is given twice", shown(key))));
            }
            check_items(map.len())?;
        }
        Ok(map)
    }

    fn list(&mut self, bytes: &[u8]) -> Result<Value, Problem> {
        let mut items = Vec::new();
        for field in Fields::of(bytes) {
            let Field { number: 1, value } = field? else { continue };
            items.push(self.value(value.bytes()?)?);
            check_items(items.len())?;
        }
        Ok(Value::list(items))
    }

    /// The last kind that is set counts.
    fn value(&mut self, bytes: &[u8]) -> Result<Value, Problem> {
        self.num_values += 1;
        if self.num_values > MAX_VALUES {
            return Err(Problem::malformed(format!("the fields have more than {MAX_VALUES} values")));
        }
        if self.depth == MAX_DEPTH {
            return Err(Problem::malformed(format!("the fields are nested deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let mut found = None;
        for field in Fields::of(bytes) {
            let Field { number, value } = field?;
            found = Some(match number {
                1 => Value::None,
                2 => Value::Bool(value.number()? != 0),
                3 => {
                    let zigzag = value.number()?;
                    Value::Int((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
                }
                4 => match value {
                    WireValue::Fixed64(bytes) => Value::Float(f64::from_le_bytes(bytes)),
                    _ => return Err(Problem::malformed("a `float` has another type")),
                },
                5 => Value::from(value.text()?),
                6 => Value::Bytes(self.message.slice_ref(value.bytes()?)),
                7 => Value::Tensor(self.tensor(value.bytes()?)?),
                8 => self.list(value.bytes()?)?,
                9 => self.map(value.bytes()?)?.into(),
                _ => continue,
            });
        }
        self.depth -= 1;
        found.ok_or_else(|| no_value("a value"))
    }

    fn tensor(&self, bytes: &[u8]) -> Result<Tensor, Problem> {
        let (mut dtype, mut shape, mut data) = ("", Vec::new(), Bytes::new());
        for field in Fields::of(bytes) {
            let Field { number, value } = field?;
            match number {
                1 => dtype = value.text()?,
                2 => value.each_number(|size| {
                    if shape.len() == MAX_AXES {
                        return Err(Problem::malformed(format!("a tensor has more than {MAX_AXES} axes")));
                    }
                    shape.push(usize::try_from(size).unwrap_or(usize::MAX));
                    Ok(())
                })?,
                3 => data = self.message.slice_ref(value.bytes()?),
                _ => {}
            }
        }
        let known = DType::parse(dtype);
        let dtype = known.ok_or_else(|| {
            Problem::malformed(format!(
                "a tensor has the unknown dtype `{}`; give `f32`, for example",
                shown(dtype)
            ))
        })?;
        // Code behind this takes for granted that one is 0 or 1.
        if dtype == DType::Bool && data.iter().any(|&byte| byte > 1) {
            return Err(Problem::malformed("a tensor of type `bool` has bytes other than 0 and 1"));
        }
        let size = data.len();
        let tensor = Tensor::new(dtype, &*shape, data);
        tensor.map_err(|_| {
            Problem::malformed(format!(
                "{size} bytes do not make a tensor of type `{}` and shape {shape:?}",
                dtype.as_str()
            ))
        })
    }
}

/// Most axes of a tensor.
const MAX_AXES: usize = 8;

fn check_items(num_items: usize) -> Result<(), Problem> {
    if num_items > MAX_ITEMS {
        return Err(Problem::malformed(format!("a list or a map has more than {MAX_ITEMS} items")));
    }
    Ok(())
}

fn no_value(key: &str) -> Problem {
    Problem::malformed(format!("`{}` has no value; give `null` for none", shown(key)))
}

/// A value as a message.
pub(super) fn encode(value: &Value) -> v1::PipelineValue {
    let kind = match value {
        Value::None => Kind::Null(v1::Null {}),
        Value::Bool(flag) => Kind::Bool(*flag),
        Value::Int(number) => Kind::Int(*number),
        Value::Float(number) => Kind::Float(*number),
        Value::Text(text) => Kind::Text(text.to_string()),
        Value::Bytes(bytes) => Kind::Bytes(bytes.clone()),
        Value::Tensor(tensor) => Kind::Tensor(v1::TensorValue {
            dtype: tensor.dtype().as_str().to_owned(),
            shape: tensor.shape().iter().map(|&size| size as u64).collect(),
            data: tensor.data().clone(),
        }),
        Value::List(items) => Kind::List(v1::ListValue { values: items.iter().map(encode).collect() }),
        Value::Map(map) => {
            let entry = |(name, value): (&Arc<str>, &Value)| (name.to_string(), encode(value));
            Kind::Map(v1::Fields { fields: map.iter().map(entry).collect() })
        }
    };
    v1::PipelineValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn read(kind: Kind) -> Result<Value, Problem> {
        let value = v1::PipelineValue { kind: Some(kind) };
        let fields = v1::Fields { fields: [("x".to_owned(), value)].into() };
        let bytes = Bytes::from(fields.encode_to_vec());
        super::fields(&bytes, &bytes).map(|map| map["x"].clone())
    }

    #[test]
    fn values_come_back_as_they_were_sent() {
        let tensor = Tensor::from_f32([2, 1], &[1.0, -2.0]).unwrap();
        for value in [
            Value::None,
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::Int(-1),
            Value::Float(0.5),
            Value::from("é"),
            Value::Bytes(Bytes::from_static(b"\xff")),
            Value::Tensor(tensor),
            Value::list([Value::Int(1), Value::from("a")]),
            Value::map([("a", Value::list([])), ("b", Value::map([("c", Value::None)]))]),
        ] {
            assert_eq!(read(encode(&value).kind.unwrap()).unwrap(), value);
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let tensor = |dtype: &str, shape: &[u64], data: &'static [u8]| {
            let (dtype, shape) = (dtype.to_owned(), shape.to_vec());
            Kind::Tensor(v1::TensorValue { dtype, shape, data: Bytes::from_static(data) })
        };
        let mut deep = Value::None;
        for _ in 0..MAX_DEPTH {
            deep = Value::list([deep]);
        }
        let empty = v1::PipelineValue { kind: None };
        for (kind, reason) in [
            (tensor("f31", &[1], b"1234"), "unknown dtype `f31`"),
            (tensor("f32", &[2], b"1234"), "4 bytes do not make a tensor of type `f32` and shape [2]"),
            (tensor("f32", &[u64::MAX, 2], b"1234"), "4 bytes do not make a tensor"),
            (tensor("u8", &[1; 9], b"1"), "more than 8 axes"),
            (tensor("bool", &[1], b"\x02"), "bytes other than 0 and 1"),
            (encode(&deep).kind.unwrap(), "nested deeper than 64"),
            (encode(&Value::list(vec![Value::None; MAX_ITEMS + 1])).kind.unwrap(), "more than 65536 items"),
            (Kind::List(v1::ListValue { values: vec![empty] }), "has no value"),
        ] {
            let problem = read(kind).unwrap_err();
            assert!(problem.detail().contains(reason), "{}", problem.detail());
        }
        let fields = Bytes::from_static(b"\x0a\x02\x0a\x00");
        assert!(super::fields(&fields, &fields).unwrap_err().detail().contains("has no value"));
    }
}
