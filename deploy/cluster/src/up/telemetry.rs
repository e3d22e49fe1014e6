//! The recorder of this process: installed once, described by what every part declares, rendered for Prometheus. Head,
//! ingress and worker know the `metrics` facade alone.
//!
//! A gauge that nobody has set for [`GAUGE_IDLE`] leaves: what it told of is gone. Counters and histograms stay until the
//! process ends, as Prometheus wants it of what it computes rates from, and because a handle held on the request path must
//! never count into the void.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;
use millstream_head::{MetricsPage, MetricsText};
use millstream_proto::metric::{Definition, Kind};

use super::{openmetrics, process_metrics};
use crate::exit::Failure;

/// Gauges are set each second; one that is not for this long is gone.
const GAUGE_IDLE: Duration = Duration::from_secs(4);
/// How often the recorder takes in what histograms have gathered, and looks for gauges that are gone: it does so when it
/// renders, and nobody may ask it to for hours.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What the parts of a process may record, in the order of the documentation.
pub(super) fn definitions() -> impl Iterator<Item = &'static Definition> {
    let parts = [
        millstream_ingress::metrics::ALL,
        millstream_head::metrics::ALL,
        millstream_worker::metrics::ALL,
        millstream_worker::metrics::TOKENS,
        process_metrics::ALL,
    ];
    parts.into_iter().flatten()
}

/// Installs the recorder, once in a process, and keeps it; returns what `/metrics` answers.
pub(crate) fn start() -> Result<MetricsPage, Failure> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let failed = |what: String| Failure::failed(format!("cannot record metrics: {what}"));
    if INSTALLED.set(()).is_err() {
        return Err(failed("this process records already".to_owned()));
    }
    let recorder = recorder(GAUGE_IDLE).map_err(failed)?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| failed(error.to_string()))?;
    describe();
    tokio::spawn(keep(handle.clone()));
    tokio::spawn(process_metrics::watch_lag());
    Ok(Arc::new(move |accept| page(&handle, accept)))
}

/// A recorder with every histogram's bounds.
fn recorder(gauge_idle: Duration) -> Result<PrometheusRecorder, String> {
    let mut builder = PrometheusBuilder::new().idle_timeout(MetricKindMask::GAUGE, Some(gauge_idle));
    for definition in definitions() {
        if let Kind::Histogram(bounds) = definition.kind {
            let name = Matcher::Full(definition.name.to_owned());
            builder = builder.set_buckets_for_metric(name, bounds).map_err(|error| error.to_string())?;
        }
    }
    Ok(builder.build_recorder())
}

/// Tells the current recorder what everything means.
fn describe() {
    for Definition { name, kind, help, .. } in definitions() {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Histogram(_) => metrics::describe_histogram!(*name, *help),
        }
    }
}

fn page(handle: &PrometheusHandle, accept: &str) -> MetricsText {
    let mut text = handle.render();
    text.push_str(&process_metrics::render());
    match openmetrics::is_accepted(accept) {
        true => MetricsText {
            content_type: openmetrics::CONTENT_TYPE,
            text: openmetrics::render(&text, &millstream_ingress::metrics::exemplars()),
        },
        false => MetricsText { content_type: "text/plain; version=0.0.4; charset=utf-8", text },
    }
}

async fn keep(handle: PrometheusHandle) {
    let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tick.tick().await;
        let _ = handle.render_to_write(&mut std::io::sink());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::docs;

    #[test]
    fn names_follow_prometheus_rules_and_are_declared_once() {
        let mut seen = BTreeSet::new();
        for definition in definitions() {
            let name = definition.name;
            assert!(seen.insert(name), "`{name}` is declared twice");
            // vLLM's own names stand beside ours.
            let own = name.strip_prefix("vllm:").or(name.strip_prefix("millstream_")).unwrap_or_default();
            assert!(
                !own.is_empty()
                    && own.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), definition.kind == Kind::Counter, "{name}");
            for suffix in ["_sum", "_count", "_bucket", "_ms", "_millis", "_mb"] {
                assert!(!name.ends_with(suffix), "{name}");
            }
            assert!(definition.help.ends_with('.') && definition.help.len() > 20, "{name}");
            assert!(
                !definition.labels.iter().any(|label| ["le", "quantile", "job", "instance"].contains(label))
            );
        }
    }

    #[test]
    fn a_gauge_that_is_no_longer_set_leaves_and_counters_stay() {
        let recorder = recorder(Duration::from_millis(50)).unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            let held =
                metrics::counter!("millstream_calls_total", "deployment" => "a/b", "outcome" => "answered");
            held.increment(1);
            for deployment in ["a/b", "a/c"] {
                metrics::gauge!("millstream_ready_replicas", "deployment" => deployment).set(1.0);
            }
            let page = handle.render();
            assert!(page.contains("# HELP millstream_ready_replicas Replicas of"), "{page}");
            assert!(page.contains("millstream_ready_replicas{deployment=\"a/c\"} 1"), "{page}");
            millstream_test_support::eventually("the gauge that is no longer set has left", || {
                metrics::gauge!("millstream_ready_replicas", "deployment" => "a/b").set(1.0);
                (!handle.render().contains("a/c")).then_some(())
            });
            held.increment(1);
            let page = handle.render();
            assert!(page.contains("millstream_ready_replicas{deployment=\"a/b\"} 1"), "{page}");
            assert!(page.contains("outcome=\"answered\"} 2"), "{page}");
        });
    }

    #[test]
    fn durations_are_histograms_with_fixed_bounds() {
        let recorder = recorder(GAUGE_IDLE).unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("millstream_queue_wait_seconds", "deployment" => "a/b").record(0.0002);
        });
        let page = handle.render();
        for line in ["le=\"0.0001\"} 0", "le=\"0.00025\"} 1", "le=\"60\"} 1", "le=\"+Inf\"} 1"] {
            assert!(page.contains(line), "{line} in\n{page}");
        }
    }

    /// `docs/metrics.md` lists what is recorded, in this order; run with `UPDATE_DOCS=1` to write the table anew.
    #[test]
    fn the_documentation_lists_every_metric_as_it_is() {
        let rows = definitions().map(|Definition { name, kind, help, labels }| {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            [format!("`{name}`"), kind.to_owned(), labels, (*help).to_owned()]
        });
        docs::written("metrics.md", "table", &docs::table(["name", "kind", "labels", "meaning"], rows));
    }
}
