//! What an ingress counts: names, meanings, labels, and the handles that the request path holds. Handles are made when a
//! route table is put in force, so that a request looks nothing up and allocates nothing for being counted.

mod captures;
mod exemplars;
mod tally;

use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use millstream_pipelines::{FullName, OnError};
use millstream_proto::metric::{Definition, Kind, SECONDS};

pub(crate) use self::captures::CaptureMeter;
pub use self::exemplars::{Bucket, Exemplar, exemplars};
pub(crate) use self::tally::{Tallied, Tally};
use crate::model::Outcome;

/// Buckets of the histogram whose exemplars there are.
pub const REQUEST_BUCKETS: &str = "millstream_request_duration_seconds_bucket";

const REQUESTS: Definition = Definition {
    name: "millstream_requests_total",
    kind: Kind::Counter,
    help: "Requests that ended, by pipeline (empty: no pipeline has the route) and class of status; 499 is a client that left.",
    labels: &["pipeline", "class"],
};
const REQUEST_DURATION: Definition = Definition {
    name: "millstream_request_duration_seconds",
    kind: Kind::Histogram(SECONDS),
    help: "Time from a request's head to its answer, or to the last byte of a stream.",
    labels: &["pipeline", "class"],
};
const QUEUE_WAIT: Definition = Definition {
    name: "millstream_queue_wait_seconds",
    kind: Kind::Histogram(SECONDS),
    help: "Time that a call waited at this ingress for a place in a replica; 0 for one that found a place at once.",
    labels: &["deployment"],
};
const CALL_DURATION: Definition = Definition {
    name: "millstream_call_duration_seconds",
    kind: Kind::Histogram(SECONDS),
    help: "Time from sending a call to a replica to its end.",
    labels: &["deployment"],
};
const CALLS: Definition = Definition {
    name: "millstream_calls_total",
    kind: Kind::Counter,
    help: "Calls sent to replicas that ended: answered (by the model, or refused for the caller's own fault), full (the replica had no room), failed (the replica's fault), unreachable, timed_out, abandoned (the caller has left), silent (it had said nothing for too long when the caller left or a hedge answered).",
    labels: &["deployment", "outcome"],
};
const RETRIES: Definition = Definition {
    name: "millstream_retries_total",
    kind: Kind::Counter,
    help: "Calls sent again: full (the replica had no room), not_started (it was not there), started (it may have run), hedged (it was slow, see `hedge`).",
    labels: &["deployment", "reason"],
};
const SHED_CALLS: Definition = Definition {
    name: "millstream_shed_calls_total",
    kind: Kind::Counter,
    help: "Calls turned away because the deployment's queue was full.",
    labels: &["deployment"],
};

const CACHE_REQUESTS: Definition = Definition {
    name: "millstream_cache_requests_total",
    kind: Kind::Counter,
    help: "Calls of stages with a cache: hit (answered by a kept answer), joined (by that of an equal call under way), miss (sent to the deployment).",
    labels: &["pipeline", "stage", "result"],
};
const CACHE_BYTES: Definition = Definition {
    name: "millstream_cache_bytes",
    kind: Kind::Gauge,
    help: "Memory that the kept answers of a stage take at this ingress, over all routed revisions.",
    labels: &["pipeline", "stage"],
};

const STAGE_FAILURES: Definition = Definition {
    name: "millstream_stage_failures_total",
    kind: Kind::Counter,
    help: "Stages whose work failed, whether or not the request did, by what their `on_error` says: fail, skip (their value is none) or use (that of another stage).",
    labels: &["pipeline", "stage", "on_error"],
};

const STAGE_DURATION: Definition = Definition {
    name: "millstream_stage_duration_seconds",
    kind: Kind::Histogram(SECONDS),
    help: "Time of a stage's call: from when its inputs were there to its answer or failure, with waiting, every try and answers from its cache.",
    labels: &["pipeline", "stage"],
};

const KEY_REQUESTS: Definition = Definition {
    name: "millstream_key_requests_total",
    kind: Kind::Counter,
    help: "Requests with an API key, by its name: admitted, or turned away because of its rate, its concurrency limit or its limits of tokens.",
    labels: &["key", "result"],
};

const HEARS_HEAD: Definition = Definition {
    name: "millstream_ingress_hears_head",
    kind: Kind::Gauge,
    help: "1 while this ingress has a session with the head that leads; 0 while it serves on from its last routes.",
    labels: &[],
};

const CAPTURED_REQUESTS: Definition = Definition {
    name: "millstream_captured_requests_total",
    kind: Kind::Counter,
    help: "Requests drawn to be captured (`[capture]`): kept (on disk, or taken by the sink) or dropped (too many waited, it is larger than an eighth of `max_size`, the disk or the sink did not take it).",
    labels: &["pipeline", "result"],
};

const RESPONSE_STORE_BYTES: Definition = Definition {
    name: "millstream_response_store_bytes",
    kind: Kind::Gauge,
    help: "Memory that OpenAI's responses take that this ingress keeps (`--response-store`).",
    labels: &[],
};

/// Everything that an ingress counts.
pub const ALL: &[Definition] = &[
    REQUESTS,
    REQUEST_DURATION,
    QUEUE_WAIT,
    CALL_DURATION,
    CALLS,
    RETRIES,
    SHED_CALLS,
    CACHE_REQUESTS,
    CACHE_BYTES,
    STAGE_FAILURES,
    STAGE_DURATION,
    KEY_REQUESTS,
    HEARS_HEAD,
    CAPTURED_REQUESTS,
    RESPONSE_STORE_BYTES,
];

/// Classes of statuses, as they stand in labels.
const CLASSES: [&str; 4] = ["2xx", "4xx", "499", "5xx"];

/// The place of a status among [`CLASSES`].
fn class_of(status: u16) -> usize {
    match status {
        499 => 2,
        400..=498 => 1,
        500.. => 3,
        _ => 0,
    }
}

/// Counts the requests of one pipeline.
pub(crate) struct RequestMeter {
    ended: [(Counter, Histogram); CLASSES.len()],
}

impl RequestMeter {
    /// For the requests of that pipeline.
    pub(crate) fn of(pipeline: &str) -> Self {
        let handles = |class: &'static str| {
            (
                counter!(REQUESTS.name, "pipeline" => pipeline.to_owned(), "class" => class),
                histogram!(REQUEST_DURATION.name, "pipeline" => pipeline.to_owned(), "class" => class),
            )
        };
        Self { ended: CLASSES.map(handles) }
    }

    /// For requests that no pipeline takes.
    pub(crate) fn of_none() -> Self {
        Self::of("")
    }

    /// A request ended of which there is a trace.
    pub(crate) fn traced(pipeline: &str, status: u16, elapsed: Duration, trace_id: String) {
        exemplars::note(pipeline, CLASSES[class_of(status)], elapsed, trace_id);
    }

    /// A request ended.
    pub(crate) fn ended(&self, status: u16, elapsed: Duration) {
        let (counter, histogram) = &self.ended[class_of(status)];
        counter.increment(1);
        histogram.record(elapsed.as_secs_f64());
    }
}

/// The status of a client that left; never sent.
pub(crate) const CLIENT_LEFT: u16 = 499;

/// Why a call is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// The replica had no room.
    Full,
    /// The replica was not there.
    NotStarted,
    /// The replica failed; the call may have run.
    Started,
    /// The replica was slow; the call runs in a second one too.
    Hedged,
}

/// Counts the calls of one deployment.
pub(crate) struct CallMeter {
    queue_wait: Histogram,
    duration: Histogram,
    outcomes: [Counter; 7],
    retries: [Counter; 4],
    shed: Counter,
    /// For clients that ask: answers, failures, waits.
    tallies: [Tally; 3],
}

impl CallMeter {
    /// For the calls of that deployment.
    pub(crate) fn of(deployment: &FullName) -> Self {
        let name = || deployment.to_string();
        let outcomes = ["answered", "full", "failed", "unreachable", "timed_out", "abandoned", "silent"];
        let reasons = ["full", "not_started", "started", "hedged"];
        Self {
            queue_wait: histogram!(QUEUE_WAIT.name, "deployment" => name()),
            duration: histogram!(CALL_DURATION.name, "deployment" => name()),
            outcomes: outcomes.map(|it| counter!(CALLS.name, "deployment" => name(), "outcome" => it)),
            retries: reasons.map(|it| counter!(RETRIES.name, "deployment" => name(), "reason" => it)),
            shed: counter!(SHED_CALLS.name, "deployment" => name()),
            tallies: Default::default(),
        }
    }

    /// A call got its place in a replica.
    pub(crate) fn waited(&self, wait: Duration) {
        self.queue_wait.record(wait.as_secs_f64());
        self.tallies[2].add(wait);
    }

    /// A call that was sent has ended.
    pub(crate) fn ended(&self, outcome: Outcome, elapsed: Duration) {
        let index = match outcome {
            Outcome::Answered => 0,
            Outcome::Full => 1,
            Outcome::Failed => 2,
            Outcome::Transport => 3,
            Outcome::TimedOut => 4,
            Outcome::Abandoned => 5,
            Outcome::Silent => 6,
        };
        self.outcomes[index].increment(1);
        match outcome {
            Outcome::Answered => self.tallies[0].add(elapsed),
            Outcome::Failed | Outcome::Transport | Outcome::TimedOut => self.tallies[1].add(elapsed),
            Outcome::Full | Outcome::Abandoned | Outcome::Silent => {}
        }
        // What was not done says nothing about how long it takes.
        if !matches!(outcome, Outcome::Full | Outcome::Abandoned) {
            self.duration.record(elapsed.as_secs_f64());
        }
    }

    /// Answers, failures and waits of all its calls so far.
    pub(crate) fn tallied(&self) -> (Tallied, Tallied, Tallied) {
        let [answered, failed, waited] = &self.tallies;
        (answered.read(), failed.read(), waited.read())
    }

    /// A call is sent again.
    pub(crate) fn retried(&self, reason: RetryReason) {
        self.retries[reason as usize].increment(1);
    }

    /// A call was turned away.
    pub(crate) fn shed(&self) {
        self.shed.increment(1);
    }
}

/// What became of a call of a stage with a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheResult {
    /// A kept answer was there.
    Hit,
    /// An equal call was under way, and its answer was taken.
    Joined,
    /// It was made.
    Miss,
}

/// Counts the calls of one stage with a cache.
pub(crate) struct CacheMeter {
    results: [Counter; 3],
}

impl CacheMeter {
    /// For the calls of that stage.
    pub(crate) fn of(pipeline: &str, stage: &str) -> Self {
        let results = ["hit", "joined", "miss"].map(|result| {
            counter!(CACHE_REQUESTS.name, "pipeline" => pipeline.to_owned(), "stage" => stage.to_owned(), "result" => result)
        });
        Self { results }
    }

    /// One more.
    pub(crate) fn counted(&self, result: CacheResult) {
        self.results[result as usize].increment(1);
    }
}

/// Counts the calls and failures of one stage.
pub(crate) struct StageMeter {
    duration: Histogram,
    failures: Counter,
}

impl StageMeter {
    /// For that stage.
    pub(crate) fn of(pipeline: &str, stage: &str, on_error: OnError) -> Self {
        let on_error = match on_error {
            OnError::Fail => "fail",
            OnError::Skip => "skip",
            OnError::Use(_) => "use",
        };
        Self {
            duration: histogram!(STAGE_DURATION.name, "pipeline" => pipeline.to_owned(), "stage" => stage.to_owned()),
            failures: counter!(STAGE_FAILURES.name, "pipeline" => pipeline.to_owned(), "stage" => stage.to_owned(), "on_error" => on_error),
        }
    }

    /// A call has ended, which took so long.
    pub(crate) fn called(&self, elapsed: Duration) {
        self.duration.record(elapsed.as_secs_f64());
    }

    /// One more failure.
    pub(crate) fn failed(&self) {
        self.failures.increment(1);
    }
}

/// What became of a request with an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyResult {
    /// It came in.
    Admitted,
    /// The key is over its rate.
    Rate,
    /// The key has as many requests under way as it may.
    Concurrency,
    /// The key has used as many tokens as it may.
    Tokens,
}

/// Counts the requests of one API key.
pub(crate) struct KeyMeter {
    results: [Counter; 4],
}

impl KeyMeter {
    /// For the requests of the key of that name.
    pub(crate) fn of(key: &str) -> Self {
        let results = ["admitted", "rate", "concurrency", "tokens"];
        Self {
            results: results.map(|it| counter!(KEY_REQUESTS.name, "key" => key.to_owned(), "result" => it)),
        }
    }

    /// A request came.
    pub(crate) fn count(&self, result: KeyResult) {
        self.results[result as usize].increment(1);
    }
}

/// Tells how many sessions there are with the head: one or none.
pub(crate) fn hears_head(sessions: u8) {
    gauge!(HEARS_HEAD.name).set(f64::from(sessions));
}

/// Where it is told what the responses take that are kept.
pub(crate) fn response_store_bytes() -> Gauge {
    gauge!(RESPONSE_STORE_BYTES.name)
}

/// Tells what a stage's kept answers take.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn cache_bytes(pipeline: &str, stage: &str, bytes: u64) {
    gauge!(CACHE_BYTES.name, "pipeline" => pipeline.to_owned(), "stage" => stage.to_owned())
        .set(bytes as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_one_class() {
        let table = [
            (200, "2xx"),
            (204, "2xx"),
            (400, "4xx"),
            (422, "4xx"),
            (499, "499"),
            (500, "5xx"),
            (504, "5xx"),
        ];
        for (status, class) in table {
            assert_eq!(CLASSES[class_of(status)], class, "{status}");
        }
    }
}
