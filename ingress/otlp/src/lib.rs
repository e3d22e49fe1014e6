//! Takes traces of requests to a collector, by OTLP over gRPC or HTTP, in the types of OpenTelemetry's own crate.
//!
//! The ingress puts each trace together when its request has ended, so that all spans of a trace come at once and whole, whatever
//! processes its calls went to. Here they wait in a queue with a bound on spans, and go out in batches. A collector that is away or
//! slow costs traces, and never a request.
#![forbid(unsafe_code)]

mod collector;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_status::trace::RequestTrace;
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::collector::Collector;

/// Spans that wait for the collector. What comes beyond is dropped and counted.
const MAX_WAITING_SPANS: usize = 32_768;
/// Traces that go out together.
const MAX_BATCH: usize = 512;
/// How long the first trace of a batch waits for company.
const BATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The collector, such as `http://127.0.0.1:4317`.
    pub endpoint: String,
    /// How it is talked to.
    pub transport: Transport,
    /// Name of this process's node.
    pub node: String,
}

/// How a collector is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// gRPC; collectors listen on port 4317.
    Grpc,
    /// HTTP with protobuf; collectors listen on port 4318.
    Http,
}

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no TLS.
    #[error(
        "traces cannot go to `{0}`: there is no TLS for them yet; run a collector on this machine, and give its address, such as \
         `http://127.0.0.1:4317`"
    )]
    Tls(String),
    /// The endpoint makes no sense.
    #[error("traces cannot go to `{endpoint}`: {reason}; write it as `http://HOST:PORT`")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
}

/// The way to the collector. Cloning is cheap.
#[derive(Clone)]
pub struct Otlp {
    queue: mpsc::UnboundedSender<Arc<RequestTrace>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    waiting_spans: AtomicUsize,
    dropped: AtomicU64,
}

/// The task that sends; ends once every [`Otlp`] is gone and what waited is sent.
pub struct Sending(JoinHandle<()>);

impl Sending {
    /// Waits until what is on its way has been sent, or for so long.
    pub async fn finish(self, timeout: Duration) {
        let _ = tokio::time::timeout(timeout, self.0).await;
    }
}

impl Otlp {
    /// Begins to send in the background. Whether the collector is there turns out later.
    ///
    /// # Errors
    /// [`StartError`] for an endpoint that makes no sense.
    pub fn start(config: &Config) -> Result<(Self, Sending), StartError> {
        let collector = Collector::new(config)?;
        let (queue, traces) = mpsc::unbounded_channel();
        let counts = Arc::<Counts>::default();
        let task = tokio::spawn(send(collector, traces, counts.clone(), config.clone()));
        Ok((Self { queue, counts }, Sending(task)))
    }

    /// Sends a trace, unless too much waits. Never waits itself.
    pub fn export(&self, trace: Arc<RequestTrace>) {
        let spans = trace.spans.len();
        let waiting = self.counts.waiting_spans.fetch_add(spans, Ordering::AcqRel);
        if waiting + spans > MAX_WAITING_SPANS || self.queue.send(trace).is_err() {
            self.counts.waiting_spans.fetch_sub(spans, Ordering::AcqRel);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request of these traces, which come from there.
fn request_of(traces: &[Arc<RequestTrace>], from: &Resource) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "millstream".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = traces.iter().flat_map(|trace| span::spans_of(trace)).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let resource = Some(from.clone());
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }],
    }
}

/// Where traces come from: this process, and what `OTEL_RESOURCE_ATTRIBUTES` says of it.
fn resource(node: &str) -> Resource {
    let resource = opentelemetry_sdk::Resource::builder()
        .with_service_name("millstream")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.to_owned()),
        ])
        .build();
    let attributes = ResourceAttributesWithSchema::from(&resource).attributes.0;
    Resource { attributes, ..Resource::default() }
}

async fn send(
    collector: Collector,
    mut traces: mpsc::UnboundedReceiver<Arc<RequestTrace>>,
    counts: Arc<Counts>,
    config: Config,
) {
    let Config { endpoint, node, .. } = config;
    let from = resource(&node);
    let mut is_away = false;
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while let Some(first) = traces.recv().await {
        batch.push(first);
        let more = async {
            while batch.len() < MAX_BATCH {
                let Some(trace) = traces.recv().await else { return };
                batch.push(trace);
            }
        };
        let _ = tokio::time::timeout(BATCH_INTERVAL, more).await;
        counts.waiting_spans.fetch_sub(batch.iter().map(|trace| trace.spans.len()).sum(), Ordering::AcqRel);
        let sent = collector.take(|| request_of(&batch, &from)).await;
        batch.clear();
        let dropped = counts.dropped.swap(0, Ordering::Relaxed);
        // One line for each end of an outage.
        match (&sent, is_away) {
            (Err(error), false) => {
                tracing::warn!(%error, endpoint, "traces do not reach the collector, and are dropped until they do");
            }
            (Ok(()), true) => tracing::info!(endpoint, dropped, "traces reach the collector again"),
            _ => {}
        }
        is_away = sent.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str, transport: Transport) -> Config {
        Config { endpoint: endpoint.to_owned(), transport, node: "a".to_owned() }
    }

    #[tokio::test]
    async fn endpoints_that_make_no_sense_are_told_with_the_cure() {
        for transport in [Transport::Grpc, Transport::Http] {
            for good in ["http://127.0.0.1:4317", "http://collector:4318/", "http://c/custom/traces"] {
                assert!(Collector::new(&config(good, transport)).is_ok(), "{good}");
            }
            for bad in ["", "collector:4317", "ftp://a", "http://", "http://a b"] {
                let error = Collector::new(&config(bad, transport)).err().map(|error| error.to_string());
                assert!(error.is_some_and(|text| text.contains("write it as")), "{bad}");
            }
            let tls = Collector::new(&config("https://a", transport)).unwrap_err().to_string();
            assert!(tls.contains("no TLS"), "{tls}");
        }
    }
}
