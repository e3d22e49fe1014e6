//! Takes traces of requests to a collector, by OTLP over gRPC or HTTP, in the types of OpenTelemetry's own crate.
//!
//! The ingress puts each trace together when its request has ended, so that all spans of a trace come at once and whole, whatever
//! processes its calls went to. Here they wait in a queue with a bound on spans, and go out in batches. A collector that is away or
//! slow costs traces, and never a request.
#![forbid(unsafe_code)]

mod collector;
mod request;
mod span;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use millstream_status::trace::RequestTrace;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::collector::Collector;
use self::request::Origin;
use self::waiting::{Added, Waiting};

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
    waiting: Arc<Waiting>,
    /// A batch begins.
    begins: mpsc::Sender<()>,
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
        let (begins, begun) = mpsc::channel(1);
        let waiting = Arc::<Waiting>::default();
        let task = tokio::spawn(send(collector, waiting.clone(), begun, config.clone()));
        Ok((Self { waiting, begins }, Sending(task)))
    }

    /// Sends a trace, unless too much waits. Never waits itself.
    pub fn export(&self, trace: &RequestTrace) {
        if self.waiting.add(request::spans_of(trace)) == Added::Begins {
            // One that nobody has noticed yet is enough.
            let _ = self.begins.try_send(());
        }
    }
}

/// Sends what waits, batch by batch; ends when nobody adds to it any more.
async fn send(collector: Collector, waiting: Arc<Waiting>, mut begun: mpsc::Receiver<()>, config: Config) {
    let Config { endpoint, node, .. } = config;
    let origin = Origin::new(&node);
    let mut is_away = false;
    while begun.recv().await.is_some() {
        // Until the next batch begins: this one is whole then.
        let _ = tokio::time::timeout(BATCH_INTERVAL, begun.recv()).await;
        while let Some(batch) = waiting.take() {
            let sent = collector.take(&origin.request_of(batch)).await;
            let dropped = waiting.take_dropped();
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
