//! Faults in a pipeline file: all of them at once, each with its place, the offending text and the fix.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The offending bytes of the text.
    pub span: Range<usize>,
    /// The offending text.
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
        let _ = color;
        unimplemented!()
    }
}

/// One line a fault: `rag.toml:9:16: message; help`.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: {}; {}", self.file_name, fault.line, fault.column, fault.message, fault.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
