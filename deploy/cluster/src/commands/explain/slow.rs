//! Why requests are slow: in which stage the time of the slowest of those goes of which there is a trace, whether it waits or runs,
//! and which replica is slower than those beside it.

use std::collections::BTreeMap;

use millstream_proto::stage::StageTraffic;
use millstream_proto::trace::{RequestTrace, SpanKind, TraceKept, TraceSpan};
use serde::Serialize;

/// Without traces of slow requests: the part of the others that is looked at, the slowest ones.
const SLOWEST_PART: usize = 10;
/// Calls of a replica from which on its median says something.
const MIN_CALLS: usize = 5;
/// How much slower a replica is than its siblings before it is named.
const SLOWER: f64 = 1.5;
/// Differences of less than this are noise, in milliseconds.
const MIN_DIFFERENCE_MS: f64 = 1.0;

/// Where the time of slow requests goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Slow {
    /// Traces that it was found out from.
    pub(super) traces: usize,
    /// What they took on average, in milliseconds.
    pub(super) mean_ms: f64,
    /// The stage that took the most of it.
    pub(super) stage: String,
    /// Its deployment.
    pub(super) deployment: String,
    /// What it took on average.
    pub(super) stage_ms: f64,
    /// The part of the request's time that this is, 0 to 1.
    pub(super) ratio: f64,
    /// What that was spent on.
    pub(super) parts: Parts,
    /// The largest of these.
    pub(super) mostly: &'static str,
    /// What 99% of the stage's calls took at most in the last minute; absent without calls.
    pub(super) stage_p99_ms: Option<f64>,
}

/// What the time of a stage was spent on, in milliseconds on average.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(super) struct Parts {
    /// Waiting at the ingress for a place in a replica.
    pub(super) queue_ms: f64,
    /// Waiting in the replica for company or its turn.
    pub(super) batch_ms: f64,
    /// The model's run; where the engine reports no times, the whole call.
    pub(super) run_ms: f64,
    /// On the way, and in tries that failed.
    pub(super) other_ms: f64,
}

impl Parts {
    fn largest(&self) -> &'static str {
        let all = [
            (self.queue_ms, "queue"),
            (self.batch_ms, "batch"),
            (self.run_ms, "run"),
            (self.other_ms, "other"),
        ];
        all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or("", |(_, name)| name)
    }
}

/// A replica whose calls take longer than those of its siblings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct SlowReplica {
    pub(super) deployment: String,
    pub(super) replica: String,
    /// Calls that were looked at.
    pub(super) calls: usize,
    /// What half of them took at most in the replica, in milliseconds.
    pub(super) median_ms: f64,
    /// The same of its siblings.
    pub(super) siblings_median_ms: f64,
}

/// Where the time goes of the slowest requests; of a deployment that in its stages. `None` without traces.
pub(super) fn slow(
    traces: &[RequestTrace],
    stages: &[StageTraffic],
    deployment: Option<&str>,
) -> Option<Slow> {
    let slowest = slowest(traces);
    let mut by_stage: BTreeMap<(&str, &str), (f64, Parts)> = BTreeMap::new();
    for trace in &slowest {
        for span in trace.spans.iter().filter(|span| span.kind == SpanKind::Stage) {
            let of = text(span, "millstream.deployment");
            if deployment.is_some_and(|wanted| wanted != of) {
                continue;
            }
            let (sum_ms, parts) = by_stage.entry((&span.name, of)).or_default();
            *sum_ms += ms(span);
            add(parts, span, trace);
        }
    }
    let ((stage, of), (sum_ms, sums)) = by_stage
        .into_iter()
        .max_by(|a, b| a.1.0.total_cmp(&b.1.0))
        .filter(|(_, (sum_ms, _))| *sum_ms > 0.0)?;
    let count = slowest.len();
    let mean = |sum: f64| sum / number(count);
    let mean_ms = mean(slowest.iter().map(|trace| trace.request.duration_ms).sum());
    let parts = Parts {
        queue_ms: mean(sums.queue_ms),
        batch_ms: mean(sums.batch_ms),
        run_ms: mean(sums.run_ms),
        other_ms: mean(sums.other_ms),
    };
    Some(Slow {
        traces: count,
        mean_ms,
        stage: stage.to_owned(),
        deployment: of.to_owned(),
        stage_ms: mean(sum_ms),
        ratio: (mean(sum_ms) / mean_ms.max(1e-9)).min(1.0),
        parts,
        mostly: parts.largest(),
        stage_p99_ms: stages.iter().find(|it| it.stage == stage).and_then(|it| it.p99_ms),
    })
}

/// The requests that were kept as slow ones, else the slowest of the others.
fn slowest(traces: &[RequestTrace]) -> Vec<&RequestTrace> {
    let slow: Vec<_> = traces.iter().filter(|trace| trace.request.kept == TraceKept::Slow).collect();
    if !slow.is_empty() {
        return slow;
    }
    let mut all: Vec<_> = traces.iter().filter(|trace| trace.request.kept == TraceKept::Sample).collect();
    all.sort_by(|a, b| b.request.duration_ms.total_cmp(&a.request.duration_ms));
    all.truncate(all.len().div_ceil(SLOWEST_PART));
    all
}

/// Adds what a stage's time was spent on.
fn add(parts: &mut Parts, stage: &TraceSpan, trace: &RequestTrace) {
    let below = |id: &str| {
        let id = id.to_owned();
        trace.spans.iter().filter(move |span| span.parent_id.as_ref() == Some(&id))
    };
    let mut known = 0.0;
    for span in below(&stage.span_id) {
        match span.kind {
            SpanKind::Queue => {
                parts.queue_ms += ms(span);
                known += ms(span);
            }
            SpanKind::Try => {
                let before = known;
                for inside in below(&span.span_id) {
                    match inside.kind {
                        SpanKind::Batch => parts.batch_ms += ms(inside),
                        SpanKind::Run => parts.run_ms += ms(inside),
                        _ => continue,
                    }
                    known += ms(inside);
                }
                // An engine that reports no times: all of the call counts as its run.
                if known <= before && span.error.is_none() {
                    parts.run_ms += ms(span);
                    known += ms(span);
                }
            }
            _ => {}
        }
    }
    parts.other_ms += (ms(stage) - known).max(0.0);
}

/// Replicas that are slower than the others of their deployment, the slowest first. Compared is what a call took in the replica, from
/// all traces: where requests wait says nothing of a replica.
pub(super) fn slow_replicas(traces: &[RequestTrace], deployment: Option<&str>) -> Vec<SlowReplica> {
    let mut calls: BTreeMap<&str, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    for trace in traces {
        for call in trace.spans.iter().filter(|span| span.kind == SpanKind::Try && span.error.is_none()) {
            let stage = trace.spans.iter().find(|span| Some(&span.span_id) == call.parent_id.as_ref());
            let of = stage.map_or("", |stage| text(stage, "millstream.deployment"));
            if deployment.is_none_or(|wanted| wanted == of) {
                let replica = text(call, "millstream.replica");
                calls.entry(of).or_default().entry(replica).or_default().push(ms(call));
            }
        }
    }
    let mut found = Vec::new();
    for (deployment, replicas) in &calls {
        for (replica, mine) in replicas {
            let others = replicas.iter().filter(|(other, _)| *other != replica);
            let others: Vec<_> = others.flat_map(|(_, calls)| calls.iter().copied()).collect();
            if mine.len() < MIN_CALLS || others.len() < MIN_CALLS {
                continue;
            }
            let (median_ms, siblings_median_ms) = (median(mine), median(&others));
            if median_ms > siblings_median_ms * SLOWER && median_ms - siblings_median_ms > MIN_DIFFERENCE_MS {
                found.push(SlowReplica {
                    deployment: (*deployment).to_owned(),
                    replica: (*replica).to_owned(),
                    calls: mine.len(),
                    median_ms,
                    siblings_median_ms,
                });
            }
        }
    }
    found.sort_by(|a, b| b.median_ms.total_cmp(&a.median_ms));
    found
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn text<'a>(span: &'a TraceSpan, attribute: &str) -> &'a str {
    span.attributes.get(attribute).and_then(|value| value.as_str()).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
fn ms(span: &TraceSpan) -> f64 {
    span.duration_us as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A request of two stages; the second waits, then runs in that replica.
    pub(in super::super) fn trace(
        number: usize,
        kept: &str,
        replica: &str,
        [queue_ms, run_ms]: [u64; 2],
    ) -> RequestTrace {
        let span = |id: &str, parent: &str, kind: &str, took_ms: u64, attributes: serde_json::Value| {
            json!({
                "span_id": id, "parent_id": parent, "name": id, "kind": kind, "start_us": 0,
                "duration_us": took_ms * 1000, "attributes": attributes,
            })
        };
        let whole = queue_ms + run_ms + 1;
        let of = |name: &str| json!({ "millstream.deployment": format!("p/{name}") });
        let request = json!({
            "request_id": number.to_string(), "trace_id": "t", "pipeline": "p", "revision": 1, "at_ms": 1.0,
            "duration_ms": whole + 2, "status": 200, "ingress": "a", "kept": kept,
            "spans": [
                span("request", "", "request", whole + 2, json!({})),
                span("embed", "request", "stage", 2, of("embedder")),
                span("answer", "request", "stage", whole, of("generator")),
                span("queue", "answer", "queue", queue_ms, json!({})),
                span("call", "answer", "try", run_ms + 1, json!({ "millstream.replica": replica })),
                span("run", "call", "run", run_ms, json!({})),
            ]
        });
        serde_json::from_value(request).unwrap()
    }

    fn stages() -> Vec<StageTraffic> {
        let stage = |stage: &str, p99_ms| StageTraffic {
            stage: stage.into(),
            calls_per_second: 1.0,
            failed_per_second: 0.0,
            p50_ms: None,
            p99_ms: Some(p99_ms),
        };
        vec![stage("embed", 3.0), stage("answer", 120.0)]
    }

    #[test]
    fn the_stage_and_what_it_spends_its_time_on_are_found() {
        let slow_ones = (0..4).map(|number| trace(number, "slow", "r1", [80, 17]));
        let all: Vec<_> = slow_ones.chain((4..50).map(|n| trace(n, "sample", "r1", [0, 5]))).collect();
        let found = slow(&all, &stages(), None).unwrap();
        assert_eq!((found.traces, found.stage.as_str(), found.mostly), (4, "answer", "queue"));
        assert_eq!((found.deployment.as_str(), found.stage_p99_ms), ("p/generator", Some(120.0)));
        assert_eq!((found.mean_ms, found.stage_ms), (100.0, 98.0));
        let Parts { queue_ms, batch_ms, run_ms, other_ms } = found.parts;
        assert_eq!((queue_ms, batch_ms, run_ms, other_ms), (80.0, 0.0, 17.0, 1.0));
        let of_embedder = slow(&all, &stages(), Some("p/embedder")).unwrap();
        assert_eq!((of_embedder.stage.as_str(), of_embedder.mostly), ("embed", "other"));
        assert_eq!(slow(&all, &stages(), Some("p/other")), None);
        assert_eq!(slow(&[], &stages(), None), None);
    }

    #[test]
    fn without_slow_requests_the_slowest_tenth_of_the_others_is_looked_at() {
        let all: Vec<_> =
            (0..20).map(|n| trace(n, "sample", "r1", [0, if n < 2 { 50 } else { 5 }])).collect();
        let found = slow(&all, &[], None).unwrap();
        assert_eq!((found.traces, found.mostly), (2, "run"));
        assert_eq!(found.mean_ms, 53.0);
    }

    #[test]
    fn a_replica_is_compared_with_its_siblings_by_enough_calls() {
        let calls = |replica: &'static str, count: usize, run_ms| {
            (0..count).map(move |number| trace(number, "sample", replica, [0, run_ms]))
        };
        let all: Vec<_> = calls("r1", 9, 10).chain(calls("r2", 9, 30)).chain(calls("r3", 2, 90)).collect();
        let found = slow_replicas(&all, None);
        let named: Vec<_> = found.iter().map(|it| (it.replica.as_str(), it.median_ms)).collect();
        assert_eq!(named, [("r2", 31.0)]);
        assert_eq!((found[0].siblings_median_ms, found[0].deployment.as_str()), (11.0, "p/generator"));
        let only_one: Vec<_> = calls("r1", 50, 10).collect();
        assert_eq!(slow_replicas(&only_one, None), []);
    }
}
