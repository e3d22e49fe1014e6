//! The trace of one request while it runs.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use millstream_proto::call::{Timing, TraceContext};
use millstream_proto::{ErrorClass, ReplicaId};
use parking_lot::Mutex;

use crate::routes::Pipeline;

/// Something that was done for a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    /// Its number in the trace.
    pub id: u32,
    /// The number of the span that it is a part of; 0 is the request itself.
    pub parent: u32,
    pub start: Instant,
    pub end: Instant,
    pub work: Work,
    /// Class of the error that it ended with.
    pub error: Option<ErrorClass>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// A stage's call, with everything that was needed for it.
    Stage {
        /// Its index in the pipeline's plan.
        stage: usize,
        /// The index of what it calls in the pipeline's targets.
        target: usize,
    },
    /// Waiting for a place in a replica.
    Queue,
    /// A call to a replica.
    Try {
        replica: ReplicaId,
        /// How many tries there had been before.
        attempt: u32,
        /// What the replica says of its time.
        reported: Option<Timing>,
    },
}

/// When a trace is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sampling {
    /// Whatever becomes of the request.
    Always,
    /// As its end decides.
    ByItsEnd,
}

/// See the module.
pub(crate) struct Trace {
    /// The trace; random, or the client's.
    pub(super) trace_id: [u8; 16],
    /// The request's own span; those of its parts are numbered from it.
    pub(super) root: u64,
    /// What the client has sent.
    pub(super) parent: Option<TraceContext>,
    /// When it is kept.
    pub(super) sampling: Sampling,
    /// What it runs on, once that is chosen.
    pipeline: OnceLock<Arc<Pipeline>>,
    last_id: AtomicU32,
    /// Tokens that went into models, and that models made.
    tokens: [AtomicU64; 2],
    spans: Mutex<Vec<Span>>,
}

/// Most spans of a trace: a `for_each` may have tens of thousands of calls.
const MAX_SPANS: usize = 512;

impl Trace {
    /// The trace of a request that begins. `random` is for its ids.
    pub(super) fn new(parent: Option<TraceContext>, random: [u64; 3], sampling: Sampling) -> Self {
        let [high, low, root] = random;
        let own = (u128::from(high) << 64 | u128::from(low)).max(1).to_be_bytes();
        Self {
            trace_id: parent.as_ref().map_or(own, |parent| parent.trace_id),
            root,
            parent,
            sampling,
            pipeline: OnceLock::new(),
            last_id: AtomicU32::new(0),
            tokens: Default::default(),
            spans: Mutex::default(),
        }
    }

    /// Becomes another trace, which takes over the memory for spans.
    pub(super) fn begin_again(&mut self, other: Self) {
        let spans = std::mem::take(self.spans.get_mut());
        *self = Self { spans: Mutex::new(spans), ..other };
    }

    /// Lets go of all that it refers to; returns how many spans it has memory for.
    pub(super) fn forget(&mut self) -> usize {
        self.pipeline = OnceLock::new();
        let spans = self.spans.get_mut();
        spans.clear();
        spans.capacity()
    }

    /// The request runs on this.
    pub(crate) fn runs_on(&self, pipeline: Arc<Pipeline>) {
        let _ = self.pipeline.set(pipeline);
    }

    pub(super) fn pipeline(&self) -> Option<&Pipeline> {
        self.pipeline.get().map(|pipeline| &**pipeline)
    }

    /// A number for a span that begins.
    pub(crate) fn next_id(&self) -> u32 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes what has ended.
    pub(crate) fn add(&self, span: Span) {
        if let Work::Try { reported: Some(Timing { input_tokens, output_tokens, .. }), .. } = &span.work {
            for (sum, &tokens) in self.tokens.iter().zip([input_tokens, output_tokens]) {
                if tokens > 0 {
                    sum.fetch_add(u64::from(tokens), Ordering::Relaxed);
                }
            }
        }
        let mut spans = self.spans.lock();
        if spans.len() < MAX_SPANS {
            spans.push(span);
        }
    }

    /// The tokens of all calls so far: those that went into models, and those that models made.
    pub(crate) fn tokens(&self) -> [u64; 2] {
        self.tokens.each_ref().map(|sum| sum.load(Ordering::Relaxed))
    }

    pub(super) fn take_spans(&self) -> Vec<Span> {
        std::mem::take(&mut self.spans.lock())
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
    pub(crate) fn server_timing(&self, total: Duration) -> HeaderValue {
        let names: Vec<_> = self
            .pipeline()
            .iter()
            .flat_map(|pipeline| pipeline.plan.stages())
            .map(|(name, _)| name)
            .collect();
        self.timing_of(&names, total)
    }

    /// The same, with the names of the stages by index.
    fn timing_of(&self, names: &[&str], total: Duration) -> HeaderValue {
        let spans = self.spans.lock();
        let mut stages: Vec<(usize, Spent)> = Vec::new();
        for span in spans.iter() {
            let Work::Stage { stage, .. } = span.work else { continue };
            let index = stages.iter().position(|(other, _)| *other == stage).unwrap_or_else(|| {
                stages.push((stage, Spent::default()));
                stages.len() - 1
            });
            let spent = &mut stages[index].1;
            spans.iter().filter(|part| part.parent == span.id).for_each(|part| spent.add(part));
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
    /// Adds a part of a stage's call; all of a try that its replica says nothing about counts as running.
    fn add(&mut self, part: &Span) {
        let took = part.end.saturating_duration_since(part.start);
        match &part.work {
            Work::Queue => self.queue += took,
            Work::Try { reported: Some(timing), .. } => {
                self.batch += timing.waited;
                self.run += timing.ran;
            }
            Work::Try { reported: None, .. } => self.run += took,
            Work::Stage { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trace of two calls of `rerank` and one of `embed`, each queued for a millisecond.
    pub(super) fn example(began: Instant) -> Trace {
        let trace = Trace::new(None, [1, 2, 3], Sampling::ByItsEnd);
        let ms = |ms| began + Duration::from_millis(ms);
        for (index, reported) in [(1, Some((2, 3))), (0, None), (1, Some((0, 3)))] {
            let stage = trace.next_id();
            let span = |id, parent, (from, to), work| {
                trace.add(Span { id, parent, start: ms(from), end: ms(to), work, error: None });
            };
            span(trace.next_id(), stage, (0, 1), Work::Queue);
            let reported = reported.map(|(waited, ran)| Timing {
                waited: Duration::from_millis(waited),
                ran: Duration::from_millis(ran),
                batch_size: 4,
                ..Timing::default()
            });
            span(trace.next_id(), stage, (1, 7), Work::Try { replica: "r".into(), attempt: 0, reported });
            span(stage, 0, (0, 8), Work::Stage { stage: index, target: index });
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
        let trace = Trace::new(None, [0; 3], Sampling::Always);
        let ids: std::collections::BTreeSet<_> = (0..10_000).map(|span| trace.span_id(span)).collect();
        assert_eq!((ids.len(), ids.contains(&0)), (10_000, false));
        assert_ne!(trace.trace_id, [0; 16]);
        let parent = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        let trace = Trace::new(Some(parent), [1, 2, 3], Sampling::Always);
        let context = trace.context_of(5);
        assert_eq!((context.trace_id[0], context.flags), (0x4b, 1));
        assert_eq!(context.parent_id, trace.span_id(5).to_be_bytes());
    }

    #[test]
    fn a_trace_is_bounded() {
        let trace = Trace::new(None, [1, 2, 3], Sampling::ByItsEnd);
        let now = millstream_clock::now();
        for _ in 0..2 * MAX_SPANS {
            let id = trace.next_id();
            trace.add(Span { id, parent: 0, start: now, end: now, work: Work::Queue, error: None });
        }
        assert_eq!(trace.take_spans().len(), MAX_SPANS);
    }
}
