//! The way to a collector: one request of the protocol at a time, sent again where the protocol says so.

use std::env;
use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::request::ExportRequest;
use crate::{Config, StartError, Transport};

/// How long the collector may take for a batch, with all tries.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries after the first one.
const MAX_RETRIES: u32 = 3;
/// What is waited before the first of them; twice as long before each next one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Where a collector takes traces over HTTP.
const HTTP_PATH: &str = "/v1/traces";
/// And where one takes them over gRPC.
const GRPC_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Headers that go with each request, such as `authorization=Bearer%20abc`, for traces alone and for all.
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
/// As much of an answer as is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) enum Collector {
    Grpc { channel: Channel, headers: HeaderMap },
    Http { client: Box<Client<HttpConnector, Full<Bytes>>>, uri: Uri, headers: HeaderMap },
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refusal {
    text: String,
    /// How long to wait at least before it is sent again; `None`: it is not to be.
    again: Option<Duration>,
}

impl Collector {
    /// The collector at that address; nothing is sent yet.
    pub(crate) fn new(config: &Config) -> Result<Self, StartError> {
        let Config { endpoint, transport, .. } = config;
        if endpoint.starts_with("https:") {
            return Err(StartError::Tls(endpoint.clone()));
        }
        let failed = |reason: String| StartError::Endpoint { endpoint: endpoint.clone(), reason };
        let Some(host) = endpoint.strip_prefix("http://").filter(|host| !host.is_empty()) else {
            return Err(failed("it is not an `http://` address".to_owned()));
        };
        let mut headers = headers(&headers_variable());
        match transport {
            Transport::Grpc => {
                let channel =
                    Channel::from_shared(endpoint.clone()).map_err(|error| failed(error.to_string()))?;
                Ok(Self::Grpc { channel: channel.connect_lazy(), headers })
            }
            Transport::Http => {
                let has_path = host.trim_end_matches('/').contains('/');
                let path = if has_path { "" } else { HTTP_PATH };
                let uri = format!("{}{path}", endpoint.trim_end_matches('/')).parse();
                let uri = uri.map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                let client = Box::new(Client::builder(TokioExecutor::new()).build_http());
                Ok(Self::Http { client, uri, headers })
            }
        }
    }

    /// Sends a batch.
    pub(crate) async fn take(&self, batch: &ExportRequest) -> Result<(), Refusal> {
        let sent = async {
            let mut wait = FIRST_WAIT;
            for _ in 0..MAX_RETRIES {
                let Err(refusal) = self.try_once(batch).await else { return Ok(()) };
                let Some(at_least) = refusal.again else { return Err(refusal) };
                tokio::time::sleep(wait.max(at_least)).await;
                wait *= 2;
            }
            self.try_once(batch).await
        };
        let late = || Refusal { text: format!("it has not taken them within {TIMEOUT:?}"), again: None };
        tokio::time::timeout(TIMEOUT, sent).await.unwrap_or_else(|_| Err(late()))
    }

    async fn try_once(&self, batch: &ExportRequest) -> Result<(), Refusal> {
        match self {
            Self::Grpc { channel, headers } => {
                let metadata = MetadataMap::from_headers(headers.clone());
                let request = Request::from_parts(metadata, http::Extensions::new(), batch.clone());
                export(channel, request).await.map_err(|status| Refusal::from(&status))
            }
            Self::Http { client, uri, headers } => post(client, uri, headers, batch).await,
        }
    }
}

async fn export(channel: &Channel, request: Request<ExportRequest>) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<ExportRequest, ExportTraceServiceResponse>::default();
    client.unary(request, PathAndQuery::from_static(GRPC_METHOD), codec).await.map(drop)
}

async fn post(
    client: &Client<HttpConnector, Full<Bytes>>,
    uri: &Uri,
    headers: &HeaderMap,
    batch: &ExportRequest,
) -> Result<(), Refusal> {
    let mut request = http::Request::new(Full::new(Bytes::from(batch.encode_to_vec())));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers.clone();
    let answer = client.request(request).await.map_err(|error| Refusal {
        text: error.source().map_or_else(|| error.to_string(), ToString::to_string),
        again: Some(Duration::ZERO),
    })?;
    let (head, body) = answer.into_parts();
    // Read to its end, the connection serves the next batch as well.
    let _ = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    if head.status.is_success() {
        return Ok(());
    }
    let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let is_passing = matches!(
        head.status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let again = is_passing.then(|| Duration::from_secs(seconds.unwrap_or(0)));
    Err(Refusal { text: format!("it answers {}", head.status), again })
}

/// What the protocol says of gRPC's codes.
impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let again = match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Some(told.unwrap_or_default()),
            // Only a collector that says when it has room again will have it.
            Code::ResourceExhausted => told,
            _ => None,
        };
        Self { text: status.to_string(), again }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no flag stands for it; OpenTelemetry's own crate reads those that say where traces come from"
)]
fn headers_variable() -> String {
    HEADERS.into_iter().find_map(|name| env::var(name).ok()).unwrap_or_default()
}

/// Headers from `name=value,name=value` with values in percent encoding; what cannot be read is left out.
fn headers(text: &str) -> HeaderMap {
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value: Vec<u8> = percent_encoding::percent_decode_str(value.trim()).collect();
        let name = name.trim().to_ascii_lowercase().parse::<HeaderName>().ok()?;
        Some((name, HeaderValue::from_bytes(&value).ok()?))
    };
    text.split(',').filter_map(header).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn headers_are_read_as_the_variable_has_them() {
        let read = headers("authorization=Bearer%20a%3D, X-Tenant = b ,, nonsense, bad name=c");
        assert_eq!(read.len(), 2);
        assert!(read["authorization"] == "Bearer a=" && read["x-tenant"] == "b", "{read:?}");
    }

    /// What becomes of a batch, and how often a collector was asked that answers with these heads in turn.
    async fn sent(answers: &[&'static str]) -> (Result<(), Refusal>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answers = answers.to_vec();
        let asked = std::thread::spawn(move || {
            let mut asked = 0;
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let read = stream.read(&mut [0; 4096]).unwrap();
                asked += usize::from(read > 0);
                write!(stream, "HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    .unwrap();
            }
            asked
        });
        let config = Config { endpoint, transport: Transport::Http, node: String::new() };
        let result = Collector::new(&config).unwrap().take(&ExportRequest::default()).await;
        (result, asked.join().unwrap())
    }

    #[tokio::test]
    async fn a_batch_goes_out_again_while_the_collector_is_short_of_room() {
        let (result, asked) = sent(&["503 Service Unavailable", "429 Too Many Requests", "200 OK"]).await;
        assert!(result.is_ok() && asked == 3, "{result:?} after {asked}");
        let (result, asked) = sent(&["400 Bad Request"]).await;
        assert!(result.is_err_and(|refusal| refusal.to_string().contains("400")) && asked == 1);
        let (result, asked) = sent(&["502 Bad Gateway"; 4]).await;
        assert!(result.is_err() && asked == 4);
    }
}
