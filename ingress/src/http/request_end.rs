//! The end of a request, whichever way it comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::request::Parts;
use millstream_proto::RequestId;

use super::headers;
use super::request_log::{Ended, RequestLine};
use super::state::Edge;
use crate::keys::visit::{Ending, Entry, Work};
use crate::keys::{Allowance, Estimate, Key, TokenAllowance, Visit};
use crate::metrics::CLIENT_LEFT;
use crate::model::Failure;
use crate::protocol::{Problem, Spent, Told};
use crate::routes::Route;
use crate::trace::{Finished, Trace};

/// Counts a request's end and tells the log; a client that left before it did is 499. It goes with the answer: a stream
/// ends with its last event. What the request holds of its key's concurrency is given back with it.
pub(crate) struct RequestEnd {
    request_id: RequestId,
    line: RequestLine,
    started: Instant,
    status: u16,
    /// Why it has no answer.
    problem: Option<Problem>,
    served: OnceLock<Served>,
    /// What it holds of the limits of its key, where it came with one.
    visit: OnceLock<Visit>,
    /// Bytes that it has taken of the ingress's budget.
    num_bytes: AtomicUsize,
    /// Where its time goes, when somebody wants to know.
    trace: Option<Arc<Trace>>,
    tracing: Tracing,
    edge: Arc<Edge>,
}

/// Whether a request's answer needs its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracing {
    /// The client wants to know where the time goes.
    Told,
    /// It tells something that the trace knows.
    Needed,
    /// It does not.
    Optional,
}

/// The status of a request whose deadline has passed.
const TIMED_OUT: u16 = 504;

/// What a request turned out to be for.
enum Served {
    /// A pipeline.
    Route(Arc<Route>),
    /// A page of the ingress's own, which is not counted.
    OwnPage,
}

impl RequestEnd {
    /// A request that starts now.
    pub(crate) fn new(request_id: RequestId, head: &Parts, edge: Arc<Edge>, tracing: Tracing) -> Self {
        let started = millstream_clock::now();
        let (served, visit) = (OnceLock::new(), OnceLock::new());
        let num_bytes = AtomicUsize::new(0);
        let (line, status) = (RequestLine::from(head), CLIENT_LEFT);
        let parent = || headers::trace(&head.headers);
        // What a key is charged is what the trace knows.
        let has_key = || !edge.traces.are_on() && headers::secret(&head.headers).is_some();
        let trace = match tracing {
            Tracing::Optional if !has_key() => edge.traces.begin(parent),
            _ => Some(edge.traces.begin_for_client(parent())),
        };
        Self {
            request_id,
            line,
            started,
            status,
            problem: None,
            served,
            visit,
            num_bytes,
            trace,
            tracing,
            edge,
        }
    }

    /// The request's id.
    pub(crate) fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Where its time goes, when somebody wants to know.
    pub(crate) fn trace(&self) -> Option<&Arc<Trace>> {
        self.trace.as_ref()
    }

    /// The same, when it is the client.
    pub(crate) fn told_trace(&self) -> Option<&Trace> {
        self.trace.as_deref().filter(|_| self.tracing == Tracing::Told)
    }

    /// What it has spent, where its answer tells that.
    fn spent(&self) -> Spent {
        let trace = self.trace.as_deref().filter(|_| self.tracing != Tracing::Optional);
        trace.map(Spent::of).unwrap_or_default()
    }

    /// What its answer may tell of it.
    pub(crate) fn told(&self) -> Told<'_> {
        Told { request_id: &self.request_id, spent: self.spent() }
    }

    /// When it came.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// It is for the pipeline of this route.
    pub(crate) fn is_for(&self, route: Arc<Route>) {
        let _ = self.served.set(Served::Route(route));
    }

    /// It is for this user of its tenant.
    pub(crate) fn is_for_user(&self, user: &str) {
        self.line.is_for_user(user);
    }

    /// It asks for a page of the ingress's own.
    pub(crate) fn is_own_page(&self) {
        let _ = self.served.set(Served::OwnPage);
    }

    /// It came with this key, which is asked whether it may come in.
    ///
    /// # Errors
    /// What to tell the client when the key is at one of its limits.
    pub(crate) fn comes_with(&self, key: &Arc<Key>) -> Result<(), Failure> {
        let (visit, admitted) = Visit::enter(key);
        let _ = self.visit.set(visit);
        admitted
    }

    /// What it is expected to need is set aside of its key's tokens, where it has a key.
    ///
    /// # Errors
    /// What to tell the client when there are not so many.
    pub(crate) fn reserves(&self, estimate: impl FnOnce() -> Estimate) -> Result<(), Failure> {
        self.visit.get().map_or(Ok(()), |visit| visit.reserve(estimate()))
    }

    /// What its key may still do, where it has one with a rate.
    pub(crate) fn allowance(&self) -> Option<Allowance> {
        self.visit.get()?.allowance()
    }

    /// How many tokens its key may still use, where it has one with a limit of them.
    pub(crate) fn token_allowance(&self) -> Option<TokenAllowance> {
        self.visit.get()?.token_allowance()
    }

    /// So many parts of its answer have come.
    pub(crate) fn had_parts(&mut self, num_parts: u64) {
        if let Some(visit) = self.visit.get_mut() {
            visit.num_parts = num_parts;
        }
    }

    /// How it has ended, for its key.
    fn ending(&self, trace: Option<&Trace>) -> Ending {
        let is_cut = matches!(self.status, CLIENT_LEFT | TIMED_OUT);
        let was_at_work = is_cut && trace.is_some_and(Trace::was_cut_off);
        let is_refusal = self.problem.as_ref().is_some_and(Problem::is_refusal);
        Ending {
            told: trace.map(Trace::tokens).unwrap_or_default(),
            work: if was_at_work { Work::CutOff } else { Work::Complete },
            entry: if is_refusal { Entry::Refused } else { Entry::Admitted },
        }
    }

    /// It takes so many bytes more of what all requests may hold, if there are as many; they are given back at its end.
    pub(crate) fn takes(&self, num_bytes: usize) -> bool {
        let fits = self.edge.bytes.take(num_bytes);
        if fits {
            self.num_bytes.fetch_add(num_bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Its answer takes so many bytes. It has begun, so it is not refused; those that come next are.
    pub(crate) fn takes_for_answer(&self, num_bytes: usize) {
        self.edge.bytes.take_anyway(num_bytes);
        self.num_bytes.fetch_add(num_bytes, Ordering::Relaxed);
    }

    /// It has an answer, whole or up to its first event.
    pub(crate) fn answered(&mut self, status: http::StatusCode) {
        self.status = status.as_u16();
    }

    /// It has no answer, or none to its end.
    pub(crate) fn failed(&mut self, problem: Problem) {
        self.answered(problem.status());
        self.problem = Some(problem);
    }

    /// Its stream has begun and has not come to its end: a client that leaves now is one that left.
    pub(crate) fn streams(&mut self) {
        self.status = CLIENT_LEFT;
    }
}

impl Drop for RequestEnd {
    fn drop(&mut self) {
        self.edge.bytes.give_back(*self.num_bytes.get_mut());
        if let Some(visit) = self.visit.take() {
            let model = match self.served.get() {
                Some(Served::Route(route)) => Some(route.variants[0].plan.callable_name()),
                _ => None,
            };
            visit.end(model, &self.ending(self.trace.as_deref()));
        }
        let now = millstream_clock::now();
        let elapsed = now.saturating_duration_since(self.started);
        let route = match self.served.get() {
            Some(Served::Route(route)) => {
                route.variants[0].meter.ended(self.status, elapsed);
                Some(&**route)
            }
            // Whoever asks it knows; probes ask all the time.
            Some(Served::OwnPage) => return,
            None => {
                self.edge.unrouted.ended(self.status, elapsed);
                None
            }
        };
        let trace = self.trace.take();
        let Self { request_id, line, status, problem, .. } = &*self;
        let ended = Ended {
            request_id,
            line,
            status: *status,
            elapsed,
            pipeline: route.map(|route| &*route.variants[0]),
            problem: problem.as_ref(),
            trace: trace.as_deref(),
        };
        self.edge.log.tell(&ended, now);
        if let Some(trace) = trace {
            let (started, method, user) = (self.started, line.method(), line.user());
            let ended = Finished { request_id, started, elapsed, status: *status, method, user, route };
            self.edge.traces.end(trace, &ended);
        }
    }
}
