//! Checking a call's inputs against what the model takes, and turning lists of numbers and of texts into tensors. Pure; every fault
//! is the caller's and all faults of a call are told at once.

use std::sync::Arc;

use half::{bf16, f16};
use millstream_engine::invalid_input;
use millstream_pipelines::Element;
use millstream_values::{CallError, DType, Tensor, Value};

use crate::array::{Array, Texts};
use crate::port::{Fit, Port, check_named_axes, type_text};

/// The call's tensors in the order of `ports`, shaped as the model takes them. Tensors are not copied.
///
/// # Errors
/// Class `Invalid`: unknown, missing or ill-typed inputs, shapes that do not fit, numbers out of range.
pub(crate) fn to_tensors(inputs: &Value, ports: &[Port]) -> Result<Vec<Array>, CallError> {
    let map = inputs
        .as_map()
        .ok_or_else(|| invalid_input(format!("inputs are `{}`, not a map", inputs.type_name())))?;
    let mut faults: Vec<String> = map
        .keys()
        .filter(|key| !ports.iter().any(|port| port.name == ***key))
        .map(|key| format!("input `{key}` is not known; the model takes {}", listed(ports)))
        .collect();
    let mut tensors = Vec::with_capacity(ports.len());
    for port in ports {
        match map.get(port.name.as_str()) {
            None | Some(Value::None) => {
                faults.push(format!("input `{}` is missing; it is `{port}`", port.name))
            }
            Some(value) => match to_tensor(value, port) {
                Ok(tensor) => tensors.push(tensor),
                Err(fault) => faults.push(fault),
            },
        }
    }
    if faults.is_empty() {
        let shapes: Vec<&[usize]> = tensors.iter().map(Array::shape).collect();
        faults = check_named_axes(ports, &shapes);
    }
    if faults.is_empty() { Ok(tensors) } else { Err(invalid_input(faults.join("; "))) }
}

/// The ports' names and types, for messages.
fn listed(ports: &[Port]) -> String {
    let ports: Vec<String> = ports.iter().map(|port| format!("`{}: {port}`", port.name)).collect();
    ports.join(", ")
}

fn to_tensor(value: &Value, port: &Port) -> Result<Array, String> {
    let dtype = match port.element {
        Element::Text => return to_texts(value, port),
        Element::Of(dtype) => dtype,
    };
    let tensor = match value {
        Value::Tensor(tensor) => tensor.clone(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) => gather(value, dtype, port)?,
        Value::None | Value::Text(_) | Value::Bytes(_) | Value::Map(_) => {
            return Err(other_kind(value, port));
        }
    };
    if tensor.dtype() != dtype {
        return Err(mismatch(&tensor, port));
    }
    if dtype == DType::Bool && tensor.data().iter().any(|&byte| byte > 1) {
        return Err(format!("input `{}` is `bool`, but has a byte that is neither 0 nor 1", port.name));
    }
    match port.fit(tensor.shape()) {
        Fit::AsItIs => Ok(Array::Numbers(tensor)),
        Fit::AsOneRow => {
            let shape: Vec<usize> = std::iter::once(1).chain(tensor.shape().iter().copied()).collect();
            let tensor = Tensor::new(tensor.dtype(), shape, tensor.data().clone());
            tensor.map(Array::Numbers).map_err(|error| error.to_string())
        }
        Fit::No => Err(mismatch(&tensor, port)),
    }
}

/// A tensor of texts out of a text and (nested) lists of texts.
fn to_texts(value: &Value, port: &Port) -> Result<Array, String> {
    match value {
        Value::Text(_) | Value::List(_) => {}
        Value::Tensor(tensor) => return Err(mismatch(tensor, port)),
        _ => return Err(other_kind(value, port)),
    }
    let shape = shape_of(value);
    let mut texts = Vec::new();
    fill(value, &shape, &mut texts).map_err(|fault| placed(port, &fault))?;
    let found = type_text(Element::Text, &shape);
    let mismatch = || format!("input `{}` is `{found}`, the model takes `{port}`", port.name);
    let fit = port.fit(&shape);
    let texts = Texts::new(shape, texts).ok_or_else(mismatch)?;
    match fit {
        Fit::AsItIs => Ok(Array::Texts(texts)),
        Fit::AsOneRow => Ok(Array::Texts(texts.into_one_row())),
        Fit::No => Err(mismatch()),
    }
}

fn other_kind(value: &Value, port: &Port) -> String {
    format!("input `{}` is `{}`, the model takes `{port}`", port.name, value.type_name())
}

fn mismatch(tensor: &Tensor, port: &Port) -> String {
    let found = type_text(Element::Of(tensor.dtype()), tensor.shape());
    format!("input `{}` is `{found}`, the model takes `{port}`", port.name)
}

/// A fault opens with its place within the list, such as `[3][0]`, or with nothing.
fn placed(port: &Port, fault: &str) -> String {
    let (place, what) = fault.split_once(' ').unwrap_or(("", fault));
    format!("`{}{place}` {what}", port.name)
}

/// A tensor of the port's element type out of numbers and (nested) lists of numbers or of tensors.
fn gather(value: &Value, dtype: DType, port: &Port) -> Result<Tensor, String> {
    let shape = shape_of(value);
    let mut numbers = Numbers { dtype, data: Vec::new() };
    fill(value, &shape, &mut numbers).map_err(|fault| placed(port, &fault))?;
    Tensor::new(dtype, shape, numbers.data.into()).map_err(|error| error.to_string())
}

/// The shape that a nested list has if all its parts are like its first ones.
fn shape_of(value: &Value) -> Vec<usize> {
    let mut shape = Vec::new();
    let mut value = value;
    loop {
        match value {
            Value::List(values) => {
                shape.push(values.len());
                match values.first() {
                    Some(first) => value = first,
                    None => return shape,
                }
            }
            Value::Tensor(tensor) => {
                shape.extend_from_slice(tensor.shape());
                return shape;
            }
            _ => return shape,
        }
    }
}

/// Where the elements of lists go. A fault says what is wrong with one, without its place.
trait Elements {
    fn push(&mut self, value: &Value) -> Result<(), String>;

    fn push_tensor(&mut self, tensor: &Tensor) -> Result<(), String>;
}

struct Numbers {
    dtype: DType,
    data: Vec<u8>,
}

impl Elements for Numbers {
    fn push(&mut self, value: &Value) -> Result<(), String> {
        push_number(value, self.dtype, &mut self.data)
    }

    fn push_tensor(&mut self, tensor: &Tensor) -> Result<(), String> {
        if tensor.dtype() != self.dtype {
            return Err(format!("is `{}`, not `{}`", tensor.dtype(), self.dtype));
        }
        self.data.extend_from_slice(tensor.data());
        Ok(())
    }
}

impl Elements for Vec<Arc<str>> {
    fn push(&mut self, value: &Value) -> Result<(), String> {
        let Value::Text(text) = value else {
            return Err(format!("is `{}`, not `text`", value.type_name()));
        };
        // ONNX Runtime takes texts that end at the first of these.
        if text.contains('\0') {
            return Err("has a NUL character, which the model cannot take".to_owned());
        }
        self.push(text.clone());
        Ok(())
    }

    fn push_tensor(&mut self, tensor: &Tensor) -> Result<(), String> {
        Err(format!("is `{}`, not `text`", tensor.dtype()))
    }
}

/// Appends the value's elements; a fault is `PLACE WHAT`, the place being empty for the value itself.
fn fill(value: &Value, shape: &[usize], elements: &mut impl Elements) -> Result<(), String> {
    match value {
        Value::List(values) if shape.first() == Some(&values.len()) => {
            for (at, value) in values.iter().enumerate() {
                fill(value, &shape[1..], elements).map_err(|fault| format!("[{at}]{fault}"))?;
            }
            Ok(())
        }
        Value::Tensor(tensor) if tensor.shape() == shape => {
            elements.push_tensor(tensor).map_err(|fault| format!(" {fault}"))
        }
        Value::List(_) | Value::Tensor(_) => Err(" has another shape than what stands before it".to_owned()),
        _ if shape.is_empty() => elements.push(value).map_err(|fault| format!(" {fault}")),
        _ => Err(format!(" is a `{}` where a list is wanted", value.type_name())),
    }
}

fn push_number(value: &Value, dtype: DType, data: &mut Vec<u8>) -> Result<(), String> {
    match (value, dtype) {
        (Value::Bool(value), DType::Bool) => {
            data.push(u8::from(*value));
            Ok(())
        }
        (Value::Int(value), _) if !dtype.is_float() && dtype != DType::Bool => push_int(*value, dtype, data),
        (Value::Int(_) | Value::Float(_), _) if dtype.is_float() => {
            push_float(value.as_f64().unwrap_or(f64::NAN), dtype, data)
        }
        _ => Err(format!("is `{}`, not `{dtype}`", value.type_name())),
    }
}

fn push_int(value: i64, dtype: DType, data: &mut Vec<u8>) -> Result<(), String> {
    let out_of_range = |_| format!("is `{value}`, which is beyond `{dtype}`");
    match dtype {
        DType::U8 => data.extend(u8::try_from(value).map_err(out_of_range)?.to_le_bytes()),
        DType::U16 => data.extend(u16::try_from(value).map_err(out_of_range)?.to_le_bytes()),
        DType::U32 => data.extend(u32::try_from(value).map_err(out_of_range)?.to_le_bytes()),
        DType::U64 => data.extend(u64::try_from(value).map_err(out_of_range)?.to_le_bytes()),
        DType::I8 => data.extend(i8::try_from(value).map_err(out_of_range)?.to_le_bytes()),
        DType::I16 => data.extend(i16::try_from(value).map_err(out_of_range)?.to_le_bytes()),
        DType::I32 => data.extend(i32::try_from(value).map_err(out_of_range)?.to_le_bytes()),
        _ => data.extend(value.to_le_bytes()),
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the model's precision is what is asked for")]
fn push_float(value: f64, dtype: DType, data: &mut Vec<u8>) -> Result<(), String> {
    let fits = match dtype {
        DType::F16 => f16::from_f64(value).is_finite(),
        DType::BF16 => bf16::from_f64(value).is_finite(),
        DType::F32 => (value as f32).is_finite(),
        _ => true,
    };
    if value.is_finite() && !fits {
        return Err(format!("is `{value}`, which is beyond `{dtype}`"));
    }
    match dtype {
        DType::F16 => data.extend(f16::from_f64(value).to_le_bytes()),
        DType::BF16 => data.extend(bf16::from_f64(value).to_le_bytes()),
        DType::F32 => data.extend((value as f32).to_le_bytes()),
        _ => data.extend(value.to_le_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::port::Dim;

    fn ports() -> Vec<Port> {
        vec![Port::new("x", Element::Of(DType::F32), vec![Dim::Any("batch".into()), Dim::Fixed(2)])]
    }

    fn one(value: Value) -> Result<Tensor, String> {
        one_of(value, &ports()).map(numbers)
    }

    fn one_of(value: Value, ports: &[Port]) -> Result<Array, String> {
        let tensors = to_tensors(&Value::map([("x", value)]), ports);
        tensors.map(|mut tensors| tensors.remove(0)).map_err(|error| error.message)
    }

    fn numbers(array: Array) -> Tensor {
        let Array::Numbers(tensor) = array else { panic!("{array:?}") };
        tensor
    }

    fn floats(values: &[f64]) -> Value {
        Value::list(values.iter().copied().map(Value::Float))
    }

    #[test]
    fn lists_become_tensors_and_tensors_stay_where_they_are() {
        let row = one(floats(&[1.0, 2.0])).unwrap();
        assert_eq!((row.shape(), row.to_f32().unwrap()), (&[1, 2][..], vec![1.0, 2.0]));
        let rows =
            one(Value::list([floats(&[1.0, 2.0]), Value::list([Value::Int(3), Value::Int(4)])])).unwrap();
        assert_eq!((rows.shape(), rows.to_f32().unwrap()), (&[2, 2][..], vec![1.0, 2.0, 3.0, 4.0]));
        let tensor = Tensor::from_f32([2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let same = one(Value::Tensor(tensor.clone())).unwrap();
        assert_eq!(same.data().as_ptr(), tensor.data().as_ptr());
        let views = Value::list([tensor.index(1).unwrap().into(), tensor.index(0).unwrap().into()]);
        assert_eq!(one(views).unwrap().to_f32().unwrap(), [3.0, 4.0, 1.0, 2.0]);
    }

    #[test]
    fn faults_say_what_was_expected_and_what_was_found() {
        let wide = Tensor::from_f32([1, 3], &[0.0; 3]).unwrap();
        let ints = Tensor::from_i64([1, 2], &[1, 2]).unwrap();
        let table = [
            (Value::Tensor(wide), "input `x` is `f32[1,3]`, the model takes `f32[?,2]`"),
            (Value::Tensor(ints), "input `x` is `i64[1,2]`, the model takes `f32[?,2]`"),
            (Value::from("text"), "input `x` is `text`, the model takes `f32[?,2]`"),
            (
                Value::list([floats(&[1.0, 2.0]), floats(&[1.0])]),
                "`x[1]` has another shape than what stands before it",
            ),
            (Value::list([Value::Float(1.0), Value::from("2")]), "`x[1]` is `text`, not `f32`"),
            (floats(&[1.0, 1e300]), "`x[1]` is `1000000000"),
            (Value::None, "input `x` is missing; it is `f32[?,2]`"),
        ];
        for (value, expected) in table {
            let found = one(value).unwrap_err();
            assert!(found.starts_with(expected), "{found} instead of {expected}");
        }
        let unknown = Value::map([("y", Value::Int(1))]);
        assert_eq!(
            to_tensors(&unknown, &ports()).unwrap_err().message,
            "input `y` is not known; the model takes `x: f32[?,2]`; input `x` is missing; it is `f32[?,2]`"
        );
    }

    #[test]
    fn numbers_beyond_the_type_are_refused_for_every_integer_type() {
        for (dtype, inside, outside) in [
            (DType::U8, 255, 256),
            (DType::I8, -128, -129),
            (DType::U64, i64::MAX, -1),
            (DType::I32, 7, 1 << 40),
        ] {
            let port = [Port::new("x", Element::Of(dtype), vec![Dim::Fixed(1)])];
            let call = |value| Value::map([("x", Value::list([Value::Int(value)]))]);
            let tensor = numbers(to_tensors(&call(inside), &port).unwrap().remove(0));
            #[expect(clippy::cast_precision_loss, reason = "the largest rounds on both sides")]
            let expected = inside as f64;
            assert_eq!(tensor.iter_f64().collect::<Vec<_>>(), [expected]);
            assert!(to_tensors(&call(outside), &port).is_err(), "{dtype}");
        }
        let flag = [Port::new("x", Element::Of(DType::Bool), vec![Dim::Fixed(1)])];
        let odd = Tensor::new(DType::Bool, [1], bytes::Bytes::from_static(&[2])).unwrap();
        assert!(to_tensors(&Value::map([("x", Value::Tensor(odd))]), &flag).is_err());
        assert!(to_tensors(&Value::map([("x", Value::list([Value::Bool(true)]))]), &flag).is_ok());
    }

    #[test]
    fn texts_become_a_tensor_of_texts_or_are_refused_with_their_place() {
        let of = |dims: &[Dim]| [Port::new("x", Element::Text, dims.to_vec())];
        let (open, column) = (of(&[Dim::Any(String::new())]), of(&[Dim::Any(String::new()), Dim::Fixed(1)]));
        let list = |texts: &[&str]| Value::list(texts.iter().copied().map(Value::from));
        for (value, ports, expected) in [
            (list(&["a", "b"]), &open, Ok(&[2][..])),
            (Value::from("a"), &open, Ok(&[1])),
            (Value::list([]), &open, Ok(&[0])),
            (Value::list([list(&["a"]), list(&["b"])]), &column, Ok(&[2, 1])),
            (list(&["a"]), &column, Ok(&[1, 1])),
            (list(&["a", "b"]), &column, Err("input `x` is `text[2]`, the model takes `text[?,1]`")),
            (Value::Int(1), &open, Err("input `x` is `int`, the model takes `text[?]`")),
            (list(&["a", "b\0c"]), &open, Err("`x[1]` has a NUL character, which the model cannot take")),
            (Value::list([Value::from("a"), Value::Int(1)]), &open, Err("`x[1]` is `int`, not `text`")),
            (
                Value::list([list(&["a"]), list(&[])]),
                &column,
                Err("`x[1]` has another shape than what stands before it"),
            ),
            (
                Value::Tensor(Tensor::from_i64([1], &[1]).unwrap()),
                &open,
                Err("input `x` is `i64[1]`, the model takes `text[?]`"),
            ),
        ] {
            let found = one_of(value, ports);
            assert_eq!(found.as_ref().map(Array::shape).map_err(String::as_str), expected);
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let dtype = proptest::sample::select(DType::ALL.to_vec());
        let tensor = (dtype, proptest::collection::vec(0usize..3, 0..4)).prop_map(|(dtype, shape)| {
            let bytes = vec![1; dtype.size_bytes() * shape.iter().product::<usize>()];
            Value::Tensor(Tensor::new(dtype, shape, bytes.into()).unwrap())
        });
        let leaf = prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float),
            Just(Value::from("text")),
            tensor,
        ];
        leaf.prop_recursive(4, 24, 3, |inner| proptest::collection::vec(inner, 0..3).prop_map(Value::list))
    }

    proptest! {
        #[test]
        fn whatever_comes_is_refused_or_fits(
            value in any_value(),
            element in proptest::sample::select(DType::ALL.map(Element::Of).into_iter().chain([Element::Text]).collect::<Vec<_>>()),
            sizes in proptest::collection::vec(proptest::option::of(0usize..3), 0..4),
        ) {
            let dims = sizes.iter().map(|size| size.map_or_else(|| Dim::Any("n".into()), Dim::Fixed)).collect();
            let ports = [Port::new("x", element, dims)];
            match to_tensors(&Value::map([("x", value)]), &ports) {
                Ok(tensors) => {
                    prop_assert_eq!(tensors[0].element(), element);
                    prop_assert_eq!(ports[0].fit(tensors[0].shape()), Fit::AsItIs);
                }
                Err(error) => prop_assert!(error.message.contains("`x"), "{}", error.message),
            }
        }
    }
}
