//! A request of any protocol, from its head to its answer: let in, read, executed within its deadline, answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use millstream_proto::call::CallContext;
use rand::Rng as _;
use tokio_util::task::AbortOnDropHandle;

use super::access::{key_of, may_call, table_of};
use super::answer::EdgeBody;
use super::byte_budget::VALUE_BYTES;
use super::called::{Called, called};
use super::execution::Execution;
use super::read_body::{Bounds, RequestBody, read_body, too_large};
use super::refusal::Refusal;
use super::request_end::RequestEnd;
use super::shadow::{Copy, Original};
use super::state::Edge;
use super::time_allowed::{Allowed, allowed};
use super::{headers, later, stream};
use crate::capture::PipelineCapture;
use crate::dispatch::QueueClass;
use crate::execute::{Caching, Context, Progress, parts};
use crate::keys::visit::Streams;
use crate::keys::{self, Estimate, Key};
use crate::model::{Failure, Tenant};
use crate::protocol::{Asked, Client, Exchange, Form, Last, Problem, Protocol, Wishes};
use crate::random;
use crate::routes::{DeadlineOf, Pipeline, Route, split};

/// Answers a request. Takes the body once the head has been found good.
///
/// # Errors
/// The problem to answer with.
pub(crate) async fn call(
    edge: &Edge,
    protocol: &dyn Protocol,
    head: &Parts,
    body: &mut Option<RequestBody>,
    end: &RequestEnd,
) -> Result<Response<EdgeBody>, Refusal> {
    let mut arrived = arrive(edge, protocol, head, body, end).await?;
    if let Some(response) = own_answer(edge, &mut arrived)? {
        end.is_own_page();
        return Ok(EdgeBody::whole(response));
    }
    let Arrived { mut exchange, asking } = arrived;
    match prepare(edge, head, &*exchange, asking, end) {
        Ok(ready) => run(edge, exchange, ready, end).await,
        Err(problem) => Err(Refusal::of(&mut *exchange, problem, end.told())),
    }
}

async fn run(
    edge: &Edge,
    mut exchange: Box<dyn Exchange>,
    ready: Ready,
    end: &RequestEnd,
) -> Result<Response<EdgeBody>, Refusal> {
    let request_id = end.request_id();
    let Ready { asked, choice, context, by, capture } = ready;
    let (deadline, draw) = (context.deadline, context.draw);
    let copy = copied(edge, &choice.route, &*exchange, &Original { request_id, deadline, draw });
    exchange.asked();
    exchange.runs_on(choice.pipeline().revision);
    let started = end.started();
    let execution = Execution { fields: asked.fields, context, by, started, copy, capture };
    let pipeline = choice.pipeline();
    let mut response = match asked.form {
        Form::Parts => {
            let (parts, receiver) = parts();
            let task = AbortOnDropHandle::new(tokio::spawn(execution.run_in(pipeline.clone(), parts)));
            let (request_id, keep_alive) = (request_id.clone(), edge.limits.request.stream_keep_alive);
            let trace = end.trace().cloned();
            let running = stream::Running {
                parts: receiver,
                task,
                exchange,
                request_id,
                trace,
                keep_alive,
                num_parts: 0,
            };
            stream::respond(running).await?
        }
        Form::Later => {
            let pipeline = pipeline.clone();
            let work = async move { execution.run(&pipeline).await };
            let (request_id, trace) = (request_id.clone(), end.trace().cloned());
            later::respond(later::Running { work, exchange, request_id, trace })
        }
        Form::Whole => {
            // Made where it stays: it is most of this future, which is copied several times before it runs.
            let value = Box::pin(execution.run(pipeline)).await;
            let value = value.map_err(|failure| Refusal::of(&mut *exchange, failure, end.told()))?;
            let response = exchange.answer(&value, end.told());
            end.takes_for_answer(response.body().num_bytes());
            let mut response = EdgeBody::whole(response);
            if let Some(trace) = end.told_trace() {
                let total = millstream_clock::now().saturating_duration_since(end.started());
                response.headers_mut().insert(headers::SERVER_TIMING, trace.server_timing(pipeline, total));
            }
            response
        }
    };
    response.headers_mut().insert(headers::REVISION, pipeline.revision_header.clone());
    Ok(response)
}

/// A request that was let in, and whose body is here.
struct Arrived {
    exchange: Box<dyn Exchange>,
    asking: Asking,
}

/// What it asks for beside its fields.
struct Asking {
    /// What it runs on, where its head says what it calls.
    early: Option<Choice>,
    key: Option<Arc<Key>>,
    claim: QueueClass,
    /// Of its body.
    num_bytes: usize,
    /// How long it may take, as its headers say it.
    asked_time: Option<Duration>,
}

async fn arrive(
    edge: &Edge,
    protocol: &dyn Protocol,
    head: &Parts,
    body: &mut Option<RequestBody>,
    end: &RequestEnd,
) -> Result<Arrived, Problem> {
    let (called, key) = let_in(edge, protocol, head, end)?;
    protocol.check_content(head)?;
    let asked_time = headers::timeout(&head.headers)?;
    let priority = headers::priority(&head.headers)?;
    let claim = keys::claim(key.as_deref(), priority);
    let early = called.map(|called| Choice::of(called, &head.headers, claim)).transpose()?;
    let take = |num_bytes| if end.takes(num_bytes) { Ok(()) } else { Err(Problem::out_of_memory()) };
    let limits = &edge.limits.request;
    let max_bytes =
        early.as_ref().map_or_else(|| edge.max_body(), |choice| edge.max_body_for(choice.pipeline()));
    let body = match body.take() {
        Some(body) => {
            let bounds = Bounds { length_of: protocol.length_of(), max_bytes, time: limits.body_time };
            read_body(body, bounds, take).await?
        }
        None => Bytes::new(),
    };
    let num_bytes = body.len();
    let mut exchange = protocol.read(head, body)?;
    let claim = keys::claim(key.as_deref(), priority.or(exchange.wishes().priority));
    let (tenant, responses) = (Tenant(claim.tenant), edge.responses.as_ref());
    take(exchange.comes_from(Client { tenant, priority: claim.priority, responses })?)?;
    exchange.wishes().user.into_iter().for_each(|user| end.is_for_user(user));
    Ok(Arrived { exchange, asking: Asking { early, key, claim, num_bytes, asked_time } })
}

/// The answer to a request that calls nothing, where its API has such requests.
fn own_answer(edge: &Edge, arrived: &mut Arrived) -> Result<Option<Response<Last>>, Problem> {
    if arrived.asking.early.is_some() || arrived.exchange.target().is_some() {
        return Ok(None);
    }
    let table = table_of(edge)?;
    let may_call = |(_, route): &(_, &Arc<Route>)| may_call(arrived.asking.key.as_ref(), route);
    let callable = table.callable.iter().filter(may_call);
    let mut callable = callable.map(|(name, route)| (&**name, &*route.variants[0].plan));
    Ok(arrived.exchange.own_answer(&mut callable))
}

/// What a request is to run with.
struct Ready {
    asked: Asked,
    choice: Choice,
    context: Context,
    by: DeadlineOf,
    capture: Option<Arc<PipelineCapture>>,
}

fn prepare(
    edge: &Edge,
    head: &Parts,
    exchange: &dyn Exchange,
    asking: Asking,
    end: &RequestEnd,
) -> Result<Ready, Problem> {
    let Asking { early, key, claim, num_bytes, asked_time } = asking;
    let choice = match early {
        Some(choice) => choice,
        None => Choice::of(called_in_body(edge, exchange, key.as_ref(), end)?, &head.headers, claim)?,
    };
    let max_bytes = edge.max_body_for(choice.pipeline());
    if num_bytes > max_bytes {
        return Err(too_large(max_bytes));
    }
    let asked = exchange.ask(&choice.pipeline().plan)?;
    if !end.takes(asked.num_values * VALUE_BYTES) {
        return Err(Problem::out_of_memory());
    }
    end.reserves(|| {
        let streams = if asked.form == Form::Parts { Streams::Yes } else { Streams::No };
        Estimate::of(num_bytes, &choice.pipeline().plan, &asked.fields, streams)
    })?;
    let Allowed { time, by } = allowed(asked_time, choice.pipeline().plan.timeout(), &edge.limits.request);
    let call = call_context(choice.pipeline(), end, key.as_deref(), head, exchange.wishes());
    if let Some(trace) = end.trace() {
        trace.runs_on(choice.index);
    }
    let context = Context {
        call: CallContext { priority: claim.priority, ..call },
        deadline: end.started() + time,
        guards: edge.guards.clone(),
        draw: choice.draw,
        claim,
        tenant: Tenant(claim.tenant),
        caching: Caching::Allowed,
        parts: None,
        trace: end.trace().cloned(),
        progress: Progress::default(),
    };
    let capture = captured(choice.pipeline(), &head.headers)?;
    Ok(Ready { asked, choice, context, by, capture })
}

/// Whether a request may come in, by its head: what it calls, where that is said there, and whose it is.
fn let_in(
    edge: &Edge,
    protocol: &dyn Protocol,
    head: &Parts,
    end: &RequestEnd,
) -> Result<(Option<Called>, Option<Arc<Key>>), Problem> {
    let table = table_of(edge)?;
    let key = key_of(edge, &table.keys, &head.headers);
    let known = key.as_ref().ok().and_then(Option::as_ref);
    let called = protocol.target(head).map(|target| called(&table, target, known, end));
    // Whoever has no key learns nothing, not even which routes there are.
    let key = key?;
    let called = called.transpose()?;
    let methods = protocol.methods(head.uri.path());
    if !methods.split(',').any(|method| method.trim_start() == head.method.as_str()) {
        return Err(Problem::method_not_allowed(methods));
    }
    if let Some(key) = &key {
        end.comes_with(key)?;
    }
    Ok((called, key))
}

fn called_in_body(
    edge: &Edge,
    exchange: &dyn Exchange,
    key: Option<&Arc<Key>>,
    end: &RequestEnd,
) -> Result<Called, Problem> {
    let target = exchange.target().ok_or_else(|| Problem::not_found("the request names nothing to call"))?;
    called(&*table_of(edge)?, target, key, end)
}

/// The revision that a request runs on.
struct Choice {
    route: Arc<Route>,
    /// Which of the route's.
    index: usize,
    /// The request's draw.
    draw: u16,
}

impl Choice {
    /// Chooses, and asks for room before anything is spent on the request.
    ///
    /// # Errors
    /// 404 for a revision that takes no requests, 503 where a queue that the request cannot do without is full.
    fn of(called: Called, headers: &HeaderMap, claim: QueueClass) -> Result<Self, Problem> {
        let Called { route, version } = called;
        let asked = headers::revision(headers)?;
        let asked = version.map(split::Asked::Number).or(asked);
        let draw = match headers.get(headers::STICKY_KEY) {
            Some(key) => split::draw_of(route.variants[0].plan.name().as_str(), key.as_bytes()),
            None => random::rng().random_range(0..1000),
        };
        let Some(index) = split::choose(&route.shares, asked, draw) else {
            let there: Vec<_> = route.shares.iter().map(|share| share.revision.to_string()).collect();
            let there = there.join(" and ");
            return Err(Problem::not_found(format!(
                "the request asks for a revision that takes no requests; revision {there} does"
            )));
        };
        has_room(&route.variants[index], claim)?;
        Ok(Self { route, index, draw })
    }

    fn pipeline(&self) -> &Arc<Pipeline> {
        &self.route.variants[self.index]
    }
}

/// What captures the request, where its pipeline captures and this request is one of them.
///
/// # Errors
/// 400 when the client says what it must not about it.
fn captured(pipeline: &Pipeline, headers: &HeaderMap) -> Result<Option<Arc<PipelineCapture>>, Problem> {
    let Some(capture) = &pipeline.capture else { return Ok(None) };
    let is_one = headers::may_be_captured(headers)? && capture.takes(random::rng().random_range(0..1000));
    Ok(is_one.then(|| capture.clone()))
}

/// Begins a copy of the request, where a revision gets copies and this request is one of them.
fn copied(edge: &Edge, route: &Route, exchange: &dyn Exchange, original: &Original<'_>) -> Option<Copy> {
    let (index, permille) = route.shadow?;
    let is_chosen = random::rng().random_range(0..1000) < permille;
    let pipeline = route.variants.get(index).filter(|_| is_chosen)?;
    edge.shadows.begin(pipeline, original, |plan| Some(exchange.ask(plan).ok()?.fields))
}

/// Asks for room before anything is spent on the request.
///
/// # Errors
/// 503 where a queue that it cannot do without is full.
fn has_room(pipeline: &Pipeline, claim: QueueClass) -> Result<(), Problem> {
    for &target in pipeline.plan.first_targets() {
        let deployment = &pipeline.targets[target];
        if let Some(shed) = deployment.turns_away(claim) {
            let (class, message) = (shed.class(), shed.message(deployment.name()));
            pipeline.counts.failed(class, DeadlineOf::Pipeline);
            return Err(Failure {
                retry_after_s: Some(shed.retry_after_s),
                refused: Some(shed.refused()),
                ..Failure::new(class, message)
            }
            .into());
        }
    }
    Ok(())
}

/// What travels with the request's calls.
fn call_context(
    pipeline: &Pipeline,
    end: &RequestEnd,
    key: Option<&Key>,
    head: &Parts,
    wishes: Wishes<'_>,
) -> CallContext {
    let name = pipeline.plan.name().as_str();
    let sticky = head.headers.get(headers::STICKY_KEY).map(HeaderValue::as_bytes);
    let sticky = sticky.or_else(|| wishes.affinity.map(str::as_bytes));
    CallContext {
        // A request with a trace gives each call a context of its own.
        trace: if end.trace().is_some() { None } else { headers::trace(&head.headers) },
        tenant: key.map(Key::name),
        affinity: sticky.map(|key| split::affinity_of(name, key)),
        ..CallContext::new(end.request_id().clone())
    }
}
