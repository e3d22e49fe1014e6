//! `GET /api/series`: the last hour of the cluster's numbers. Parameters are checked as a whole, all faults at once.

use std::collections::BTreeMap;
use std::ops::Range;

use millstream_core::present::series::{CAPACITY, History, Key, Metric, Scope};
use millstream_pipelines::parse_duration;
use millstream_proto::series::Series;

use super::api::documents::ProblemFault;

/// The parameters, for the OpenAPI document.
pub(super) const PARAMETERS_HELP: &[(&str, &str)] = &[
    ("pipeline", "Only this pipeline and its deployments."),
    ("deployment", "Only this deployment: PIPELINE/DEPLOYMENT, or with `pipeline` its name alone."),
    ("node", "Only this node."),
    ("metric", "Only this metric."),
    ("since", "How far back, from `1s` to `1h`; `10m` by default."),
    ("step", "Time for each value; `1s` by default."),
];

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// Only this pipeline and its deployments.
    pipeline: Option<String>,
    /// Only this deployment: its full name, or with `pipeline` its name alone.
    deployment: Option<String>,
    /// Only this node.
    node: Option<String>,
    /// Only this metric.
    metric: Option<Metric>,
    /// How far back, in seconds.
    since_s: u64,
    /// Seconds per value.
    step_s: u64,
}

/// A parameter and what is wrong with it.
pub(crate) type Fault = ProblemFault;

const DEFAULT_SINCE_S: u64 = 600;
const PARAMETERS: [&str; 6] = ["pipeline", "deployment", "node", "metric", "since", "step"];

impl Query {
    /// Reads the parameters, in any order, each at most once.
    ///
    /// # Errors
    /// All faults.
    pub(crate) fn parse(parameters: &[(String, String)]) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut given: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in parameters {
            if !PARAMETERS.contains(&name.as_str()) {
                faults.push(fault(name, format!("is not a parameter; there are {}", PARAMETERS.join(", "))));
            } else if given.insert(name, value).is_some() {
                faults.push(fault(name, "is given twice; give it once".to_owned()));
            }
        }
        let text = |name: &str| given.get(name).map(|value| (*value).to_owned());
        let metric = given.get("metric").and_then(|name| {
            let metric = Metric::named(name);
            if metric.is_none() {
                let names = Metric::ALL.map(|(_, name)| name).join(", ");
                faults.push(fault("metric", format!("`{name}` is not a metric; there are {names}")));
            }
            metric
        });
        let mut seconds = |name: &str, default: u64| match given.get(name) {
            None => default,
            Some(text) => parse_seconds(text).unwrap_or_else(|| {
                let help = "write whole seconds from 1s to 1h, such as `30s`, `10m` or `1h`";
                faults.push(fault(name, format!("`{text}` is not a duration; {help}")));
                default
            }),
        };
        let since_s = seconds("since", DEFAULT_SINCE_S);
        let step_s = seconds("step", 1);
        if step_s > since_s && faults.iter().all(|fault| fault.path != "step" && fault.path != "since") {
            faults.push(fault("step", "is longer than `since`; make it shorter".to_owned()));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            pipeline: text("pipeline"),
            deployment: text("deployment"),
            node: text("node"),
            metric,
            since_s,
            step_s,
        })
    }

    fn wants(&self, key: &Key) -> bool {
        if self.metric.is_some_and(|metric| metric != key.metric) {
            return false;
        }
        let of_pipelines = self.pipeline.is_some() || self.deployment.is_some();
        let wants_pipeline = |name: &str| {
            self.pipeline.as_ref().is_none_or(|wanted| wanted == name)
                && (self.node.is_none() || of_pipelines)
        };
        match key.metric.scope() {
            Scope::Node => self.node.as_ref().map_or(!of_pipelines, |node| *node == key.subject),
            Scope::Pipeline => self.deployment.is_none() && wants_pipeline(&key.subject),
            Scope::Deployment => {
                let Some((pipeline, deployment)) = key.subject.split_once('/') else { return false };
                let named = |wanted: &String| {
                    *wanted == key.subject || self.pipeline.is_some() && wanted == deployment
                };
                wants_pipeline(pipeline) && self.deployment.as_ref().is_none_or(named)
            }
        }
    }
}

fn fault(parameter: &str, message: String) -> Fault {
    ProblemFault { path: parameter.to_owned(), message, ..ProblemFault::default() }
}

/// Whole seconds within the history.
fn parse_seconds(text: &str) -> Option<u64> {
    let duration = parse_duration(text).ok().filter(|duration| duration.subsec_nanos() == 0)?;
    Some(duration.as_secs()).filter(|seconds| (1..=CAPACITY).contains(seconds))
}

/// Reads the history. `zero_unix_ms` is when its second 0 began.
pub(crate) fn answer(history: &History, query: &Query, zero_unix_ms: u64) -> Series {
    let range: Range<u64> = history.range(query.since_s, query.step_s);
    history.shown(range, query.step_s, zero_unix_ms, |key| query.wants(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &[(&str, &str)]) -> Result<Query, Vec<Fault>> {
        let owned: Vec<_> = parameters.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Query::parse(&owned)
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let bad = [
            ("since", "2h"),
            ("step", "fast"),
            ("metric", "rps"),
            ("color", "red"),
            ("node", "a"),
            ("node", "b"),
        ];
        let faults = parse(&bad).unwrap_err();
        let names: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(names, ["color", "node", "metric", "since", "step"]);
    }

    #[test]
    fn durations_are_whole_seconds_within_the_history() {
        let table = [
            ("1s", Some(1)),
            ("10m", Some(600)),
            ("1h", Some(3600)),
            ("60m", Some(3600)),
            ("0s", None),
            ("3601s", None),
            ("1.5s", None),
            ("10", None),
            ("", None),
            ("-1s", None),
            ("99999999999999999999s", None),
            ("500ms", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_seconds(text), expected, "{text}");
        }
        assert_eq!(parse(&[("since", "10s"), ("step", "1m")]).unwrap_err()[0].path, "step");
    }

    #[test]
    fn series_are_chosen_by_what_is_asked() {
        let mut history = History::default();
        let key = |metric, subject: &str| (Key { metric, subject: subject.to_owned() }, 1.0);
        history.observe(
            5,
            [
                key(Metric::Ongoing, "rag/embedder"),
                key(Metric::Ready, "rag/embedder"),
                key(Metric::Ready, "rag/reranker"),
                key(Metric::Ready, "echo/embedder"),
                key(Metric::CallsPerSecond, "rag/reranker"),
                key(Metric::RequestsPerSecond, "rag"),
                key(Metric::RequestsPerSecond, "echo"),
                key(Metric::GpuBooked, "a"),
                key(Metric::GpuBooked, "b"),
            ],
        );
        let table: &[(&[(&str, &str)], usize)] = &[
            (&[], 9),
            (&[("pipeline", "rag")], 5),
            (&[("deployment", "rag/embedder")], 2),
            (&[("pipeline", "rag"), ("deployment", "embedder")], 2),
            (&[("deployment", "embedder")], 0),
            (&[("deployment", "rag")], 0),
            (&[("metric", "requests_per_second")], 2),
            (&[("metric", "requests_per_second"), ("pipeline", "rag")], 1),
            (&[("metric", "calls_per_second"), ("pipeline", "rag")], 1),
            (&[("metric", "ready")], 3),
            (&[("metric", "gpu_booked"), ("node", "b")], 1),
            (&[("node", "b")], 1),
            (&[("pipeline", "nobody")], 0),
        ];
        for (parameters, expected) in table {
            let answer = answer(&history, &parse(parameters).unwrap(), 0);
            assert_eq!(answer.series.len(), *expected, "{parameters:?}");
        }
    }

    #[test]
    fn the_answer_says_when_its_first_value_begins() {
        let mut history = History::default();
        for second in 10..20 {
            history.observe(second, [(Key { metric: Metric::Queued, subject: "a/b".to_owned() }, 2.0)]);
        }
        let query = parse(&[("since", "10s"), ("step", "5s")]).unwrap();
        let answer = serde_json::to_value(answer(&history, &query, 1_000_000)).unwrap();
        let expected = serde_json::json!({
            "start_unix_ms": 1_010_000, "step_ms": 5000,
            "series": [{"metric": "queued", "pipeline": "a", "deployment": "a/b", "values": [2.0, 2.0]}],
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn a_series_says_whose_it_is() {
        let table = [
            (Metric::RequestsPerSecond, "a", (Some("a"), None, None)),
            (Metric::CallsPerSecond, "a/b", (Some("a"), Some("a/b"), None)),
            (Metric::GpuBooked, "n", (None, None, Some("n"))),
        ];
        for (metric, subject, expected) in table {
            let mut history = History::default();
            history.observe(1, [(Key { metric, subject: subject.to_owned() }, 2.0)]);
            let found = answer(&history, &parse(&[]).unwrap(), 0).series.remove(0);
            let whose = (found.pipeline.as_deref(), found.deployment.as_deref(), found.node.as_deref());
            assert_eq!(whose, expected, "{metric:?}");
        }
    }
}
