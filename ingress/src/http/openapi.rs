//! What clients can call here, as an OpenAPI 3.1 document: the routes of pipelines, from the plans that requests run on, and nothing
//! that is kept beside them.

use http::StatusCode;
use millstream_pipelines::Plan;
use serde_json::{Map, Value, json};

use crate::protocol::problem::KINDS;

/// How the path of a pipeline's own document ends.
pub(crate) const SUFFIX: &str = "/openapi.json";

/// Whether requests need an API key.
#[derive(Clone, Copy)]
pub(crate) enum KeyUse {
    Optional,
    Required,
}

/// The document of these pipelines.
pub(crate) fn document<'p>(plans: impl Iterator<Item = &'p Plan>, keys: KeyUse) -> Value {
    let mut security = vec![json!({ "bearer": [] }), json!({ "key": [] })];
    if matches!(keys, KeyUse::Optional) {
        security.insert(0, json!({}));
    }
    let mut paths = Map::new();
    for plan in plans {
        if let Some(route) = plan.route() {
            paths.insert(route.to_owned(), json!({ "post": operation(plan) }));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millstream",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Pipelines of models. A whole number is written without a fraction or exponent: `2`, not `2.0`.",
        },
        "paths": paths,
        "components": {
            "schemas": { "Problem": problem() },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "An API key." },
                "key": {
                    "type": "apiKey", "in": "header", "name": "x-api-key",
                    "description": "An API key. When both headers are there, this one counts.",
                },
            },
        },
        "security": security,
    })
}

fn operation(plan: &Plan) -> Value {
    let name = plan.name().as_str();
    let example: Value = serde_json::from_str(&plan.example_body()).unwrap_or_default();
    let mut content = Map::new();
    let answer = response(plan);
    content.insert("application/json".to_owned(), json!({ "schema": answer }));
    let events = if plan.can_stream() {
        "Events `delta` with `{field, text}`, then `done` with the whole answer, or `error` with a problem."
    } else {
        "One event: `done` with the whole answer, or `error` with a problem."
    };
    // Without a type: some tools read it as that of the whole text, others as that of each event.
    content.insert("text/event-stream".to_owned(), json!({ "schema": { "description": events } }));
    let mut responses = errors();
    responses.insert("200".to_owned(), json!({ "description": "The answer.", "content": content }));
    let mut operation = json!({
        "operationId": name,
        "summary": format!("Runs the pipeline {name}."),
        "tags": ["pipelines"],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": plan.request_schema(), "example": example } },
        },
        "responses": responses,
    });
    if let Some(description) = plan.description() {
        operation["description"] = json!(description);
    }
    operation
}

/// Every error, by its status.
fn errors() -> Map<String, Value> {
    let mut responses = Map::new();
    for kind in KINDS {
        let description = match responses.get(kind.status.as_str()) {
            Some(known) => format!("{} {}", known["description"].as_str().unwrap_or_default(), kind.help),
            None => kind.help.to_owned(),
        };
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        let response = json!({
            "description": description,
            "headers": headers_of(kind.status),
            "content": { "application/problem+json": { "schema": schema } },
        });
        responses.insert(kind.status.as_str().to_owned(), response);
    }
    responses
}

/// The headers that come with an error alone.
fn headers_of(status: StatusCode) -> Value {
    let header = |text: &str, kind: &str| json!({ "description": text, "schema": { "type": kind } });
    match status {
        StatusCode::UNAUTHORIZED => json!({ "www-authenticate": header("How to show a key.", "string") }),
        StatusCode::METHOD_NOT_ALLOWED => {
            json!({ "allow": header("The methods that the path answers.", "string") })
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            json!({ "retry-after": header("Seconds to wait before the next try.", "integer") })
        }
        _ => json!({}),
    }
}

/// The fields of an answer. What they are follows from the models, and is not said here.
fn response(plan: &Plan) -> Value {
    let fields: Map<String, Value> = plan.response_names().map(|name| (name.to_owned(), json!({}))).collect();
    let names: Vec<_> = fields.keys().cloned().collect();
    json!({ "type": "object", "properties": fields, "required": names })
}

fn problem() -> Value {
    let fault = json!({
        "type": "object",
        "properties": { "path": { "type": "string" }, "message": { "type": "string" } },
        "required": ["path", "message"],
    });
    json!({
        "type": "object",
        "description": "Why there is no answer (RFC 9457).",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "request_id": { "type": "string" },
            "errors": { "type": "array", "items": fault },
        },
        "required": ["type", "title", "status", "detail", "request_id"],
    })
}
