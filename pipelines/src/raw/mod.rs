//! A pipeline file as it was written: TOML values with their places in the text, nothing judged yet.
//!
//! The file is not read by serde: serde stops at the first fault, and a file's author wants all of them.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::fault::FaultSink;

mod depth;
mod suggest;
mod table;
mod units;

pub use suggest::closest;
pub(crate) use suggest::did_you_mean;
pub(crate) use table::Reader;
pub use units::{format_bytes, parse_duration};
pub(crate) use units::{format_duration, parse_bytes, parse_percent, parse_quoted_duration};

/// Largest pipeline file, in bytes.
pub(crate) const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Bytes of the file.
pub(crate) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Raw {
    /// The value.
    pub(crate) value: RawValue,
    /// Its place, quotes and brackets included.
    pub(crate) span: Span,
}

/// What TOML knows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawValue {
    /// A string.
    Text(String),
    /// An integer.
    Int(i64),
    /// A float, `nan` and `inf` included.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A date or time, which the language has no use for; or a number that does not fit, already reported.
    Unusable(&'static str),
    /// An array.
    Array(Vec<Raw>),
    /// A table.
    Table(RawTable),
}

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    /// The key without quotes.
    pub(crate) text: String,
    /// Its place.
    pub(crate) span: Span,
}

/// A table's entries in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RawTable {
    /// Entries; no key twice.
    pub(crate) entries: Vec<(Key, Raw)>,
}

impl RawTable {
    /// The entry of that key.
    pub(crate) fn get(&self, key: &str) -> Option<&(Key, Raw)> {
        self.entries.iter().find(|(entry, _)| entry.text == key)
    }
}

impl Raw {
    /// What the value is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            RawValue::Text(_) => "a string",
            RawValue::Int(_) => "an integer",
            RawValue::Float(value) if !value.is_finite() => "`nan` or an infinity",
            RawValue::Float(_) => "a float",
            RawValue::Bool(_) => "a boolean",
            RawValue::Unusable(kind) => kind,
            RawValue::Array(_) => "an array",
            RawValue::Table(_) => "a table",
        }
    }

    /// The text, if this is a string.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            RawValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The table, if this is one.
    pub(crate) fn as_table(&self) -> Option<&RawTable> {
        match &self.value {
            RawValue::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The number as a float, if this is an integer or a float.
    #[expect(clippy::cast_precision_loss, reason = "bounds and shares are far below 2^53")]
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self.value {
            RawValue::Int(value) => Some(value as f64),
            RawValue::Float(value) => Some(value),
            _ => None,
        }
    }

    /// The place in the file of a part of this string, given as bytes of its value. The whole string where escapes make
    /// value and file differ.
    pub(crate) fn span_within(&self, file: &str, part: Range<usize>) -> Span {
        let verbatim = self.as_text().filter(|value| !value.is_empty()).and_then(|value| {
            let at = file.get(self.span.clone())?.find(value)?;
            let start = self.span.start + at;
            let end = start + part.end.clamp(part.start, value.len().max(part.start));
            (part.start <= value.len()).then_some(start + part.start..end)
        });
        verbatim.unwrap_or_else(|| self.span.clone())
    }
}

/// Whether the text could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// Every value stands where its author meant it to (a key given twice does not change that).
    Sound,
    /// Parts are missing or in the wrong table; faults about meaning would mislead.
    Broken,
}

/// Reads a file into values; syntax faults go to `faults`.
pub(crate) fn parse(faults: &mut FaultSink<'_>) -> (RawTable, Syntax) {
    let text = faults.text();
    if text.len() > MAX_FILE_BYTES {
        let found = format_bytes(text.len() as u64);
        faults.push(0..0, format!("the file has {found}, more than 1MiB"), "make several pipelines of it");
        return (RawTable::default(), Syntax::Broken);
    }
    if let Some(at) = depth::too_deep(text) {
        faults.push(
            at..at + 1,
            "values are nested too deep here",
            "flatten the tables; the limit is 60 levels",
        );
        return (RawTable::default(), Syntax::Broken);
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut syntax = Syntax::Sound;
    for error in errors {
        if error.message() != "duplicate key" {
            syntax = Syntax::Broken;
        }
        let span = error.span().unwrap_or(text.len()..text.len());
        let (message, help) = explain(text, error.message(), &span);
        faults.push(span, message, help);
    }
    (convert_table(table.get_ref(), faults), syntax)
}

/// A syntax error in our words: the message, and what to do.
fn explain(text: &str, message: &str, span: &Span) -> (String, String) {
    let found = text.get(span.clone()).unwrap_or_default();
    if message == "duplicate key" {
        return (format!("`{found}` is given twice in the same table"), "remove one of the two".to_owned());
    }
    let is_word = found.starts_with(|c: char| c.is_alphabetic()) && !found.contains(['"', '\n']);
    if is_word && (message.contains("string values must be quoted") || message.contains("invalid boolean")) {
        let help = format!("if it is text, put it in quotes: `\"{found}\"`");
        return (format!("`{found}` is not a value"), help);
    }
    if found.trim().is_empty() && message.contains("string values must be quoted") {
        return (
            "a value is missing".to_owned(),
            "write one: text in quotes, a number, `true` or `false`".to_owned(),
        );
    }
    let help = if message.contains("invalid basic string") || message.contains("invalid literal string") {
        "close the string with the quote that opened it; text of several lines stands between `\"\"\"`"
    } else if message.contains("invalid table header") || message.contains("unclosed table") {
        "write a table's name as `[stages.NAME]` on a line of its own"
    } else if message.contains("key with no value") {
        "write `key = value`, one on each line"
    } else if message.contains("array") {
        "write an array as `[1, 2, 3]`"
    } else {
        "see https://toml.io/en/v1.1.0 for how TOML is written"
    };
    (format!("not valid TOML: {message}"), help.to_owned())
}

fn convert_table(table: &DeTable<'_>, faults: &mut FaultSink<'_>) -> RawTable {
    let mut entries: Vec<(Key, Raw)> = table
        .iter()
        .map(|(key, value)| {
            let key = Key { text: key.get_ref().clone().into_owned(), span: key.span() };
            let raw = Raw { value: convert(value.get_ref(), &value.span(), faults), span: value.span() };
            (key, raw)
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.span.start);
    RawTable { entries }
}

fn convert(value: &DeValue<'_>, span: &Span, faults: &mut FaultSink<'_>) -> RawValue {
    match value {
        DeValue::String(text) => RawValue::Text(text.clone().into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => RawValue::Int(number),
            Err(_) => {
                let help = "write a number between -9223372036854775808 and 9223372036854775807";
                faults.push(span.clone(), "the integer is out of range", help);
                RawValue::Unusable("a number out of range")
            }
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => RawValue::Float(number),
            Err(_) => {
                faults.push(span.clone(), "the float is out of range", "write a smaller number");
                RawValue::Unusable("a number out of range")
            }
        },
        DeValue::Boolean(value) => RawValue::Bool(*value),
        DeValue::Datetime(_) => RawValue::Unusable("a date or time"),
        DeValue::Array(items) => RawValue::Array(
            items
                .iter()
                .map(|item| Raw { value: convert(item.get_ref(), &item.span(), faults), span: item.span() })
                .collect(),
        ),
        DeValue::Table(table) => RawValue::Table(convert_table(table, faults)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_syntax_faults_are_found_at_once() {
        let mut sink = FaultSink::new("a = \nb = hello\nc = \"x\nd = 1\nd = 2\n");
        let (_, syntax) = parse(&mut sink);
        assert_eq!(syntax, Syntax::Broken);
        assert!(sink.len() >= 4, "{:?}", sink);
    }

    #[test]
    fn a_key_twice_leaves_the_rest_readable() {
        let mut sink = FaultSink::new("a = 1\na = 2\nb = 3\n");
        let (table, syntax) = parse(&mut sink);
        assert_eq!(syntax, Syntax::Sound);
        assert_eq!(sink.len(), 1);
        assert_eq!(table.get("b").unwrap().1.value, RawValue::Int(3));
    }

    #[test]
    fn parts_of_strings_are_found_in_the_file() {
        let text = "a = \"x + y\"\nb = \"\"\"\nlong\ntext\"\"\"\nc = \"\\u0041 + y\"\n";
        let (table, _) = parse(&mut FaultSink::new(text));
        let part = |key: &str, range| &text[table.get(key).unwrap().1.span_within(text, range)];
        assert_eq!(part("a", 4..5), "y");
        assert_eq!(part("b", 5..9), "text");
        assert_eq!(part("c", 4..5), "\"\\u0041 + y\"", "escapes: the whole string");
        assert_eq!(part("a", 9..12), "\"x + y\"", "past the end: the whole string");
    }

    #[test]
    fn numbers_out_of_range_are_faults() {
        let mut sink = FaultSink::new("a = 99999999999999999999\nb = 1e999\n");
        parse(&mut sink);
        assert_eq!(sink.len(), 1, "1e999 is infinite and left to the checks of ranges");
    }
}
