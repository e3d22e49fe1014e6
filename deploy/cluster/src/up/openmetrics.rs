//! The page of metrics in the OpenMetrics form (version 1.0), for collectors that ask for it: the same numbers, and with the buckets of
//! the request histogram the traces of requests that fell into them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use millstream_ingress::metrics::{Bucket, Exemplar, REQUEST_BUCKETS};
use millstream_proto::metric::SECONDS;

/// The content type of the form.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether whoever sends this header `accept` reads the form.
pub(super) fn is_accepted(accept: &str) -> bool {
    accept.split(',').any(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        parts.next() == Some("application/openmetrics-text")
            && parts.all(|part| part.strip_prefix("version=").is_none_or(|version| version.starts_with("1.")))
    })
}

/// The page, from one in Prometheus's text form (version 0.0.4).
pub(super) fn render(page: &str, exemplars: &BTreeMap<Bucket, Exemplar>) -> String {
    let by_labels: BTreeMap<String, &Exemplar> =
        exemplars.iter().map(|(bucket, exemplar)| (labels_of(bucket), exemplar)).collect();
    let mut out = String::with_capacity(page.len() + 8);
    for line in page.lines().filter(|line| !line.is_empty()) {
        // A family of counters has the name without the ending.
        match line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) {
            Some((keyword, rest)) => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let _ = write!(out, "# {keyword} {} {text}", name.strip_suffix("_total").unwrap_or(name));
            }
            None => out.push_str(line),
        }
        if let Some(exemplar) = exemplar_of(line, &by_labels) {
            let Exemplar { trace_id, seconds, at_ms } = exemplar;
            let _ = write!(out, " # {{trace_id=\"{trace_id}\"}} {seconds} {:.3}", at_ms / 1e3);
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

fn exemplar_of<'e>(line: &str, by_labels: &BTreeMap<String, &'e Exemplar>) -> Option<&'e Exemplar> {
    let rest = line.strip_prefix(REQUEST_BUCKETS)?.strip_prefix('{')?;
    let (labels, _) = rest.split_once('}')?;
    let mut labels: Vec<_> = labels.split(',').collect();
    labels.sort_unstable();
    by_labels.get(&labels.join(",")).copied()
}

/// A bucket's labels as they stand on the page, in alphabetical order.
fn labels_of(Bucket { pipeline, class, index }: &Bucket) -> String {
    let bound = SECONDS.get(*index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
    format!("class=\"{class}\",le=\"{bound}\",pipeline=\"{pipeline}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_ask_for_it_get_it() {
        for accept in [
            "application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/plain, application/openmetrics-text; version=1.0.0; escaping=allow-utf-8; q=0.6",
        ] {
            assert!(is_accepted(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-textual",
        ] {
            assert!(!is_accepted(accept), "{accept}");
        }
    }

    #[test]
    fn counters_lose_their_ending_and_buckets_get_their_exemplars() {
        let page = "# HELP millstream_calls_total Calls, e.g. sent.\n# TYPE millstream_calls_total counter\n\
                    millstream_calls_total{deployment=\"a/b\"} 3\n\n# TYPE millstream_nodes gauge\nmillstream_nodes 1\n\n\
                    # TYPE millstream_request_duration_seconds histogram\n\
                    millstream_request_duration_seconds_bucket{pipeline=\"rag\",class=\"2xx\",le=\"0.025\"} 1\n\
                    millstream_request_duration_seconds_bucket{pipeline=\"rag\",class=\"2xx\",le=\"+Inf\"} 2\n";
        let bucket = |index| Bucket { pipeline: "rag".into(), class: "2xx", index };
        let of =
            |trace_id: &str, seconds| Exemplar { trace_id: trace_id.into(), seconds, at_ms: 1_000_500.0 };
        let exemplars =
            BTreeMap::from([(bucket(7), of("ab", 0.02)), (bucket(SECONDS.len()), of("cd", 70.5))]);
        assert_eq!(
            render(page, &exemplars),
            "# HELP millstream_calls Calls, e.g. sent.\n# TYPE millstream_calls counter\n\
             millstream_calls_total{deployment=\"a/b\"} 3\n# TYPE millstream_nodes gauge\nmillstream_nodes 1\n\
             # TYPE millstream_request_duration_seconds histogram\n\
             millstream_request_duration_seconds_bucket{pipeline=\"rag\",class=\"2xx\",le=\"0.025\"} 1 \
             # {trace_id=\"ab\"} 0.02 1000.500\n\
             millstream_request_duration_seconds_bucket{pipeline=\"rag\",class=\"2xx\",le=\"+Inf\"} 2 \
             # {trace_id=\"cd\"} 70.5 1000.500\n# EOF\n"
        );
    }
}
