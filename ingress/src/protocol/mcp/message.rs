//! JSON-RPC 2.0: messages in, answers out.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::protocol::problem::shown;
use crate::protocol::{Last, Problem};

/// Longest id and progress token: both are sent back, the token with each part of an answer.
const MAX_ID_BYTES: usize = 256;
/// Most messages of a batch.
pub(super) const MAX_BATCH: usize = 64;

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL_ERROR: i32 = -32603;
/// Ours, within what the protocol leaves to servers: turned away by key, limit or load.
const REFUSED: i32 = -32000;
const HEADER_MISMATCH: i32 = -32020;
const UNSUPPORTED_VERSION: i32 = -32022;

/// An error of the protocol: of the message, and not of what a tool does.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RpcError {
    code: i32,
    message: String,
    data: Option<Json>,
}

impl RpcError {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    pub(super) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    pub(super) fn no_method(method: &str) -> Self {
        Self::new(METHOD_NOT_FOUND, format!("there is no method `{}`; this server has tools", shown(method)))
    }

    pub(super) fn header_mismatch(message: impl Into<String>) -> Self {
        Self::new(HEADER_MISMATCH, message)
    }

    pub(super) fn unsupported_version(requested: &str, supported: &[&str]) -> Self {
        let requested = shown(requested);
        let message = format!("there is no version `{requested}` here; there is {}", supported.join(", "));
        let data = serde_json::json!({ "supported": supported, "requested": requested });
        Self { data: Some(data), ..Self::new(UNSUPPORTED_VERSION, message) }
    }

    /// A request that was turned away.
    pub(super) fn of(problem: &Problem) -> Self {
        let code = match problem.status() {
            StatusCode::NOT_FOUND => INVALID_PARAMS,
            StatusCode::INTERNAL_SERVER_ERROR => INTERNAL_ERROR,
            StatusCode::BAD_REQUEST => INVALID_REQUEST,
            _ => REFUSED,
        };
        Self::new(code, problem.text())
    }

    /// The status that goes with it since revision 2026-07-28, and with answers that have no id before that.
    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
            INTERNAL_ERROR | REFUSED => StatusCode::OK,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    fn from_json(error: &serde_json::Error) -> Self {
        if error.is_data() {
            let text: String = error.to_string().chars().take(300).collect();
            Self::invalid_request(format!("this is no message of JSON-RPC 2.0: {text}"))
        } else {
            Self::new(PARSE_ERROR, format!("the body is not JSON: {error}"))
        }
    }
}

/// An id or a progress token, as its client wrote it: a text or a whole number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Id(Box<str>);

impl Id {
    pub(super) fn of(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        let is_whole = || text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
        let is_text = || text.starts_with('"') && serde_json::from_str::<Cow<'_, str>>(text).is_ok();
        (text.len() <= MAX_ID_BYTES && (is_text() || is_whole())).then(|| Self(text.into()))
    }

    pub(super) fn as_json(&self) -> &str {
        &self.0
    }
}

/// A message that a client sends.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// It wants an answer.
    Request(Request),
    /// A notification, or an answer to a question that nobody asked.
    Other,
    /// Not a message.
    Bad(Option<Id>, RpcError),
}

/// See [`Message`].
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) id: Id,
    pub(super) method: String,
    /// JSON, an object; empty where there are none.
    pub(super) params: Bytes,
}

/// A body.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    One(Message),
    Batch(Vec<Message>),
}

#[derive(Deserialize)]
struct Fields<'b> {
    #[serde(borrow)]
    jsonrpc: Option<Cow<'b, str>>,
    #[serde(borrow, default, deserialize_with = "given")]
    id: Option<&'b RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'b, str>>,
    #[serde(borrow, default, deserialize_with = "given")]
    params: Option<&'b RawValue>,
}

/// Also null is a value.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Reads a body. What is long or deep in it is passed over without being built.
pub(super) fn read(body: &Bytes) -> Body {
    if body.trim_ascii_start().first() != Some(&b'[') {
        return Body::One(message(body));
    }
    let entries: Vec<&RawValue> = match serde_json::from_slice::<Batch<'_>>(body) {
        Ok(Batch(entries)) => entries,
        Err(error) => return Body::One(Message::Bad(None, RpcError::from_json(&error))),
    };
    if entries.is_empty() || entries.len() > MAX_BATCH {
        let error = RpcError::invalid_request(format!("a batch has 1 to {MAX_BATCH} messages"));
        return Body::One(Message::Bad(None, error));
    }
    Body::Batch(entries.into_iter().map(|entry| message(&body.slice_ref(entry.get().as_bytes()))).collect())
}

/// As many messages as a batch may have, and one more where there are others.
struct Batch<'b>(Vec<&'b RawValue>);

impl<'de: 'b, 'b> Deserialize<'de> for Batch<'b> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> serde::de::Visitor<'de> for Reader {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of messages")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while entries.len() <= MAX_BATCH {
                    let Some(entry) = seq.next_element()? else { return Ok(entries) };
                    entries.push(entry);
                }
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(entries)
            }
        }
        from.deserialize_seq(Reader).map(Batch)
    }
}

fn message(json: &Bytes) -> Message {
    // A list is a form of a struct as well.
    if json.trim_ascii_start().first() != Some(&b'{') {
        let error = serde_json::from_slice::<&RawValue>(json).err();
        let error = error.map(|error| RpcError::from_json(&error));
        let error = error.unwrap_or_else(|| RpcError::invalid_request("a message is an object"));
        return Message::Bad(None, error);
    }
    let Fields { jsonrpc, id, method, params } = match serde_json::from_slice(json) {
        Ok(fields) => fields,
        Err(error) => return Message::Bad(None, RpcError::from_json(&error)),
    };
    let known = id.and_then(Id::of);
    let bad = |text: &str| Message::Bad(known.clone(), RpcError::invalid_request(text));
    if jsonrpc.as_deref() != Some("2.0") {
        return bad("`jsonrpc` must be `\"2.0\"`");
    }
    let Some(method) = method else {
        return if id.is_some() { Message::Other } else { bad("a request has a `method`") };
    };
    if params.is_some_and(|params| !params.get().starts_with('{')) {
        return bad("`params` must be an object");
    }
    match (id, &known) {
        (None, _) => Message::Other,
        (Some(_), None) => {
            bad(&format!("`id` must be a whole number or a text of at most {MAX_ID_BYTES} bytes"))
        }
        (Some(_), Some(id)) => Message::Request(Request {
            id: id.clone(),
            method: method.into_owned(),
            params: params.map(|params| json.slice_ref(params.get().as_bytes())).unwrap_or_default(),
        }),
    }
}

/// 200 with that JSON.
pub(super) fn response(json: Vec<u8>) -> Response<Last> {
    let mut response = Response::new(json.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answers of a batch.
pub(super) fn list(answers: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![b'['];
    bytes.extend_from_slice(&answers.join(&b','));
    bytes.push(b']');
    bytes
}

/// An answer: with the JSON of a result, or with an error.
pub(super) fn answer(id: Option<&Id>, outcome: &Result<Vec<u8>, RpcError>) -> Vec<u8> {
    let id = id.map_or("null", Id::as_json);
    let (name, json) = match outcome {
        Ok(result) => ("result", Cow::Borrowed(&result[..])),
        Err(RpcError { code, message, data }) => {
            let mut error = serde_json::json!({ "code": code, "message": message });
            if let Some(data) = data {
                error["data"] = data.clone();
            }
            ("error", Cow::Owned(error.to_string().into_bytes()))
        }
    };
    let mut bytes = Vec::with_capacity(json.len() + id.len() + 48);
    for piece in [b"{\"jsonrpc\":\"2.0\",\"id\":", id.as_bytes(), b",\"", name.as_bytes(), b"\":"] {
        bytes.extend_from_slice(piece);
    }
    bytes.extend_from_slice(&json);
    bytes.push(b'}');
    bytes
}
