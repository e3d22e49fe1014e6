//! The result as tables for people and as JSON for scripts ([the keys](../../../../../docs/benchmarks.md)).

use bytesize::ByteSize;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use super::pace::Mode;
use super::record::{ErrorKind, Summary};
use super::settings::{self, Settings};
use crate::style;

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As planned.
    Planned,
    /// By Ctrl-C.
    Early,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One object; keys once there keep their meaning.
pub(super) fn as_json(settings: &Settings, summary: &Summary, end: End) -> Value {
    let status: Map<String, Value> = CLASSES
        .iter()
        .zip(summary.answers)
        .map(|(class, count)| ((*class).to_owned(), count.into()))
        .collect();
    let count = |kind: ErrorKind| summary.errors.get(&kind).map_or(0, |errors| errors.count);
    let errors: Map<String, Value> =
        ErrorKind::ALL.iter().map(|kind| (kind.name().to_owned(), count(*kind).into())).collect();
    let refusals: Vec<_> = summary
        .refusals
        .iter()
        .map(|(status, refusals)| {
            json!({"status": status, "count": refusals.count, "first_body": refusals.first})
        })
        .collect();
    let latency = summary.latency.map(|latency| {
        json!({"p50": latency.p50, "p90": latency.p90, "p95": latency.p95, "p99": latency.p99,
            "p99_9": latency.p99_9, "max": latency.max})
    });
    let mut result = json!({
        "ended_early": end == End::Early,
        "measured_s": summary.measured.as_secs_f64(),
        "sent": summary.sent,
        "answered": summary.answered,
        "failed": summary.failed,
        "unfinished": summary.unfinished,
        "status": status,
        "errors": errors,
        "refusals": refusals,
        "achieved_per_s": summary.achieved_per_s,
        "latency_ms": latency,
        "bytes_sent": summary.bytes_sent,
        "bytes_received": summary.bytes_received,
    });
    if let Some(result) = result.as_object_mut() {
        result.extend(settings::as_json(settings).into_iter().map(|(key, value)| (key.to_owned(), value)));
    }
    result
}

/// For people.
pub(super) fn as_text(settings: &Settings, summary: &Summary, end: End) -> String {
    let how = match settings.mode {
        Mode::Open { rate } => format!("{rate} requests/s, whether or not answers come"),
        Mode::Closed { concurrency: 1 } => "1 caller that waits for its answer".to_owned(),
        Mode::Closed { concurrency } => format!("{concurrency} callers that wait for their answers"),
    };
    let early = if end == End::Early { ", ended early" } else { "" };
    let measured = format!("{:.1} s", summary.measured.as_secs_f64());
    let head = format!("{} {}: {how}, {measured}{early}", settings.method, settings.url);
    let mut text = format!("{head}\n\n{}", counts(settings, summary));
    for (status, refusals) in summary.refusals.iter().filter(|(_, refusals)| !refusals.first.is_empty()) {
        text.push_str(&format!("\n\nfirst {status}: {}", one_line(&refusals.first)));
    }
    if let Some(latency) = summary.latency {
        let mut table = table();
        table.set_header(["LATENCY, ms", "p50", "p90", "p95", "p99", "p99.9", "max"]);
        let figures = [latency.p50, latency.p90, latency.p95, latency.p99, latency.p99_9, latency.max];
        table.add_row(std::iter::once(String::new()).chain(figures.map(|figure| format!("{figure:.3}"))));
        align_right(&mut table, 1..7);
        text.push_str(&format!("\n\n{table}"));
    }
    text
}

fn counts(settings: &Settings, summary: &Summary) -> Table {
    let mut table = table();
    let mut row = |name: &str, figure: String, note: String| {
        table.add_row([name.to_owned(), figure, note]);
    };
    row("sent", summary.sent.to_string(), String::new());
    row("answered", summary.answered.to_string(), String::new());
    for ((class, count), hundreds) in
        CLASSES.iter().zip(summary.answers).zip(1..).filter(|((_, count), _)| *count > 0)
    {
        let name = format!("  {class}");
        row(&name, if *class < "4xx" { style::good(count) } else { style::bad(count) }, String::new());
        for (status, refusals) in summary.refusals.range(hundreds * 100..(hundreds + 1) * 100) {
            row(&format!("    {status}"), style::bad(refusals.count), String::new());
        }
    }
    row("failed", summary.failed.to_string(), String::new());
    for (kind, errors) in &summary.errors {
        row(&format!("  {}", kind.name()), style::bad(errors.count), errors.first.clone());
    }
    if summary.unfinished > 0 {
        row("unfinished", summary.unfinished.to_string(), String::new());
    }
    let offered = match settings.mode {
        Mode::Open { rate } => format!("of {rate} offered"),
        Mode::Closed { .. } => String::new(),
    };
    row("good answers/s", format!("{:.1}", summary.achieved_per_s), offered);
    row("sent, bodies", ByteSize(summary.bytes_sent).to_string(), String::new());
    row("received, bodies", ByteSize(summary.bytes_received).to_string(), String::new());
    align_right(&mut table, 1..2);
    table
}

/// A body on one line, without control characters: a terminal would obey them.
fn one_line(body: &str) -> String {
    let words = body.split(|c: char| c.is_whitespace() || c.is_control());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::pace::Phases;
    use super::super::record::{Outcome, Recorder};
    use super::*;

    fn settings() -> Settings {
        Settings {
            url: "http://127.0.0.1:8000/echo".parse().unwrap(),
            host: "127.0.0.1".into(),
            port: 8000,
            method: hyper::Method::POST,
            headers: hyper::HeaderMap::new(),
            bodies: vec![Bytes::from("{}")],
            mode: Mode::Open { rate: 200.0 },
            phases: Phases { warm_up: Duration::ZERO, duration: Duration::from_secs(1) },
            timeout: Duration::from_secs(10),
            connections: 256,
        }
    }

    fn summary() -> Summary {
        let mut recorder = Recorder::new(settings().phases);
        let outcomes = [
            Outcome::Answered { status: 200, bytes: 1000, refusal: String::new() },
            Outcome::Answered { status: 503, bytes: 24, refusal: "{\"title\":\n\u{1b}[31m\"full\"}".into() },
            Outcome::Failed { kind: ErrorKind::Timeout, text: "no answer within 10s".into() },
        ];
        for outcome in outcomes {
            recorder.sent(Duration::ZERO, 2);
            recorder.ended(Duration::ZERO, Duration::from_micros(1500), outcome);
        }
        recorder.sent(Duration::ZERO, 2);
        recorder.summary(Duration::from_secs(1))
    }

    #[test]
    fn people_get_a_table() {
        owo_colors::set_override(false);
        insta::assert_snapshot!(as_text(&settings(), &summary(), End::Early));
    }

    #[test]
    fn scripts_get_every_key_every_time() {
        insta::assert_snapshot!(
            serde_json::to_string_pretty(&as_json(&settings(), &summary(), End::Planned)).unwrap()
        );
        let nothing = Recorder::new(settings().phases).summary(Duration::ZERO);
        let json = as_json(&settings(), &nothing, End::Early);
        assert_eq!(json["latency_ms"], Value::Null);
        assert_eq!(json["errors"]["connect"], 0);
    }
}
