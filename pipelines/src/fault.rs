//! Faults in a pipeline file: all of them at once, each with its place, the offending text and the fix.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

mod render;

/// Most faults that one file reports; what is beyond is counted, not listed.
pub(crate) const MAX_FAULTS: usize = 200;

/// Longest offending text that is repeated in a fault, in characters.
const MAX_FOUND: usize = 120;

/// Longest message and longest help, in characters; names and types in them can be of any length.
const MAX_TEXT: usize = 600;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The offending bytes of the text.
    pub span: Range<usize>,
    /// The offending text, cut after 120 characters.
    pub found: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// All faults of a file, in order of place; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The file's name as given.
    pub file_name: String,
    /// The file's text.
    pub text: String,
    /// The faults.
    pub faults: Vec<Fault>,
}

/// Whether a rendering may use terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// ANSI colours.
    Ansi,
    /// Plain text.
    Plain,
}

impl Faults {
    /// The faults as a compiler would show them: place, the line with the text underlined, the fix.
    #[must_use]
    pub fn render(&self, color: Color) -> String {
        render::render(self, color)
    }
}

/// One line a fault: `rag.toml:9:16: message; help`.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(
                f,
                "{}:{}:{}: {}; {}",
                self.file_name, fault.line, fault.column, fault.message, fault.help
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Collects the faults of one text while it is checked.
#[derive(Debug)]
pub(crate) struct FaultSink<'a> {
    text: &'a str,
    /// Byte offset of the start of each line.
    line_starts: Vec<usize>,
    faults: Vec<Fault>,
    num_dropped: usize,
}

impl<'a> FaultSink<'a> {
    /// A sink for faults of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, line_starts, faults: Vec::new(), num_dropped: 0 }
    }

    /// The text that the faults are about.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Records a fault. A span outside the text or inside a character is moved to the nearest place within.
    pub(crate) fn push(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        if self.is_full() {
            self.num_dropped += 1;
            return;
        }
        let start = floor_char(self.text, span.start);
        let end = floor_char(self.text, span.end).max(start);
        let line = self.line_starts.partition_point(|&at| at <= start);
        let line_start = self.line_starts[line - 1];
        let fault = Fault {
            line,
            column: self.text[line_start..start].chars().count() + 1,
            span: start..end,
            found: shorten(&self.text[start..end], MAX_FOUND),
            message: shorten(&message.into(), MAX_TEXT),
            help: shorten(&help.into(), MAX_TEXT),
        };
        // One cause can be met on two ways; it is one fault.
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Whether further faults are only counted, so that their texts need not be made.
    pub(crate) fn is_full(&self) -> bool {
        self.faults.len() == MAX_FAULTS
    }

    /// How many faults are recorded.
    pub(crate) fn len(&self) -> usize {
        self.faults.len()
    }

    /// All faults in order of place; `None` when there are none.
    pub(crate) fn into_faults(mut self, file_name: &str) -> Option<Faults> {
        if self.num_dropped > 0 {
            let end = self.text.len();
            let num_dropped = self.num_dropped;
            self.faults.pop();
            self.num_dropped = 0;
            self.push(
                end..end,
                format!("{} more faults are not shown", num_dropped + 1),
                "fix the ones above first",
            );
        }
        if self.faults.is_empty() {
            return None;
        }
        self.faults.sort_by_key(|fault| (fault.span.start, fault.span.end));
        Some(Faults { file_name: file_name.to_owned(), text: self.text.to_owned(), faults: self.faults })
    }
}

/// The last character boundary at or before `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The text without its end when it has more than `max` characters.
fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_columns_in_characters() {
        let text = "a = 1\né = \"ü\"\n";
        let mut sink = FaultSink::new(text);
        sink.push(text.find("\"ü").unwrap()..text.len() - 1, "two", "fix two");
        sink.push(0..1, "one", "fix one");
        sink.push(0..1, "one", "fix one");
        let faults = sink.into_faults("x.toml").unwrap();
        assert_eq!(faults.to_string(), "x.toml:1:1: one; fix one\nx.toml:2:5: two; fix two");
        assert_eq!(faults.faults[1].found, "\"ü\"");
    }

    #[test]
    fn spans_are_moved_into_the_text() {
        let mut sink = FaultSink::new("é");
        sink.push(1..9, "inside a character", "none");
        sink.push(Range { start: 7, end: 3 }, "outside", "none");
        let faults = sink.into_faults("x").unwrap();
        assert_eq!(faults.faults[0].span, 0..2);
        assert_eq!(faults.faults[1].span, 2..2);
    }

    #[test]
    fn more_faults_than_the_limit_are_counted() {
        let text = "x".repeat(500);
        let mut sink = FaultSink::new(&text);
        for at in 0..500 {
            sink.push(at..at + 1, "wrong", "fix");
        }
        let faults = sink.into_faults("x").unwrap();
        assert_eq!(faults.faults.len(), MAX_FAULTS);
        assert_eq!(faults.faults.last().unwrap().message, "301 more faults are not shown");
    }
}
