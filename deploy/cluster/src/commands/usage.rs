//! `cluster usage`: what API keys have used, as a table, as CSV or as JSON.

use std::time::Duration;

use clap::Args;
use millstream_pipelines::parse_duration;
use millstream_proto::usage::{UsageBy, UsageReport, UsageRow};

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::local_time::local_time;
use crate::output::Output;
use crate::table::{Table, column, terminal};

/// Flags of `cluster usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// What to tell apart, with commas between: hour, key, model.
    #[arg(long, value_name = "PARTS", default_value = "key,model")]
    by: UsageBy,
    /// Only what was used since then, in whole hours of UTC; at most 31 days are kept.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    since: Duration,
    /// Print comma-separated values with a line of names, for spreadsheets.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &UsageArgs) -> Result<(), Failure> {
    let report = Client::connect(global).await?.usage(args.since, args.by).await?;
    let output = Output::of(global);
    if args.csv {
        return output.text(&csv(&report, args.by));
    }
    output.show(&report, || match &report.rows[..] {
        [] => format!(
            "no key has used anything since {}; requests without a key are not counted",
            local_time(report.since_ms)
        ),
        rows => table(rows, terminal().map(|(columns, _)| columns)),
    })
}

/// Names of keys and models have no commas and no quotes.
fn csv(report: &UsageReport, by: UsageBy) -> String {
    let named = [by.hour(0).map(|_| "hour"), by.key("").map(|_| "key"), by.model("").map(|_| "model")];
    let counted = ["requests", "refused", "input_tokens", "output_tokens"];
    let titles: Vec<_> = named.into_iter().flatten().chain(counted).collect();
    let mut text = titles.join(",") + "\n";
    for UsageRow { hour_ms, key, model, counts } in &report.rows {
        let told = [hour_ms.map(utc), key.clone(), model.clone()].into_iter().flatten();
        let counts = [counts.requests, counts.refused, counts.input_tokens, counts.output_tokens];
        let cells: Vec<_> = told.chain(counts.map(|count| count.to_string())).collect();
        text += &(cells.join(",") + "\n");
    }
    text
}

fn utc(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(std::time::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(at).to_string()
}

fn table(rows: &[UsageRow], width: Option<usize>) -> String {
    let mut table = Table::new([
        column("HOUR", 1),
        column("KEY", 1),
        column("MODEL", 1),
        column("REQUESTS", 0),
        column("REFUSED", 3),
        column("INPUT TOKENS", 2),
        column("OUTPUT TOKENS", 2),
    ]);
    for UsageRow { hour_ms, key, model, counts } in rows {
        let or_dash = |text: &Option<String>| match text.as_deref() {
            None | Some("") => "-".to_owned(),
            Some(text) => text.to_owned(),
        };
        let cells = [
            hour_ms.map_or_else(|| "-".to_owned(), local_time),
            or_dash(key),
            or_dash(model),
            counts.requests.to_string(),
            counts.refused.to_string(),
            counts.input_tokens.to_string(),
            counts.output_tokens.to_string(),
        ];
        table.row(cells.map(Into::into), []);
    }
    table.render(width)
}

#[cfg(test)]
mod tests {
    use millstream_proto::usage::UsageCounts;

    use super::*;

    fn report(hour_ms: Option<u64>) -> UsageReport {
        let counts = UsageCounts { requests: 12, refused: 1, input_tokens: 3400, output_tokens: 560 };
        let row =
            |model: &str| UsageRow { hour_ms, key: Some("alice".into()), model: Some(model.into()), counts };
        UsageReport { since_ms: 0, rows: vec![row(""), row("rag/generator")] }
    }

    #[test]
    fn a_table_has_the_columns_that_are_told_apart() {
        let text = table(&report(None).rows, None);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "KEY    MODEL          REQUESTS  REFUSED  INPUT TOKENS  OUTPUT TOKENS");
        assert_eq!(lines[2], "alice  rag/generator  12        1        3400          560");
        assert!(lines[1].starts_with("alice  -  "), "{text}");
    }

    #[test]
    fn values_have_names_and_hours_are_of_utc() {
        let by = "hour,key,model".parse().unwrap();
        assert_eq!(
            csv(&report(Some(1_764_000_000_000)), by),
            "hour,key,model,requests,refused,input_tokens,output_tokens\n\
             2025-11-24T16:00:00Z,alice,,12,1,3400,560\n2025-11-24T16:00:00Z,alice,rag/generator,12,1,3400,560\n"
        );
        let none = UsageReport { since_ms: 0, rows: Vec::new() };
        assert_eq!(csv(&none, "key".parse().unwrap()), "key,requests,refused,input_tokens,output_tokens\n");
    }
}
