//! The keys and columns in words.

use ratatui::text::Line;

use super::paint::{Look, Tone};

/// Keys and columns, with what they are. All of it fits a terminal of 80 × 24.
const WORDS: [(&str, &str); 18] = [
    ("q  Ctrl-C", "leave"),
    ("Esc", "close what is open, then show all rows again, then leave"),
    ("↑ ↓  k j", "another row; PageUp, PageDown, Home and End too"),
    ("s  r", "order by the next column; the other way round"),
    ("/", "show the names that have a text in them; Enter keeps it"),
    ("e  Enter", "the decisions about the selected row, with their figures"),
    ("p", "stop the screen; again: go on"),
    ("", ""),
    ("requests/s", "of a pipeline, in the last minute; p50, p99, failed as well"),
    ("ONGOING", "requests at the replicas"),
    ("QUEUED", "requests that wait at an ingress"),
    ("LOAD", "both for each ready replica / target_ongoing_requests"),
    ("READY", "ready replicas / the number that was decided on"),
    ("DESIRED", "replicas that the requests of this moment ask for"),
    ("GPUS", "parts of GPUs that the replicas hold together"),
    ("LAST MINUTE", "ongoing requests; the highest bar is the most there were"),
    ("LAST DECISION", "how long ago, and what; the sentence is below the table"),
    ("", "A narrow terminal has fewer columns."),
];

/// The lines of the help.
pub(super) fn lines(look: Look) -> Vec<Line<'static>> {
    let line = |(key, meaning): (&str, &str)| {
        Line::from(vec![look.span(format!("  {key:<15}"), Tone::Strong), look.span(meaning, Tone::Plain)])
    };
    WORDS.into_iter().map(line).collect()
}
