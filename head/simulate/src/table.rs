//! Files of comma-separated values: the first line names the columns, in any order; columns that nobody asks for are
//! ignored. All faults come together, each with its place and how to mend it. That is why fields are asked for one by one:
//! serde would stop at the first fault of a row, and knows no columns of text.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use csv::{Reader, ReaderBuilder, StringRecord};
use serde::Serialize;

/// Faults that are listed; those beyond are counted. A file of another kind has one in every line.
const MAX_SHOWN_FAULTS: usize = 50;
/// Characters of a field, or of the first line, that a fault repeats.
const MAX_SHOWN_CHARS: usize = 80;
const LINE_ENDS: [char; 2] = ['\r', '\n'];

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}; {help}")]
pub struct CsvFault {
    /// The file's name.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

/// Where something stands in a file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    /// In characters.
    pub(crate) column: usize,
}

impl Place {
    /// Where files begin.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// A file that is being read.
pub(crate) struct Table<'a> {
    file: &'a str,
    text: &'a str,
    reader: Reader<&'a [u8]>,
    header: Row<'a>,
    /// How far lines are counted: a byte and its line.
    counted: (usize, usize),
    faults: Vec<CsvFault>,
    num_more_faults: usize,
}

/// The fields of a row.
#[derive(Default)]
pub(crate) struct Row<'a> {
    /// The line on which it begins, from 1.
    pub(crate) line: usize,
    text: &'a str,
    fields: StringRecord,
}

impl Row<'_> {
    /// A field without blanks around it. Quotes behind such a blank, as in `1, "a"`, are for `csv` part of the field.
    fn get(&self, index: usize) -> Option<&str> {
        let field = self.fields.get(index)?;
        let is_behind_blank = field.starts_with(char::is_whitespace);
        Some(if is_behind_blank { field.trim().trim_matches('"') } else { field.trim() })
    }

    /// Where a field begins, or the row ends if it has fewer.
    pub(crate) fn place(&self, index: usize) -> Place {
        let mut rest = self.text;
        for _ in 0..index {
            rest = rest.get(field_len(rest) + 1..).unwrap_or("");
        }
        let before = &self.text[..self.text.len() - rest.trim_start().len()];
        let line_text = before.rsplit('\n').next().unwrap_or("");
        Place { line: self.line + before.matches('\n').count(), column: line_text.chars().count() + 1 }
    }

    /// Whether a quoted field goes on in the next line, which hardly anybody means.
    fn has_line_break(&self) -> bool {
        self.text.contains('\n')
    }
}

/// Bytes of the first field of `text`. Quotes count where the field begins with one; those in it come in pairs.
fn field_len(text: &str) -> usize {
    let is_quoted = text.starts_with('"');
    let mut is_open = false;
    let is_end = |char| {
        is_open ^= is_quoted && char == '"';
        char == ',' && !is_open
    };
    text.find(is_end).unwrap_or(text.len())
}

impl<'a> Table<'a> {
    /// Begins to read `text`, the contents of the file called `file`.
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let header = Row::default();
        let mut table =
            Self { file, text, reader, header, counted: (0, 1), faults: Vec::new(), num_more_faults: 0 };
        table.header = table.read().unwrap_or_default();
        table
    }

    /// Where the column of that name is, in capitals or not; that it is missing is a fault.
    pub(crate) fn column(&mut self, name: &str) -> Option<usize> {
        let num_faults = self.faults.len() + self.num_more_faults;
        let found = self.optional_column(name);
        if found.is_none() && num_faults == self.faults.len() + self.num_more_faults {
            let names = cut(self.header.text.trim());
            let help = format!("name it in the first line, which is `{names}`");
            self.fault(Place::START, format!("column `{name}` is missing"), &help);
        }
        found
    }

    /// Where the column of that name is, if it is there. That it is there twice is a fault.
    pub(crate) fn optional_column(&mut self, name: &str) -> Option<usize> {
        let is_named =
            |&index: &usize| self.header.get(index).is_some_and(|column| column.eq_ignore_ascii_case(name));
        let mut found = (0..self.header.fields.len()).filter(is_named);
        let (first, second) = (found.next(), found.next());
        if let Some(second) = second {
            let message = format!("column `{name}` is there twice");
            self.fault(self.header.place(second), message, "remove one of the two");
            return None;
        }
        first
    }

    /// The next row that is not blank.
    pub(crate) fn next_row(&mut self) -> Option<Row<'a>> {
        loop {
            let row = self.read()?;
            if !row.text.trim().is_empty() {
                return Some(row);
            }
        }
    }

    /// The next row that is not blank and has as many fields as the first line.
    pub(crate) fn next_whole_row(&mut self) -> Option<Row<'a>> {
        loop {
            let row = self.next_row()?;
            let (num_fields, num_columns) = (row.fields.len(), self.header.fields.len());
            if num_fields == num_columns {
                return Some(row);
            }
            let s = if num_fields == 1 { "" } else { "s" };
            let message = format!("the row has {num_fields} field{s}, the first line {num_columns}");
            let help = if row.has_line_break() {
                "close the quote that opens in this line"
            } else {
                "give every column a field, and put a field that holds a comma in quotes"
            };
            self.fault(row.place(0), message, help);
        }
    }

    /// A field of a row; that the row ends before it is a fault. `None` without a fault if there is no such column.
    pub(crate) fn field<'r>(&mut self, row: &'r Row<'a>, column: Option<usize>) -> Option<&'r str> {
        let column = column?;
        let field = row.get(column);
        if field.is_none() {
            let (name, num_fields) = (self.header.get(column).unwrap_or_default(), row.fields.len());
            let message = format!("`{name}` is missing: this row has {num_fields} fields");
            self.fault(row.place(column), message, "fill the row up, or remove it");
        }
        field
    }

    /// A field as a whole number within bounds; another one is a fault.
    pub(crate) fn number<T>(
        &mut self,
        row: &Row<'a>,
        column: Option<usize>,
        bounds: RangeInclusive<T>,
    ) -> Option<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let text = self.field(row, column)?;
        let value = text.parse().ok().filter(|value| bounds.contains(value));
        if value.is_none() {
            let column = column.unwrap_or_default();
            let message = format!("`{}` is `{}`", self.header.get(column).unwrap_or_default(), cut(text));
            let help = format!("set it to a whole number from {} to {}", bounds.start(), bounds.end());
            self.fault(row.place(column), message, &help);
        }
        value
    }

    /// Notes that something is wrong.
    pub(crate) fn fault(&mut self, place: Place, message: String, help: &str) {
        if self.faults.len() == MAX_SHOWN_FAULTS {
            self.num_more_faults += 1;
            return;
        }
        let (file, help, Place { line, column }) = (self.file.to_owned(), help.to_owned(), place);
        self.faults.push(CsvFault { file, line, column, message, help });
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// What was read of the file.
    ///
    /// # Errors
    /// All faults, at least one. If there are more than are listed, the last one counts the others.
    pub(crate) fn finish<T>(mut self, value: T) -> Result<T, Vec<CsvFault>> {
        if let (Some(last), 1..) = (self.faults.last().cloned(), self.num_more_faults) {
            let message = format!("{} more faults are not shown", self.num_more_faults);
            self.faults.push(CsvFault { message, help: "mend the ones above first".to_owned(), ..last });
        }
        if self.faults.is_empty() { Ok(value) } else { Err(self.faults) }
    }

    /// The next row, blank or not.
    fn read(&mut self) -> Option<Row<'a>> {
        let mut fields = StringRecord::new();
        let begin = self.offset();
        // It cannot fail: the text is UTF-8, in memory, and rows may have any number of fields.
        let is_row = self.reader.read_record(&mut fields).unwrap_or(false);
        if !is_row {
            return None;
        }
        // Empty lines before a row, and the end of the line before it, are read together with it.
        let text = self.text[begin..self.offset()].trim_end_matches(LINE_ENDS);
        let (text, before) = (text.trim_start_matches(LINE_ENDS), text);
        let begin = begin + before.len() - text.len();
        let (counted, line) = self.counted;
        let line = line + self.text[counted..begin].matches('\n').count();
        self.counted = (begin, line);
        Some(Row { line, text, fields })
    }

    /// Bytes read so far.
    fn offset(&self) -> usize {
        usize::try_from(self.reader.position().byte()).unwrap_or(self.text.len())
    }
}

/// The beginning of a text, for messages.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests;
