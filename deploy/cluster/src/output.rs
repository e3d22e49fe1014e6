//! What the command writes: results on stdout, as text or as JSON; messages and failures on stderr. Nothing else of the
//! command writes to either, progress bars apart.
//!
//! A reader that has left, as in `cluster status | head -1`, has what it wanted: the command then ends without a word.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use millstream_pipelines::{Color, Faults};
use serde::Serialize;

use crate::exit::{Cause, Failure, count_of};
use crate::global::Global;
use crate::style;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For scripts: a JSON value on each line.
    Json,
}

impl Output {
    /// As the flags say.
    pub(crate) fn of(global: &Global) -> Self {
        if global.json { Self::Json } else { Self::Text }
    }

    /// Writes a result, in the form that is wanted.
    pub(crate) fn show(self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        self.text(&self.form(json, text)?)
    }

    /// Writes a text that is the same in either form.
    #[expect(clippy::unused_self, reason = "whoever writes to stdout needs an output")]
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        write(&mut io::stdout().lock(), text)
    }

    /// Writes as it stands, without a line end: what steers a terminal.
    #[expect(clippy::unused_self, reason = "whoever writes to stdout needs an output")]
    pub(crate) fn raw(self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|_| Failure::nobody_reads())
    }

    /// Writes bytes as they stand.
    #[expect(clippy::unused_self, reason = "whoever writes to stdout needs an output")]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| unwritten(&error))
    }

    /// Tells why the command failed; returns the process's exit code.
    pub(crate) fn report(self, failure: Failure) -> ExitCode {
        let code = failure.code();
        match self {
            // The exit code says it too.
            Self::Json => drop(failure.to_json().map(|error| self.text(&error.to_string()))),
            Self::Text => match failure.into_cause() {
                Cause::Nothing => {}
                Cause::Text(text) => note(format_args!("{} {text}", style::error("error:"))),
                Cause::Faults(files) => report_faults(&files),
            },
        }
        ExitCode::from(code)
    }

    fn form(self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<String, Failure> {
        match self {
            Self::Text => Ok(text()),
            Self::Json => {
                serde_json::to_string(json).map_err(|error| Failure::failed(format!("no JSON: {error}")))
            }
        }
    }
}

fn report_faults(files: &[Faults]) {
    let color = if style::stderr_has_color() { Color::Ansi } else { Color::Plain };
    for file in files {
        note(file.render(color));
    }
    note(format_args!("{} {}", style::error("error:"), count_of(files)));
}

/// Writes a message on stderr. Whether somebody reads it does not matter to the command.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a text, and ends its last line.
fn write(to: &mut impl Write, text: &str) -> Result<(), Failure> {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let written =
        to.write_all(text.as_bytes()).and_then(|()| to.write_all(end.as_bytes())).and_then(|()| to.flush());
    written.map_err(|error| unwritten(&error))
}

fn unwritten(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::nobody_reads(),
        _ => Failure::failed(format!("cannot write to stdout: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses(ErrorKind);

    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_result_ends_its_last_line_once() {
        for (text, written) in [("", ""), ("a", "a\n"), ("a\nb\n", "a\nb\n")] {
            let mut to = Vec::new();
            write(&mut to, text).unwrap();
            assert_eq!(to, written.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn a_reader_that_has_left_is_no_failure_and_a_full_disk_is_one() {
        let failure = write(&mut Refuses(ErrorKind::BrokenPipe), "x").unwrap_err();
        assert_eq!((failure.code(), matches!(failure.into_cause(), Cause::Nothing)), (0, true));
        let failure = write(&mut Refuses(ErrorKind::StorageFull), "x").unwrap_err();
        assert_eq!(failure.code(), 1);
        assert!(matches!(failure.into_cause(), Cause::Text(text) if text.contains("stdout")));
    }
}
