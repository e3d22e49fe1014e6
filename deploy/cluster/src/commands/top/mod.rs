//! `cluster top`: the deployments and their load on a screen that moves, or as a line of JSON each second.
//!
//! What is shown is worked out by plain functions: `known` holds the news of the cluster, `state` what the keys have made of the
//! screen, `rows` and `view` what it looks like. `feed` and `terminal` are the two sides that wait: for the head, and for a person.

mod feed;
#[cfg(test)]
mod fixture;
mod history;
mod json;
mod known;
mod rows;
mod short;
mod state;
mod terminal;
mod view;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use self::state::{Flow, Input, State};
use self::terminal::{Screen, read_keys};
use self::view::Look;
use crate::exit::Failure;
use crate::global::Global;
use crate::local_time::local_time;
use crate::output::Output;
use crate::style;

/// News and keys that may wait for the screen to be drawn.
const MAX_WAITING: usize = 64;

/// Flags of `cluster top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {}

/// Runs the command.
pub(crate) async fn run(global: &Global, _: &TopArgs) -> Result<(), Failure> {
    let output = Output::of(global);
    if output == Output::Text && !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "`cluster top` draws on a terminal, and stdout is none; for scripts there are `cluster top --json`, a line each \
             second, and `cluster status`",
        ));
    }
    let (sender, inputs) = mpsc::channel(MAX_WAITING);
    let _news = feed::follow(global, sender.clone()).await?;
    let mut leave = std::pin::pin!(asked_to_leave());
    tokio::select! {
        ended = async {
            match output {
                Output::Json => lines(output, inputs).await,
                Output::Text => screen(inputs, sender).await,
            }
        } => ended,
        asked = &mut leave => asked,
    }
}

/// Waits for Ctrl-C, for SIGTERM, or for the terminal to hang up.
async fn asked_to_leave() -> Result<(), Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot wait for signals: {error}")));
    let mut hangup = listen(SignalKind::hangup())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    tokio::select! {
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Writes a line each second.
async fn lines(output: Output, mut inputs: mpsc::Receiver<Input>) -> Result<(), Failure> {
    let mut state = State::default();
    let mut seconds = seconds();
    loop {
        let (input, is_second) = tokio::select! {
            Some(input) = inputs.recv() => (input, false),
            _ = seconds.tick() => (Input::Second, true),
        };
        let now_ms = millstream_clock::unix_ms();
        state.update(input, now_ms);
        if let Some(line) = is_second.then(|| json::line(state.known(), now_ms)).flatten() {
            output.show(&line, String::new)?;
        }
    }
}

/// Draws the screen at each change and each second, until somebody leaves.
async fn screen(mut inputs: mpsc::Receiver<Input>, sender: mpsc::Sender<Input>) -> Result<(), Failure> {
    let look = Look { has_colors: style::stdout_has_color(), local_time };
    let mut state = State::default();
    let mut screen = Screen::enter()?;
    read_keys(sender);
    let mut seconds = seconds();
    loop {
        let now_ms = millstream_clock::unix_ms();
        screen.draw(|frame| view::draw(frame, &state, look, now_ms))?;
        let input = tokio::select! {
            Some(input) = inputs.recv() => input,
            _ = seconds.tick() => Input::Second,
        };
        // What else has come is drawn with it: a slow terminal must not fall behind.
        let mut next = Some(input);
        while let Some(input) = next {
            if state.update(input, millstream_clock::unix_ms()) == Flow::Quit {
                return Ok(());
            }
            next = inputs.try_recv().ok();
        }
    }
}

/// Seconds from now on; the first is over in one.
fn seconds() -> Interval {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.reset();
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    seconds
}
