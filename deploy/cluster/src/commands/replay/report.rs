//! The result as tables for people and as JSON for scripts ([the keys](../../../../../docs/captures.md)).

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::read::Captures;
use super::record::{Latency, Summary, Verdict};
use super::target::Target;
use crate::style;
use crate::table::{Table, column};

/// Most differences that people see.
const MAX_SHOWN: usize = 5;

/// How a replay came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All have been sent.
    Planned,
    /// By Ctrl-C.
    Early,
}

/// What is reported.
pub(super) struct Report<'a> {
    pub(super) target: &'a Target,
    pub(super) summary: &'a Summary,
    /// Requests that were to be sent.
    pub(super) num_requests: usize,
    /// Those of them that have redacted fields.
    pub(super) num_redacted: usize,
    /// What was left out of the captures.
    pub(super) left_out: &'a Captures,
    pub(super) tolerance: f64,
    pub(super) end: End,
}

impl Report<'_> {
    /// One object; keys once there keep their meaning.
    pub(super) fn as_json(&self) -> Value {
        let Self { target, summary, left_out, .. } = self;
        let counts: Map<String, Value> = Verdict::ALL
            .iter()
            .map(|verdict| (verdict.name().to_owned(), summary.count(*verdict).into()))
            .collect();
        let latency = |latency: Latency| json!({"p50": latency.p50, "p95": latency.p95, "p99": latency.p99});
        let latencies = summary
            .latencies()
            .map(|[captured, now]| json!({"captured": latency(captured), "now": latency(now)}));
        let differences: Vec<Value> = summary
            .found
            .iter()
            .map(|found| {
                json!({"request_id": found.id, "result": found.verdict.name(), "path": found.difference.path,
                    "captured": found.difference.captured, "now": found.difference.now})
            })
            .collect();
        json!({
            "pipeline": target.pipeline,
            "revision": target.revision,
            "ingress": target.ingress,
            "requests": self.num_requests,
            "ended_early": self.end == End::Early,
            "results": counts,
            "largest_near_difference": summary.off,
            "tolerance": self.tolerance,
            "latency_ms": latencies,
            "differences": differences,
            "redacted_requests": self.num_redacted,
            "left_out": {"unpaired": left_out.unpaired, "redacted_whole": left_out.unsendable, "cut_off": left_out.cut_off},
        })
    }

    /// For people.
    pub(super) fn as_text(&self) -> String {
        let Self { target, summary, .. } = self;
        let early = if self.end == End::Early { ", ended early" } else { "" };
        let mut text = format!(
            "{} of {} captured requests sent to {} at {}{early}\n\n",
            summary.total(),
            self.num_requests,
            style::strong(format_args!("{}@{}", target.pipeline, target.revision)),
            target.ingress,
        );
        for verdict in Verdict::ALL {
            let count = summary.count(verdict);
            let shown = match verdict {
                _ if count == 0 => count.to_string(),
                Verdict::Equal | Verdict::Near => style::good(count),
                Verdict::Different | Verdict::Failed => style::bad(count),
                Verdict::NotCompared => style::warn(count),
            };
            let pad = " ".repeat(8_usize.saturating_sub(count.to_string().len()));
            let note = self.note(verdict);
            let line = format!("{:<14}{pad}{shown}{note}", verdict.name().replace('_', " "));
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if let Some(latencies) = summary.latencies() {
            let mut table = Table::new(["LATENCY, ms", "p50", "p95", "p99"].map(|title| column(title, 0)));
            for (name, latency) in ["captured", "now"].into_iter().zip(latencies) {
                let figures = [latency.p50, latency.p95, latency.p99].map(|figure| format!("{figure:.3}"));
                let [p50, p95, p99] = figures;
                table.row([name.into(), p50.into(), p95.into(), p99.into()], []);
            }
            let _ = write!(text, "\n{}", table.render(None));
        }
        text + &self.differences() + &self.notes()
    }

    fn note(&self, verdict: Verdict) -> String {
        match verdict {
            Verdict::Near if self.summary.count(verdict) > 0 => {
                format!(
                    "  numbers are off by {:.2e} at most, within {:.0e}",
                    self.summary.off, self.tolerance
                )
            }
            Verdict::NotCompared if self.summary.count(verdict) > 0 => {
                "  no answer was captured, or it is redacted".to_owned()
            }
            _ => String::new(),
        }
    }

    fn differences(&self) -> String {
        let found = &self.summary.found[..self.summary.found.len().min(MAX_SHOWN)];
        if found.is_empty() {
            return String::new();
        }
        let columns = ["REQUEST", "WHERE", "CAPTURED", "NOW"].map(|title| column(title, 0));
        let mut table = Table::new(columns);
        for found in found {
            let difference = &found.difference;
            let cells = [&found.id, &difference.path, &difference.captured, &difference.now];
            table.row(cells.map(|text| text.as_str().into()), []);
        }
        let more = self.summary.bad() - found.len();
        let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
        format!("\n{}{more}", table.render(None))
    }

    fn notes(&self) -> String {
        let mut text = String::new();
        let mut note = |count: usize, what: &str, so: &str| {
            if count > 0 {
                let _ = write!(text, "\n{} {what}: {count}; {so}", style::warn("note:"));
            }
        };
        note(
            self.num_redacted,
            "requests with redacted fields, sent as `[redacted]`",
            "their answers may differ by that alone",
        );
        note(self.left_out.unsendable, "requests that are redacted whole", "they were not sent");
        note(
            self.left_out.unpaired,
            "events without their other half, request or answer",
            "they were left out",
        );
        for place in &self.left_out.cut_off {
            let _ = write!(text, "\n{} {place} is cut off and was left out", style::warn("note:"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::read::Captured;
    use super::super::record::Reply;
    use super::*;

    fn target() -> Target {
        Target { pipeline: "rag".into(), revision: 4, route: "/rag".into(), ingress: "127.0.0.1:8000".into() }
    }

    fn summary() -> Summary {
        let mut summary = Summary::default();
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        for (number, (before, now)) in
            [("{\"a\":1}", "{\"a\":1}"), ("{\"a\":1}", "{\"a\":1.0005}"), ("{\"a\":1}", "{\"a\":2}")]
                .iter()
                .enumerate()
        {
            let captured = Captured {
                id: format!("r-{number}"),
                at_us: 0,
                fields: raw("{}"),
                status: 200,
                latency_us: Some(2000),
                answer: Some(raw(before)),
            };
            let reply = Reply::Answered { status: 200, body: (*now).into(), latency_us: 1500 };
            summary.add(&captured, &reply, 1e-3);
        }
        summary
    }

    #[test]
    fn people_get_tables_and_scripts_every_key_every_time() {
        owo_colors::set_override(false);
        let (target, summary) = (target(), summary());
        let left_out = Captures { unpaired: 1, ..Captures::default() };
        let report = Report {
            target: &target,
            summary: &summary,
            num_requests: 4,
            num_redacted: 2,
            left_out: &left_out,
            tolerance: 1e-3,
            end: End::Early,
        };
        insta::assert_snapshot!("text", report.as_text());
        insta::assert_snapshot!("json", serde_json::to_string_pretty(&report.as_json()).unwrap());
        let (nothing, left_out) = (Summary::default(), Captures::default());
        let empty = Report { summary: &nothing, left_out: &left_out, num_redacted: 0, ..report };
        assert_eq!(empty.as_json()["latency_ms"], Value::Null);
        assert_eq!(empty.as_json()["results"]["equal"], 0);
        assert!(!empty.as_text().contains("note"));
    }
}
