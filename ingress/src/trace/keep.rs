//! Which traces are kept, as plain functions: of each kind so many a second, so that a storm of failures costs no more than
//! a few.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_proto::trace::TraceKept;
use parking_lot::Mutex;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct End {
    /// Its HTTP status.
    pub(super) status: u16,
    /// Whether it was chosen when it began, here or by the client.
    pub(super) is_sampled: bool,
    /// Whether it took longer than nearly all others of its pipeline.
    pub(super) is_slow: bool,
}

/// What becomes of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) why: TraceKept,
    /// Whether people see it at the head.
    pub(super) is_shown: bool,
    /// Whether it is exported, where there is an exporter.
    pub(super) is_exported: bool,
}

/// Traces a second that people see, by kind.
const FAILED_PER_SECOND: f64 = 20.0;
const SLOW_PER_SECOND: f64 = 10.0;
/// Failed ones, and slow ones, that are exported in a second.
const EXPORTED_PER_SECOND: f64 = 100.0;
/// And how often one of the rest is shown.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What may still be shown in this second.
#[derive(Debug)]
pub(super) struct Quotas {
    failed: Mutex<Quota>,
    slow: Mutex<Quota>,
    exported: [Mutex<Quota>; 2],
    /// When the next sample is due, in nanoseconds: nearly every request asks, and waits for no other.
    next_sample: AtomicU64,
}

impl Quotas {
    /// Full.
    pub(super) fn new(now: Duration) -> Self {
        let full = |per_second| Mutex::new(Quota { per_second, left: per_second, at: now });
        let next_sample = AtomicU64::new(nanos(now));
        let exported = [full(EXPORTED_PER_SECOND), full(EXPORTED_PER_SECOND)];
        Self { failed: full(FAILED_PER_SECOND), slow: full(SLOW_PER_SECOND), exported, next_sample }
    }

    fn takes_sample(&self, now: Duration) -> bool {
        let (now, due) = (nanos(now), self.next_sample.load(Ordering::Relaxed));
        let next = now.saturating_add(nanos(SAMPLE_EVERY));
        now >= due
            && self.next_sample.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[derive(Debug)]
struct Quota {
    per_second: f64,
    left: f64,
    at: Duration,
}

impl Quota {
    fn take(&mut self, now: Duration) -> bool {
        let grown = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + grown).min(self.per_second);
        self.at = self.at.max(now);
        let takes = self.left >= 1.0;
        self.left -= if takes { 1.0 } else { 0.0 };
        takes
    }
}

/// Decides about a request that has ended; `None`: its trace is forgotten.
pub(super) fn decide(end: End, quotas: &Quotas, now: Duration) -> Option<Kept> {
    let [failed, slow] = &quotas.exported;
    let (why, is_shown, is_exported) = if end.status >= 500 {
        (TraceKept::Failed, quotas.failed.lock().take(now), failed.lock().take(now))
    } else if end.is_slow {
        (TraceKept::Slow, quotas.slow.lock().take(now), slow.lock().take(now))
    } else {
        (TraceKept::Sample, quotas.takes_sample(now), false)
    };
    let is_exported = is_exported || end.is_sampled;
    (is_shown || is_exported).then_some(Kept { why, is_shown, is_exported })
}

/// What nearly all requests of a pipeline take less than: an estimate of their 99th percentile that needs no list of them. It
/// rises by a step with each request above it and falls by a 99th of that with each below. (Frugal streaming, Ma, Muthukrishnan
/// and Sandler 2013, with steps in proportion.)
#[derive(Debug, Default)]
pub(crate) struct SlowThreshold {
    nanos: AtomicU64,
    seen: AtomicU64,
}

/// Requests before which nothing counts as slow.
const WARM_UP: u64 = 200;
/// A request this short is never slow.
const NEVER_SLOW_NANOS: u64 = 1_000_000;
/// A step is this part of the threshold.
const STEP: u64 = 10;

impl SlowThreshold {
    /// Whether a request that took so long is slow; learns from it.
    pub(crate) fn is_slow(&self, took: Duration) -> bool {
        let nanos = nanos(took);
        let mut seen = self.seen.load(Ordering::Relaxed);
        if seen < WARM_UP {
            seen = self.seen.fetch_add(1, Ordering::Relaxed);
        }
        // Two requests that end at the same time may lose one step: it is an estimate.
        let threshold = self.nanos.load(Ordering::Relaxed);
        // Neither is slow: nothing to learn, and nothing that all threads write to.
        if seen >= WARM_UP && threshold <= NEVER_SLOW_NANOS && nanos < NEVER_SLOW_NANOS {
            return false;
        }
        let from = threshold.max(1000);
        let is_above = nanos > threshold;
        // The first ones find out about how long they take.
        let next = match (is_above, seen < WARM_UP) {
            (true, true) => nanos,
            (true, false) => from.saturating_add(from / STEP),
            (false, _) => from - from / (STEP * 99),
        };
        self.nanos.store(next, Ordering::Relaxed);
        is_above && seen >= WARM_UP && nanos >= NEVER_SLOW_NANOS
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(status: u16, is_sampled: bool, is_slow: bool) -> End {
        End { status, is_sampled, is_slow }
    }

    #[test]
    fn failures_and_slow_ones_are_kept_and_a_sample_of_the_rest() {
        let quotas = Quotas::new(Duration::ZERO);
        let at = |end| decide(end, &quotas, Duration::ZERO);
        let kept = |why, is_exported| Some(Kept { why, is_shown: true, is_exported });
        assert_eq!(at(end(503, false, true)), kept(TraceKept::Failed, true));
        assert_eq!(at(end(200, false, true)), kept(TraceKept::Slow, true));
        assert_eq!(at(end(200, false, false)), kept(TraceKept::Sample, false));
        assert_eq!(at(end(200, false, false)), None, "one a second");
        let exported = Kept { why: TraceKept::Sample, is_shown: false, is_exported: true };
        assert_eq!(at(end(404, true, false)), Some(exported));
    }

    #[test]
    fn a_storm_of_failures_is_shown_in_part() {
        let quotas = Quotas::new(Duration::ZERO);
        let (mut shown, mut exported) = (0, 0);
        for ms in 0..10_000 {
            let kept = decide(end(500, false, false), &quotas, Duration::from_millis(ms));
            shown += u32::from(kept.is_some_and(|kept| kept.is_shown));
            exported += u32::from(kept.is_some_and(|kept| kept.is_exported));
        }
        assert!((200..=240).contains(&shown), "{shown} in ten seconds");
        assert!((1000..=1200).contains(&exported), "{exported} in ten seconds");
        let sampled = decide(end(500, true, false), &quotas, Duration::from_secs(10));
        assert!(sampled.is_some_and(|kept| kept.is_exported), "what was chosen when it began always is");
    }

    #[test]
    fn one_in_a_hundred_is_slow_whatever_requests_take() {
        use rand::{Rng as _, SeedableRng as _};
        for scale in [1.0, 40.0, 3000.0] {
            let mut rng = rand::rngs::SmallRng::seed_from_u64(7);
            let threshold = SlowThreshold::default();
            let mut slow = 0;
            for request in 0..30_000 {
                let took = Duration::from_secs_f64(scale * (1.0 + rng.random::<f64>().powi(4) * 4.0) / 1e3);
                slow += u32::from(threshold.is_slow(took) && request >= 10_000);
            }
            assert!((60..=600).contains(&slow), "{slow} of 20,000 at {scale} ms");
        }
        let threshold = SlowThreshold::default();
        let slow = (0..10_000).filter(|_| threshold.is_slow(Duration::from_micros(90))).count();
        assert_eq!(slow, 0, "what takes microseconds is not slow");
    }
}
