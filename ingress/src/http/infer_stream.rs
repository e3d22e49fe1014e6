//! Streams of requests (`ModelStreamInfer`): each message is a request of its own, with its own place in limits, counts and log, answered
//! before the next one is looked at. Meanwhile those wait with the client, by the flow control of HTTP/2. The stream ends with its client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use millstream_proto::{ErrorClass, RequestId};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::access::{key_of, table_of};
use super::answer::{EdgeBody, Stream};
use super::headers;
use super::read_body::{too_large, too_slow};
use super::request_end::RequestEnd;
use super::state::Edge;
use crate::deadline::within;
use crate::model::Failure;
use crate::protocol::inference::StreamedInfer;
use crate::protocol::{Problem, Protocol, grpc};

/// A request of a stream.
pub(crate) struct StreamedRequest<'a> {
    pub edge: &'a Arc<Edge>,
    /// How it is read and answered.
    pub protocol: &'a dyn Protocol,
    /// The stream's.
    pub head: &'a Parts,
    pub message: Bytes,
    pub id: RequestId,
}

/// Answers such a request as any other one. It is handed in, as what answers requests knows of streams.
pub(crate) type AnswerStreamed = for<'a> fn(StreamedRequest<'a>) -> BoxFuture<'a, Response<EdgeBody>>;

/// Answers a stream.
///
/// # Errors
/// The problem of a client that may not come in.
pub(crate) fn respond(
    edge: &Arc<Edge>,
    head: &Parts,
    body: Incoming,
    request_id: &RequestId,
    answer: AnswerStreamed,
) -> Result<Response<EdgeBody>, Problem> {
    key_of(edge, &table_of(edge)?.keys, &head.headers)?;
    // An answer waits until the one before it was taken.
    let (sender, frames) = mpsc::channel(1);
    let (id, num_begun) = (request_id.clone(), 0);
    let requests = Requests { edge: edge.clone(), head: head.clone(), id, num_begun, answer };
    let messages = Messages { body, rest: Bytes::new(), num_bytes: 0, edge: edge.clone() };
    let task = AbortOnDropHandle::new(tokio::spawn(requests.serve(messages, sender)));
    let stream = Answers { frames, _task: task, end: None };
    let mut response = Response::new(EdgeBody::Stream(Box::new(stream)));
    *response.headers_mut() = grpc::headers();
    Ok(response)
}

/// The requests of a stream, one after the other.
struct Requests {
    edge: Arc<Edge>,
    /// Of all of them.
    head: Parts,
    /// The stream's.
    id: RequestId,
    num_begun: u64,
    /// What answers each.
    answer: AnswerStreamed,
}

impl Requests {
    async fn serve(mut self, mut messages: Messages, sender: mpsc::Sender<Frame<Bytes>>) {
        let last = loop {
            match messages.next().await {
                Ok(Some(message)) => {
                    let answer = self.answer(message).await;
                    if forward(answer.into_body(), &sender).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break grpc::ok(Vec::new()),
                Err(problem) => break grpc::failed(&problem),
            }
        };
        let trailers = last.trailers.map_or_else(HeaderMap::new, |trailers| *trailers);
        // The client may have left.
        let _ = sender.send(Frame::trailers(trailers)).await;
    }

    async fn answer(&mut self, message: Bytes) -> Response<EdgeBody> {
        self.num_begun += 1;
        let id = match self.head.headers.contains_key(headers::REQUEST_ID) {
            true => RequestId::new(format!("{}.{}", self.id.as_str(), self.num_begun)),
            false => RequestId::random(),
        };
        let (Self { edge, head, answer, .. }, protocol) = (self, &StreamedInfer::default());
        answer(StreamedRequest { edge, protocol, head, message, id }).await
    }
}

/// The client does not listen any more.
struct Left;

/// Hands on the messages of an answer. An answer whose end is cut off has said why.
async fn forward(mut answer: EdgeBody, sender: &mpsc::Sender<Frame<Bytes>>) -> Result<(), Left> {
    while let Some(Ok(frame)) = answer.frame().await {
        if frame.data_ref().is_some_and(|bytes| !bytes.is_empty()) {
            sender.send(frame).await.map_err(|_| Left)?;
        }
    }
    Ok(())
}

/// The messages of a stream.
struct Messages {
    body: Incoming,
    /// What has come of those that are next.
    rest: Bytes,
    /// What this holds of the ingress's budget.
    num_bytes: usize,
    edge: Arc<Edge>,
}

impl Messages {
    /// The next one, without what stands before it; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let limits = self.edge.limits.request.clone();
        if self.rest.is_empty() {
            let idle = millstream_clock::now() + limits.max_deadline;
            let waits = within(idle, std::pin::pin!(self.more())).await;
            if waits.map_err(|_| idle_for_too_long())??.is_none() {
                return Ok(None);
            }
        }
        let late = millstream_clock::now() + limits.body_time;
        let message = within(late, std::pin::pin!(self.whole(self.edge.max_body()))).await;
        let message = message.map_err(|_| too_slow(limits.body_time))??;
        // It counts again for the request that it is.
        self.give_back(self.rest.len());
        Ok(Some(message))
    }

    /// Waits for bytes, and adds them to the rest; `None` at the end.
    async fn more(&mut self) -> Result<Option<()>, Problem> {
        let Some(bytes) = self.frame().await? else { return Ok(None) };
        if self.rest.is_empty() {
            self.rest = bytes;
        } else {
            self.rest = [&self.rest[..], &bytes].concat().into();
        }
        Ok(Some(()))
    }

    /// A message whose first bytes have come. One that is in one frame is not copied, others once.
    async fn whole(&mut self, max_bytes: usize) -> Result<Bytes, Problem> {
        let prefix = loop {
            match self.rest.first_chunk() {
                Some(prefix) => break *prefix,
                None => self.more().await?.ok_or_else(cut_off)?,
            }
        };
        let length = grpc::announced(prefix)?;
        if length > max_bytes {
            return Err(too_large(max_bytes));
        }
        if self.rest.len() >= length {
            return Ok(grpc::without_prefix(self.rest.split_to(length)));
        }
        let mut all = BytesMut::with_capacity(length);
        all.extend_from_slice(&std::mem::take(&mut self.rest));
        while all.len() < length {
            let mut bytes = self.frame().await?.ok_or_else(cut_off)?;
            all.extend_from_slice(&bytes.split_to(bytes.len().min(length - all.len())));
            self.rest = bytes;
        }
        Ok(grpc::without_prefix(all.freeze()))
    }

    /// The next bytes that are not none.
    async fn frame(&mut self) -> Result<Option<Bytes>, Problem> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|_| Problem::malformed("the stream broke off"))?;
            let Ok(bytes) = frame.into_data() else { continue };
            if bytes.is_empty() {
                continue;
            }
            if !self.edge.bytes.take(bytes.len()) {
                return Err(Problem::out_of_memory());
            }
            self.num_bytes += bytes.len();
            return Ok(Some(bytes));
        }
        Ok(None)
    }

    /// Holds no more than so many bytes.
    fn give_back(&mut self, left: usize) {
        self.edge.bytes.give_back(self.num_bytes.saturating_sub(left));
        self.num_bytes = self.num_bytes.min(left);
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.give_back(0);
    }
}

fn cut_off() -> Problem {
    Problem::malformed("the stream ended in the middle of a message")
}

fn idle_for_too_long() -> Problem {
    let message = "the stream had no request for too long; open another one for the next";
    Failure::new(ErrorClass::Unavailable, message).into()
}

/// The answers on their way out.
struct Answers {
    frames: mpsc::Receiver<Frame<Bytes>>,
    /// Ends when the client leaves, and with it the request under way.
    _task: AbortOnDropHandle<()>,
    /// Each request has its own; the stream's goes with it.
    end: Option<Box<RequestEnd>>,
}

impl Stream for Answers {
    fn ends_with(&mut self, end: Box<RequestEnd>) {
        self.end = Some(end);
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.frames).poll_recv(cx).map(|frame| frame.map(Ok))
    }
}
