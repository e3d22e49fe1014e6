//! Server-sent events: parts of the answer as they are made, then the whole answer.
//!
//! ```text
//! event: delta
//! data: {"field":"answer","text":"The "}
//!
//! event: done
//! data: {"answer":"The …","sources":[…]}
//! ```
//!
//! A failure after the first event is `event: error` with the problem document as data; one before it is an ordinary
//! problem response. A comment keeps a silent stream alive. The request runs in a task of its own, which keeps its
//! deadline even when the client does not read, and which ends with the stream: a client that leaves stops the work.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use millstream_proto::{ErrorClass, RequestId, Value};
use serde::Serialize;
use tokio::time::Sleep;
use tokio_util::task::AbortOnDropHandle;

use super::answer::{EdgeBody, Events, to_json};
use super::headers::ACCEL_BUFFERING;
use super::in_flight::InFlight;
use super::problem::Problem;
use super::request_end::RequestEnd;
use crate::clock;
use crate::execute::{Part, PartReceiver};
use crate::model::Failure;

/// Most bytes put into one frame while more parts are waiting.
const MAX_FRAME_BYTES: usize = 16 << 10;
const COMMENT: &[u8] = b": keep-alive\n\n";

#[derive(Serialize)]
struct Delta<'a> {
    field: &'a str,
    text: &'a str,
}

/// A request on its way, whose parts come as they are made.
pub(crate) struct Running {
    /// Parts of the answer; closed at its end.
    pub parts: PartReceiver,
    /// The whole answer.
    pub task: AbortOnDropHandle<Result<Value, Failure>>,
    /// For error events.
    pub request_id: RequestId,
    /// Silence after which a comment is sent.
    pub keep_alive: Duration,
}

/// The body of an event stream.
pub(crate) struct EventStream {
    running: Running,
    /// What is out before anything is polled.
    first: Option<Bytes>,
    silence: Pin<Box<Sleep>>,
    ended: bool,
    /// Counts the request when the stream ends.
    end: Option<RequestEnd>,
    _in_flight: InFlight,
}

/// The response once its first event (or silence) is known, so that an early failure has its own status.
///
/// # Errors
/// The problem of a request that failed before anything went out.
pub(crate) async fn respond(
    mut running: Running,
    in_flight: InFlight,
) -> Result<Response<EdgeBody>, Problem> {
    let first = match tokio::time::timeout(running.keep_alive, running.parts.recv()).await {
        Ok(Some(part)) => Some(delta(&part)),
        Ok(None) => None,
        Err(_) => Some(COMMENT.to_vec()),
    };
    let (first, ended) = match first {
        Some(first) => (first, false),
        None => (done(&joined((&mut running.task).await)?), true),
    };
    let silence = Box::pin(tokio::time::sleep(running.keep_alive));
    let stream =
        EventStream { running, first: Some(first.into()), silence, ended, end: None, _in_flight: in_flight };
    let mut response = Response::new(EdgeBody::Events(Box::new(stream)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Asks proxies in front not to hold events back.
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

impl Events for EventStream {
    fn ends_with(&mut self, mut end: RequestEnd) {
        if !self.ended {
            end.streams();
        }
        self.end = Some(end);
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match self.running.parts.poll_recv(cx) {
            Poll::Ready(Some(part)) => Poll::Ready(Some(self.frame_of(&part))),
            Poll::Ready(None) => {
                let result = ready!(Pin::new(&mut self.running.task).poll(cx));
                self.ended = true;
                let (status, bytes) = match joined(result) {
                    Ok(value) => (StatusCode::OK, done(&value)),
                    Err(failure) => {
                        let problem = Problem::from(failure);
                        (problem.status(), event("error", &problem.to_json(&self.running.request_id)))
                    }
                };
                if let Some(end) = &mut self.end {
                    end.answered(status);
                }
                Poll::Ready(Some(bytes.into()))
            }
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(cx));
                self.reset_silence();
                Poll::Ready(Some(Bytes::from_static(COMMENT)))
            }
        }
    }
}

impl EventStream {
    /// A part and those that wait behind it.
    fn frame_of(&mut self, part: &Part) -> Bytes {
        let mut bytes = delta(part);
        while bytes.len() < MAX_FRAME_BYTES {
            let Some(part) = self.running.parts.try_recv() else { break };
            bytes.extend_from_slice(&delta(&part));
        }
        self.reset_silence();
        bytes.into()
    }

    fn reset_silence(&mut self) {
        let next = clock::now() + self.running.keep_alive;
        self.silence.as_mut().reset(next.into());
    }
}

fn joined(result: Result<Result<Value, Failure>, tokio::task::JoinError>) -> Result<Value, Failure> {
    result.unwrap_or_else(|error| {
        tracing::error!(error = %error, "the task of a streaming request ended early");
        let message = "the request ended by a fault of the server".to_owned();
        Err(Failure { class: ErrorClass::Internal, message, retry_after_s: None })
    })
}

fn delta(part: &Part) -> Vec<u8> {
    event("delta", &to_json(&Delta { field: &part.field, text: &part.text }))
}

fn done(value: &Value) -> Vec<u8> {
    event("done", &to_json(value))
}

/// `data` is JSON and so has no line breaks.
fn event(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + data.len() + 16);
    for piece in [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"] {
        bytes.extend_from_slice(piece);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_a_name_and_one_line_of_json() {
        let part = Part { field: "answer".into(), text: "two\nlines".into() };
        let expected = "event: delta\ndata: {\"field\":\"answer\",\"text\":\"two\\nlines\"}\n\n";
        assert_eq!(String::from_utf8(delta(&part)).unwrap(), expected);
        let whole = done(&Value::map([("answer", Value::from("x"))]));
        assert_eq!(String::from_utf8(whole).unwrap(), "event: done\ndata: {\"answer\":\"x\"}\n\n");
    }
}
