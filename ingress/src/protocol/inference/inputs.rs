//! From tensors to the fields of a request: a field of a pipeline has a type of its own, and takes the tensor that says the same.

use bytes::Bytes;
use millstream_pipelines::types::Type;
use millstream_pipelines::{MAX_ITEMS, MAX_VALUES, Plan};
use millstream_values::{DType, Map, Tensor, Value};

use super::super::Problem;
use super::super::problem::shown;
use super::tensors::{Content, Input, Texts};

/// The fields that these inputs are for a plan. What the plan says of their values is left to its own check.
///
/// # Errors
/// A problem (400) with the name of the input that does not fit.
pub(super) fn fields(plan: &Plan, inputs: &[Input]) -> Result<Map, Problem> {
    let mut fields = Map::with_capacity(inputs.len().min(64));
    let mut num_values = 0_usize;
    for Input { name, content } in inputs {
        let refused = |reason: String| Problem::malformed(format!("input `{}`: {reason}", shown(name)));
        // Where the plan has no such field, it takes any or says so itself.
        let ty = plan.request_field(name).unwrap_or_default();
        let reader = FieldReader { plan, name };
        let value = match content {
            Content::Tensor(tensor) => reader.of_tensor(&ty, tensor),
            Content::Texts(texts) => reader.of_texts(&ty, texts),
        };
        let value = value.map_err(refused)?;
        num_values += num_values_of(&value);
        if num_values > MAX_VALUES {
            return Err(Problem::malformed(format!("the inputs have more than {MAX_VALUES} values")));
        }
        fields.insert(name.clone(), value);
    }
    Ok(fields)
}

/// A value that is a list counts its items, those of lists within it too.
fn num_values_of(value: &Value) -> usize {
    value.as_list().map_or(1, |items| items.iter().map(num_values_of).sum())
}

/// Makes the value of one field.
#[derive(Clone, Copy)]
struct FieldReader<'a> {
    plan: &'a Plan,
    name: &'a str,
}

impl FieldReader<'_> {
    fn of_tensor(self, ty: &Type, tensor: &Tensor) -> Result<Value, String> {
        match ty {
            Type::Tensor(_) | Type::Any => Ok(Value::Tensor(tensor.clone())),
            Type::Int | Type::Float | Type::Bool => {
                let value = Some(tensor).filter(|tensor| tensor.num_elements() == 1);
                let value = value.and_then(|tensor| scalars(ty, tensor)?.into_iter().next());
                value.ok_or_else(|| wrong(ty, &described(tensor)))
            }
            Type::List(item) => {
                if tensor.num_elements() > MAX_ITEMS {
                    return Err(format!("has more than {MAX_ITEMS} elements, for a field of type `{ty}`"));
                }
                match &**item {
                    Type::List(_) if tensor.shape().len() > 1 => {
                        let rows = (0..tensor.len().unwrap_or(0).min(MAX_ITEMS + 1))
                            .filter_map(|row| tensor.index(row));
                        let rows =
                            rows.map(|row| self.of_tensor(item, &row)).collect::<Result<Vec<_>, _>>()?;
                        Ok(Value::list(rows))
                    }
                    item => {
                        scalars(item, tensor).map(Value::list).ok_or_else(|| wrong(ty, &described(tensor)))
                    }
                }
            }
            Type::Optional(ty) => self.of_tensor(ty, tensor),
            _ => Err(wrong(ty, &described(tensor))),
        }
    }

    fn of_texts(self, ty: &Type, all: &Texts) -> Result<Value, String> {
        let Texts { shape, texts } = all;
        let one = || match &texts[..] {
            [text] => Ok(text),
            _ => Err(format!("has {} elements; a field of type `{ty}` takes one", texts.len())),
        };
        match ty {
            Type::Text => text(one()?),
            Type::Bytes => Ok(Value::Bytes(one()?.clone())),
            Type::List(item) => match &**item {
                Type::Text => texts.iter().map(text).collect::<Result<Vec<_>, _>>().map(Value::list),
                Type::Bytes => Ok(Value::list(texts.iter().cloned().map(Value::Bytes))),
                // Lists in lists, where the shape has as many axes.
                Type::List(_) if shape.len() > 1 && axes_of_texts(ty) == Some(shape.len()) => {
                    nested(shape, texts)
                }
                _ => self.json(ty, one()?),
            },
            Type::Map(_) => self.json(ty, one()?),
            Type::Optional(ty) => self.of_texts(ty, all),
            // Lists and objects can only come as JSON, where anything is taken.
            Type::Any => match &texts[..] {
                [text] if is_structured(text) && self.plan.request_field(self.name).is_some() => {
                    self.json(ty, text)
                }
                _ if shape.len() > 1 => nested(shape, texts),
                [one] => text(one),
                _ => texts.iter().map(text).collect::<Result<Vec<_>, _>>().map(Value::list),
            },
            _ => Err(wrong(ty, "texts")),
        }
    }

    /// What a text is as JSON.
    fn json(self, ty: &Type, text: &[u8]) -> Result<Value, String> {
        let value = self.plan.read_request_field(self.name, text);
        value.ok_or_else(|| format!("a field of type `{ty}` takes one text with its JSON, and this is none"))
    }
}

/// Whether a text begins as a list or an object in JSON does.
fn is_structured(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// How many lists are around a text in values of that type; `None` where it is not made of texts.
fn axes_of_texts(ty: &Type) -> Option<usize> {
    match ty {
        Type::Text => Some(0),
        Type::List(item) => Some(axes_of_texts(item)? + 1),
        _ => None,
    }
}

/// Texts in lists as deep as the shape.
fn nested(shape: &[usize], texts: &[Bytes]) -> Result<Value, String> {
    let Some((&len, shape)) = shape.split_first() else { return texts.first().map_or(Ok(Value::None), text) };
    let stride = texts.len().checked_div(len).unwrap_or(0);
    let items = (0..len).map(|at| nested(shape, &texts[at * stride..(at + 1) * stride]));
    items.collect::<Result<Vec<_>, _>>().map(Value::list)
}

fn text(bytes: &Bytes) -> Result<Value, String> {
    str::from_utf8(bytes).map(Value::from).map_err(|_| "has an element that is not UTF-8".to_owned())
}

fn wrong(ty: &Type, found: &str) -> String {
    format!("a field of type `{ty}` takes no {found}")
}

fn described(tensor: &Tensor) -> String {
    format!("tensor of type {} and shape {:?}", super::datatype::Datatype::Of(tensor.dtype()), tensor.shape())
}

/// All elements, row by row, as values of that type; `None` where they are of another.
fn scalars(ty: &Type, tensor: &Tensor) -> Option<Vec<Value>> {
    match (ty, tensor.dtype()) {
        (Type::Bool, DType::Bool) => Some(tensor.data().iter().map(|&byte| Value::Bool(byte != 0)).collect()),
        (Type::Float, dtype) if dtype != DType::Bool => Some(tensor.iter_f64().map(Value::Float).collect()),
        (Type::Int, DType::U64) => {
            let (numbers, _) = tensor.data().as_chunks::<8>();
            numbers
                .iter()
                .map(|bytes| i64::try_from(u64::from_le_bytes(*bytes)).ok().map(Value::Int))
                .collect()
        }
        (Type::Int, DType::I64) => Some(tensor.to_i64().ok()?.into_iter().map(Value::Int).collect()),
        #[expect(clippy::cast_possible_truncation, reason = "integers of up to 32 bits are exact in f64")]
        (Type::Int, dtype) if dtype != DType::Bool && !dtype.is_float() => {
            Some(tensor.iter_f64().map(|number| Value::Int(number as i64)).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
name = "p"
route = "/p"
[request]
question = { type = "text", default = "" }
documents = { type = "text[]", default = [] }
number = { type = "int", default = 1 }
ratio = { type = "float", default = 1 }
flag = { type = "bool", default = false }
numbers = { type = "int[]", default = [] }
table = { type = "float[][]", default = [] }
words = { type = "text[][]", default = [] }
row = { type = "f32[?]", default = [] }
more = { type = "json", default = {} }
raw = { type = "bytes", default = "" }
said = [{ role = "text" }]
[deployments.d]
engine = "echo"
[stages.s]
use = "d"
inputs = { all = "request" }
[response]
all = "s.all"
"#;

    fn read(name: &str, content: Content) -> Result<String, String> {
        let plan = Plan::compile("p.toml", FILE).unwrap();
        let name = name.into();
        match fields(&plan, &[Input { name, content }]) {
            Ok(fields) => Ok(serde_json::to_string(&fields[0]).unwrap()),
            Err(problem) => Err(problem.detail().to_owned()),
        }
    }

    fn texts(texts: &[&str]) -> Content {
        shaped(&[texts.len()], texts)
    }

    fn shaped(shape: &[usize], texts: &[&str]) -> Content {
        let texts = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        Content::Texts(Texts { shape: shape.to_vec(), texts })
    }

    fn tensor(dtype: DType, shape: &[usize], bytes: &[u8]) -> Content {
        Content::Tensor(Tensor::new(dtype, shape, Bytes::copy_from_slice(bytes)).unwrap())
    }

    #[test]
    fn each_field_takes_the_tensor_that_says_the_same() {
        let floats =
            |shape: &[usize], values: &[f32]| Content::Tensor(Tensor::from_f32(shape, values).unwrap());
        let ints =
            |shape: &[usize], values: &[i64]| Content::Tensor(Tensor::from_i64(shape, values).unwrap());
        for (name, content, expected) in [
            ("question", texts(&["who?"]), r#""who?""#),
            ("documents", texts(&["a", "b"]), r#"["a","b"]"#),
            ("documents", texts(&[]), "[]"),
            ("number", ints(&[1, 1], &[7]), "7"),
            ("number", tensor(DType::U8, &[1], &[255]), "255"),
            ("number", tensor(DType::I8, &[], &[255]), "-1"),
            ("number", tensor(DType::U64, &[1], &[9, 0, 0, 0, 0, 0, 0, 0]), "9"),
            ("ratio", floats(&[1], &[0.5]), "0.5"),
            ("ratio", ints(&[1], &[2]), "2.0"),
            ("flag", tensor(DType::Bool, &[1], &[1]), "true"),
            ("numbers", ints(&[3, 1], &[1, 2, 3]), "[1,2,3]"),
            ("table", floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), "[[1.0,2.0],[3.0,4.0]]"),
            ("row", floats(&[2], &[1.0, 2.0]), "[1.0,2.0]"),
            ("more", texts(&[r#" {"a": [1]}"#]), r#"{"a":[1]}"#),
            ("more", texts(&["plain"]), r#""plain""#),
            ("more", texts(&["a", "b"]), r#"["a","b"]"#),
            ("more", shaped(&[2, 1], &["a", "b"]), r#"[["a"],["b"]]"#),
            ("words", shaped(&[2, 2], &["a", "b", "c", "d"]), r#"[["a","b"],["c","d"]]"#),
            ("words", shaped(&[1, 0], &[]), "[[]]"),
            ("words", texts(&[r#"[["a"], []]"#]), r#"[["a"],[]]"#),
            ("documents", shaped(&[2, 1], &["a", "b"]), r#"["a","b"]"#),
            ("raw", texts(&["hi"]), r#""aGk=""#),
            ("said", texts(&[r#"[{"role": "user"}]"#]), r#"[{"role":"user"}]"#),
        ] {
            assert_eq!(read(name, content).as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn a_tensor_of_another_type_is_refused() {
        let not_utf8 = Content::Texts(Texts { shape: vec![1], texts: vec![Bytes::from_static(b"\xff")] });
        for (name, content, reason) in [
            ("question", texts(&["a", "b"]), "has 2 elements; a field of type `text` takes one"),
            ("question", not_utf8, "not UTF-8"),
            ("question", tensor(DType::U8, &[1], &[1]), "takes no tensor of type UINT8 and shape [1]"),
            ("number", texts(&["1"]), "takes no texts"),
            ("number", tensor(DType::U8, &[2], &[1, 2]), "takes no tensor"),
            ("number", tensor(DType::U64, &[1], &[255; 8]), "takes no tensor"),
            ("number", tensor(DType::F16, &[1], &[0, 0]), "takes no tensor of type FP16"),
            ("ratio", tensor(DType::Bool, &[1], &[1]), "takes no tensor of type BOOL"),
            ("flag", tensor(DType::U8, &[1], &[1]), "takes no tensor of type UINT8"),
            ("numbers", tensor(DType::U8, &[70_000], &[0; 70_000]), "more than 65536 elements"),
            ("more", texts(&["{"]), "takes one text with its JSON"),
            ("said", texts(&["plain"]), "takes one text with its JSON"),
            ("row", texts(&["1"]), "takes no texts"),
        ] {
            let found = read(name, content).unwrap_err();
            assert!(
                found.starts_with(&format!("input `{name}`: ")) && found.contains(reason),
                "{name}: {found}"
            );
        }
    }
}
