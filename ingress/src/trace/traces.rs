//! The traces of an ingress: which requests have one, and where those go that are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_proto::call::TraceContext;
use millstream_proto::trace::{RequestTrace, TracedRequest};
use tokio::sync::mpsc;

use super::keep::{self, End, Quotas};
use super::pool;
use super::record::{Sampling, Trace};
use super::view::Finished;
use crate::metrics::RequestMeter;

/// Takes traces to another system. Called on the path of requests that were slow, failed or sampled: it must not wait.
pub type Exporter = Arc<dyn Fn(&RequestTrace) + Send + Sync>;

/// Which requests are traced.
#[derive(Clone)]
pub struct TraceConfig {
    /// Whether there are traces at all.
    pub is_on: bool,
    /// Part of the requests whose traces are exported whatever becomes of them, 0 to 1. A client that has sampled its own trace
    /// (`traceparent`) decides for it.
    pub sampled_ratio: f64,
    /// Where traces go beside the head.
    pub exporter: Option<Exporter>,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { is_on: true, sampled_ratio: 0.0, exporter: None }
    }
}

impl TraceConfig {
    /// Whether a trace whose id ends with these bits is one of the ratio's: whoever samples by the last 56 bits of trace ids, as
    /// OpenTelemetry does, decides alike.
    fn samples(&self, id: u64) -> bool {
        // The first 53 of them, as many as a float holds.
        let bits = id << 8 >> 11;
        #[expect(clippy::cast_precision_loss, reason = "it holds them")]
        let part = bits as f64 / (1_u64 << 53) as f64;
        part >= 1.0 - self.sampled_ratio
    }
}

/// Traces on their way to the head.
pub(crate) type KeptTraces = mpsc::Receiver<Arc<RequestTrace>>;

/// Traces that wait for the head; while there are more, the next ones are not shown there.
const MAX_WAITING: usize = 64;

/// See the module.
pub(crate) struct Traces {
    config: TraceConfig,
    /// Name of this ingress.
    name: String,
    quotas: Quotas,
    to_head: mpsc::Sender<Arc<RequestTrace>>,
    /// Instants are counted from here.
    began: Instant,
}

impl Traces {
    /// The traces of an ingress of that name, and those of them that go to the head.
    pub(crate) fn new(config: TraceConfig, name: String) -> (Self, KeptTraces) {
        let (to_head, kept) = mpsc::channel(MAX_WAITING);
        let quotas = Quotas::new(Duration::ZERO);
        let began = millstream_clock::now();
        (Self { config, name, quotas, to_head, began }, kept)
    }

    /// Whether requests have traces although nobody asks for them.
    pub(crate) fn are_on(&self) -> bool {
        self.config.is_on
    }

    /// The trace of a request that begins; `None` where there are none. A request whose client wants to know where the time goes
    /// has one all the same: [`Traces::begin_for_client`].
    pub(crate) fn begin(&self, parent: impl FnOnce() -> Option<TraceContext>) -> Option<Arc<Trace>> {
        self.config.is_on.then(|| self.begin_for_client(parent()))
    }

    /// The trace of a request whose client wants to know where the time goes.
    pub(crate) fn begin_for_client(&self, parent: Option<TraceContext>) -> Arc<Trace> {
        let random = pool::random();
        let is_sampled = self.config.exporter.is_some()
            && match &parent {
                Some(parent) => parent.flags & 1 == 1,
                None => self.config.samples(random[1]),
            };
        let sampling = if is_sampled { Sampling::Always } else { Sampling::ByItsEnd };
        pool::begin(|trace| trace.begin(parent, random, sampling))
    }

    /// A request has ended: keeps its trace or forgets it.
    pub(crate) fn end(&self, trace: Arc<Trace>, ended: &Finished<'_>) {
        if self.config.is_on {
            self.decide(&trace, ended);
        }
        pool::give_back(trace);
    }

    fn decide(&self, trace: &Trace, ended: &Finished<'_>) {
        let is_slow = ended.status < 400
            && ended.pipeline().is_some_and(|pipeline| pipeline.slow_threshold.is_slow(ended.elapsed));
        let end = End { status: ended.status, is_sampled: trace.sampling == Sampling::Always, is_slow };
        let now = (ended.started + ended.elapsed).saturating_duration_since(self.began);
        let Some(kept) = keep::decide(end, &self.quotas, now) else { return };
        #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 have 51 bits")]
        let at_ms = millstream_clock::unix_us() as f64 / 1e3 - ended.elapsed.as_secs_f64() * 1e3;
        let view = Arc::new(trace.view(ended, kept.why, at_ms, &self.name));
        let TracedRequest { pipeline, trace_id, .. } = &view.request;
        RequestMeter::traced(pipeline, ended.status, ended.elapsed, trace_id.clone());
        if let Some(export) = self.config.exporter.as_ref().filter(|_| kept.is_exported) {
            export(&view);
        }
        if kept.is_shown {
            // While the head is away the newest ones are not shown: people look at what is there now.
            let _ = self.to_head.try_send(view);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_56_bits_of_an_id_decide_whether_it_is_sampled() {
        let all = (1 << 56) - 1;
        for (ratio, id, expected) in [
            (0.0, all, false),
            (1.0, 0, true),
            (0.01, all, true),
            (0.01, all / 100 * 98, false),
            (0.5, all / 2 + 2, true),
            (0.5, all / 2 - 2, false),
            (0.5, all / 2 - 2 + (0xff << 56), false),
        ] {
            let config = TraceConfig { sampled_ratio: ratio, ..TraceConfig::default() };
            assert_eq!(config.samples(id), expected, "{ratio} of {id:x}");
        }
    }
}
