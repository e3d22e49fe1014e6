//! How what people wait for is shown: a spinner for each line on a terminal, a line on stderr per change elsewhere.

use std::collections::BTreeMap;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::TICK;
use crate::{output, style};

/// Something that people watch while they wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Tells it from others.
    pub(crate) key: String,
    /// What it is about.
    pub(crate) what: String,
    /// How far that is; empty where there is nothing to say, or no longer.
    pub(crate) text: String,
    /// Whether nothing more is expected of it.
    pub(crate) is_over: bool,
}

/// What is on the screen.
pub(crate) struct Display {
    bars: Option<MultiProgress>,
    shown: BTreeMap<String, Shown>,
    started: Instant,
}

struct Shown {
    text: String,
    bar: Option<ProgressBar>,
}

impl Display {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            bars: style::stderr_is_terminal().then(MultiProgress::new),
            shown: BTreeMap::new(),
            started: millstream_clock::now(),
        }
    }

    /// Shows the lines; what was said of others stays.
    pub(crate) fn show(&mut self, lines: Vec<Line>) {
        lines.into_iter().for_each(|line| self.show_line(line));
    }

    fn show_line(&mut self, line: Line) {
        let Line { key, what, text, is_over } = line;
        if text.is_empty() && !self.shown.contains_key(&key) {
            return;
        }
        let shown = self.shown.entry(key).or_insert_with(|| Shown {
            text: String::new(),
            bar: self.bars.as_ref().map(|bars| {
                let bar = bars.add(ProgressBar::new_spinner().with_style(spinner()));
                bar.enable_steady_tick(TICK);
                bar.set_prefix(what.clone());
                bar
            }),
        });
        if shown.text == text {
            return;
        }
        match &shown.bar {
            Some(bar) if text.is_empty() => bar.finish_and_clear(),
            Some(bar) => {
                bar.set_message(text.clone());
                if is_over {
                    bar.finish();
                }
            }
            None if text.is_empty() => {}
            None => output::note(format_args!(
                "{:>6.2} s  {what}: {text}",
                millstream_clock::since(self.started).as_secs_f64(),
            )),
        }
        shown.text = text;
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner:.cyan} {prefix}: {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
