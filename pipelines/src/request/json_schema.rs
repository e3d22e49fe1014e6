//! A request as JSON Schema (draft 2020-12), for the OpenAPI document of a pipeline, and for agents.

use millstream_values::{DType, Value};
use serde_json::{Map, Value as Json, json};

use super::{Bounds, Field, FieldType, STREAM_FIELD, Schema};
use crate::TensorType;

impl Schema {
    /// The body of a request.
    pub(crate) fn json_schema(&self) -> Json {
        let mut schema = self.fields_schema();
        if let Some(Json::Object(properties)) = schema.get_mut("properties") {
            let stream = json!({
                "type": "boolean", "default": false,
                "description": "Whether the answer comes as server-sent events.",
            });
            properties.insert(STREAM_FIELD.to_owned(), stream);
        }
        schema
    }

    /// The fields alone.
    pub(crate) fn fields_schema(&self) -> Json {
        let mut schema = object(&self.fields);
        schema.insert("additionalProperties".to_owned(), json!(self.is_open));
        Json::Object(schema)
    }
}

/// An object with these fields.
fn object(fields: &[Field]) -> Map<String, Json> {
    let properties: Map<String, Json> =
        fields.iter().map(|field| (field.name.to_string(), of_field(field))).collect();
    let is_required = |field: &&Field| field.default.is_none() && !field.is_optional;
    let required: Vec<_> = fields.iter().filter(is_required).map(|field| &*field.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Json::Object(properties));
    schema.insert("required".to_owned(), json!(required));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn of_field(field: &Field) -> Json {
    let mut schema = of_type(&field.ty);
    bound(&mut schema, &field.ty, &field.bounds);
    let mut set = |key: &str, value: Json| drop(schema.insert(key.to_owned(), value));
    if let Some(description) = &field.description {
        set("description", json!(&**description));
    }
    if let Some(default) = &field.default {
        set("default", json!(default));
    }
    if let Some(example) = &field.example {
        set("examples", json!([example]));
    }
    Json::Object(schema)
}

/// Adds what values must keep: numbers and allowed values hold for the items of a list, lengths for the list.
fn bound(schema: &mut Map<String, Json>, ty: &FieldType, bounds: &Bounds) {
    let (least, most) = match ty {
        FieldType::List(_) => ("minItems", "maxItems"),
        _ => ("minLength", "maxLength"),
    };
    // The lengths of bytes are theirs, and not those of their base64.
    if *ty != FieldType::Bytes {
        for (key, length) in [(least, bounds.min_length), (most, bounds.max_length)] {
            length.into_iter().for_each(|length| drop(schema.insert(key.to_owned(), json!(length))));
        }
    }
    let items = match (ty, schema.get_mut("items")) {
        (FieldType::List(_), Some(Json::Object(items))) => items,
        _ => schema,
    };
    let number =
        |key: &str, bound: &Option<Value>| bound.as_ref().map(|bound| (key.to_owned(), json!(bound)));
    items.extend(number("minimum", &bounds.min));
    items.extend(number("maximum", &bounds.max));
    if !bounds.allowed.is_empty() {
        items.insert("enum".to_owned(), json!(bounds.allowed));
    }
}

fn of_type(ty: &FieldType) -> Map<String, Json> {
    let simple = |json: Json| match json {
        Json::Object(map) => map,
        _ => Map::new(),
    };
    match ty {
        FieldType::Text => simple(json!({ "type": "string" })),
        FieldType::Int => {
            simple(json!({ "type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX }))
        }
        FieldType::Float => simple(json!({ "type": "number" })),
        FieldType::Bool => simple(json!({ "type": "boolean" })),
        // Any JSON but null. Makers of clients want to know what is in an array.
        FieldType::Json => {
            simple(json!({ "type": ["string", "number", "boolean", "object", "array"], "items": {} }))
        }
        FieldType::Bytes => simple(
            json!({ "type": "string", "contentEncoding": "base64", "pattern": super::base64::PATTERN }),
        ),
        FieldType::List(item) => simple(json!({ "type": "array", "items": of_type(item) })),
        FieldType::Object(fields) => object(fields),
        FieldType::Tensor(tensor) => of_tensor(tensor),
    }
}

/// Nested lists, one for each axis.
fn of_tensor(tensor: &TensorType) -> Map<String, Json> {
    let mut schema = element(tensor.dtype);
    for size in tensor.shape.iter().rev() {
        schema = match size {
            Some(size) => json!({ "type": "array", "items": schema, "minItems": size, "maxItems": size }),
            None => json!({ "type": "array", "items": schema }),
        };
    }
    match schema {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

/// A number of a tensor, within what its type can hold.
fn element(dtype: DType) -> Json {
    let whole = |min: i64, max: u64| json!({ "type": "integer", "minimum": min, "maximum": max });
    let float = |max: f64| json!({ "type": "number", "minimum": -max, "maximum": max });
    match dtype {
        DType::Bool => json!({ "type": "boolean" }),
        DType::U8 => whole(0, u8::MAX.into()),
        DType::U16 => whole(0, u16::MAX.into()),
        DType::U32 => whole(0, u32::MAX.into()),
        DType::U64 => whole(0, u64::MAX),
        DType::I8 => whole(i8::MIN.into(), i8::MAX as u64),
        DType::I16 => whole(i16::MIN.into(), i16::MAX as u64),
        DType::I32 => whole(i32::MIN.into(), i32::MAX as u64),
        DType::I64 => whole(i64::MIN, i64::MAX as u64),
        DType::F16 => float(half::f16::MAX.into()),
        DType::BF16 => float(half::bf16::MAX.into()),
        DType::F32 => float(f32::MAX.into()),
        DType::F64 => json!({ "type": "number" }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Plan;

    #[test]
    fn a_request_is_an_object_with_its_fields_and_bounds() {
        let file = r#"
name = "p"
route = "/p"
[request]
question = { type = "text", min_length = 1, max_length = 500, description = "What to ask." }
documents = { type = "text[]", max_length = 8 }
top_k = { type = "int", default = 3, min = 1, max = 10 }
mode = { type = "text", enum = ["fast", "good"] }
row = "f32[?,2]"
whole = "int"
small = "i8[1]"
blob = "bytes"
messages = [{ role = "text", content = "text" }]
[deployments.d]
engine = "echo"
[stages.s]
use = "d"
inputs = { x = "request.question" }
[response]
x = "s.x"
"#;
        let plan = Plan::compile("p.toml", file).unwrap();
        let schema = plan.request_schema();
        let properties = &schema["properties"];
        assert_eq!(
            properties["question"],
            json!({"type": "string", "minLength": 1, "maxLength": 500, "description": "What to ask."})
        );
        assert_eq!(
            properties["documents"],
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 8})
        );
        assert_eq!(
            properties["top_k"],
            json!({"type": "integer", "format": "int64", "default": 3, "minimum": 1, "maximum": 10})
        );
        let whole = json!({"type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX});
        assert_eq!(properties["whole"], whole);
        assert_eq!(properties["mode"], json!({"type": "string", "enum": ["fast", "good"]}));
        let max = f64::from(f32::MAX);
        let number = json!({"type": "number", "minimum": -max, "maximum": max});
        let row = json!({"type": "array", "items": number, "minItems": 2, "maxItems": 2});
        assert_eq!(properties["row"], json!({"type": "array", "items": row}));
        assert_eq!(properties["small"]["items"], json!({"type": "integer", "minimum": -128, "maximum": 127}));
        assert_eq!(properties["blob"]["contentEncoding"], "base64");
        assert_eq!(properties["messages"]["items"]["required"], json!(["role", "content"]));
        assert_eq!(properties["stream"]["type"], "boolean");
        assert_eq!(plan.fields_schema()["properties"].get("stream"), None);
        let required = ["question", "documents", "mode", "row", "whole", "small", "blob", "messages"];
        assert_eq!(schema["required"], json!(required));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(plan.response_names().collect::<Vec<_>>(), ["x"]);
    }
}
