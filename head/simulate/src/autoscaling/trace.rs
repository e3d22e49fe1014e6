//! A trace of requests from CSV: `TIMESTAMP,ContextTokens,GeneratedTokens`. All faults are found at once.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Faults that are listed; those beyond are counted.
pub const MAX_SHOWN_FAULTS: usize = 50;
const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];
const SECONDS_PER_DAY: i64 = 86_400;

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

/// Something wrong in a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct TraceFault {
    /// The file's name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for TraceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, help } = self;
        write!(f, "{file}:{line}:{column}: {message}; {help}")
    }
}

impl Trace {
    /// Reads a trace. Rows need not be in order of time; columns may be in any order, others are ignored.
    ///
    /// # Errors
    /// All faults, at most [`MAX_SHOWN_FAULTS`] of them listed and the rest counted in the last one.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<TraceFault>> {
        let mut faults = Faults { file, found: Vec::new(), num_dropped: 0 };
        let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        let (_, header) = lines.next().unwrap_or((0, ""));
        let Some(places) = places(header, &mut faults) else { return Err(faults.finish()) };
        let mut rows = Vec::new();
        for (index, line) in lines {
            if !line.trim().is_empty() {
                rows.extend(row(index + 1, line, &places, &mut faults));
            }
        }
        if rows.is_empty() && faults.found.is_empty() {
            faults.push(1, 1, "there is no request in this trace", "add a row below the header");
        }
        if !faults.found.is_empty() {
            return Err(faults.finish());
        }
        rows.sort_by_key(|&(at, _)| at);
        let first = rows.first().map_or(0, |&(at, _)| at);
        let since_first = |at: i128| Duration::from_nanos(u64::try_from(at - first).unwrap_or(u64::MAX));
        let arrivals = rows.into_iter().map(|(at, arrival)| Arrival { at: since_first(at), ..arrival });
        Ok(Self { arrivals: arrivals.collect() })
    }
}

struct Faults<'a> {
    file: &'a str,
    found: Vec<TraceFault>,
    num_dropped: usize,
}

impl Faults<'_> {
    fn push(&mut self, line: usize, column: usize, message: impl Into<String>, help: impl Into<String>) {
        if self.found.len() == MAX_SHOWN_FAULTS {
            self.num_dropped += 1;
            return;
        }
        let (message, help) = (message.into(), help.into());
        self.found.push(TraceFault { file: self.file.to_owned(), line, column, message, help });
    }

    fn finish(mut self) -> Vec<TraceFault> {
        if self.num_dropped > 0
            && let Some(last) = self.found.last().cloned()
        {
            let message = format!("{} more faults are not shown", self.num_dropped);
            self.found.push(TraceFault { message, help: "fix the ones above first".into(), ..last });
        }
        self.found
    }
}

/// Where the columns stand; a fault for each that is missing or there twice.
fn places(header: &str, faults: &mut Faults<'_>) -> Option<[usize; 3]> {
    let names: Vec<_> = fields(header).map(|(_, name)| name).collect();
    let mut places = [0; 3];
    for (column, place) in COLUMNS.iter().zip(&mut places) {
        let mut found = (0..names.len()).filter(|&index| names[index].eq_ignore_ascii_case(column));
        match (found.next(), found.next()) {
            (Some(index), None) => *place = index,
            (None, _) => {
                let help = format!("the first line names the columns: `{}`", COLUMNS.join(","));
                faults.push(1, 1, format!("column `{column}` is missing"), help);
            }
            (_, Some(second)) => {
                let at = fields(header).nth(second).map_or(1, |(at, _)| at);
                faults.push(1, at, format!("column `{column}` is there twice"), "remove one of the two");
            }
        }
    }
    faults.found.is_empty().then_some(places)
}

/// The fields of a line with their columns, without blanks and quotes around them.
fn fields(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut column = 1;
    line.split(',').map(move |field| {
        let at = column + field.chars().take_while(|c| c.is_whitespace()).count();
        column += field.chars().count() + 1;
        (at, field.trim().trim_matches('"'))
    })
}

/// One request, its time in nanoseconds since 1970 or whatever the file counts from.
fn row(line: usize, text: &str, places: &[usize; 3], faults: &mut Faults<'_>) -> Option<(i128, Arrival)> {
    let fields: Vec<_> = fields(text).collect();
    let end = text.chars().count() + 1;
    let mut take = |index: usize| {
        let found = fields.get(places[index]).copied();
        if found.is_none() {
            let message = format!("`{}` is missing: this line has {} fields", COLUMNS[index], fields.len());
            faults.push(line, end, message, "fill the line up, or remove it");
        }
        found
    };
    let (time, prompt, generated) = (take(0), take(1), take(2));
    let at = time.and_then(|(column, field)| {
        let at = timestamp(field);
        if at.is_none() {
            let help = "write it as `2023-11-16 18:15:46.68`, or as seconds";
            faults.push(line, column, format!("`{}` is no time", cut(field)), help);
        }
        at
    });
    let mut tokens = |field: Option<(usize, &str)>, index: usize| {
        let (column, field) = field?;
        let tokens = field.parse::<u32>().ok();
        if tokens.is_none() {
            let message =
                format!("`{}` is `{}`, which is not a number of tokens", COLUMNS[index], cut(field));
            faults.push(line, column, message, "write a whole number from 0 on");
        }
        tokens
    };
    let (prompt, generated) = (tokens(prompt, 1), tokens(generated, 2));
    Some((at?, Arrival { at: Duration::ZERO, prompt: prompt?, generated: generated?, line }))
}

fn cut(field: &str) -> String {
    field.chars().take(40).collect()
}

/// Nanoseconds of `2023-11-16 18:15:46.6805900` (also with `T`, also with `Z`) or of a number of seconds.
fn timestamp(text: &str) -> Option<i128> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let Some((date, time)) = text.split_once([' ', 'T']) else { return seconds(text) };
    let mut parts = date.splitn(3, '-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let mut parts = time.trim().splitn(3, ':');
    let (hour, minute, second) = (digits(parts.next()?)?, digits(parts.next()?)?, seconds(parts.next()?)?);
    let in_range = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61 * 1_000_000_000
        && (1..=9999).contains(&year);
    let whole = days_since_1970(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60;
    in_range.then(|| i128::from(whole) * 1_000_000_000 + second)
}

fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// A number of seconds, 0 or more, in nanoseconds; digits beyond the ninth are cut off.
fn seconds(text: &str) -> Option<i128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let whole: u64 = whole.bytes().all(|b| b.is_ascii_digit()).then(|| whole.parse().ok())??;
    if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) || whole > 1 << 40 {
        return None;
    }
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    Some(i128::from(whole) * 1_000_000_000 + part.parse::<i128>().ok()?)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    (year - 1970) * 365 + leap_days + (1..month).map(|month| days_of(year, month)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests;
