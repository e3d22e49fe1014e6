//! What the screen looks like: two lines about the cluster, one about what is shown of it, the table or what stands in its place,
//! and the keys.

mod columns;
mod decisions;
mod help;
mod paint;
mod table;
mod text;

use millstream_proto::status::{ClusterStatus, TrafficStatus};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span, Text};

use self::decisions::Explained;
pub(super) use self::paint::Look;
use self::paint::{Tone, of_health};
use self::text::cut;
use super::known::{Known, Lost};
use super::state::{State, View};
use crate::words::{age, percent};

/// Lines above the table.
const HEADER: u16 = 4;
/// Lines below it for the last decision, on a terminal that has room for them.
const LAST_DECISION: u16 = 4;
const MIN_HEIGHT_FOR_DECISION: u16 = 14;

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame, state: &State, look: Look, now_ms: u64) {
    let area = frame.area();
    let parts = [Constraint::Length(HEADER), Constraint::Fill(1), Constraint::Length(1)];
    let [header, body, footer] = Layout::vertical(parts).areas(area);
    let width = usize::from(area.width);
    frame.render_widget(Text::from(header_lines(state, look, width, now_ms)), header);
    draw_body(frame, body, state, look, now_ms);
    frame.render_widget(footer_line(state, look, width), footer);
}

fn draw_body(frame: &mut Frame, body: Rect, state: &State, look: Look, now_ms: u64) {
    let [width, height] = [body.width, body.height].map(usize::from);
    match state.view() {
        View::Help => frame.render_widget(Text::from(help::lines(look)), body),
        View::Explain { target, skipped } => {
            let explained = Explained { target, skipped: *skipped, width };
            let lines = decisions::lines(state.known(), &explained, look, height, now_ms);
            frame.render_widget(Text::from(lines), body);
        }
        View::Table | View::Typing => {
            let below = if body.height < MIN_HEIGHT_FOR_DECISION { 0 } else { LAST_DECISION };
            // A line between the two stays empty.
            let parts = [Constraint::Fill(1), Constraint::Length(below.min(1)), Constraint::Length(below)];
            let [table, _, last] = Layout::vertical(parts).areas(body);
            let lines = table::lines(state, look, width, usize::from(table.height), now_ms);
            frame.render_widget(Text::from(lines), table);
            if let Some(row) = state.rows().get(state.selected()) {
                let lines = decisions::last(state.known(), &row.target, look, width, now_ms);
                frame.render_widget(Text::from(lines), last);
            }
        }
    }
}

/// The cluster in two lines, what is shown of it in a third, and an empty one.
fn header_lines(state: &State, look: Look, width: usize, now_ms: u64) -> Vec<Line<'static>> {
    let known = state.known();
    let health = known.health().map_or_else(
        || Line::from("waiting for the status of the cluster"),
        |health| {
            let (word, tone) = of_health(health.state);
            let lead = if known.lost().is_some() { "cluster was " } else { "cluster " };
            let sentence = cut(&health.sentence, width.saturating_sub(lead.len() + word.len() + 2));
            Line::from(vec![Span::from(lead), look.span(word, tone), Span::from(format!(": {sentence}"))])
        },
    );
    let counts = known.status().map(|status| counts(known, status)).unwrap_or_default();
    vec![health, Line::from(cut(&counts, width)), shown(state, look, width, now_ms), Line::default()]
}

fn counts(known: &Known, status: &ClusterStatus) -> String {
    let nodes = known.num_nodes();
    let traffic = traffic(status);
    let mut text = format!(
        "head {}, epoch {}   nodes {}/{} ready   {:.1} requests/s",
        status.leader, status.epoch, nodes.ready, nodes.all, traffic.requests_per_second
    );
    if traffic.requests_per_second > 0.0 {
        text += &format!(", {} failed", percent(traffic.failed_ratio));
    }
    text
}

/// The requests of all pipelines together.
fn traffic(status: &ClusterStatus) -> TrafficStatus {
    let of = |count: fn(&TrafficStatus) -> f64| {
        status.pipelines.iter().map(|pipeline| count(&pipeline.traffic)).sum::<f64>()
    };
    let requests_per_second = of(|traffic| traffic.requests_per_second);
    let failed = of(|traffic| traffic.requests_per_second * traffic.failed_ratio);
    let failed_ratio = if requests_per_second > 0.0 { failed / requests_per_second } else { 0.0 };
    TrafficStatus { requests_per_second, failed_ratio, ..TrafficStatus::default() }
}

/// What is shown, unless the head is lost: then that, with how old the figures are.
fn shown(state: &State, look: Look, width: usize, now_ms: u64) -> Line<'static> {
    if let Some(Lost { since_ms, reason }) = state.known().lost() {
        let old = age(now_ms.saturating_sub(*since_ms));
        let text = format!("these figures are {old} old: {reason}; trying again");
        return Line::from(look.span(cut(&text, width), Tone::Bad));
    }
    let mut parts = vec![format!("by {}", state.order().words())];
    if !state.filter().is_empty() && *state.view() != View::Typing {
        parts.push(format!("names with `{}`", state.filter()));
    }
    if !state.rows().is_empty() {
        parts.push(format!("row {} of {}", state.selected() + 1, state.rows().len()));
    }
    let mut spans = vec![Span::from(cut(&parts.join("   "), width))];
    if state.is_paused() {
        spans.insert(0, look.span("paused   ", Tone::Warn));
    }
    Line::from(spans)
}

/// The keys that do something now, as many as there is room for.
fn footer_line(state: &State, look: Look, width: usize) -> Line<'static> {
    let keys: &[(&str, &str)] = match state.view() {
        View::Typing => {
            let text = format!("names with: {}_", state.filter());
            let keys = "   Enter keeps it, Esc clears it";
            return Line::from(vec![look.span(text, Tone::Strong), Span::from(keys)]);
        }
        View::Explain { .. } => &[("Esc", "back"), ("↑↓", "scroll"), ("p", "pause"), ("q", "quit")],
        View::Help => &[("Esc", "back"), ("q", "quit")],
        View::Table => &[
            ("q", "quit"),
            ("?", "help"),
            ("↑↓", "select"),
            ("e", "explain"),
            ("/", "filter"),
            ("s", "sort"),
            ("r", "reverse"),
            ("p", "pause"),
        ],
    };
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, word) in keys {
        used += key.chars().count() + word.len() + 3;
        if used > width + 2 {
            break;
        }
        spans.extend([look.span(*key, Tone::Strong), Span::from(format!(" {word}  "))]);
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::style::{Color, Modifier};

    use super::super::fixture::cluster;
    use super::super::state::Input;
    use super::super::state::tests::{NOW_MS, keys, shown};
    use super::*;

    const LOOK: Look = Look { has_colors: false, local_time: |_| "2025-11-24 16:00:00".to_owned() };

    fn drawn(state: &State, look: Look, width: u16, height: u16) -> TestBackend {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, look, NOW_MS)).unwrap();
        terminal.backend().clone()
    }

    fn screen(state: &State, width: u16, height: u16) -> String {
        drawn(state, LOOK, width, height).to_string()
    }

    /// With a minute in which the load has grown.
    fn busy() -> State {
        let mut state = shown();
        for second in 0..90 {
            let mut status = cluster();
            status.pipelines[1].deployments[0].ongoing = second / 8;
            state.update(Input::Status(Box::new(status)), NOW_MS);
            state.update(Input::Second, NOW_MS);
        }
        state.update(Input::Status(Box::new(cluster())), NOW_MS);
        keys(&mut state, "jjj");
        state
    }

    #[test]
    fn the_table_fits_terminals_of_many_sizes() {
        for (width, height) in [(80, 24), (120, 40), (60, 20)] {
            insta::assert_snapshot!(format!("table_{width}x{height}"), screen(&busy(), width, height));
        }
        for (width, height) in [(1, 1), (10, 3), (20, 5), (500, 200)] {
            for letters in ["", "e", "?", "/x"] {
                let mut state = busy();
                keys(&mut state, letters);
                screen(&state, width, height);
            }
        }
    }

    #[test]
    fn other_views_stand_in_place_of_the_table() {
        for (name, letters) in
            [("explain", "e"), ("explain_scrolled", "ej"), ("help", "?"), ("typing", "/rank")]
        {
            let mut state = busy();
            keys(&mut state, letters);
            insta::assert_snapshot!(name, screen(&state, 80, 24));
        }
    }

    #[test]
    fn what_is_not_as_usual_is_said_in_words() {
        let third =
            |state: &State| screen(state, 80, 24).lines().nth(2).unwrap().trim_matches(['"', ' ']).to_owned();
        let mut state = busy();
        assert_eq!(third(&state), "by name, a to z   row 4 of 5");
        keys(&mut state, "sr/emb\np");
        assert_eq!(
            third(&state),
            "paused   by ongoing requests, least first   names with `emb`   row 2 of 2"
        );
        keys(&mut state, "p");
        state.update(Input::Lost("no cluster answers on `127.0.0.1:1`".into()), NOW_MS - 12_000);
        assert_eq!(
            third(&state),
            "these figures are 12s old: no cluster answers on `127.0.0.1:1`; trying again"
        );
        let empty = screen(&State::default(), 80, 24);
        assert!(
            empty.contains("waiting for the status") && empty.contains("has not told its status"),
            "{empty}"
        );
        keys(&mut state, "/nothing\n");
        assert!(screen(&state, 80, 24).contains("no name has `embnothing` in it"), "{state:?}");
    }

    #[test]
    fn without_colours_nothing_is_coloured_and_the_selected_row_still_stands_out() {
        let colored = |look| {
            let drawn = drawn(&busy(), look, 80, 24);
            let cells = drawn.buffer().content();
            let is_colored = cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
            let num_reversed = cells.iter().filter(|cell| cell.modifier.contains(Modifier::REVERSED)).count();
            (is_colored, num_reversed)
        };
        assert_eq!(colored(LOOK), (false, 80));
        assert_eq!(colored(Look { has_colors: true, ..LOOK }), (true, 80));
    }
}
