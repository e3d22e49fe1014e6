//! `cluster trace`: where the time of a request went, as a waterfall; without a request those of which there is a trace.

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use millstream_proto::trace::{RequestTrace, TraceKept, TraceSpan, TracedRequest};

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::local_time::local_time;
use crate::output::Output;
use crate::style;

/// Columns of a bar.
const BAR: usize = 30;

/// Flags of `cluster trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The request's id (`x-request-id`), or the trace's; without it the requests are listed of which there is a trace.
    #[arg(value_name = "REQUEST_ID")]
    id: Option<String>,
    /// List only requests of this pipeline.
    #[arg(long, value_name = "PIPELINE", conflicts_with = "id")]
    pipeline: Option<String>,
    /// List so many of the newest.
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "id")]
    limit: u32,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: TraceArgs) -> Result<(), Failure> {
    let mut client = Client::connect(global).await?;
    let output = Output::of(global);
    match args.id {
        Some(id) => {
            let trace = client.trace(&id).await?;
            output.show(&trace, || waterfall(&trace))
        }
        None => {
            let requests = client.traces(args.pipeline.unwrap_or_default(), args.limit).await?;
            output.show(&serde_json::json!({ "requests": requests }), || match &requests[..] {
                [] => "no request was traced yet: those are that fail, that are slow, and one other a second"
                    .to_owned(),
                requests => table(requests),
            })
        }
    }
}

fn kept(kept: TraceKept) -> &'static str {
    match kept {
        TraceKept::Failed => "failed",
        TraceKept::Slow => "slow",
        TraceKept::Sample => "sample",
    }
}

fn table(requests: &[TracedRequest]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["TIME", "PIPELINE", "STATUS", "TOOK", "KEPT", "REQUEST"]);
    for request in requests {
        let pipeline = if request.pipeline.is_empty() { "-" } else { &request.pipeline };
        table.add_row([
            local_time(millis(request.at_ms)),
            pipeline.to_owned(),
            request.status.to_string(),
            time(request.duration_ms),
            kept(request.kept).to_owned(),
            request.request_id.clone(),
        ]);
    }
    table.trim_fmt()
}

/// A span a line: its name, when it began and how long it took, and a bar.
fn waterfall(trace: &RequestTrace) -> String {
    let request = &trace.request;
    let revision =
        if request.revision > 0 { format!(", revision {}", request.revision) } else { String::new() };
    let mut lines = vec![
        format!(
            "{}  {} at {}{revision}: status {}, {} ({})",
            style::strong(&request.request_id),
            if request.pipeline.is_empty() { "no pipeline" } else { &request.pipeline },
            request.ingress,
            request.status,
            time(request.duration_ms),
            kept(request.kept),
        ),
        format!("trace {}, {}", request.trace_id, local_time(millis(request.at_ms))),
        String::new(),
    ];
    let total_us = (request.duration_ms * 1e3).max(1.0);
    let names: Vec<_> = trace.spans.iter().map(|span| (depth(span, &trace.spans), span)).collect();
    let width = names.iter().map(|(depth, span)| 2 * depth + span.name.chars().count()).max().unwrap_or(0);
    for (depth, span) in names {
        let name = format!("{}{}", "  ".repeat(depth), span.name);
        let error = span.error.as_ref().map(|error| format!("  {}", style::bad(error))).unwrap_or_default();
        let start = format!("+{}", time(micros(span.start_us)));
        let took = time(micros(span.duration_us));
        let bar = bar(span, total_us);
        let company = match span.links.len() {
            0 => String::new(),
            1 => "  with 1 other call".to_owned(),
            others => format!("  with {others} other calls"),
        };
        lines.push(format!("{name:width$}  {start:>10}  {took:>9}  {bar}{company}{error}"));
    }
    lines.join("\n")
}

/// How many spans it is inside of.
fn depth(span: &TraceSpan, all: &[TraceSpan]) -> usize {
    let mut depth = 0;
    let mut parent = span.parent_id.as_ref();
    while let Some(found) = all.iter().find(|span| Some(&span.span_id) == parent) {
        depth += 1;
        parent = found.parent_id.as_ref();
        if depth > all.len() {
            break;
        }
    }
    depth
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "columns of a bar"
)]
fn bar(span: &TraceSpan, total_us: f64) -> String {
    let column = |us: u64| ((us as f64 / total_us * BAR as f64).round() as usize).min(BAR);
    let (start, end) = (column(span.start_us).min(BAR - 1), column(span.start_us + span.duration_us));
    format!("{}{}", " ".repeat(start), "━".repeat(end.saturating_sub(start).max(1)))
}

#[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
fn micros(us: u64) -> f64 {
    us as f64 / 1e3
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time after 1970")]
fn millis(at_ms: f64) -> u64 {
    at_ms.max(0.0) as u64
}

fn time(ms: f64) -> String {
    if ms >= 1000.0 { format!("{:.2} s", ms / 1e3) } else { format!("{ms:.2} ms") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millstream_proto::trace::SpanKind;

    use super::*;

    fn span(id: &str, parent: Option<&str>, name: &str, (start_us, duration_us): (u64, u64)) -> TraceSpan {
        TraceSpan {
            span_id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            name: name.to_owned(),
            kind: SpanKind::Stage,
            start_us,
            duration_us,
            attributes: BTreeMap::new(),
            links: Vec::new(),
            error: (id == "e").then(|| "unavailable".to_owned()),
        }
    }

    #[test]
    fn a_waterfall_shows_what_was_inside_of_what_and_when() {
        owo_colors::set_override(false);
        let trace = RequestTrace {
            request: TracedRequest {
                request_id: "abc".into(),
                trace_id: "4bf9".into(),
                pipeline: "rag".into(),
                revision: 2,
                at_ms: 1_764_000_000_000.5,
                duration_ms: 1200.0,
                status: 503,
                ingress: "a".into(),
                kept: TraceKept::Failed,
            },
            parent_id: Some("f00".into()),
            spans: vec![
                span("a", Some("f00"), "POST /rag", (0, 1_200_000)),
                span("b", Some("a"), "embed", (100, 400_000)),
                span("c", Some("b"), "queue", (100, 10)),
                span("e", Some("a"), "rerank", (400_200, 799_800)),
            ],
        };
        let text = waterfall(&trace);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "abc  rag at a, revision 2: status 503, 1.20 s (failed)");
        assert_eq!(lines[3], format!("POST /rag    +0.00 ms     1.20 s  {}", "━".repeat(30)));
        assert_eq!(lines[4], format!("  embed      +0.10 ms  400.00 ms  {}", "━".repeat(10)));
        assert_eq!(lines[5], "    queue    +0.10 ms    0.01 ms  ━");
        assert_eq!(
            lines[6],
            format!("  rerank   +400.20 ms  799.80 ms  {}{}  unavailable", " ".repeat(10), "━".repeat(20))
        );
        assert!(table(&[trace.request]).contains("503"));
    }
}
