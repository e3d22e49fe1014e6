//! Where a request's time went, by stage, for clients that ask: the value of a `Server-Timing` header.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use millstream_proto::call::Timing;
use parking_lot::Mutex;

/// What the calls of one stage spent; calls that run at the same time add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Spent {
    queue: Duration,
    batch: Duration,
    run: Duration,
}

/// What each stage has spent so far, in the order in which stages ended.
#[derive(Debug, Default)]
pub(crate) struct Timings(Mutex<Vec<(Arc<str>, Spent)>>);

impl Timings {
    /// Adds a call: how long it waited for a place in a replica, and what it spent there.
    pub(super) fn add(&self, stage: &Arc<str>, queue: Duration, replica: Timing) {
        let mut stages = self.0.lock();
        let index = stages.iter().position(|(name, _)| name == stage).unwrap_or_else(|| {
            stages.push((stage.clone(), Spent::default()));
            stages.len() - 1
        });
        let spent = &mut stages[index].1;
        spent.queue += queue;
        spent.batch += replica.waited;
        spent.run += replica.ran;
    }

    /// The header's value, durations in milliseconds: `embed-queue;dur=0.1, embed-batch;dur=2.0, embed-run;dur=9.1, …,
    /// total;dur=12.4`. Source: the W3C's Server Timing.
    pub(crate) fn header(&self, total: Duration) -> HeaderValue {
        let mut text = String::new();
        for (stage, spent) in &*self.0.lock() {
            for (part, time) in [("queue", spent.queue), ("batch", spent.batch), ("run", spent.run)] {
                let _ = write!(text, "{stage}-{part};dur={:.3}, ", time.as_secs_f64() * 1e3);
            }
        }
        let _ = write!(text, "total;dur={:.3}", total.as_secs_f64() * 1e3);
        // Names of stages are harmless in headers.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("total"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_stage_add_up_and_stages_keep_their_order() {
        let timings = Timings::default();
        let ms = Duration::from_millis;
        timings.add(&"rerank".into(), ms(1), Timing { waited: ms(2), ran: ms(3) });
        timings.add(&"embed".into(), ms(0), Timing { waited: ms(0), ran: ms(1) });
        timings.add(&"rerank".into(), ms(1), Timing { waited: ms(0), ran: ms(3) });
        assert_eq!(
            timings.header(Duration::from_micros(12_345)),
            "rerank-queue;dur=2.000, rerank-batch;dur=2.000, rerank-run;dur=6.000, embed-queue;dur=0.000, \
             embed-batch;dur=0.000, embed-run;dur=1.000, total;dur=12.345"
        );
    }
}
