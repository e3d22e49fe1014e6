//! The trace of one request while it runs.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use millstream_proto::call::{Timing, TraceContext};
use millstream_proto::{ErrorClass, ReplicaId};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::routes::{Pipeline, Route};

/// A stage's call, with everything that was needed for it.
#[derive(Debug)]
pub(crate) struct TracedCall {
    /// How many calls of the request had begun, with this one.
    pub number: u32,
    /// Its stage's index in the pipeline's plan.
    pub stage: usize,
    /// The index of what it calls in the pipeline's targets.
    pub target: usize,
    pub began: Instant,
    /// `None` while it runs.
    pub ended: Option<Instant>,
    /// Class of the error that it ended with.
    pub error: Option<ErrorClass>,
    tries: SmallVec<[TracedTry; 1]>,
}

/// A wait for a place in a replica, and the call to it.
#[derive(Debug)]
pub(crate) struct TracedTry {
    /// Since when it waited for a place.
    pub began: Instant,
    /// When it had one, or was given none.
    pub placed: Instant,
    /// When it ended; `None` for one that ended with its stage's call.
    pub ended: Option<Instant>,
    /// Where it had its place.
    pub replica: Option<ReplicaId>,
    /// How many tries there had been before.
    pub attempt: u32,
    /// What the replica says of its time.
    pub reported: Option<Timing>,
    /// Class of the error that it ended with.
    pub error: Option<ErrorClass>,
}

/// Most tries that are kept of a call; of more, the first ones and the last one.
const MAX_TRIES: usize = 8;
/// Spans of a call are numbered from its own.
const SPANS_PER_CALL: u32 = 32;

impl TracedCall {
    /// Its own span.
    pub(super) fn span(&self) -> u32 {
        self.number.wrapping_mul(SPANS_PER_CALL)
    }

    /// The spans of a try: waiting for a place, and the call to the replica.
    pub(super) fn spans_of(&self, index: usize) -> [u32; 2] {
        let queue = self.span().wrapping_add(2 * u32::try_from(index).unwrap_or_default() + 1);
        [queue, queue + 1]
    }

    /// The span of the call to a replica that is under way.
    pub(crate) fn current_span(&self) -> u32 {
        self.spans_of(self.tries.len().saturating_sub(1))[1]
    }

    pub(super) fn tries(&self) -> &[TracedTry] {
        &self.tries
    }

    /// A try begins.
    pub(crate) fn tries_at(&mut self, begun: TracedTry) {
        if self.tries.len() == MAX_TRIES {
            self.tries.pop();
        }
        self.tries.push(begun);
    }

    /// The try under way.
    pub(crate) fn last_try(&mut self) -> Option<&mut TracedTry> {
        self.tries.last_mut()
    }
}

/// When a trace is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sampling {
    /// Whatever becomes of the request.
    Always,
    /// As its end decides.
    #[default]
    ByItsEnd,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Trace {
    /// The trace; random, or the client's.
    pub(super) trace_id: [u8; 16],
    /// The request's own span; those of its parts are numbered from it.
    root: u64,
    /// What the client has sent.
    pub(super) parent: Option<TraceContext>,
    /// When it is kept.
    pub(super) sampling: Sampling,
    /// Which of its route's revisions it runs on, from 1; 0 before one is chosen.
    variant: AtomicU32,
    num_calls: AtomicU32,
    /// Tokens that went into models, and that models made.
    tokens: [AtomicU64; 2],
    calls: Mutex<Vec<TracedCall>>,
}

/// Most calls of a trace: a `for_each` may have tens of thousands.
const MAX_CALLS: usize = 170;

impl Trace {
    /// Becomes the trace of a request that begins; one that was there before has been forgotten. `random` is for its ids.
    pub(super) fn begin(&mut self, parent: Option<TraceContext>, random: [u64; 2], sampling: Sampling) {
        let [high, low] = random;
        let own = || (u128::from(high) << 64 | u128::from(low)).max(1).to_be_bytes();
        self.trace_id = parent.as_ref().map_or_else(own, |parent| parent.trace_id);
        self.root = high;
        self.parent = parent;
        self.sampling = sampling;
        *self.variant.get_mut() = 0;
        *self.num_calls.get_mut() = 0;
        self.tokens = Default::default();
    }

    /// Lets go of all that it refers to; returns how many calls it has memory for.
    pub(super) fn forget(&mut self) -> usize {
        let calls = self.calls.get_mut();
        calls.clear();
        calls.capacity()
    }

    /// The request runs on this one of its route's revisions.
    pub(crate) fn runs_on(&self, index: usize) {
        self.variant
            .store(u32::try_from(index).map_or(0, |index| index.saturating_add(1)), Ordering::Relaxed);
    }

    /// What the request runs on, once that is chosen.
    pub(super) fn pipeline_of<'r>(&self, route: &'r Route) -> Option<&'r Pipeline> {
        let index = self.variant.load(Ordering::Relaxed).checked_sub(1)?;
        route.variants.get(usize::try_from(index).ok()?).map(|pipeline| &**pipeline)
    }

    /// A stage's call that begins now.
    pub(crate) fn begin_call(&self, stage: usize, target: usize, now: Instant) -> TracedCall {
        let number = self.num_calls.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        TracedCall { number, stage, target, began: now, ended: None, error: None, tries: SmallVec::new() }
    }

    /// Takes what there is of a call that is over.
    pub(crate) fn add(&self, call: &mut TracedCall) {
        for reported in call.tries.iter().filter_map(|tried| tried.reported.as_ref()) {
            for (sum, tokens) in self.tokens.iter().zip([reported.input_tokens, reported.output_tokens]) {
                if tokens > 0 {
                    sum.fetch_add(u64::from(tokens), Ordering::Relaxed);
                }
            }
        }
        let mut calls = self.calls.lock();
        if calls.len() < MAX_CALLS {
            calls.push(TracedCall { tries: std::mem::take(&mut call.tries), ..*call });
        }
    }

    /// The tokens of all calls so far: those that went into models, and those that models made.
    pub(crate) fn tokens(&self) -> [u64; 2] {
        self.tokens.each_ref().map(|sum| sum.load(Ordering::Relaxed))
    }

    /// Whether a replica was at work for the request and could not tell what it has done. The calls of a stream that was left may end
    /// a moment later; they count as well.
    pub(crate) fn was_cut_off(&self) -> bool {
        let calls = self.calls.lock();
        let num_begun = self.num_calls.load(Ordering::Relaxed);
        let is_cut =
            |tried: &TracedTry| tried.replica.is_some() && tried.reported.is_none() && tried.error.is_none();
        let was_cut =
            |call: &TracedCall| call.error == Some(ErrorClass::Cancelled) && call.tries.iter().any(is_cut);
        u32::try_from(calls.len()).is_ok_and(|num_ended| num_ended < num_begun) || calls.iter().any(was_cut)
    }

    pub(super) fn take_calls(&self) -> Vec<TracedCall> {
        std::mem::take(&mut self.calls.lock())
    }

    /// What a call that is a part of that span tells its replica.
    pub(crate) fn context_of(&self, span: u32) -> TraceContext {
        let sampled = u8::from(self.sampling == Sampling::Always);
        let (flags, state) = match &self.parent {
            Some(parent) => (parent.flags | sampled, parent.state.clone()),
            None => (sampled, None),
        };
        TraceContext { trace_id: self.trace_id, parent_id: self.span_id(span).to_be_bytes(), flags, state }
    }

    /// The id of the span of that number: unlike those of other requests, and never 0.
    pub(super) fn span_id(&self, span: u32) -> u64 {
        // Splitmix64: spreads numbers that follow each other over all 64 bits.
        let mut id = self.root.wrapping_add(u64::from(span).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        id = (id ^ id >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ id >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (id ^ id >> 31).max(1)
    }

    /// Where the time went so far, in milliseconds, by stage: `embed-queue;dur=0.1, embed-batch;dur=2.0, embed-run;dur=9.1, …,
    /// total;dur=12.4`. Calls that run at the same time add up. Source: the W3C's Server Timing.
    pub(crate) fn server_timing(&self, pipeline: &Pipeline, total: Duration) -> HeaderValue {
        let names: Vec<_> = pipeline.plan.stages().map(|(name, _)| name).collect();
        self.timing_of(&names, total)
    }

    /// The same, with the names of the stages by index.
    fn timing_of(&self, names: &[&str], total: Duration) -> HeaderValue {
        let mut stages: Vec<(usize, Spent)> = Vec::new();
        for call in self.calls.lock().iter() {
            let index = stages.iter().position(|(other, _)| *other == call.stage).unwrap_or_else(|| {
                stages.push((call.stage, Spent::default()));
                stages.len() - 1
            });
            call.tries.iter().for_each(|tried| stages[index].1.add(tried, call));
        }
        let mut text = String::new();
        for (stage, Spent { queue, batch, run }) in stages {
            let stage = names.get(stage).unwrap_or(&"stage");
            for (part, time) in [("queue", queue), ("batch", batch), ("run", run)] {
                let _ = write!(text, "{stage}-{part};dur={:.3}, ", time.as_secs_f64() * 1e3);
            }
        }
        let _ = write!(text, "total;dur={:.3}", total.as_secs_f64() * 1e3);
        // Names of stages are harmless in headers.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("total"))
    }
}

/// What the calls of a stage have spent.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    queue: Duration,
    batch: Duration,
    run: Duration,
}

impl Spent {
    /// Adds a try of a call; all of one that its replica says nothing about counts as running.
    fn add(&mut self, tried: &TracedTry, call: &TracedCall) {
        self.queue += tried.placed.saturating_duration_since(tried.began);
        match (&tried.reported, tried.ended.or(call.ended)) {
            (Some(timing), _) => {
                self.batch += timing.waited;
                self.run += timing.ran;
            }
            (None, Some(ended)) => self.run += ended.saturating_duration_since(tried.placed),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(parent: Option<TraceContext>, random: [u64; 2], sampling: Sampling) -> Trace {
        let mut trace = Trace::default();
        trace.begin(parent, random, sampling);
        trace
    }

    /// A trace of two calls of `rerank` and one of `embed`, each queued for a millisecond.
    fn example(began: Instant) -> Trace {
        let trace = begun(None, [1, 2], Sampling::ByItsEnd);
        let ms = |ms| began + Duration::from_millis(ms);
        for (stage, reported) in [(1, Some((2, 3))), (0, None), (1, Some((0, 3)))] {
            let mut call = trace.begin_call(stage, stage, ms(0));
            let reported = reported.map(|(waited, ran)| Timing {
                waited: Duration::from_millis(waited),
                ran: Duration::from_millis(ran),
                batch_size: 4,
                ..Timing::default()
            });
            call.tries_at(TracedTry {
                began: ms(0),
                placed: ms(1),
                ended: None,
                replica: Some("r".into()),
                attempt: 0,
                reported,
                error: None,
            });
            call.ended = Some(ms(7));
            trace.add(&mut call);
        }
        trace
    }

    #[test]
    fn calls_of_a_stage_add_up_and_stages_keep_their_order() {
        let trace = example(millstream_clock::now());
        assert_eq!(
            trace.timing_of(&["embed", "rerank"], Duration::from_micros(12_345)),
            "rerank-queue;dur=2.000, rerank-batch;dur=2.000, rerank-run;dur=6.000, embed-queue;dur=1.000, \
             embed-batch;dur=0.000, embed-run;dur=6.000, total;dur=12.345"
        );
    }

    #[test]
    fn ids_differ_and_the_clients_trace_goes_on() {
        let trace = begun(None, [0; 2], Sampling::Always);
        let ids: std::collections::BTreeSet<_> = (0..10_000).map(|span| trace.span_id(span)).collect();
        assert_eq!((ids.len(), ids.contains(&0)), (10_000, false));
        assert_ne!(trace.trace_id, [0; 16]);
        let parent = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        let trace = begun(Some(parent), [1, 2], Sampling::Always);
        let context = trace.context_of(5);
        assert_eq!((context.trace_id[0], context.flags), (0x4b, 1));
        assert_eq!(context.parent_id, trace.span_id(5).to_be_bytes());
    }

    #[test]
    fn a_trace_is_bounded() {
        let trace = begun(None, [1, 2], Sampling::ByItsEnd);
        let now = millstream_clock::now();
        for _ in 0..2 * MAX_CALLS {
            let mut call = trace.begin_call(0, 0, now);
            for attempt in 0..100 {
                let (ended, reported, error) = (Some(now), None, Some(ErrorClass::Unavailable));
                let replica = None;
                call.tries_at(TracedTry {
                    began: now,
                    placed: now,
                    ended,
                    replica,
                    attempt,
                    reported,
                    error,
                });
            }
            trace.add(&mut call);
        }
        let calls = trace.take_calls();
        assert_eq!((calls.len(), calls[0].tries.len()), (MAX_CALLS, MAX_TRIES));
        assert_eq!(calls[0].tries.last().map(|last| last.attempt), Some(99));
        let spans =
            |call: &TracedCall| (0..MAX_TRIES).flat_map(|index| call.spans_of(index)).collect::<Vec<_>>();
        assert!(
            spans(&calls[0]).iter().all(|span| *span < calls[1].span()),
            "each span has a number of its own"
        );
    }
}
