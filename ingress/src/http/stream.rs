//! Answers in parts: parts as they are made, then the end. What they look like is the protocol's. The request runs in a task of its own, which
//! keeps its deadline even when the client does not read, and which ends with the stream: a client that leaves stops the work.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Frame;
use millstream_proto::{ErrorClass, RequestId, Value};
use tokio::time::Sleep;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::answer::{EdgeBody, Stream};
use super::refusal::Refusal;
use super::request_end::RequestEnd;
use crate::execute::PartReceiver;
use crate::model::{Failure, StreamPart};
use crate::protocol::{Exchange, Last, Problem, Spent, Told};
use crate::trace::Trace;

/// Most bytes put into one frame while more parts are waiting.
const MAX_FRAME_BYTES: usize = 16 << 10;

/// A request on its way, whose parts come as they are made.
pub(crate) struct Running {
    /// Parts of the answer; closed at its end.
    pub parts: PartReceiver,
    /// The whole answer.
    pub task: AbortOnDropHandle<Result<Value, Failure>>,
    /// What parts and end look like.
    pub exchange: Box<dyn Exchange>,
    /// For errors.
    pub request_id: RequestId,
    /// Knows what the request has spent.
    pub trace: Option<Arc<Trace>>,
    /// Silence after which the client is told that the connection lives.
    pub keep_alive: Duration,
    /// How many parts have come.
    pub num_parts: u64,
}

/// The body of an answer in parts.
struct PartStream {
    running: Running,
    next: Next,
    silence: Pin<Box<Sleep>>,
    /// Counts the request when the stream ends.
    end: Option<Box<RequestEnd>>,
}

/// What goes out next.
enum Next {
    /// These bytes, then what comes.
    First(Bytes),
    /// What comes.
    Parts,
    /// The end.
    Last(Last),
    /// These trailers.
    Trailers(Box<HeaderMap>),
    /// Nothing more.
    Nothing,
}

/// The response once its first part (or silence) is known, so that an early failure has its own status.
///
/// # Errors
/// The problem of a request that failed before anything went out.
pub(crate) async fn respond(mut running: Running) -> Result<Response<EdgeBody>, Refusal> {
    let next = match tokio::time::timeout(running.keep_alive, running.parts.recv()).await {
        Ok(Some(part)) => Next::First(running.frame_of(&part)),
        Ok(None) => {
            let value = joined((&mut running.task).await).map_err(|failure| running.refuse(failure))?;
            Next::Last(running.end(Ok(&value)))
        }
        Err(_) => Next::First(running.exchange.keep_alive()),
    };
    let headers = running.exchange.stream_headers();
    let silence = Box::pin(tokio::time::sleep(running.keep_alive));
    let stream = PartStream { running, next, silence, end: None };
    let mut response = Response::new(EdgeBody::Stream(Box::new(stream)));
    *response.headers_mut() = headers;
    Ok(response)
}

impl Stream for PartStream {
    fn ends_with(&mut self, mut end: Box<RequestEnd>) {
        if !matches!(self.next, Next::Last(_)) {
            end.streams();
        }
        self.end = Some(end);
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::First(bytes) => {
                    self.next = Next::Parts;
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Next::Parts => {
                    self.next = Next::Parts;
                    if let Some(bytes) = ready!(self.poll_part(cx)) {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                    let result = ready!(Pin::new(&mut self.running.task).poll(cx));
                    self.next = Next::Last(self.last(joined(result)));
                }
                Next::Last(mut last) => {
                    let bytes = last.next_bytes();
                    self.next = match (&bytes, last.trailers) {
                        (Some(_), trailers) => Next::Last(Last { trailers, ..last }),
                        (None, trailers) => trailers.map_or(Next::Nothing, Next::Trailers),
                    };
                    if let Some(bytes) = bytes {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Next::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(*trailers)))),
                Next::Nothing => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for PartStream {
    /// A client that leaves is charged for the parts that came.
    fn drop(&mut self) {
        if let Some(end) = &mut self.end {
            end.had_parts(self.running.num_parts);
        }
    }
}

impl PartStream {
    /// The next part, or a sign of life; `None` after the last part.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let bytes = match self.running.parts.poll_recv(cx) {
            Poll::Ready(Some(part)) => self.running.frame_of(&part),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(cx));
                self.running.exchange.keep_alive()
            }
        };
        let next = millstream_clock::now() + self.running.keep_alive;
        self.silence.as_mut().reset(next.into());
        Poll::Ready(Some(bytes))
    }

    fn last(&mut self, result: Result<Value, Failure>) -> Last {
        let result = result.map_err(Problem::from);
        let last = self.running.end(result.as_ref());
        if let Some(end) = &mut self.end {
            match result {
                Ok(_) => end.answered(StatusCode::OK),
                Err(problem) => end.failed(problem),
            }
        }
        last
    }
}

impl Running {
    /// The end of the answer.
    fn end(&mut self, outcome: Result<&Value, &Problem>) -> Last {
        self.exchange.end(outcome, Told { request_id: &self.request_id, spent: self.spent() })
    }

    /// Nothing has gone out.
    fn refuse(&mut self, failure: Failure) -> Refusal {
        let told = Told { request_id: &self.request_id, spent: self.spent() };
        Refusal::of(&mut *self.exchange, failure, told)
    }

    fn spent(&self) -> Spent {
        self.trace.as_deref().map(Spent::of).unwrap_or_default()
    }

    /// A part and those that wait behind it.
    fn frame_of(&mut self, part: &StreamPart) -> Bytes {
        let mut bytes = Vec::new();
        self.exchange.part(part, &mut bytes);
        self.num_parts += 1;
        while bytes.len() < MAX_FRAME_BYTES {
            let Some(part) = self.parts.try_recv() else { break };
            self.exchange.part(&part, &mut bytes);
            self.num_parts += 1;
        }
        bytes.into()
    }
}

fn joined(result: Result<Result<Value, Failure>, tokio::task::JoinError>) -> Result<Value, Failure> {
    result.unwrap_or_else(|error| {
        tracing::error!(error = %error, "the task of a streaming request ended early");
        Err(Failure::new(ErrorClass::Internal, "the request ended by a fault of the server"))
    })
}
