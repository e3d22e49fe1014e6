//! HTTP/1.1 connections to the server under test: a pool of idle ones, opened as requests need them.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::record::{ErrorKind, Outcome, is_good};
use super::settings::Settings;

type Connection = SendRequest<Full<Bytes>>;

/// Bytes that are kept of the body of an answer that is not a good one.
const KEPT_OF_REFUSAL: usize = 512;

/// Sends requests over at most so many connections; those that find none free wait.
pub(super) struct Client {
    settings: Settings,
    host: HeaderValue,
    path: Uri,
    addresses: Vec<SocketAddr>,
    /// The one that was used last is taken first, so that few stay open at a low rate.
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Client {
    /// Finds the server and opens the first connection.
    ///
    /// # Errors
    /// When the name means no address, or no connection can be made.
    pub(super) async fn connect(settings: Settings) -> io::Result<Self> {
        let found = tokio::net::lookup_host((settings.host.as_str(), settings.port)).await?;
        let addresses: Vec<_> = found.collect();
        let authority = settings.url.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit('@').next().unwrap_or_default();
        let client = Self {
            host: HeaderValue::from_str(host).map_err(io::Error::other)?,
            path: settings.url.path_and_query().cloned().map(Uri::from).unwrap_or_default(),
            idle: Mutex::default(),
            permits: Semaphore::new(settings.connections),
            addresses,
            settings,
        };
        let first = client.open().await?;
        client.put_back(first);
        Ok(client)
    }

    /// What it was made from.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The body of the request of this number.
    pub(super) fn body(&self, number: u64) -> &Bytes {
        let count = self.settings.bodies.len() as u64;
        let index = usize::try_from(number % count).unwrap_or_default();
        &self.settings.bodies[index]
    }

    /// Sends the request of this number and reads the whole answer. Dropping it closes its connection.
    pub(super) async fn call(&self, number: u64) -> Outcome {
        let Ok(_permit) = self.permits.acquire().await else {
            return failed(ErrorKind::Closed, "the run has ended");
        };
        loop {
            let (mut connection, fresh) = match self.take().await {
                Some(connection) => (connection, false),
                None => match self.open().await {
                    Ok(connection) => (connection, true),
                    Err(error) => return failed(ErrorKind::Connect, error.to_string()),
                },
            };
            match self.exchange(&mut connection, number).await {
                Ok(outcome) => {
                    self.put_back(connection);
                    return outcome;
                }
                // The server had closed the idle connection, and nothing of the request has left.
                Err(error) if error.is_canceled() && !fresh => {}
                Err(error) => return failed(kind(&error), describe(&error)),
            }
        }
    }

    async fn exchange(&self, connection: &mut Connection, number: u64) -> hyper::Result<Outcome> {
        let mut request = Request::new(Full::new(self.body(number).clone()));
        *request.method_mut() = self.settings.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.settings.headers.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        let answer = connection.send_request(request).await?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        let mut bytes = 0;
        let mut kept = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            let Some(data) = frame.data_ref() else { continue };
            bytes += data.len() as u64;
            if !is_good(status) {
                let room = KEPT_OF_REFUSAL.saturating_sub(kept.len());
                kept.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
        Ok(Outcome::Answered { status, bytes, refusal: String::from_utf8_lossy(&kept).into_owned() })
    }

    /// An idle connection that is still open.
    async fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.lock().ok()?.pop()?;
            if !connection.is_closed() && connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn put_back(&self, connection: Connection) {
        if !connection.is_closed()
            && let Ok(mut idle) = self.idle.lock()
        {
            idle.push(connection);
        }
    }

    async fn open(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(&self.addresses[..]).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn failed(kind: ErrorKind, text: impl Into<String>) -> Outcome {
    Outcome::Failed { kind, text: text.into() }
}

fn kind(error: &hyper::Error) -> ErrorKind {
    if error.is_parse() { ErrorKind::Protocol } else { ErrorKind::Closed }
}

/// The error with what caused it.
fn describe(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
