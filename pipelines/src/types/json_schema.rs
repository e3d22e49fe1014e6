//! What is known of a value as JSON Schema (draft 2020-12), in the form in which answers have it.

use millstream_values::DType;
use serde_json::{Map, Value as Json, json};

use super::{MapType, TensorShape, Type};

impl Type {
    /// The JSON forms that a value of this type may have.
    #[must_use]
    pub fn json_schema(&self) -> Json {
        match self {
            Self::Any => json!({}),
            Self::None => json!({ "type": "null" }),
            Self::Bool => json!({ "type": "boolean" }),
            Self::Int => json!({ "type": "integer" }),
            Self::Float => json!({ "type": "number" }),
            Self::Text => json!({ "type": "string" }),
            Self::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Self::Tensor(shape) => tensor(shape),
            Self::List(item) => json!({ "type": "array", "items": item.json_schema() }),
            Self::Map(map) => object(map),
            Self::Optional(inner) => json!({ "anyOf": [inner.json_schema(), { "type": "null" }] }),
            Self::OneOf(all) => {
                let all: Vec<_> = all.iter().map(Self::json_schema).collect();
                json!({ "anyOf": all })
            }
        }
    }
}

/// Nested lists, one for each axis.
fn tensor(shape: &TensorShape) -> Json {
    let element = match shape.dtype {
        None => json!({ "type": ["number", "boolean", "string"] }),
        Some(DType::Bool) => json!({ "type": "boolean" }),
        Some(DType::F16 | DType::BF16 | DType::F32 | DType::F64) => json!({ "type": "number" }),
        Some(_) => json!({ "type": "integer" }),
    };
    // Without a known shape it may also be one number.
    let Some(axes) = &shape.shape else { return json!({}) };
    axes.iter().rev().fold(element, |items, size| match size {
        Some(size) => json!({ "type": "array", "items": items, "minItems": size, "maxItems": size }),
        None => json!({ "type": "array", "items": items }),
    })
}

fn object(map: &MapType) -> Json {
    let properties: Map<String, Json> =
        map.fields.iter().map(|(name, ty)| (name.to_string(), ty.json_schema())).collect();
    let required: Vec<_> = map.fields.keys().map(|name| &**name).collect();
    let rest = map.rest.as_ref().map_or(json!(false), |rest| rest.json_schema());
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_schemas_of_their_json() {
        let table = [
            (Type::Any, json!({})),
            (Type::Text.optional(), json!({"anyOf": [{"type": "string"}, {"type": "null"}]})),
            (
                Type::one_of(vec![Type::Bool, Type::Int]),
                json!({"anyOf": [{"type": "boolean"}, {"type": "integer"}]}),
            ),
            (
                Type::tensor(DType::F32, [None, Some(2)]),
                json!({"type": "array", "items":
                    {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}),
            ),
            (Type::Tensor(TensorShape::default()), json!({})),
            (
                Type::map([("a", Type::list(Type::Float))]),
                json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}}},
                    "required": ["a"], "additionalProperties": false}),
            ),
            (
                Type::open_map(Type::Any),
                json!({"type": "object", "properties": {}, "required": [], "additionalProperties": {}}),
            ),
        ];
        for (ty, schema) in table {
            assert_eq!(ty.json_schema(), schema, "{ty}");
        }
    }
}
