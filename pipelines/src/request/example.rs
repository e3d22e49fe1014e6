//! A body that shows what a schema asks for, to be pasted into a terminal.

use std::sync::Arc;

use millstream_values::{DType, Value};

use super::{Field, FieldType, Schema};
use crate::TensorType;

/// Size of an axis that may have any size.
const ANY_AXIS: usize = 2;

impl Schema {
    /// A JSON body with every field that has no default: its `example`, else something of its type.
    pub(crate) fn example(&self) -> String {
        let fields = self.fields.iter().filter(|field| field.default.is_none() && !field.is_optional);
        let body = Value::map(fields.map(|field| (Arc::clone(&field.name), example_of(field))));
        serde_json::to_string(&body).unwrap_or_default()
    }
}

fn example_of(field: &Field) -> Value {
    if let Some(example) = field.example.clone().or_else(|| field.bounds.allowed.first().cloned()) {
        return example;
    }
    match &field.ty {
        FieldType::Int | FieldType::Float => field.bounds.min.clone().unwrap_or(Value::Int(1)),
        ty => of_type(ty),
    }
}

fn of_type(ty: &FieldType) -> Value {
    match ty {
        FieldType::Text | FieldType::Json => Value::from("hello"),
        FieldType::Int | FieldType::Float => Value::Int(1),
        FieldType::Bool => Value::Bool(true),
        FieldType::Bytes => Value::from("aGVsbG8="),
        FieldType::List(item) => Value::list([of_type(item)]),
        FieldType::Object(fields) => {
            let fields = fields.iter().filter(|field| field.default.is_none());
            Value::map(fields.map(|field| (Arc::clone(&field.name), example_of(field))))
        }
        FieldType::Tensor(tensor) => of_tensor(tensor, &tensor.shape),
    }
}

/// Nested lists of zeros, as deep as the shape.
fn of_tensor(tensor: &TensorType, shape: &[Option<usize>]) -> Value {
    match shape.split_first() {
        None if tensor.dtype == DType::Bool => Value::Bool(false),
        None => Value::Int(0),
        Some((axis, rest)) => {
            Value::list(std::iter::repeat_n(of_tensor(tensor, rest), axis.unwrap_or(ANY_AXIS)))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Plan;

    #[test]
    fn an_example_body_is_accepted_and_leaves_out_defaults() {
        let text = r#"
name = "shown"
route = "/shown"
[request]
question = { type = "text", example = "who?" }
count = { type = "int", min = 3 }
mode = { type = "text", enum = ["fast", "slow"] }
texts = "text[]"
rows = "f32[?,3]"
flags = "bool[2]"
raw = "bytes"
left_out = { type = "int", default = 1 }
messages = [{ role = { type = "text", enum = ["user", "system"] }, content = "text", n = { type = "int", default = 1 } }]
[deployments.mirror]
engine = "echo"
[stages.out]
use = "mirror"
inputs = { all = "request" }
[response]
all = "out.all"
"#;
        let plan = Plan::compile("shown.toml", text).unwrap();
        let body = plan.example_body();
        assert_eq!(
            body,
            r#"{"question":"who?","count":3,"mode":"fast","texts":["hello"],"rows":[[0,0,0],[0,0,0]],"flags":[false,false],"raw":"aGVsbG8=","messages":[{"role":"user","content":"hello"}]}"#
        );
        plan.parse_request(body.as_bytes()).unwrap();
    }

    #[test]
    fn an_example_that_is_no_value_of_its_field_is_a_fault() {
        let text = "name = \"a\"\n[request]\ncount = { type = \"int\", max = 3, example = 7 }\n";
        let faults = Plan::compile("a.toml", text).map(|_| ()).unwrap_err();
        assert!(faults.to_string().contains("`example`: `7` is more than `3`"), "{faults}");
    }
}
