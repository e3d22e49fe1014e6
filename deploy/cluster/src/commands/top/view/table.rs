//! The table: a line for each pipeline with its requests, and below it one for each of its deployments with their load.

use millstream_proto::status::TrafficStatus;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::columns::{self, Cell, Columns, GAP, Gpus};
use super::paint::{Look, Tone, of_decision, of_pipeline};
use super::text::{cut, pad};
use crate::commands::top::known::Known;
use crate::commands::top::rows::{DeploymentFigures, Figures, PipelineFigures, Row};
use crate::commands::top::short::short;
use crate::commands::top::state::State;
use crate::words::{age, percent, time};

/// Before a row, and before the one that is selected.
const MARGIN: &str = "  ";
const SELECTED: &str = "> ";
/// Before a deployment, below its pipeline.
const INDENT: &str = "  ";

/// The table in that many columns and lines; its first line has the titles.
pub(super) fn lines(
    state: &State,
    look: Look,
    width: usize,
    height: usize,
    now_ms: u64,
) -> Vec<Line<'static>> {
    let rows = state.rows();
    let gpus = rows.iter().any(|row| matches!(&row.figures, Figures::Deployment(it) if it.gpu_shares > 0.0));
    let longest = rows.iter().map(name_width).max().unwrap_or(0);
    let gpus = if gpus { Gpus::Some } else { Gpus::None };
    let columns = columns::of_width(width.saturating_sub(MARGIN.len()), longest, gpus);
    let table = Table { known: state.known(), columns, look, width, now_ms };
    let room = height.saturating_sub(1);
    let first = first_shown(rows.len(), room, state.selected());
    let mut lines = vec![table.titles()];
    if rows.is_empty() {
        lines.push(Line::from(format!("{MARGIN}{}", nothing(state))));
    }
    for (at, row) in rows.iter().enumerate().skip(first).take(room) {
        let is_selected = at == state.selected();
        let mut line = table.row(row);
        let margin = if is_selected { SELECTED } else { MARGIN };
        line.spans.insert(0, Span::from(margin));
        if is_selected {
            let blank = width.saturating_sub(line.width());
            line.spans.push(Span::from(" ".repeat(blank)));
            line = line.style(Modifier::REVERSED);
        }
        lines.push(line);
    }
    lines
}

/// Why there are no rows.
fn nothing(state: &State) -> String {
    match state.known().status() {
        None => "the head has not told its status yet".to_owned(),
        Some(status) if status.pipelines.is_empty() => {
            "no pipeline is deployed; `cluster deploy FILE` deploys one".to_owned()
        }
        Some(_) => format!("no name has `{}` in it; Esc shows all again", state.filter()),
    }
}

/// The first row that is shown, so that the selected one is in the middle where rows are above and below.
fn first_shown(num_rows: usize, room: usize, selected: usize) -> usize {
    selected.saturating_sub(room / 2).min(num_rows.saturating_sub(room))
}

fn name_width(row: &Row) -> usize {
    match &row.figures {
        Figures::Pipeline(_) => 0,
        Figures::Deployment(figures) => INDENT.len() + figures.name.chars().count(),
    }
}

/// What all rows have in common.
struct Table<'a> {
    known: &'a Known,
    columns: Columns,
    look: Look,
    width: usize,
    now_ms: u64,
}

impl Table<'_> {
    fn titles(&self) -> Line<'static> {
        let mut text = format!("{MARGIN}{}", pad("NAME", self.columns.name));
        for column in &self.columns.others {
            text.push_str(&" ".repeat(GAP));
            text.push_str(&aligned(column.cell, column.title, column.width));
        }
        Line::from(self.look.span(text.trim_end(), Tone::Strong))
    }

    fn row(&self, row: &Row) -> Line<'static> {
        match &row.figures {
            Figures::Pipeline(figures) => self.pipeline(&row.target, figures),
            Figures::Deployment(figures) => self.deployment(&row.target, figures),
        }
    }

    fn pipeline(&self, name: &str, figures: &PipelineFigures) -> Line<'static> {
        let (state, tone) = of_pipeline(figures.state);
        let room = self.width.saturating_sub(MARGIN.len() + name.chars().count() + state.len() + 2 * GAP);
        Line::from(vec![
            self.look.span(name, Tone::Strong),
            Span::from(" ".repeat(GAP)),
            self.look.span(state, tone),
            Span::from(" ".repeat(GAP)),
            Span::from(cut(&requests(&figures.traffic), room)),
        ])
    }

    fn deployment(&self, target: &str, figures: &DeploymentFigures) -> Line<'static> {
        let name = format!("{INDENT}{}", figures.name);
        let mut spans = vec![Span::from(pad(&cut(&name, self.columns.name), self.columns.name))];
        for column in &self.columns.others {
            let (text, tone) = self.cell(column.cell, target, figures, column.width);
            spans.push(Span::from(" ".repeat(GAP)));
            spans.push(self.look.span(aligned(column.cell, &cut(&text, column.width), column.width), tone));
        }
        Line::from(spans)
    }

    fn cell(&self, cell: Cell, target: &str, figures: &DeploymentFigures, width: usize) -> (String, Tone) {
        let DeploymentFigures { ongoing, queued, ready, target_replicas, .. } = *figures;
        match cell {
            Cell::Ongoing => (ongoing.to_string(), Tone::Plain),
            Cell::Queued => (queued.to_string(), if queued > 0 { Tone::Warn } else { Tone::Plain }),
            Cell::Load => (load(figures), Tone::Plain),
            Cell::Ready => {
                let tone = if ready < target_replicas { Tone::Warn } else { Tone::Plain };
                (format!("{ready}/{target_replicas}"), tone)
            }
            Cell::Desired => (figures.desired_replicas.to_string(), Tone::Plain),
            Cell::Gpu if figures.gpu_shares > 0.0 => (format!("{:.3}", figures.gpu_shares), Tone::Plain),
            Cell::Gpu => ("-".to_owned(), Tone::Plain),
            Cell::Minute => {
                let bars = self.known.history(target).map(|history| history.bars(width));
                (bars.unwrap_or_default(), Tone::Plain)
            }
            Cell::Decision => match self.known.last_decision(target) {
                Some(event) => {
                    let ago = age(self.known.age_ms(event, self.now_ms));
                    (format!("{ago} {}", short(&event.decision)), of_decision(&event.decision))
                }
                None => ("-".to_owned(), Tone::Plain),
            },
        }
    }
}

/// Numbers stand at the right of their column, words at the left.
fn aligned(cell: Cell, text: &str, width: usize) -> String {
    match cell {
        Cell::Minute | Cell::Decision => pad(text, width),
        _ => format!("{text:>width$}"),
    }
}

/// Requests for each ready replica, and how many the autoscaler aims at. Without a replica all of them.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn load(figures: &DeploymentFigures) -> String {
    let requests = figures.ongoing.saturating_add(figures.queued) as f64;
    format!("{:.1}/{}", requests / f64::from(figures.ready.max(1)), figures.target_ongoing_requests)
}

/// The requests of the last minute in figures.
pub(super) fn requests(traffic: &TrafficStatus) -> String {
    let TrafficStatus { requests_per_second, failed_ratio, p50_ms, p99_ms, .. } = *traffic;
    if requests_per_second == 0.0 {
        return "no requests".to_owned();
    }
    let mut text = format!("{requests_per_second:.1} requests/s");
    if let Some((p50, p99)) = p50_ms.zip(p99_ms) {
        text += &format!("  p50 {}  p99 {}", time(p50), time(p99));
    }
    text + &format!("  {} failed", percent(failed_ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_row_is_shown_with_those_around_it() {
        for (num_rows, room, selected, first) in
            [(5, 10, 4, 0), (20, 10, 0, 0), (20, 10, 9, 4), (20, 10, 19, 10), (20, 0, 19, 19), (0, 5, 0, 0)]
        {
            assert_eq!(first_shown(num_rows, room, selected), first, "{num_rows} {room} {selected}");
        }
    }
}
