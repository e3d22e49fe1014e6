//! Results: of the server itself, and of tools.

use millstream_proto::Value;
use serde_json::{Value as Json, json};

use super::version::{Era, VERSIONS, negotiated};
use crate::protocol::inference::LONE_OUTPUT;

/// How long a client may keep a list. What is deployed can change at any time.
const LIST_TTL_MS: u32 = 5000;

const INSTRUCTIONS: &str = "The tools are pipelines of models and single models that this Millstream cluster serves. They change nothing.";

/// The bytes of a result of the server itself.
pub(super) fn own(result: Json, era: Era) -> Vec<u8> {
    let mut result = result;
    if era == Era::Alone {
        result["resultType"] = json!("complete");
        result["_meta"] = json!({ "io.modelcontextprotocol/serverInfo": server() });
    }
    result.to_string().into_bytes()
}

/// The same for one that a client may keep.
pub(super) fn kept(result: Json, era: Era) -> Vec<u8> {
    let mut result = result;
    if era == Era::Alone {
        result["ttlMs"] = json!(LIST_TTL_MS);
        result["cacheScope"] = json!("private");
    }
    own(result, era)
}

/// Of `initialize`, which asks for that revision.
pub(super) fn initialized(asked: &str) -> Json {
    json!({
        "protocolVersion": negotiated(asked),
        "capabilities": capabilities(),
        "serverInfo": server(),
        "instructions": INSTRUCTIONS,
    })
}

/// Of `server/discover`.
pub(super) fn discovered() -> Json {
    json!({
        "supportedVersions": VERSIONS,
        "capabilities": capabilities(),
        "serverInfo": server(),
        "instructions": INSTRUCTIONS,
    })
}

fn capabilities() -> Json {
    json!({ "tools": { "listChanged": false } })
}

fn server() -> Json {
    json!({ "name": "millstream", "title": "Millstream", "version": env!("CARGO_PKG_VERSION") })
}

/// What a tool gives: as JSON, and as a text with that JSON for clients that know no other content.
pub(super) fn of_tool(value: &Value, era: Era) -> Vec<u8> {
    let mut structured = serde_json::to_string(value).unwrap_or_default();
    if !matches!(value, Value::Map(_)) {
        structured = format!("{{\"{LONE_OUTPUT}\":{structured}}}");
    }
    let mut bytes = content(&structured);
    bytes.extend_from_slice(b",\"structuredContent\":");
    bytes.extend_from_slice(structured.as_bytes());
    end(bytes, "false", era)
}

/// What a tool says where it fails, for the model to read.
pub(super) fn failed(text: &str, era: Era) -> Vec<u8> {
    end(content(text), "true", era)
}

/// `{"content":[…]`, with room for what comes.
fn content(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 2 + 256);
    bytes.extend_from_slice(b"{\"content\":[{\"type\":\"text\",\"text\":");
    serde_json::to_writer(&mut bytes, text).expect("writing a text to memory does not fail");
    bytes.extend_from_slice(b"}]");
    bytes
}

fn end(mut bytes: Vec<u8>, is_error: &str, era: Era) -> Vec<u8> {
    bytes.extend_from_slice(b",\"isError\":");
    bytes.extend_from_slice(is_error.as_bytes());
    if era == Era::Alone {
        let more = own(json!({}), era);
        bytes.push(b',');
        bytes.extend_from_slice(&more[1..]);
    } else {
        bytes.push(b'}');
    }
    bytes
}
