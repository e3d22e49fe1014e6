//! Requests to a collector whose spans have been written before: on the wire a message inside of another is its bytes and how many they
//! are.

use bytes::Bytes;
use millstream_status::trace::RequestTrace;
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use prost::Message;

use crate::span;

/// The protocol's `ExportTraceServiceRequest`, of one process.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportRequest {
    #[prost(message, optional, tag = "1")]
    resource_spans: Option<WrittenSpans>,
}

/// The protocol's `ResourceSpans`.
#[derive(Clone, PartialEq, Message)]
struct WrittenSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    /// Those of one [`ScopeSpans`].
    #[prost(bytes = "bytes", tag = "2")]
    spans: Bytes,
}

/// Where traces come from: this process, and what `OTEL_RESOURCE_ATTRIBUTES` says of it.
pub(crate) struct Origin(Resource);

impl Origin {
    /// A process of that node.
    pub(crate) fn new(node: &str) -> Self {
        let resource = opentelemetry_sdk::Resource::builder()
            .with_service_name("millstream")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", node.to_owned()),
            ])
            .build();
        let attributes = ResourceAttributesWithSchema::from(&resource).attributes.0;
        Self(Resource { attributes, ..Resource::default() })
    }

    /// A request of traces, written by [`spans_of`] one after the other.
    pub(crate) fn request_of(&self, mut spans: Vec<u8>) -> ExportRequest {
        let scope = InstrumentationScope {
            name: "millstream".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        spans.extend(ScopeSpans { scope: Some(scope), ..ScopeSpans::default() }.encode_to_vec());
        let spans = WrittenSpans { resource: Some(self.0.clone()), spans: spans.into() };
        ExportRequest { resource_spans: Some(spans) }
    }
}

/// The spans of a trace, as a [`ScopeSpans`]. Two of them, one after the other, are read as one that has the spans of both.
pub(crate) fn spans_of(trace: &RequestTrace) -> Vec<u8> {
    ScopeSpans { spans: span::spans_of(trace).collect(), ..ScopeSpans::default() }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use millstream_status::trace::{SpanKind, TraceSpan};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

    use super::*;
    use crate::span::tests::trace_of;

    fn trace(name: &str) -> RequestTrace {
        let span = TraceSpan {
            span_id: "00f067aa0ba902b7".to_owned(),
            parent_id: None,
            name: name.to_owned(),
            kind: SpanKind::Request,
            start_us: 5,
            duration_us: 7,
            attributes: Default::default(),
            links: Vec::new(),
            error: None,
        };
        trace_of(vec![span.clone(), span])
    }

    #[test]
    fn traces_that_were_written_by_themselves_are_read_as_one_request() {
        let mut spans = spans_of(&trace("a"));
        spans.extend(spans_of(&trace("b")));
        let bytes = Origin::new("node-7").request_of(spans).encode_to_vec();
        let request = ExportTraceServiceRequest::decode(&*bytes).unwrap();
        let [resource_spans] = &request.resource_spans[..] else { panic!("one resource: {request:?}") };
        let attributes = &resource_spans.resource.as_ref().unwrap().attributes;
        assert!(attributes.iter().any(|attribute| attribute.key == "service.instance.id"), "{attributes:?}");
        let [scope_spans] = &resource_spans.scope_spans[..] else { panic!("one scope: {resource_spans:?}") };
        assert_eq!(scope_spans.scope.as_ref().map(|scope| &*scope.name), Some("millstream"));
        let names: Vec<_> = scope_spans.spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["a", "a", "b", "b"]);
    }
}
