//! `POST {route}`: JSON in, a pipeline's response out, as JSON or as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};
use hyper::body::Incoming;
use millstream_proto::call::CallContext;
use millstream_proto::{ErrorClass, RequestId, Value};
use rand::Rng as _;
use tokio_util::task::AbortOnDropHandle;

use super::answer::{self, EdgeBody};
use super::byte_budget::VALUE_BYTES;
use super::in_flight::InFlight;
use super::problem::Problem;
use super::read_body::read_body;
use super::request_end::RequestEnd;
use super::shadow::{Copy, Original};
use super::state::Edge;
use super::{headers, sse};
use crate::dispatch::QueueClass;
use crate::execute::{Caching, Context, Progress, Timings, execute, parts};
use crate::model::Failure;
use crate::keys::{self, Key};
use crate::limits::RequestLimits;
use crate::routes::{DeadlineOf, Pipeline, Route, split};
use crate::model::Tenant;
use crate::{clock, random};

/// Runs a pipeline. Takes the body once the head has been found good.
///
/// # Errors
/// The problem to answer with.
pub(crate) async fn call(
    edge: &Edge,
    (route, key): (&Route, Option<&Key>),
    (head, body): (&Parts, &mut Option<Incoming>),
    end: &RequestEnd,
    in_flight: InFlight,
) -> Result<Response<EdgeBody>, Problem> {
    let request_id = end.request_id();
    headers::check_content(&head.headers)?;
    let asked = headers::timeout(&head.headers)?;
    let priority = headers::priority(&head.headers)?;
    let (pipeline, draw) = choose(route, &head.headers)?;
    let limits = &edge.limits.request;
    let allowed = allowed(asked, pipeline.plan.timeout(), limits);
    let deadline = end.started() + allowed.time;
    let claim = keys::claim(key, priority);
    has_room(pipeline, claim)?;
    let take = |num_bytes| if end.takes(num_bytes) { Ok(()) } else { Err(Problem::out_of_memory()) };
    let body = match body.take() {
        Some(body) => read_body(body, limits, take).await?,
        None => Bytes::new(),
    };
    let parsed = pipeline.plan.parse_request(&body)?;
    take(parsed.num_values * VALUE_BYTES)?;
    let copy = copied(edge, route, &Original { body: &body, request_id, deadline, draw });
    drop(body);
    let mut context = Context {
        call: CallContext { priority: claim.priority, ..call_context(pipeline, request_id, key, head) },
        deadline,
        guards: edge.guards.clone(),
        draw,
        claim,
        tenant: Tenant(claim.tenant),
        caching: Caching::Allowed,
        parts: None,
        timings: headers::wants_timing(&head.headers).then(Timings::default),
        progress: Progress::default(),
    };
    let mut response = if parsed.stream || headers::accepts_events(&head.headers) {
        let (parts, receiver) = parts();
        context.parts = Some(parts);
        let pipeline = pipeline.clone();
        let work = async move { counted(&pipeline, &parsed.fields, &context, allowed.by, copy).await };
        let task = AbortOnDropHandle::new(tokio::spawn(work));
        let keep_alive = limits.stream_keep_alive;
        let running = sse::Running { parts: receiver, task, request_id: request_id.clone(), keep_alive };
        sse::respond(running, in_flight).await?
    } else {
        let value = counted(pipeline, &parsed.fields, &context, allowed.by, copy).await?;
        let mut response = answer::json(&value);
        if let Some(timings) = &context.timings {
            let total = clock::now().saturating_duration_since(end.started());
            response.headers_mut().insert(headers::SERVER_TIMING, timings.header(total));
        }
        response
    };
    response.headers_mut().insert(headers::REVISION, pipeline.revision_header.clone());
    Ok(response)
}

/// Begins a copy of the request, where a revision gets copies and this request is one of them.
fn copied(edge: &Edge, route: &Route, original: &Original<'_>) -> Option<Copy> {
    let (index, permille) = route.shadow?;
    let is_chosen = random::rng().random_range(0..1000) < permille;
    edge.shadows.begin(route.variants.get(index).filter(|_| is_chosen)?, original)
}

/// Asks for room before anything is spent on the request.
///
/// # Errors
/// 503 where a queue that it cannot do without is full.
fn has_room(pipeline: &Pipeline, claim: QueueClass) -> Result<(), Problem> {
    for &target in pipeline.plan.first_targets() {
        let deployment = &pipeline.targets[target];
        if let Some(shed) = deployment.turns_away(claim) {
            let (class, message) = (ErrorClass::Overloaded, shed.message(deployment.name()));
            pipeline.counts.failed(class, DeadlineOf::Pipeline);
            return Err(Failure { class, message, retry_after_s: Some(shed.retry_after_s) }.into());
        }
    }
    Ok(())
}

/// What travels with the request's calls.
fn call_context(pipeline: &Pipeline, request_id: &RequestId, key: Option<&Key>, head: &Parts) -> CallContext {
    let name = pipeline.plan.name().as_str();
    CallContext {
        trace: headers::trace(&head.headers),
        tenant: key.map(Key::name),
        affinity: head.headers.get(headers::STICKY_KEY).map(|key| split::affinity_of(name, key.as_bytes())),
        ..CallContext::new(request_id.clone())
    }
}

/// The revision that the request runs on, and its draw.
fn choose<'a>(route: &'a Route, headers: &HeaderMap) -> Result<(&'a Arc<Pipeline>, u16), Problem> {
    let serving = &route.variants[0];
    let asked = headers::revision(headers)?;
    let draw = match headers.get(headers::STICKY_KEY) {
        Some(key) => split::draw_of(serving.plan.name().as_str(), key.as_bytes()),
        None => random::rng().random_range(0..1000),
    };
    match split::choose(&route.parts, asked, draw) {
        Some(index) => Ok((&route.variants[index], draw)),
        None => {
            let there: Vec<_> = route.parts.iter().map(|part| part.revision.to_string()).collect();
            let there = there.join(" and ");
            Err(Problem::not_found(format!(
                "header `{}` asks for a revision that takes no requests; revision {there} does",
                headers::REVISION
            )))
        }
    }
}

/// Executes the request, counts how it ended, and lets a copy compare.
async fn counted(
    pipeline: &Pipeline,
    fields: &Value,
    context: &Context,
    deadline: DeadlineOf,
    copy: Option<Copy>,
) -> Result<Value, Failure> {
    let result = execute(pipeline, fields, context).await;
    match &result {
        Ok(answer) => {
            pipeline.counts.answered();
            if let Some(copy) = copy {
                copy.compare(answer);
            }
        }
        Err(failure) => pipeline.counts.failed(failure.class, deadline),
    }
    result
}

/// How long a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowed {
    time: Duration,
    by: DeadlineOf,
}

/// What the client asks for, else what the pipeline says, within the limits.
fn allowed(asked: Option<Duration>, pipeline: Option<Duration>, limits: &RequestLimits) -> Allowed {
    let usual = pipeline.unwrap_or(limits.default_deadline).min(limits.max_deadline);
    let time = asked.unwrap_or(usual).min(limits.max_deadline);
    Allowed { time, by: if time < usual { DeadlineOf::Client } else { DeadlineOf::Pipeline } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_decides_then_the_pipeline_then_the_default_within_the_limit() {
        let seconds = Duration::from_secs;
        let table = [
            (None, None, 60, DeadlineOf::Pipeline),
            (None, Some(10), 10, DeadlineOf::Pipeline),
            (Some(2), Some(10), 2, DeadlineOf::Client),
            (Some(10), Some(10), 10, DeadlineOf::Pipeline),
            (Some(20), Some(10), 20, DeadlineOf::Pipeline),
            (Some(9999), None, 600, DeadlineOf::Pipeline),
            (Some(30), None, 30, DeadlineOf::Client),
        ];
        for (asked, pipeline, time, by) in table {
            let allowed = allowed(asked.map(seconds), pipeline.map(seconds), &RequestLimits::default());
            assert_eq!(allowed, Allowed { time: seconds(time), by });
        }
    }
}
