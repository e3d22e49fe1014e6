//! `POST {route}`: JSON in, a pipeline's response out, as JSON or as server-sent events.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use hyper::body::Incoming;
use millstream_proto::{RequestId, Value};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::answer::{self, EdgeBody};
use super::connection::InFlight;
use super::edge::Edge;
use super::problem::Problem;
use super::read_body::read_body;
use super::{headers, sse};
use crate::clock;
use crate::execute::{Context, Notes, execute};
use crate::limits::RequestLimits;
use crate::metrics::CLIENT_LEFT;
use crate::routes::Pipeline;

/// Runs a pipeline. Takes the body once the head has been found good.
///
/// # Errors
/// The problem to answer with.
pub(crate) async fn call(
    edge: &Edge,
    pipeline: Arc<Pipeline>,
    (head, body): (&Parts, &mut Option<Incoming>),
    request_id: &RequestId,
    in_flight: InFlight,
) -> Result<Response<EdgeBody>, Problem> {
    let arrived = clock::now();
    headers::check_content(&head.headers)?;
    let asked = headers::timeout(&head.headers)?;
    let limits = &edge.limits.request;
    let deadline = arrived + allowed(asked, pipeline.plan.timeout(), limits);
    let body = match body.take() {
        Some(body) => read_body(body, limits).await?,
        None => Bytes::new(),
    };
    let parsed = pipeline.plan.parse_request(&body)?;
    drop(body);
    let mut context = Context {
        request_id: request_id.clone(),
        deadline,
        budget: edge.budget.clone(),
        parts: None,
        notes: parking_lot::Mutex::new(Notes::default()),
    };
    if parsed.stream || headers::accepts_events(&head.headers) {
        let (parts, receiver) = mpsc::channel(sse::MAX_WAITING_PARTS);
        context.parts = Some(parts);
        let task = AbortOnDropHandle::new(tokio::spawn(own(pipeline, parsed.fields, context)));
        let keep_alive = limits.stream_keep_alive;
        let running = sse::Running { parts: receiver, task, request_id: request_id.clone(), keep_alive };
        return sse::respond(running, in_flight).await;
    }
    let response = execute(&pipeline, &parsed.fields, &context).await?;
    Ok(answer::json(&response))
}

/// The execution as a future that owns what it works on.
async fn own(
    pipeline: Arc<Pipeline>,
    fields: Value,
    context: Context,
) -> Result<Value, crate::execute::Failure> {
    execute(&pipeline, &fields, &context).await
}

/// How long a request may take: what the client asks for, else what the pipeline says, within the limits.
fn allowed(asked: Option<Duration>, pipeline: Option<Duration>, limits: &RequestLimits) -> Duration {
    asked.or(pipeline).unwrap_or(limits.default_deadline).min(limits.max_deadline)
}

/// Counts a request's end and tells the log; a client that left before it did is 499. It goes with the answer: a stream
/// ends with its last event.
pub(crate) struct RequestEnd {
    request_id: RequestId,
    started: Instant,
    status: u16,
    served: OnceLock<Served>,
    edge: Arc<Edge>,
}

/// What a request turned out to be for.
enum Served {
    /// A pipeline.
    Pipeline(Arc<Pipeline>),
    /// A page of the ingress's own, which is not counted.
    OwnPage,
}

impl RequestEnd {
    /// A request that starts now.
    pub(crate) fn new(request_id: RequestId, edge: Arc<Edge>) -> Self {
        let started = clock::now();
        Self { request_id, started, status: CLIENT_LEFT, served: OnceLock::new(), edge }
    }

    /// The request's id.
    pub(crate) fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// It is for this pipeline.
    pub(crate) fn is_for(&self, pipeline: Arc<Pipeline>) {
        let _ = self.served.set(Served::Pipeline(pipeline));
    }

    /// It asks for a page of the ingress's own.
    pub(crate) fn is_own_page(&self) {
        let _ = self.served.set(Served::OwnPage);
    }

    /// It has an answer, whole or up to its first event.
    pub(crate) fn answered(&mut self, status: http::StatusCode) {
        self.status = status.as_u16();
    }

    /// Its stream has begun and has not come to its end: a client that leaves now is one that left.
    pub(crate) fn streams(&mut self) {
        self.status = CLIENT_LEFT;
    }
}

impl Drop for RequestEnd {
    fn drop(&mut self) {
        let elapsed = clock::now().saturating_duration_since(self.started);
        match self.served.get() {
            Some(Served::Pipeline(pipeline)) => pipeline.meter.ended(self.status, elapsed),
            Some(Served::OwnPage) => {}
            None => self.edge.unrouted.ended(self.status, elapsed),
        }
        let (request_id, status) = (&self.request_id, self.status);
        tracing::debug!(%request_id, status, elapsed_ms = elapsed.as_millis(), "request ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_decides_then_the_pipeline_then_the_default_within_the_limit() {
        let seconds = Duration::from_secs;
        let table = [
            (None, None, 60),
            (None, Some(10), 10),
            (Some(2), Some(10), 2),
            (Some(20), Some(10), 20),
            (Some(9999), None, 600),
        ];
        for (asked, pipeline, expected) in table {
            let allowed = allowed(asked.map(seconds), pipeline.map(seconds), &RequestLimits::default());
            assert_eq!(allowed, seconds(expected));
        }
    }
}
