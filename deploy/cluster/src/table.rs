//! Tables that fit the terminal: where it is narrow, the columns that say least are left out, and notes go below their rows.

use std::fmt::Write as _;

use terminal_size::{Height, Width, terminal_size};

/// Between two columns.
const GAP: usize = 2;
/// Before a note.
const INDENT: &str = "    ";
/// No note is wrapped to less than this.
const MIN_NOTE_WIDTH: usize = 30;

/// The terminal's columns and lines; `None` where the output is no terminal and may be as wide as it likes.
pub(crate) fn terminal() -> Option<(usize, usize)> {
    terminal_size().map(|(Width(columns), Height(lines))| (columns.into(), lines.into()))
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    /// The one with the highest goes first; one of 0 stays.
    rank: u8,
}

/// A column that is left out where there is no room, those with a high rank first; one of rank 0 never is. One that has nothing but
/// dashes is left out as well.
pub(crate) const fn column(title: &'static str, rank: u8) -> Column {
    Column { title, rank }
}

/// A text, and how it looks.
pub(crate) struct Cell {
    text: String,
    look: Option<fn(String) -> String>,
}

impl Cell {
    /// With a colour.
    pub(crate) fn colored(text: impl Into<String>, look: fn(String) -> String) -> Self {
        Self { text: text.into(), look: Some(look) }
    }

    /// The text as it looks.
    pub(crate) fn styled(&self) -> String {
        self.look.map_or_else(|| self.text.clone(), |look| look(self.text.clone()))
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn is_empty(&self) -> bool {
        matches!(self.text.as_str(), "" | "-")
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), look: None }
    }
}

/// A table.
pub(crate) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<([Cell; N], Vec<String>)>,
}

impl<const N: usize> Table<N> {
    /// With these columns.
    pub(crate) fn new(columns: [Column; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a row, with what there is to say below it.
    pub(crate) fn row(&mut self, cells: [Cell; N], notes: impl IntoIterator<Item = String>) {
        let notes = notes.into_iter().filter(|note| !note.is_empty()).collect();
        self.rows.push((cells, notes));
    }

    /// The table for so many columns of a terminal; each line ends with a line end.
    pub(crate) fn render(&self, width: Option<usize>) -> String {
        let widths = self.widths();
        let mut shown: Vec<usize> = (0..N).filter(|&index| !self.says_nothing(index)).collect();
        let total = |shown: &[usize]| shown.iter().map(|&index| widths[index] + GAP).sum::<usize>();
        while width.is_some_and(|width| total(&shown) > width + GAP) {
            let least = (0..shown.len()).max_by_key(|&at| self.columns[shown[at]].rank);
            let Some(at) = least.filter(|&at| self.columns[shown[at]].rank > 0) else { break };
            shown.remove(at);
        }
        let mut text = String::new();
        let titles = self.columns.map(|column| Cell::from(column.title));
        line(&mut text, &titles, &shown, &widths);
        for (cells, notes) in &self.rows {
            line(&mut text, cells, &shown, &widths);
            for note in notes {
                let room = width.map(|width| width.saturating_sub(INDENT.len()).max(MIN_NOTE_WIDTH));
                wrap(note, room).iter().for_each(|part| {
                    let _ = writeln!(text, "{INDENT}{part}");
                });
            }
        }
        text
    }

    fn widths(&self) -> [usize; N] {
        std::array::from_fn(|index| {
            let cells = self.rows.iter().map(|(cells, _)| cells[index].width());
            cells.max().unwrap_or(0).max(self.columns[index].title.len())
        })
    }

    /// Whether a column may go because every row has a dash there.
    fn says_nothing(&self, index: usize) -> bool {
        self.columns[index].rank > 0 && self.rows.iter().all(|(cells, _)| cells[index].is_empty())
    }
}

fn line(text: &mut String, cells: &[Cell], shown: &[usize], widths: &[usize]) {
    let start = text.len();
    for &index in shown {
        let pad = (widths[index] + GAP).saturating_sub(cells[index].width());
        text.push_str(&cells[index].styled());
        text.extend(std::iter::repeat_n(' ', pad));
    }
    let end = text[start..].trim_end().len();
    text.truncate(start + end);
    text.push('\n');
}

/// The lines of a text, broken between words where they are longer than there is room.
pub(crate) fn wrap(text: &str, room: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    for long in text.lines() {
        let mut line = String::new();
        for word in long.split(' ') {
            let fits = room.is_none_or(|room| line.chars().count() + 1 + word.chars().count() <= room);
            if line.is_empty() || fits {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            } else {
                lines.push(std::mem::replace(&mut line, word.to_owned()));
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_least_gives_way_and_notes_are_wrapped() {
        let mut table = Table::new([
            column("NAME", 0),
            column("STATE", 0),
            column("ADDRESS", 2),
            column("AGE", 1),
            column("NONE", 1),
        ]);
        let note = "a note that is longer than the terminal is wide, so that it is broken between two words";
        table.row(
            [
                "rag".into(),
                Cell::colored("ready", |text| text),
                "127.0.0.1:8000".into(),
                "2h".into(),
                "-".into(),
            ],
            [note.to_owned()],
        );
        let lines = |width| table.render(width).lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(None)[..2], ["NAME  STATE  ADDRESS         AGE", "rag   ready  127.0.0.1:8000  2h"]);
        assert_eq!(lines(Some(32))[1], "rag   ready  127.0.0.1:8000  2h");
        assert_eq!(lines(Some(31))[1], "rag   ready  2h");
        assert_eq!(lines(Some(5))[1], "rag   ready", "what must be there stays");
        let narrow = lines(Some(40));
        assert!(narrow.len() > 3 && narrow.iter().all(|line| line.len() <= 40), "{narrow:#?}");
        assert_eq!(narrow[2..].iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "), note);
    }
}
