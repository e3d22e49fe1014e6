//! Sends captured requests and takes the answers whole. Each caller has a connection of its own.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::record::Reply;
use super::target::Target;
use crate::exit::Failure;

/// Most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// What the ingress is asked for, and where it answers it.
const WANTS_TIMING: HeaderName = HeaderName::from_static("x-server-timing");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// How requests are sent.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    address: String,
    path: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

/// Sends one request after another.
pub(super) struct Caller<'a> {
    sender: &'a Sender,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Sender {
    /// Sends to that target, with these headers beside those that a replay has.
    pub(super) fn new(target: &Target, own: &HeaderMap, timeout: Duration) -> Result<Self, Failure> {
        let path = target.route.parse().map_err(|error| Failure::failed(format!("{error}")))?;
        let host = HeaderValue::from_str(&target.ingress)
            .map_err(|_| Failure::usage(format!("`{}` is not an address", target.ingress)))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-revision", HeaderValue::from(target.revision));
        // What is sent again is no traffic of today, and goes after all that somebody waits for.
        headers.insert("x-capture", HeaderValue::from_static("off"));
        headers.insert("x-priority", HeaderValue::from_static("low"));
        headers.insert(WANTS_TIMING, HeaderValue::from_static("1"));
        headers.extend(own.clone());
        headers.insert(HOST, host);
        Ok(Self { address: target.ingress.clone(), path, headers, timeout })
    }

    /// Opens a connection, so that nobody waits for answers of an ingress that is not there.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let opened = tokio::time::timeout(self.timeout, self.open()).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.map(drop).map_err(|error| {
            Failure::unreachable(format!(
                "cannot connect to the ingress at `{}`: {error}; name another with --ingress HOST:PORT",
                self.address
            ))
        })
    }

    /// Somebody who sends one request after another.
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller { sender: self, connection: None }
    }

    async fn open(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

impl Caller<'_> {
    /// Sends these fields and takes the answer.
    pub(super) async fn call(&mut self, fields: Bytes) -> Reply {
        let timeout = self.sender.timeout;
        match tokio::time::timeout(timeout, self.exchange(fields)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => Reply::Failed(error),
            Err(_) => {
                self.connection = None;
                Reply::Failed(format!("no answer within {}", humantime::format_duration(timeout)))
            }
        }
    }

    async fn exchange(&mut self, fields: Bytes) -> Result<Reply, String> {
        loop {
            let known = self.connection.take();
            let is_known = known.is_some();
            let mut connection = match known {
                Some(known) => known,
                None => self.sender.open().await.map_err(|error| error.to_string())?,
            };
            let started = millstream_clock::now();
            let sent = match connection.ready().await {
                Ok(()) => connection.send_request(self.request(fields.clone())).await,
                Err(error) => Err(error),
            };
            let answer = match sent {
                Ok(answer) => answer,
                // The server had closed the idle connection, and nothing of the request has left.
                Err(error) if is_known && (error.is_canceled() || error.is_closed()) => continue,
                Err(error) => return Err(error.to_string()),
            };
            let status = answer.status().as_u16();
            let timing =
                answer.headers().get(SERVER_TIMING).and_then(|timing| timing.to_str().ok()).and_then(total);
            let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes().to_vec();
            let measured = u64::try_from(millstream_clock::since(started).as_micros()).unwrap_or(u64::MAX);
            self.connection = Some(connection);
            return Ok(Reply::Answered { status, body, latency_us: timing.unwrap_or(measured) });
        }
    }

    fn request(&self, fields: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(fields));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.sender.path.clone();
        *request.headers_mut() = self.sender.headers.clone();
        request
    }
}

/// The whole time of a request at the ingress, in microseconds: what captures have as well.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time above 0")]
fn total(timing: &str) -> Option<u64> {
    let total = timing.split(',').find_map(|metric| metric.trim().strip_prefix("total;dur="))?;
    let ms: f64 = total.parse().ok()?;
    (ms >= 0.0).then_some((ms * 1e3) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ingress_says_how_long_a_request_took() {
        assert_eq!(total("embed-run;dur=6.000, total;dur=12.345"), Some(12_345));
        for none in ["", "total", "total;dur=x", "total;dur=-1", "embed-run;dur=6"] {
            assert_eq!(total(none), None, "{none}");
        }
    }
}
