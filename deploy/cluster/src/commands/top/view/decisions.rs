//! Decisions as sentences: those about one row in place of the table, and the last one below it.

use millstream_proto::event::Event;
use ratatui::text::Line;

use super::paint::{Look, Tone, of_decision};
use super::text::cut;
use crate::commands::top::known::Known;
use crate::table::wrap;
use crate::words::age;

/// Before a sentence.
const INDENT: &str = "    ";

/// What was decided about a target, the newest first, from the one after `skipped` on; at most so many lines.
pub(super) fn lines(
    known: &Known,
    explained: &Explained,
    look: Look,
    height: usize,
    now_ms: u64,
) -> Vec<Line<'static>> {
    let Explained { target, skipped, width } = *explained;
    let count = known.decisions(target).count();
    let from = if skipped > 0 { format!(", from number {} on", skipped + 1) } else { String::new() };
    let title = format!("{target}: {count} decisions, the newest first{from}");
    let mut lines = vec![Line::from(look.span(cut(&title, width), Tone::Strong))];
    if count == 0 {
        lines.push(Line::from("nothing is known to have been decided about it"));
    }
    for event in known.decisions(target).skip(skipped) {
        if lines.len() >= height {
            break;
        }
        let at = (look.local_time)(event.at_ms);
        let ago = age(known.age_ms(event, now_ms));
        lines.push(Line::from(cut(&format!("{at}  {ago} ago  {}", event.subject()), width)));
        lines.extend(sentence(event, look, INDENT, width));
    }
    lines.truncate(height);
    lines
}

/// Which decisions are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Explained<'a> {
    /// `rag` or `rag/embedder`.
    pub(super) target: &'a str,
    /// How many of the newest are not shown.
    pub(super) skipped: usize,
    /// How many characters a line has.
    pub(super) width: usize,
}

/// The last decision about a row, below the table.
pub(super) fn last(known: &Known, target: &str, look: Look, width: usize, now_ms: u64) -> Vec<Line<'static>> {
    let Some(event) = known.last_decision(target) else {
        return vec![Line::from(cut(&format!("{target}: no decision about it is known"), width))];
    };
    let ago = age(known.age_ms(event, now_ms));
    let title = format!("{}, {ago} ago", event.subject());
    let mut lines = vec![Line::from(look.span(cut(&title, width), Tone::Strong))];
    lines.extend(sentence(event, look, "", width));
    lines
}

/// A decision's sentence, and what it was made of.
fn sentence(event: &Event, look: Look, indent: &str, width: usize) -> Vec<Line<'static>> {
    let tone = of_decision(&event.decision);
    let room = width.saturating_sub(indent.len()).max(1);
    let wrapped = wrap(&event.decision.to_string(), Some(room));
    wrapped.into_iter().map(|line| Line::from(look.span(format!("{indent}{line}"), tone))).collect()
}
