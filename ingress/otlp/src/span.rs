//! Spans as the protocol has them: straight from what the ingress tells, without the SDK's own form between.

use millstream_status::trace::{RequestTrace, SpanKind, SpanLink, TraceSpan};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind as Kind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

/// The trace is sampled (W3C Trace Context).
const SAMPLED: u32 = 1;
/// It is known whether the parent is in this process.
const LOCAL: u32 = SpanFlags::ContextHasIsRemoteMask as u32;
/// It is not.
const REMOTE: u32 = LOCAL | SpanFlags::ContextIsRemoteMask as u32;

/// The spans of a trace.
pub(crate) fn spans_of(trace: &RequestTrace) -> impl Iterator<Item = Span> {
    let trace_id = bytes(&trace.request.trace_id);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1970 on")]
    let began_us = (trace.request.at_ms * 1e3) as u64;
    trace.spans.iter().map(move |span| span_of(span, &trace_id, began_us))
}

fn span_of(span: &TraceSpan, trace_id: &[u8], began_us: u64) -> Span {
    let nanos = |us: u64| us.saturating_mul(1000);
    let start_us = began_us.saturating_add(span.start_us);
    let mut attributes = Vec::with_capacity(span.attributes.len() + 2);
    attributes.extend(span.attributes.iter().map(|(key, value)| attribute(key, value_of(value))));
    attributes.push(attribute("millstream.span", text(kind_name(span.kind))));
    attributes.extend(span.error.as_deref().map(|class| attribute("error.type", text(class))));
    let (kind, parent) = match span.kind {
        SpanKind::Request => (Kind::Server, REMOTE),
        SpanKind::Try => (Kind::Client, LOCAL),
        _ => (Kind::Internal, LOCAL),
    };
    Span {
        trace_id: trace_id.to_vec(),
        span_id: bytes(&span.span_id),
        parent_span_id: span.parent_id.as_deref().map(bytes).unwrap_or_default(),
        flags: SAMPLED | parent,
        name: span.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: nanos(start_us),
        end_time_unix_nano: nanos(start_us.saturating_add(span.duration_us)),
        attributes,
        links: span.links.iter().map(link_of).collect(),
        status: Some(match &span.error {
            Some(class) => Status { code: StatusCode::Error.into(), message: class.clone() },
            None => Status::default(),
        }),
        ..Span::default()
    }
}

/// A call that a batch was run for beside this one.
fn link_of(link: &SpanLink) -> Link {
    Link { trace_id: bytes(&link.trace_id), span_id: bytes(&link.span_id), flags: REMOTE, ..Link::default() }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Request => "request",
        SpanKind::Stage => "stage",
        SpanKind::Queue => "queue",
        SpanKind::Try => "try",
        SpanKind::Batch => "batch",
        SpanKind::Run => "run",
    }
}

fn value_of(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Bool(flag) => Value::BoolValue(*flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::IntValue(whole),
            None => Value::DoubleValue(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(string) => text(string),
        other => Value::StringValue(other.to_string()),
    }
}

/// An id from the hexadecimal digits that people see.
fn bytes(digits: &str) -> Vec<u8> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a' - 10) & 0xf,
    };
    digits.as_bytes().chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use millstream_status::trace::{TraceKept, TracedRequest};
    use serde_json::json;

    use super::*;

    /// The trace of a request with these spans.
    pub(crate) fn trace_of(spans: Vec<TraceSpan>) -> RequestTrace {
        let request = TracedRequest {
            request_id: "r".to_owned(),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            pipeline: "rag".to_owned(),
            revision: 1,
            at_ms: 1_700_000_000_000.0,
            duration_ms: 0.007,
            status: 504,
            ingress: "vm".to_owned(),
            kept: TraceKept::Failed,
        };
        RequestTrace { request, parent_id: None, spans }
    }

    #[test]
    fn a_trace_is_written_as_the_protocol_has_it() {
        let span = TraceSpan {
            span_id: "00f067aa0ba902b7".to_owned(),
            parent_id: None,
            name: "POST /rag".to_owned(),
            kind: SpanKind::Request,
            start_us: 5,
            duration_us: 7,
            attributes: BTreeMap::from([("n".to_owned(), json!(-3)), ("part".to_owned(), json!(0.5))]),
            links: vec![SpanLink { trace_id: "0a".repeat(16), span_id: "ff".repeat(8) }],
            error: Some("504".to_owned()),
        };
        let call = TraceSpan {
            parent_id: Some(span.span_id.clone()),
            kind: SpanKind::Try,
            error: None,
            links: Vec::new(),
            ..span.clone()
        };
        let trace = trace_of(vec![span, call]);
        let [root, call] = &spans_of(&trace).collect::<Vec<_>>()[..] else { panic!("two spans") };
        assert_eq!((root.trace_id.len(), root.trace_id[0], root.trace_id[15]), (16, 0x4b, 0x36));
        assert_eq!(root.span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        assert_eq!((root.parent_span_id.len(), &call.parent_span_id), (0, &root.span_id));
        assert_eq!(root.start_time_unix_nano, 1_700_000_000_000_005_000);
        assert_eq!(root.end_time_unix_nano - root.start_time_unix_nano, 7_000);
        assert_eq!(
            (root.kind(), root.flags, call.kind(), call.flags),
            (Kind::Server, 0x301, Kind::Client, 0x101)
        );
        assert_eq!(root.status.as_ref().map(Status::code), Some(StatusCode::Error));
        assert_eq!(call.status, Some(Status::default()));
        assert_eq!((root.links[0].span_id.len(), root.links[0].flags), (8, 0x300));
        let expected = [
            attribute("n", Value::IntValue(-3)),
            attribute("part", Value::DoubleValue(0.5)),
            attribute("millstream.span", text("request")),
            attribute("error.type", text("504")),
        ];
        assert_eq!(root.attributes, expected);
    }
}
