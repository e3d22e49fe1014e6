//! Reading a table key by key. Each key that is asked for becomes known; what is left at the end is a fault.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{
    Key, Raw, RawTable, RawValue, did_you_mean, format_bytes, format_duration, parse_bytes,
    parse_quoted_duration,
};
use crate::fault::FaultSink;

/// A reader of one table.
pub(crate) struct Reader<'a> {
    table: &'a RawTable,
    /// Whose table it is, such as ``deployment `embedder` ``; empty for the file.
    owner: String,
    /// Keys that lead to this table, such as `batch.`.
    prefix: String,
    /// The table's place, for faults about what is missing.
    span: super::Span,
    known: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// A reader of the file's top level.
    pub(crate) fn file(table: &'a RawTable) -> Self {
        Self { table, owner: String::new(), prefix: String::new(), span: 0..0, known: Vec::new() }
    }

    /// A reader of the table that a key of `[deployments]`, `[stages]` or `[request]` holds; a fault when it is none.
    pub(crate) fn entry(kind: &str, key: &Key, raw: &'a Raw, faults: &mut FaultSink<'_>) -> Option<Self> {
        let owner = format!("{kind} `{}`", key.text);
        let Some(table) = raw.as_table() else {
            faults.push(
                raw.span.clone(),
                format!("{owner} is {}, not a table", raw.kind()),
                "write it as a table",
            );
            return None;
        };
        Some(Self { table, owner, prefix: String::new(), span: key.span.clone(), known: Vec::new() })
    }

    /// A reader of the table under `key`, when it is there.
    pub(crate) fn table(&mut self, key: &'static str, faults: &mut FaultSink<'_>) -> Option<Self> {
        let (name, raw) = self.raw(key)?;
        let Some(table) = raw.as_table() else {
            self.wrong_kind(key, raw, "a table", faults);
            return None;
        };
        let prefix = format!("{}{key}.", self.prefix);
        Some(Self { table, owner: self.owner.clone(), prefix, span: name.span.clone(), known: Vec::new() })
    }

    /// The place of the table's name.
    pub(crate) fn span(&self) -> super::Span {
        self.span.clone()
    }

    /// How messages name that key, such as ``deployment `embedder`: `batch.max_size` ``.
    pub(crate) fn label(&self, key: &str) -> String {
        let separator = if self.owner.is_empty() { "" } else { ": " };
        format!("{}{separator}`{}{key}`", self.owner, self.prefix)
    }

    /// The entry of that key, whatever it is.
    pub(crate) fn raw(&mut self, key: &'static str) -> Option<&'a (Key, Raw)> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    /// The string under `key`.
    pub(crate) fn text(
        &mut self,
        key: &'static str,
        faults: &mut FaultSink<'_>,
    ) -> Option<(&'a str, &'a Raw)> {
        let (_, raw) = self.raw(key)?;
        let text = raw.as_text();
        if text.is_none() {
            self.wrong_kind(key, raw, "a string", faults);
        }
        Some((text?, raw))
    }

    /// The boolean under `key`.
    pub(crate) fn bool(&mut self, key: &'static str, faults: &mut FaultSink<'_>) -> Option<bool> {
        let (_, raw) = self.raw(key)?;
        match raw.value {
            RawValue::Bool(value) => Some(value),
            _ => {
                self.wrong_kind(key, raw, "`true` or `false`", faults);
                None
            }
        }
    }

    /// The whole number under `key`, within bounds.
    pub(crate) fn int(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<u32>,
        faults: &mut FaultSink<'_>,
    ) -> Option<u32> {
        let (_, raw) = self.raw(key)?;
        let RawValue::Int(value) = raw.value else {
            self.wrong_kind(key, raw, "a whole number", faults);
            return None;
        };
        let inside = u32::try_from(value).ok().filter(|value| bounds.contains(value));
        if inside.is_none() {
            self.out_of_bounds(key, raw, &value, (bounds.start(), bounds.end()), faults);
        }
        inside
    }

    /// The number under `key`, within bounds; `nan` never is.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<f64>,
        faults: &mut FaultSink<'_>,
    ) -> Option<f64> {
        let (_, raw) = self.raw(key)?;
        let Some(value) = raw.as_f64() else {
            self.wrong_kind(key, raw, "a number", faults);
            return None;
        };
        if bounds.contains(&value) {
            return Some(value);
        }
        self.out_of_bounds(key, raw, &value, (bounds.start(), bounds.end()), faults);
        None
    }

    /// The duration under `key`, within bounds.
    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<Duration>,
        faults: &mut FaultSink<'_>,
    ) -> Option<Duration> {
        let (value, raw) = self.with_unit(key, parse_quoted_duration, faults)?;
        if bounds.contains(&value) {
            return Some(value);
        }
        let (low, high) = (format_duration(*bounds.start()), format_duration(*bounds.end()));
        self.out_of_bounds(key, raw, &format_duration(value), (&low, &high), faults);
        None
    }

    /// The size in bytes under `key`, within bounds.
    pub(crate) fn bytes(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<u64>,
        faults: &mut FaultSink<'_>,
    ) -> Option<u64> {
        let (value, raw) = self.with_unit(key, parse_bytes, faults)?;
        if bounds.contains(&value) {
            return Some(value);
        }
        let (low, high) = (format_bytes(*bounds.start()), format_bytes(*bounds.end()));
        self.out_of_bounds(key, raw, &format_bytes(value), (&low, &high), faults);
        None
    }

    /// One of the words under `key`.
    pub(crate) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        faults: &mut FaultSink<'_>,
    ) -> Option<T> {
        let (text, raw) = self.text(key, faults)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let message = format!("{} is `{text}`, which is unknown", self.label(key));
            faults.push(raw.span.clone(), message, did_you_mean(text, words.iter().map(|(word, _)| *word)));
        }
        found
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn finish(self, faults: &mut FaultSink<'_>) {
        for (key, _) in &self.table.entries {
            if !self.known.contains(&key.text.as_str()) {
                if faults.is_full() {
                    faults.push(key.span.clone(), "", "");
                    continue;
                }
                let place = if self.owner.is_empty() { "the file" } else { &self.owner };
                let message = format!("{place} has a key `{}{}` that is unknown", self.prefix, key.text);
                faults.push(key.span.clone(), message, did_you_mean(&key.text, self.known.iter().copied()));
            }
        }
    }

    /// Reports a value of the wrong kind; what has been reported already is not reported again.
    pub(crate) fn wrong_kind(&self, key: &str, raw: &Raw, wanted: &str, faults: &mut FaultSink<'_>) {
        if raw.value != RawValue::Unusable("a number out of range") {
            let message = format!("{} is {}, not {wanted}", self.label(key), raw.kind());
            faults.push(raw.span.clone(), message, format!("write {wanted}"));
        }
    }

    fn with_unit<T>(
        &mut self,
        key: &'static str,
        parse: fn(&str) -> Result<T, &'static str>,
        faults: &mut FaultSink<'_>,
    ) -> Option<(T, &'a Raw)> {
        let (_, raw) = self.raw(key)?;
        let Some(text) = raw.as_text() else {
            let message = format!("{} is {}, but a unit is needed", self.label(key), raw.kind());
            let help = parse("").err().unwrap_or_default();
            faults.push(raw.span.clone(), message, help);
            return None;
        };
        match parse(text) {
            Ok(value) => Some((value, raw)),
            Err(help) => {
                faults.push(raw.span.clone(), format!("{} is `{text}`", self.label(key)), help);
                None
            }
        }
    }

    fn out_of_bounds(
        &self,
        key: &str,
        raw: &Raw,
        found: &impl Display,
        (low, high): (&impl Display, &impl Display),
        faults: &mut FaultSink<'_>,
    ) {
        let help = format!("set it to {low} or more and {high} or less, or leave it out");
        faults.push(raw.span.clone(), format!("{} is `{found}`", self.label(key)), help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw;

    fn messages(text: &str, check: impl FnOnce(Reader<'_>, &mut FaultSink<'_>)) -> Vec<String> {
        let mut faults = FaultSink::new(text);
        let (table, _) = raw::parse(&mut faults);
        check(Reader::file(&table), &mut faults);
        faults
            .into_faults("x")
            .map(|f| f.faults.iter().map(|f| f.message.clone()).collect())
            .unwrap_or_default()
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_all_reported() {
        let text = "size = 0\nwait = 5\nname = 3\nflag = \"x\"\nshare = nan\nsized = 2\n";
        let found = messages(text, |mut reader, faults| {
            assert_eq!(reader.int("size", 1..=8, faults), None);
            assert_eq!(reader.duration("wait", Duration::ZERO..=Duration::MAX, faults), None);
            assert_eq!(reader.text("name", faults), None);
            assert_eq!(reader.bool("flag", faults), None);
            assert_eq!(reader.number("share", 0.0..=1.0, faults), None);
            assert_eq!(reader.int("absent", 0..=1, faults), None);
            reader.finish(faults);
        });
        assert_eq!(
            found,
            [
                "`size` is `0`",
                "`wait` is an integer, but a unit is needed",
                "`name` is an integer, not a string",
                "`flag` is a string, not `true` or `false`",
                "`share` is `NaN`",
                "the file has a key `sized` that is unknown",
            ]
        );
    }
}
