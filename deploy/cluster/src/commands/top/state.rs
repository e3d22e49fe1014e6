//! What is on the screen, and what becomes of it at each key, at news of the cluster, and at each second.

use millstream_proto::status::ClusterStatus;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::known::{Decisions, Known};
use super::rows::{self, Column, Order, Row};

/// Rows that the page keys go.
const PAGE: isize = 10;

/// Something that the view has to know.
#[derive(Debug)]
pub(super) enum Input {
    /// The cluster's status has changed.
    Status(Box<ClusterStatus>),
    /// The head told decisions.
    Decisions(Decisions),
    /// The head does not answer, and why.
    Lost(String),
    /// Somebody pressed a key.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// A second is over.
    Second,
    /// The terminal is gone, and so is whoever sat at it.
    Gone,
}

/// Whether it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It does.
    Continue,
    /// Somebody wants to leave.
    Quit,
}

/// What stands in place of the table, or on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    /// The table.
    Table,
    /// The table, while somebody types the filter.
    Typing,
    /// The decisions about a row.
    Explain {
        /// `rag` or `rag/embedder`.
        target: String,
        /// How many of the newest are above the first line.
        skipped: usize,
    },
    /// The keys and columns.
    Help,
}

/// What is on the screen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    live: Known,
    /// What was known when somebody stopped the screen; `None` while it moves.
    frozen: Option<Box<Known>>,
    order: Order,
    filter: String,
    rows: Vec<Row>,
    selected: usize,
    view: View,
}

impl Default for State {
    fn default() -> Self {
        Self {
            live: Known::default(),
            frozen: None,
            order: Order { by: Column::Name, reversed: false },
            filter: String::new(),
            rows: Vec::new(),
            selected: 0,
            view: View::Table,
        }
    }
}

impl State {
    /// Takes in what has happened.
    pub(super) fn update(&mut self, input: Input, now_ms: u64) -> Flow {
        let flow = match input {
            Input::Key(key) => self.key(key),
            Input::Status(status) => self.live(|live| live.observe(*status)),
            Input::Decisions(decisions) => self.live(|live| live.learn(decisions, now_ms)),
            Input::Lost(reason) => self.live(|live| live.lose(reason, now_ms)),
            Input::Second => self.live(Known::sample),
            Input::Resized => Flow::Continue,
            Input::Gone => Flow::Quit,
        };
        self.arrange();
        flow
    }

    /// What the screen shows of the cluster.
    pub(super) fn known(&self) -> &Known {
        self.frozen.as_deref().unwrap_or(&self.live)
    }

    /// Whether somebody has stopped the screen.
    pub(super) fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// The rows of the table.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Which row is selected.
    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    /// The order of the rows.
    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// What names must have in them.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// What stands in place of the table, or on it.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    fn live(&mut self, change: impl FnOnce(&mut Known)) -> Flow {
        change(&mut self.live);
        Flow::Continue
    }

    /// Makes the rows again. What was selected stays so, wherever its row is now; when it is gone, the row in its place is.
    fn arrange(&mut self) {
        let selected = self.rows.get(self.selected).map(|row| row.target.clone());
        self.rows = rows::rows(self.known(), self.order, &self.filter);
        let found = self.rows.iter().position(|row| Some(&row.target) == selected.as_ref());
        self.selected = found.unwrap_or(self.selected).min(self.rows.len().saturating_sub(1));
    }

    fn key(&mut self, key: KeyEvent) -> Flow {
        // A control key types no letter.
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Flow::Quit } else { Flow::Continue };
        }
        if self.view == View::Typing {
            self.type_filter(key.code);
            return Flow::Continue;
        }
        match key.code {
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Esc => return self.go_back(),
            KeyCode::Char('?') if self.view == View::Help => self.view = View::Table,
            KeyCode::Char('?') => self.view = View::Help,
            KeyCode::Char('p') => self.pause(),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-PAGE),
            KeyCode::PageDown | KeyCode::Char(' ') => self.move_by(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX),
            code if self.view == View::Table => self.table_key(code),
            _ => {}
        }
        Flow::Continue
    }

    /// A key that only the table knows.
    fn table_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('s') => self.order.by = self.order.by.next(),
            KeyCode::Char('r') => self.order.reversed = !self.order.reversed,
            KeyCode::Char('/') => self.view = View::Typing,
            KeyCode::Enter | KeyCode::Char('e') => {
                if let Some(row) = self.rows.get(self.selected) {
                    self.view = View::Explain { target: row.target.clone(), skipped: 0 };
                }
            }
            _ => {}
        }
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.view = View::Table,
            KeyCode::Esc => {
                self.filter.clear();
                self.view = View::Table;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
    }

    /// Closes what is open, then shows all rows again, then leaves.
    fn go_back(&mut self) -> Flow {
        if self.view != View::Table {
            self.view = View::Table;
        } else if !self.filter.is_empty() {
            self.filter.clear();
        } else {
            return Flow::Quit;
        }
        Flow::Continue
    }

    fn pause(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some(Box::new(self.live.clone())),
        };
    }

    fn move_by(&mut self, by: isize) {
        let moved = |at: usize, count: usize| at.saturating_add_signed(by).min(count.saturating_sub(1));
        match &self.view {
            View::Table => self.selected = moved(self.selected, self.rows.len()),
            View::Explain { target, skipped } => {
                let skipped = moved(*skipped, self.known().decisions(target).count());
                self.view = View::Explain { target: target.clone(), skipped };
            }
            View::Typing | View::Help => {}
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::fixture::{cluster, decisions};
    use super::*;

    /// The time of these tests, in milliseconds since the Unix epoch.
    pub(in super::super) const NOW_MS: u64 = 1_764_000_060_000;

    /// A screen that shows a cluster and its decisions.
    pub(in super::super) fn shown() -> State {
        let mut state = State::default();
        state.update(Input::Status(Box::new(cluster())), NOW_MS);
        state.update(Input::Decisions(decisions()), NOW_MS);
        state
    }

    /// Presses keys, one for each letter; what the last one did.
    pub(in super::super) fn keys(state: &mut State, letters: &str) -> Flow {
        let mut flow = Flow::Continue;
        for letter in letters.chars() {
            let code = match letter {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                letter => KeyCode::Char(letter),
            };
            flow = state.update(Input::Key(code.into()), NOW_MS);
        }
        flow
    }

    fn selected(state: &State) -> &str {
        &state.rows()[state.selected()].target
    }

    #[test]
    fn escape_goes_back_one_step_and_then_leaves() {
        let mut state = shown();
        for (typed, flow) in
            [("/rank\n\x1b", Flow::Continue), ("e\x1b?\x1b", Flow::Continue), ("\x1b", Flow::Quit)]
        {
            assert_eq!(keys(&mut state, typed), flow, "{typed:?}");
            assert_eq!((state.view(), state.filter()), (&View::Table, ""), "{typed:?}");
        }
        assert_eq!(keys(&mut shown(), "q"), Flow::Quit);
        assert_eq!(keys(&mut shown(), "/q"), Flow::Continue, "a letter of the filter");
        let control = |letter| Input::Key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL));
        let mut typing = shown();
        keys(&mut typing, "/a");
        assert_eq!(typing.update(control('x'), 0), Flow::Continue);
        assert_eq!(typing.filter(), "a");
        assert_eq!(typing.update(control('c'), 0), Flow::Quit);
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let mut state = shown();
        keys(&mut state, "/rerx\x08");
        assert_eq!((state.view(), state.filter(), state.rows().len()), (&View::Typing, "rer", 2));
        keys(&mut state, "\n");
        assert_eq!((state.view(), state.filter()), (&View::Table, "rer"));
        keys(&mut state, "/\x1b");
        assert_eq!((state.view(), state.filter(), state.rows().len()), (&View::Table, "", 5));
    }

    #[test]
    fn the_selection_follows_its_row_and_stays_in_the_table() {
        let mut state = shown();
        keys(&mut state, "kjjj");
        assert_eq!(selected(&state), "rag/embedder");
        keys(&mut state, "ss");
        assert_eq!((state.order().by, selected(&state)), (Column::Rate, "rag/embedder"));
        keys(&mut state, "G");
        assert_eq!(state.selected(), 4);
        keys(&mut state, "jj");
        assert_eq!(state.selected(), 4);
        state.update(Input::Status(Box::new(ClusterStatus { pipelines: vec![], ..cluster() })), 0);
        assert_eq!((state.selected(), state.rows().len()), (0, 0));
        assert_eq!(keys(&mut state, "je\n"), Flow::Continue);
        assert_eq!(state.view(), &View::Table, "there is nothing to explain");
    }

    #[test]
    fn explain_is_about_the_selected_row_and_scrolls_no_further_than_its_last_decision() {
        let mut state = shown();
        keys(&mut state, "Ge");
        let explain = |skipped| View::Explain { target: "rag/reranker".into(), skipped };
        assert_eq!(state.view(), &explain(0));
        keys(&mut state, "jjjjjjj");
        assert_eq!(state.view(), &explain(1), "there are two");
        keys(&mut state, "ks");
        assert_eq!((state.view(), state.order().by), (&explain(0), Column::Name), "the table gets no keys");
    }

    #[test]
    fn while_it_is_paused_the_screen_stands_still_and_the_cluster_is_still_observed() {
        let mut state = shown();
        keys(&mut state, "p");
        let before = state.rows().to_vec();
        state.update(Input::Status(Box::new(ClusterStatus { pipelines: vec![], ..cluster() })), 0);
        assert_eq!((state.rows(), state.is_paused()), (&before[..], true));
        keys(&mut state, "p");
        assert_eq!((state.rows().len(), state.is_paused()), (0, false));
    }
}
