//! The traces that ingresses have kept, for people: the last of each kind, in memory, lost when this process ends.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_proto::trace::{RequestTrace, TraceKept};

/// Most traces of each kind.
const MAX_FAILED: usize = 500;
const MAX_SLOW: usize = 300;
const MAX_SAMPLES: usize = 200;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct TraceRing {
    failed: VecDeque<Arc<RequestTrace>>,
    slow: VecDeque<Arc<RequestTrace>>,
    samples: VecDeque<Arc<RequestTrace>>,
}

/// Which traces are wanted.
#[derive(Debug, Default)]
pub(crate) struct TraceFilter {
    /// Only of this pipeline.
    pub(crate) pipeline: Option<String>,
    /// Only those that were kept for this reason.
    pub(crate) kept: Option<TraceKept>,
}

impl TraceRing {
    /// Keeps a trace; the oldest of its kind gives way.
    pub(crate) fn push(&mut self, trace: RequestTrace) {
        let (ring, max) = match trace.request.kept {
            TraceKept::Failed => (&mut self.failed, MAX_FAILED),
            TraceKept::Slow => (&mut self.slow, MAX_SLOW),
            TraceKept::Sample => (&mut self.samples, MAX_SAMPLES),
        };
        if ring.len() >= max {
            ring.pop_front();
        }
        ring.push_back(Arc::new(trace));
    }

    fn all(&self) -> impl Iterator<Item = &Arc<RequestTrace>> {
        self.failed.iter().chain(&self.slow).chain(&self.samples)
    }

    /// The newest of those that are wanted, the newest first.
    pub(crate) fn newest(&self, filter: &TraceFilter, limit: usize) -> Vec<Arc<RequestTrace>> {
        let wanted = self.all().filter(|trace| {
            let request = &trace.request;
            filter.pipeline.as_ref().is_none_or(|pipeline| *pipeline == request.pipeline)
                && filter.kept.is_none_or(|kept| kept == request.kept)
        });
        let mut found: Vec<_> = wanted.cloned().collect();
        found.sort_by(|a, b| b.request.at_ms.total_cmp(&a.request.at_ms));
        found.truncate(limit);
        found
    }

    /// The trace of a request, by the request's id or the trace's.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<RequestTrace>> {
        let is_it =
            |trace: &&Arc<RequestTrace>| trace.request.request_id == id || trace.request.trace_id == id;
        self.all().filter(is_it).max_by(|a, b| a.request.at_ms.total_cmp(&b.request.at_ms)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use millstream_proto::trace::TracedRequest;

    use super::*;

    fn trace(number: usize, kept: TraceKept) -> RequestTrace {
        let request = TracedRequest {
            request_id: format!("r{number}"),
            trace_id: format!("t{number}"),
            pipeline: if number.is_multiple_of(2) { "even" } else { "odd" }.to_owned(),
            revision: 1,
            #[expect(clippy::cast_precision_loss, reason = "small")]
            at_ms: number as f64,
            duration_ms: 1.0,
            status: 200,
            ingress: "a".to_owned(),
            kept,
        };
        RequestTrace { request, parent_id: None, spans: Vec::new() }
    }

    #[test]
    fn samples_do_not_push_out_failures_and_all_are_bounded() {
        let mut ring = TraceRing::default();
        ring.push(trace(0, TraceKept::Failed));
        (1..10_000).for_each(|number| ring.push(trace(number, TraceKept::Sample)));
        assert_eq!(ring.all().count(), 1 + MAX_SAMPLES);
        assert!(ring.find("r0").is_some() && ring.find("t9999").is_some() && ring.find("r1").is_none());
        let filter = TraceFilter { pipeline: Some("odd".to_owned()), kept: Some(TraceKept::Sample) };
        let newest = ring.newest(&filter, 3);
        let ids: Vec<_> = newest.iter().map(|trace| trace.request.request_id.as_str()).collect();
        assert_eq!(ids, ["r9999", "r9997", "r9995"]);
    }
}
