//! Numbers of the cluster as words for people.

use std::fmt::Write as _;

use millstream_proto::status::TrafficStatus;

/// A part of the requests.
pub(crate) fn percent(ratio: f64) -> String {
    let percent = (ratio * 1000.0).round() / 10.0;
    format!("{percent}%")
}

/// A latency, as long as it says something.
pub(crate) fn time(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1}ms"),
        ms if ms < 1000.0 => format!("{ms:.0}ms"),
        ms => format!("{:.1}s", ms / 1000.0),
    }
}

/// How long ago something was, in its largest unit.
pub(crate) fn age(ms: u64) -> String {
    match ms / 1000 {
        0..60 => format!("{}s", ms / 1000),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Cores, from thousandths of them.
pub(crate) fn cores(milli: u64) -> String {
    if milli.is_multiple_of(1000) {
        (milli / 1000).to_string()
    } else {
        format!("{}.{:03}", milli / 1000, milli % 1000)
    }
}

/// The requests of the last minute in a sentence.
pub(crate) fn traffic(traffic: &TrafficStatus) -> String {
    let TrafficStatus { requests_per_second, failed_ratio, p50_ms, p95_ms, .. } = *traffic;
    if requests_per_second == 0.0 {
        return "no requests in the last minute".to_owned();
    }
    let mut text = format!("{requests_per_second:.1} requests/s, {} failed", percent(failed_ratio));
    if let Some((p50, p95)) = p50_ms.zip(p95_ms) {
        let _ = write!(text, ", p50 {}, p95 {}", time(p50), time(p95));
    }
    text
}
