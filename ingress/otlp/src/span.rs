//! Spans as OpenTelemetry has them.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_status::trace::{RequestTrace, SpanKind, SpanLink, TraceSpan};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanLinks};

/// Who made the spans.
static SCOPE: LazyLock<InstrumentationScope> = LazyLock::new(|| {
    InstrumentationScope::builder("millstream").with_version(env!("CARGO_PKG_VERSION")).build()
});

/// The spans of a trace.
pub(crate) fn spans_of(trace: &RequestTrace) -> impl Iterator<Item = SpanData> {
    let trace_id = TraceId::from_hex(&trace.request.trace_id).unwrap_or(TraceId::INVALID);
    let began = UNIX_EPOCH + Duration::from_secs_f64((trace.request.at_ms / 1e3).max(0.0));
    trace.spans.iter().map(move |span| span_of(span, trace_id, began))
}

fn span_of(span: &TraceSpan, trace_id: TraceId, began: SystemTime) -> SpanData {
    let id = |text: &str| SpanId::from_hex(text).unwrap_or(SpanId::INVALID);
    let start_time = began + Duration::from_micros(span.start_us);
    let is_root = span.kind == SpanKind::Request;
    let mut attributes: Vec<_> =
        span.attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value_of(value))).collect();
    attributes.push(KeyValue::new("millstream.span", kind_name(span.kind)));
    attributes.extend(span.error.as_ref().map(|class| KeyValue::new("error.type", class.clone())));
    SpanData {
        span_context: SpanContext::new(
            trace_id,
            id(&span.span_id),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: span.parent_id.as_deref().map_or(SpanId::INVALID, id),
        parent_span_is_remote: is_root,
        span_kind: match span.kind {
            SpanKind::Request => OtelKind::Server,
            SpanKind::Try => OtelKind::Client,
            _ => OtelKind::Internal,
        },
        name: span.name.clone().into(),
        start_time,
        end_time: start_time + Duration::from_micros(span.duration_us),
        attributes,
        dropped_attributes_count: 0,
        events: Default::default(),
        links: links_of(span),
        status: match &span.error {
            Some(class) => Status::error(class.clone()),
            None => Status::Unset,
        },
        instrumentation_scope: SCOPE.clone(),
    }
}

/// The calls that a batch was run for beside this one.
fn links_of(span: &TraceSpan) -> SpanLinks {
    let link = |SpanLink { trace_id, span_id }: &SpanLink| {
        let trace_id = TraceId::from_hex(trace_id).ok()?;
        let span_id = SpanId::from_hex(span_id).ok()?;
        let context = SpanContext::new(trace_id, span_id, TraceFlags::default(), true, TraceState::default());
        Some(Link::with_context(context))
    };
    let mut links = SpanLinks::default();
    links.links = span.links.iter().filter_map(link).collect();
    links
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
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::I64(whole),
            None => Value::F64(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    }
}
