//! A trace of requests from CSV: `TIMESTAMP,ContextTokens,GeneratedTokens`.

use std::time::Duration;

use jiff::civil::DateTime;

use crate::table::{CsvFault, Place, Row, Table, cut};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When, from the first one on.
    pub at: Duration,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens of its answer.
    pub generated: u32,
    /// Its line in the file, from 1.
    pub line: usize,
}

/// Requests in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// The requests; never empty.
    pub arrivals: Vec<Arrival>,
}

impl Trace {
    /// Reads a trace. Rows need not be in order of time; columns may be in any order, others are ignored.
    ///
    /// # Errors
    /// All faults, at least one.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<CsvFault>> {
        let mut table = Table::new(file, text);
        let columns = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"].map(|name| table.column(name));
        let mut rows = Vec::new();
        while let Some(row) = table.next_row() {
            rows.extend(request(&row, columns, &mut table));
        }
        if rows.is_empty() && table.is_sound() {
            let message = "there is no request in this trace".to_owned();
            table.fault(Place::START, message, "add a row below the first line");
        }
        rows.sort_by_key(|&(at, _)| at);
        let first = rows.first().map_or(0, |&(at, _)| at);
        let since_first = |at: i128| Duration::from_nanos(u64::try_from(at - first).unwrap_or(u64::MAX));
        let arrivals = rows.into_iter().map(|(at, arrival)| Arrival { at: since_first(at), ..arrival });
        table.finish(Self { arrivals: arrivals.collect() })
    }
}

/// One request, its time in nanoseconds since 1970 or whatever the file counts from.
fn request<'a>(
    row: &Row<'a>,
    [time, prompt, generated]: [Option<usize>; 3],
    table: &mut Table<'a>,
) -> Option<(i128, Arrival)> {
    let at = table.field(row, time).and_then(|text| {
        let at = timestamp(text);
        if at.is_none() {
            let help = "write it as `2023-11-16 18:15:46.68`, or as seconds";
            let message = format!("`{}` is not a time", cut(text));
            table.fault(row.place(time.unwrap_or_default()), message, help);
        }
        at
    });
    let prompt = table.number(row, prompt, 0..=u32::MAX);
    let generated = table.number(row, generated, 0..=u32::MAX);
    Some((at?, Arrival { at: Duration::ZERO, prompt: prompt?, generated: generated?, line: row.line }))
}

/// Nanoseconds of `2023-11-16 18:15:46.6805900` (also with `T`, also with `Z`) or of a number of seconds.
fn timestamp(text: &str) -> Option<i128> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let Some((minute, second)) = text.rsplit_once(':') else { return seconds(text) };
    let formats = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    let minute = formats.iter().find_map(|format| DateTime::strptime(format, minute).ok())?;
    // Not by `strptime`: a leap second is the 60th one, and there may be more than nine digits.
    let second = seconds(second).filter(|second| *second < 61 * NANOS_PER_SECOND)?;
    Some(minute.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_nanos() + second)
}

/// A number of seconds, 0 or more, in nanoseconds; digits beyond the ninth are cut off.
fn seconds(text: &str) -> Option<i128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let whole: u64 = whole.bytes().all(|b| b.is_ascii_digit()).then(|| whole.parse().ok())??;
    if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) || whole > 1 << 40 {
        return None;
    }
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    Some(i128::from(whole) * NANOS_PER_SECOND + part.parse::<i128>().ok()?)
}

#[cfg(test)]
mod tests;
