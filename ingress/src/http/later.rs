//! Answers that are made after their client was told that the request is taken. The work goes on without the connection; it holds what a
//! request holds (its key's place, its bytes) until its end, and keeps its deadline. Whoever has the handle can stop it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Response, StatusCode};
use hyper::body::Frame;
use millstream_proto::{ErrorClass, RequestId, Value};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::answer::{EdgeBody, Stream};
use super::request_end::RequestEnd;
use crate::model::Failure;
use crate::protocol::{Exchange, Problem, Spent, Told};
use crate::trace::Trace;

/// A request that is about to run.
pub(crate) struct Running<W> {
    /// Makes the answer.
    pub work: W,
    /// What is told of it, now and at its end.
    pub exchange: Box<dyn Exchange>,
    /// For errors.
    pub request_id: RequestId,
    /// Knows what the request has spent.
    pub trace: Option<Arc<Trace>>,
}

/// What the work waits for.
struct Start {
    exchange: Box<dyn Exchange>,
    end: Box<RequestEnd>,
}

/// The body of what is told at once; the work starts when it is known how the request ends.
struct Accepted {
    first: Option<Bytes>,
    start: Option<(oneshot::Sender<Start>, Box<dyn Exchange>)>,
}

/// What is told at once.
pub(crate) fn respond<W>(running: Running<W>) -> Response<EdgeBody>
where
    W: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    let Running { work, mut exchange, request_id, trace } = running;
    let (sender, started) = oneshot::channel::<Start>();
    let task = tokio::spawn(async move {
        let Ok(Start { mut exchange, mut end }) = started.await else { return };
        let result = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(%request_id, "the code that answers a request in the background panicked");
            Err(Failure::new(ErrorClass::Internal, "the request ended by a fault of the server"))
        });
        let result = result.map_err(Problem::from);
        match &result {
            Ok(_) => end.answered(StatusCode::OK),
            Err(problem) => end.failed(problem.clone()),
        }
        let spent = trace.as_deref().map(Spent::of).unwrap_or_default();
        drop(trace);
        // The last thing: it drops the handle of this task.
        exchange.end(result.as_ref(), Told { request_id: &request_id, spent });
    });
    exchange.accept(AbortOnDropHandle::new(task)).map(|last| {
        let accepted = Accepted { first: Some(last.bytes), start: Some((sender, exchange)) };
        EdgeBody::Stream(Box::new(accepted))
    })
}

impl Stream for Accepted {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.first.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn ends_with(&mut self, mut end: Box<RequestEnd>) {
        // Work that is stopped is that of a client who left.
        end.streams();
        if let Some((sender, exchange)) = self.start.take() {
            let _ = sender.send(Start { exchange, end });
        }
    }
}
