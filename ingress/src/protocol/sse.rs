//! Server-sent events, the form in which several APIs send an answer in parts (HTML Living Standard, section 9.2).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use serde::Serialize;

/// Tells proxies whether to hold a response back until there is more of it.
pub(crate) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A comment, which keeps a silent stream alive.
pub(crate) const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// The headers of a stream of events.
pub(crate) fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Asks proxies in front not to hold events back.
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ])
}

/// Appends an event without a name. `data` has no line breaks.
pub(crate) fn data(data: &[u8], bytes: &mut Vec<u8>) {
    bytes.reserve(data.len() + 8);
    for piece in [b"data: ", data, b"\n\n"] {
        bytes.extend_from_slice(piece);
    }
}

/// Appends an event without a name, whose data is this as JSON. Written where it stays: there is one for each token.
pub(crate) fn json(data: &impl Serialize, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *bytes, data).expect("texts and numbers have a JSON form");
    bytes.extend_from_slice(b"\n\n");
}

/// Appends an event. `data` is JSON and so has no line breaks.
pub(crate) fn event(name: &str, data: &[u8], bytes: &mut Vec<u8>) {
    bytes.reserve(name.len() + data.len() + 16);
    for piece in [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"] {
        bytes.extend_from_slice(piece);
    }
}
