//! What became of the requests: counts and a histogram of latencies, from times and outcomes that are handed in.
//!
//! A latency counts from the time a request was *due*. A tool that measures from the time it got round to sending leaves
//! out exactly the requests that a stalled server kept waiting ("coordinated omission").

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::pace::Phases;

/// Significant digits of latencies.
const DIGITS: u8 = 3;
/// Latencies are kept in microseconds, up to an hour.
const MAX_LATENCY_US: u64 = 3_600_000_000;

/// Whether an answer with this HTTP status is what its caller wanted.
pub(super) fn is_good(status: u16) -> bool {
    status < 400
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A whole answer came.
    Answered {
        /// Its HTTP status.
        status: u16,
        /// Bytes of its body.
        bytes: u64,
        /// How its body begins, unless the answer is a good one.
        refusal: String,
    },
    /// No whole answer came.
    Failed {
        /// Which way.
        kind: ErrorKind,
        /// For people.
        text: String,
    },
}

/// Why there was no answer. A closed list: scripts know these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ErrorKind {
    /// No connection could be made.
    Connect,
    /// No whole answer within the time limit, counted from when the request was due.
    Timeout,
    /// The connection ended before the answer did.
    Closed,
    /// What came back is not HTTP.
    Protocol,
}

impl ErrorKind {
    /// All of them, in the order they are shown.
    pub(super) const ALL: [Self; 4] = [Self::Connect, Self::Timeout, Self::Closed, Self::Protocol];

    /// Its name in the table and in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }
}

/// Counts of a run that goes on. Times count from its start.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    phases: Phases,
    sent: u64,
    bytes_sent: u64,
    bytes_received: u64,
    /// By status class, from 1xx to 5xx.
    answers: [u64; 5],
    errors: BTreeMap<ErrorKind, Errors>,
    /// By status.
    refusals: BTreeMap<u16, Errors>,
    /// Of answers with a status below 400, in microseconds.
    latencies: Histogram<u64>,
    last_end: Duration,
}

/// Errors of one kind, or answers of one status that are not good ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Errors {
    /// How many.
    pub(super) count: u64,
    /// What the first one said.
    pub(super) first: String,
}

impl Errors {
    fn add(&mut self, text: String) {
        if self.count == 0 {
            self.first = text;
        }
        self.count += 1;
    }
}

impl Recorder {
    /// Nothing has happened yet.
    pub(super) fn new(phases: Phases) -> Self {
        let latencies = Histogram::new_with_bounds(1, MAX_LATENCY_US, DIGITS);
        Self {
            phases,
            sent: 0,
            bytes_sent: 0,
            bytes_received: 0,
            answers: [0; 5],
            errors: BTreeMap::new(),
            refusals: BTreeMap::new(),
            latencies: latencies.expect("the bounds are in order and 3 digits are allowed"),
            last_end: Duration::ZERO,
        }
    }

    /// A request with a body of so many bytes was due.
    pub(super) fn sent(&mut self, due: Duration, bytes: u64) {
        if self.phases.counts(due) {
            self.sent += 1;
            self.bytes_sent += bytes;
        }
    }

    /// A request that was due then has ended now.
    pub(super) fn ended(&mut self, due: Duration, now: Duration, outcome: Outcome) {
        if !self.phases.counts(due) {
            return;
        }
        self.last_end = self.last_end.max(now);
        match outcome {
            Outcome::Answered { status, bytes, refusal } => {
                self.bytes_received += bytes;
                let class = usize::from(status / 100).clamp(1, 5) - 1;
                self.answers[class] += 1;
                if is_good(status) {
                    let latency = now.saturating_sub(due).as_micros();
                    self.latencies.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
                } else {
                    self.refusals.entry(status).or_default().add(refusal);
                }
            }
            Outcome::Failed { kind, text } => self.errors.entry(kind).or_default().add(text),
        }
    }

    /// What is known when sending has ended then.
    pub(super) fn summary(&self, sending_ended: Duration) -> Summary {
        let measured = sending_ended.max(self.last_end).saturating_sub(self.phases.warm_up);
        let answered = self.answers.iter().sum();
        let failed: u64 = self.errors.values().map(|errors| errors.count).sum();
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let achieved = self.latencies.len() as f64 / measured.as_secs_f64();
        Summary {
            measured,
            sent: self.sent,
            answered,
            failed,
            unfinished: self.sent.saturating_sub(answered + failed),
            answers: self.answers,
            errors: self.errors.clone(),
            refusals: self.refusals.clone(),
            achieved_per_s: if measured.is_zero() { 0.0 } else { achieved },
            latency: self.latency(),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of an hour are far below 2^52")]
    fn latency(&self) -> Option<Latency> {
        let at = |quantile: f64| self.latencies.value_at_quantile(quantile) as f64 / 1e3;
        (!self.latencies.is_empty()).then(|| Latency {
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            max: self.latencies.max() as f64 / 1e3,
        })
    }
}

/// A run's result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    /// From the end of the warm-up to the end of sending, or to the last answer when that was later.
    pub(super) measured: Duration,
    /// Requests that were due.
    pub(super) sent: u64,
    /// Whole answers, of any status.
    pub(super) answered: u64,
    /// Requests without a whole answer.
    pub(super) failed: u64,
    /// Requests under way when the run was ended early.
    pub(super) unfinished: u64,
    /// By status class, from 1xx to 5xx.
    pub(super) answers: [u64; 5],
    /// By kind.
    pub(super) errors: BTreeMap<ErrorKind, Errors>,
    /// Answers with a status of 400 or more, by status.
    pub(super) refusals: BTreeMap<u16, Errors>,
    /// Answers with a status below 400, per second measured.
    pub(super) achieved_per_s: f64,
    /// Of answers with a status below 400, when there are any.
    pub(super) latency: Option<Latency>,
    /// Bytes of bodies.
    pub(super) bytes_sent: u64,
    /// Bytes of bodies.
    pub(super) bytes_received: u64,
}

impl Summary {
    /// Requests that got no good answer.
    pub(super) fn bad(&self) -> u64 {
        self.failed + self.refusals.values().map(|refusal| refusal.count).sum::<u64>()
    }
}

/// Quantiles of latency, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn recorder() -> Recorder {
        Recorder::new(Phases { warm_up: ms(100), duration: ms(1000) })
    }

    fn answered(status: u16) -> Outcome {
        let refusal = if is_good(status) { String::new() } else { format!("body of a {status}") };
        Outcome::Answered { status, bytes: 10, refusal }
    }

    fn failed(kind: ErrorKind, text: &str) -> Outcome {
        Outcome::Failed { kind, text: text.to_owned() }
    }

    /// One request each 10 ms; the server stands still from 500 to 800 ms and then answers all at once.
    #[test]
    fn a_stall_shows_in_every_request_that_was_due_during_it() {
        let mut recorder = recorder();
        for due in (100..1100).step_by(10).map(ms) {
            recorder.sent(due, 1);
            let ended = if (ms(500)..ms(800)).contains(&due) { ms(800) } else { due + ms(1) };
            recorder.ended(due, ended, answered(200));
        }
        let latency = recorder.summary(ms(1100)).latency.unwrap();
        assert_eq!(latency.p50, 1.0);
        // 30 of 100 waited 10, 20, … 300 ms; the histogram keeps three digits.
        assert!((latency.p90 - 200.0).abs() < 0.5, "{latency:?}");
        assert!((latency.p99 - 290.0).abs() < 0.5, "{latency:?}");
        assert!((latency.max - 300.0).abs() < 0.5, "{latency:?}");
    }

    #[test]
    fn the_warm_up_does_not_count_even_when_its_answers_are_late() {
        let mut recorder = recorder();
        recorder.sent(ms(99), 5);
        recorder.ended(ms(99), ms(700), answered(200));
        recorder.sent(ms(100), 5);
        recorder.ended(ms(100), ms(101), answered(200));
        let summary = recorder.summary(ms(1100));
        assert_eq!(
            (summary.sent, summary.answered, summary.bytes_sent, summary.bytes_received),
            (1, 1, 5, 10)
        );
        assert_eq!(summary.latency.unwrap().max, 1.0);
    }

    #[test]
    fn every_request_is_counted_once_and_what_is_under_way_is_told() {
        let mut recorder = recorder();
        for _ in 0..7 {
            recorder.sent(ms(200), 0);
        }
        for status in [200, 204, 301, 404, 503] {
            recorder.ended(ms(200), ms(202), answered(status));
        }
        recorder.ended(ms(200), ms(900), failed(ErrorKind::Timeout, "none"));
        let summary = recorder.summary(ms(1100));
        assert_eq!(summary.answers, [0, 2, 1, 1, 1]);
        assert_eq!((summary.sent, summary.answered, summary.failed, summary.unfinished), (7, 5, 1, 1));
        assert_eq!(summary.bad(), 3);
        assert_eq!(summary.refusals[&404], Errors { count: 1, first: "body of a 404".into() });
        // Refusals are quick: they must not make the latency look good.
        assert_eq!(recorder.latencies.len(), 3);
    }

    #[test]
    fn the_first_error_of_each_kind_keeps_its_text() {
        let mut recorder = recorder();
        for text in ["first", "second"] {
            recorder.sent(ms(200), 0);
            recorder.ended(ms(200), ms(300), failed(ErrorKind::Closed, text));
        }
        let errors = recorder.summary(ms(1100)).errors;
        assert_eq!(errors[&ErrorKind::Closed], Errors { count: 2, first: "first".into() });
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn the_rate_is_over_the_time_until_the_last_answer() {
        let mut recorder = recorder();
        for _ in 0..100 {
            recorder.sent(ms(200), 0);
            recorder.ended(ms(200), ms(2100), answered(200));
        }
        let summary = recorder.summary(ms(1100));
        assert_eq!((summary.measured, summary.achieved_per_s), (ms(2000), 50.0));
    }

    #[test]
    fn a_run_that_ends_in_its_warm_up_has_no_figures() {
        let mut recorder = recorder();
        recorder.sent(ms(10), 0);
        let summary = recorder.summary(ms(50));
        assert_eq!((summary.sent, summary.achieved_per_s, summary.latency), (0, 0.0, None));
    }
}
