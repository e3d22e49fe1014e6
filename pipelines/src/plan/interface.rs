//! What a plan takes and answers, field by field, for APIs whose values have types of their own.

use std::sync::Arc;

use millstream_values::Value;

use super::{Plan, Response};
use crate::request::Schema;
use crate::types::Type;

/// What a request or an answer is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Interface {
    /// The known fields; those of a pipeline in the order of the file.
    pub fields: Vec<InterfaceField>,
    /// Whether there may be others.
    pub is_open: bool,
}

/// One of its fields.
#[derive(Debug, Clone, PartialEq)]
pub struct InterfaceField {
    /// Its name; empty for an answer that is one value without a name, such as an embedder's vectors.
    pub name: Arc<str>,
    /// The type of its values, as far as it is known.
    pub ty: Type,
}

impl Interface {
    /// The values as an object of JSON Schema, all of them there; `lone` is what a value without a name is called.
    #[must_use]
    pub fn json_schema(&self, lone: &str) -> serde_json::Value {
        let name = |field: &InterfaceField| if field.name.is_empty() { lone } else { &field.name }.to_owned();
        let properties: serde_json::Map<_, _> =
            self.fields.iter().map(|field| (name(field), field.ty.json_schema())).collect();
        let required: Vec<_> = self.fields.iter().map(name).collect();
        serde_json::json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": self.is_open,
        })
    }
}

impl Plan {
    /// What a request is made of.
    #[must_use]
    pub fn request_interface(&self) -> Interface {
        let Schema { fields, is_open } = &self.parts.request;
        let field =
            |field: &crate::request::Field| InterfaceField { name: field.name.clone(), ty: field.ty.ty() };
        Interface { fields: fields.iter().map(field).collect(), is_open: *is_open }
    }

    /// Whether a request may come without that field.
    #[must_use]
    pub fn may_leave_out(&self, name: &str) -> bool {
        let field = self.parts.request.fields.iter().find(|field| *field.name == *name);
        field.is_none_or(|field| field.is_optional || field.default.is_some())
    }

    /// What an answer is made of.
    #[must_use]
    pub fn answer_interface(&self) -> Interface {
        let field = |name: &Arc<str>, ty: &Type| InterfaceField { name: name.clone(), ty: ty.clone() };
        match (&self.parts.response, &self.answer) {
            (Response::Fields(fields), _) => {
                let fields = fields.iter().map(|(name, value)| field(name, value.ty())).collect();
                Interface { fields, is_open: false }
            }
            (Response::Stage(_), Type::Map(map)) => {
                let fields = map.fields.iter().map(|(name, ty)| field(name, ty)).collect();
                Interface { fields, is_open: map.rest.is_some() }
            }
            (Response::Stage(_), ty) => Interface { fields: vec![field(&"".into(), ty)], is_open: false },
        }
    }

    /// The type of a field of the request; `None` for a field that it does not name.
    #[must_use]
    pub fn request_field(&self, name: &str) -> Option<Type> {
        self.parts.request.fields.iter().find(|field| *field.name == *name).map(|field| field.ty.ty())
    }

    /// The value of a field of the request that is given as JSON; `None` where it is not JSON, or not of the field's type.
    #[must_use]
    pub fn read_request_field(&self, name: &str, json: &[u8]) -> Option<Value> {
        self.parts.request.read_field(name, json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
name = "p"
route = "/p"
[request]
question = "text"
rows = { type = "f32[?,2]", default = [] }
more = { type = "json", default = {} }
[deployments.embedder]
task = "embed"
model = "m"
[deployments.reranker]
task = "rerank"
model = "m"
[deployments.mirror]
engine = "echo"
[deployments.any]
task = "tensor"
model = "m"
[stages.vectors]
use = "embedder"
inputs = { texts = "[request.question]" }
[response]
vectors = "vectors"
asked = "request.question"
"#;

    fn shown(interface: &Interface) -> String {
        let fields: Vec<_> =
            interface.fields.iter().map(|field| format!("{}: {}", field.name, field.ty)).collect();
        fields.join(", ") + if interface.is_open { ", …" } else { "" }
    }

    #[test]
    fn pipelines_and_deployments_say_what_they_take_and_answer() {
        let plan = Plan::compile("p.toml", FILE).unwrap();
        assert_eq!(shown(&plan.request_interface()), "question: text, rows: f32[?,2], more: json");
        assert_eq!(shown(&plan.answer_interface()), "vectors: f32[?,?], asked: text");
        let lone = |name: &str| plan.of_deployment(&plan.deployments()[&name.parse().unwrap()]);
        assert_eq!(
            shown(&lone("embedder").request_interface()),
            "texts: text[], prompt_name: text, input_type: text, truncate: text, max_tokens: int"
        );
        assert_eq!(shown(&lone("embedder").answer_interface()), ": f32[?,?]");
        assert_eq!(
            shown(&lone("reranker").answer_interface()),
            "indices: int[], items: text[], scores: float[]"
        );
        assert_eq!(shown(&lone("any").request_interface()), ", …");
        assert_eq!(shown(&lone("any").answer_interface()), ", …");
        assert_eq!(shown(&lone("mirror").answer_interface()), ", …");
    }

    #[test]
    fn a_field_is_read_by_itself() {
        let plan = Plan::compile("p.toml", FILE).unwrap();
        assert_eq!(plan.request_field("question"), Some(Type::Text));
        assert_eq!(plan.request_field("nobody"), None);
        let read = plan.read_request_field("more", br#"{"a": [1]}"#);
        assert_eq!(read, Some(Value::map([("a", Value::list([Value::Int(1)]))])));
        for bad in ["", "{", "null", "{} {}", &"[".repeat(1000)] {
            assert_eq!(plan.read_request_field("more", bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(plan.read_request_field("nobody", b"1"), None);
    }
}
