//! Millstream's own API: `POST {route}` with the fields of the pipeline's `[request]` as JSON, answered with those of its `[response]`, as
//! JSON or as server-sent events.
//!
//! ```text
//! event: delta
//! data: {"field":"answer","text":"The "}
//!
//! event: done
//! data: {"answer":"The …","sources":[…]}
//! ```
//!
//! A failure after the first event is `event: error` with the problem document as data; one before it is an ordinary problem
//! response.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use millstream_pipelines::Plan;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::Serialize;

use super::{Asked, Exchange, Form, Last, Problem, Protocol, Target, Told, sse};
use crate::model::StreamPart;

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "{route}",
    access: Access::ApiKey,
    help: "Runs the pipeline with this route on the JSON body.",
};

/// See the module.
pub(crate) struct PipelineProtocol;

impl Protocol for PipelineProtocol {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    /// All that no other API takes: which routes there are is said by the table.
    fn takes(&self, _: &str) -> bool {
        true
    }

    fn target<'r>(&self, head: &'r Parts) -> Option<Target<'r>> {
        Some(Target::Route(head.uri.path()))
    }

    fn tells_usage(&self) -> bool {
        false
    }

    fn read(&self, head: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        Ok(Box::new(PipelineExchange { accepts_events: accepts(&head.headers, "text/event-stream"), body }))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        problem.document(request_id)
    }
}

struct PipelineExchange {
    body: Bytes,
    accepts_events: bool,
}

#[derive(Serialize)]
struct Delta<'a> {
    field: &'a str,
    text: &'a str,
}

impl Exchange for PipelineExchange {
    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        let request = plan.parse_request(&self.body)?;
        let form = if request.stream || self.accepts_events { Form::Parts } else { Form::Whole };
        Ok(Asked { fields: request.fields, num_values: request.num_values, form })
    }

    fn asked(&mut self) {
        self.body = Bytes::new();
    }

    fn answer(&mut self, value: &Value, _: Told<'_>) -> Response<Last> {
        json(value)
    }

    fn stream_headers(&self) -> HeaderMap {
        sse::headers()
    }

    fn part(&mut self, part: &StreamPart, bytes: &mut Vec<u8>) {
        sse::event("delta", &to_json(&Delta { field: &part.field, text: &part.text }), bytes);
    }

    fn keep_alive(&self) -> Bytes {
        sse::COMMENT
    }

    fn end(&mut self, outcome: Result<&Value, &Problem>, told: Told<'_>) -> Last {
        let (name, data) = match outcome {
            Ok(value) => ("done", to_json(value)),
            Err(problem) => ("error", problem.to_json(told.request_id)),
        };
        let mut bytes = Vec::new();
        sse::event(name, &data, &mut bytes);
        bytes.into()
    }
}

/// 200 with a JSON body, which ends with a line end: it may be read on a terminal.
pub(crate) fn json(value: &impl Serialize) -> Response<Last> {
    let mut bytes = to_json(value);
    bytes.push(b'\n');
    json_bytes(bytes.into())
}

/// An answer that is JSON already.
pub(crate) fn json_bytes(bytes: Bytes) -> Response<Last> {
    let mut response = Response::new(Last::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The JSON form of a value.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    serde_json::to_writer(&mut bytes, value)
        .expect("values have text keys, and writing to memory does not fail");
    bytes
}

/// Whether the client asks for answers of that type, by its name.
pub(crate) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(kind));
        named && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Whether the body is JSON as it stands.
///
/// # Errors
/// A problem (415) for another type or none, and for compressed bodies.
pub(super) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let encoding = headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::unsupported_media(
            "compressed request bodies are not accepted; send the body without `content-encoding`",
        ));
    }
    // A page of another site can send a body without a type, and with no other than the simplest types, unasked.
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let json = essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 17
            && essence.is_ascii()
            && essence[..12].eq_ignore_ascii_case("application/")
            && essence[essence.len() - 5..].eq_ignore_ascii_case("+json"));
    if json {
        Ok(())
    } else {
        Err(Problem::unsupported_media(
            "the body must be JSON; send it with `content-type: application/json`",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Spent;
    use super::*;

    fn with(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_bytes(value.as_bytes()).unwrap())])
    }

    #[test]
    fn events_are_a_name_and_one_line_of_json() {
        let mut exchange = PipelineExchange { body: Bytes::new(), accepts_events: true };
        let mut bytes = Vec::new();
        exchange.part(&StreamPart { field: "answer".into(), text: "two\nlines".into() }, &mut bytes);
        let expected = "event: delta\ndata: {\"field\":\"answer\",\"text\":\"two\\nlines\"}\n\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        let request_id = RequestId::new("r-1");
        let told = Told { request_id: &request_id, spent: Spent::default() };
        let whole = exchange.end(Ok(&Value::map([("answer", Value::from("x"))])), told);
        assert_eq!(&whole.bytes[..], b"event: done\ndata: {\"answer\":\"x\"}\n\n");
        let error = exchange.end(Err(&Problem::malformed("why")), told);
        assert!(error.bytes.starts_with(b"event: error\ndata: {\"type\":"), "{error:?}");
    }

    #[test]
    fn events_are_asked_for_by_name() {
        let accepts_events = |headers: HeaderMap| accepts(&headers, "text/event-stream");
        for yes in ["text/event-stream", "application/json, TEXT/event-stream;q=0.5"] {
            assert!(accepts_events(with(ACCEPT, yes)), "{yes}");
        }
        for no in ["*/*", "application/json", "text/event-stream;q=0", "text/html"] {
            assert!(!accepts_events(with(ACCEPT, no)), "{no}");
        }
    }

    #[test]
    fn only_plain_json_bodies_are_accepted() {
        for good in ["application/json", "application/json; charset=utf-8", "Application/Problem+JSON"] {
            assert!(check_json(&with(CONTENT_TYPE, good)).is_ok(), "{good}");
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonx",
            "",
            "application/+é+json",
        ] {
            assert!(check_json(&with(CONTENT_TYPE, bad)).is_err(), "{bad}");
        }
        for (encoding, good) in [("gzip", false), ("identity", true)] {
            let mut headers = with(CONTENT_TYPE, "application/json");
            headers.extend(with(CONTENT_ENCODING, encoding));
            assert_eq!(check_json(&headers).is_ok(), good, "{encoding}");
        }
        assert!(check_json(&HeaderMap::new()).is_err());
    }
}
