//! Faults drawn as a compiler draws them. The text comes from anywhere, so control characters never reach a terminal
//! and a line too long to read is not repeated.

use ariadne::{CharSet, Config, IndexType, Label, Report, ReportKind, Source};

use super::{Color, Fault, Faults};

/// Longest line that is repeated, in bytes.
const MAX_LINE: usize = 300;

/// All faults, one after the other.
pub(super) fn render(faults: &Faults, color: Color) -> String {
    let text = printable(&faults.text);
    let file_name = printable(&faults.file_name);
    let mut source = (file_name.clone(), Source::from(text.as_str()));
    let mut out = Vec::new();
    for (index, fault) in faults.faults.iter().enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        let drawn = first_line_span(&text, fault).is_some_and(|span| {
            let report = report(&file_name, fault, span, color);
            report.write(&mut source, &mut out).is_ok()
        });
        if !drawn {
            let (line, column) = (fault.line, fault.column);
            let (message, help) = (printable(&fault.message), printable(&fault.help));
            out.extend(format!("Error: {message}\n at {file_name}:{line}:{column}\n Help: {help}\n").bytes());
        }
    }
    let text = String::from_utf8_lossy(&out);
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn report<'a>(
    file_name: &str,
    fault: &Fault,
    span: std::ops::Range<usize>,
    color: Color,
) -> Report<'a, (String, std::ops::Range<usize>)> {
    let place = (file_name.to_owned(), span);
    let config = Config::default()
        .with_color(color == Color::Ansi)
        .with_index_type(IndexType::Byte)
        .with_char_set(CharSet::Unicode)
        .with_tab_width(4);
    Report::build(ReportKind::Error, place.clone())
        .with_config(config)
        .with_message(printable(&fault.message))
        .with_label(Label::new(place).with_message(printable(&fault.help)).with_color(ariadne::Color::Red))
        .finish()
}

/// The part of a fault's span on its first line; `None` when that line is too long to be shown.
fn first_line_span(text: &str, fault: &Fault) -> Option<std::ops::Range<usize>> {
    let (start, end) = (fault.span.start, fault.span.end);
    let line_start = text.get(..start)?.rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    if line_end - line_start > MAX_LINE {
        return None;
    }
    Some(start..end.min(line_end).max(start))
}

/// The text with each control character but newline and tab, and each character that would end a line elsewhere,
/// replaced by as many spaces as it has bytes, so that offsets stay.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.extend(std::iter::repeat_n(' ', c.len_utf8()));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultSink;

    fn faults(text: &str, span: std::ops::Range<usize>) -> Faults {
        let mut sink = FaultSink::new(text);
        sink.push(span, "`a` is `0`", "set it to 1 or more");
        sink.into_faults("x.toml").unwrap()
    }

    #[test]
    fn a_fault_shows_place_line_and_help() {
        let shown = faults("b = 1\na = 0\n", 10..11).render(Color::Plain);
        assert_eq!(
            shown,
            "Error: `a` is `0`\n   ╭─[ x.toml:2:5 ]\n   │\n 2 │ a = 0\n   │     ┬\n   │     \
             ╰── set it to 1 or more\n───╯\n"
        );
        let colored = faults("b = 1\na = 0\n", 10..11).render(Color::Ansi);
        assert!(colored.contains("\u{1b}["));
    }

    #[test]
    fn control_characters_and_endless_lines_do_not_reach_the_terminal() {
        let shown = faults("a = \"\u{1b}[2J\u{2028}\r\" # x\n", 4..8).render(Color::Plain);
        assert!(!shown.contains(['\u{1b}', '\u{2028}', '\r']), "{shown}");
        let long = format!("a = \"{}\"", "x".repeat(100_000));
        assert!(faults(&long, 4..100_005).render(Color::Plain).len() < 200);
        assert!(faults("", 0..0).render(Color::Plain).contains("x.toml:1:1"));
    }
}
