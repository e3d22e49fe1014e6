//! A receiver of captures: gets each event by an HTTP request of its own, in CloudEvents' structured JSON, one after the other
//! over one connection. While it is away events are dropped and counted; the log has one line when it goes and one when it is
//! back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::backlog::Place;
use super::event::Events;
use super::source::Source;

/// How long an event may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer that are read so that the connection can be used again.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Hands events to the task of a receiver, which ends when this is dropped.
pub(super) struct Sink {
    queue: mpsc::UnboundedSender<Waiting>,
}

/// The events of a capture, and whose they are.
struct Waiting {
    events: Events,
    source: Arc<Source>,
    _place: Place,
}

impl Sink {
    /// Of the receiver at this URL.
    pub(super) fn start(url: &str, runtime: &Handle) -> Self {
        // Bounded by the places that they take.
        let (queue, waiting) = mpsc::unbounded_channel();
        runtime.spawn(carry(url.to_owned(), waiting));
        Self { queue }
    }

    /// Sends the events of a capture when their turn comes.
    pub(super) fn send(&self, events: Events, source: Arc<Source>, place: Place) {
        if let Err(refused) = self.queue.send(Waiting { events, source, _place: place }) {
            refused.0.source.meter.dropped();
        }
    }
}

async fn carry(url: String, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    let mut receiver = match Receiver::new(&url) {
        Ok(receiver) => receiver,
        // A file with such a URL does not compile.
        Err(error) => return tracing::error!(error, "captures have no receiver"),
    };
    let mut is_away = false;
    while let Some(Waiting { events, source, _place }) = waiting.recv().await {
        let sent = async {
            receiver.take(events.request.into()).await?;
            receiver.take(events.response.into()).await
        };
        match sent.await {
            Ok(()) => {
                source.meter.kept();
                if std::mem::take(&mut is_away) {
                    tracing::info!(sink = receiver.authority, "captures are taken again");
                }
            }
            Err(error) => {
                source.meter.dropped();
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(
                        sink = receiver.authority,
                        error,
                        "captures are not taken, they are dropped"
                    );
                }
            }
        }
    }
}

/// The other end, and a connection to it while there is one.
struct Receiver {
    /// HOST:PORT as it is written.
    authority: String,
    host: HeaderValue,
    path: Uri,
    address: (String, u16),
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Receiver {
    fn new(url: &str) -> Result<Self, String> {
        let url: Uri = url.parse().map_err(|error| format!("{error}"))?;
        let host = url.host().ok_or("the URL has no host")?;
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self {
            host: HeaderValue::from_str(&authority).map_err(|error| error.to_string())?,
            path: url.path_and_query().cloned().map(Uri::from).unwrap_or_default(),
            address: (host.trim_matches(['[', ']']).to_owned(), url.port_u16().unwrap_or(80)),
            authority,
            connection: None,
        })
    }

    /// Sends an event; the error says why it was not taken.
    async fn take(&mut self, event: Bytes) -> Result<(), String> {
        match tokio::time::timeout(TIMEOUT, self.post(event)).await {
            Ok(sent) => sent,
            Err(_) => {
                self.connection = None;
                Err(format!("no answer within {} s", TIMEOUT.as_secs()))
            }
        }
    }

    async fn post(&mut self, event: Bytes) -> Result<(), String> {
        loop {
            let known = match self.connection.take() {
                Some(mut known) => known.ready().await.is_ok().then_some(known),
                None => None,
            };
            let is_known = known.is_some();
            let mut connection = match known {
                Some(known) => known,
                None => self.connect().await.map_err(|error| error.to_string())?,
            };
            match connection.send_request(self.request(event.clone())).await {
                Ok(answer) => {
                    let status = answer.status();
                    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES);
                    self.connection = body.collect().await.is_ok().then_some(connection);
                    return if status.is_success() { Ok(()) } else { Err(format!("it answers {status}")) };
                }
                // It had closed the idle connection, and nothing of the event has left.
                Err(error) if is_known && error.is_canceled() => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn request(&self, event: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(event));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        let kind = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        request
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let (host, port) = &self.address;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
