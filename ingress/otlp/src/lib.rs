//! Takes traces of requests to a collector, by OTLP over gRPC or HTTP (OpenTelemetry's crates do the talking).
//!
//! The ingress puts each trace together when its request has ended, so that all spans of a trace come at once and whole, whatever
//! processes its calls went to. Here they wait in a queue with a bound on spans, and go out in batches. A collector that is away or
//! slow costs traces, and never a request.
#![forbid(unsafe_code)]

mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_status::trace::RequestTrace;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Spans that wait for the collector. What comes beyond is dropped and counted.
const MAX_WAITING_SPANS: usize = 32_768;
/// Traces that go out together.
const MAX_BATCH: usize = 512;
/// How long the first trace of a batch waits for company.
const BATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where a collector takes traces over HTTP.
const HTTP_PATH: &str = "/v1/traces";

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
        let exporter = exporter(config)?;
        let (queue, traces) = mpsc::unbounded_channel();
        let counts = Arc::<Counts>::default();
        let task = tokio::spawn(send(exporter, traces, counts.clone(), config.endpoint.clone()));
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

fn exporter(config: &Config) -> Result<SpanExporter, StartError> {
    let Config { endpoint, transport, node } = config;
    if endpoint.starts_with("https:") {
        return Err(StartError::Tls(endpoint.clone()));
    }
    let failed = |reason: String| StartError::Endpoint { endpoint: endpoint.clone(), reason };
    let Some(host) = endpoint.strip_prefix("http://").filter(|host| !host.is_empty()) else {
        return Err(failed("it is not an `http://` address".to_owned()));
    };
    let built = match transport {
        Transport::Grpc => {
            SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(TIMEOUT).build()
        }
        Transport::Http => {
            let has_path = host.trim_end_matches('/').contains('/');
            let path = if has_path { "" } else { HTTP_PATH };
            let endpoint = format!("{}{path}", endpoint.trim_end_matches('/'));
            let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
            exporter.with_endpoint(endpoint).with_timeout(TIMEOUT).build()
        }
    };
    let mut exporter = built.map_err(|error| failed(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name("millstream")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.clone()),
        ])
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

async fn send(
    exporter: SpanExporter,
    mut traces: mpsc::UnboundedReceiver<Arc<RequestTrace>>,
    counts: Arc<Counts>,
    endpoint: String,
) {
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
        let spans: Vec<_> = batch.iter().flat_map(|trace| span::spans_of(trace)).collect();
        counts.waiting_spans.fetch_sub(batch.iter().map(|trace| trace.spans.len()).sum(), Ordering::AcqRel);
        batch.clear();
        let sent = exporter.export(spans).await;
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
                assert!(exporter(&config(good, transport)).is_ok(), "{good}");
            }
            for bad in ["", "collector:4317", "ftp://a", "http://", "http://a b"] {
                let error = exporter(&config(bad, transport)).err().map(|error| error.to_string());
                assert!(error.is_some_and(|text| text.contains("write it as")), "{bad}");
            }
            let tls = exporter(&config("https://a", transport)).unwrap_err().to_string();
            assert!(tls.contains("no TLS"), "{tls}");
        }
    }
}
