//! The terminal as a screen of its own: raw keys, no cursor. However the command ends, by a key, a signal, an error or a panic, the
//! terminal is as it was before.

use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::style::force_color_output;
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc::Sender;

use super::state::Input;
use crate::exit::Failure;

/// How often the thread that reads keys looks whether more are wanted.
const PATIENCE: Duration = Duration::from_millis(100);

/// A screen of its own, until it is dropped.
pub(super) struct Screen {
    /// Its own `drop` tells on stderr that a terminal that has gone cannot be written to: nobody reads it there, and a panic comes of it.
    terminal: ManuallyDrop<DefaultTerminal>,
}

impl Screen {
    /// Goes to a screen of its own. A panic from now on leaves it before it is told.
    ///
    /// # Errors
    /// When the terminal takes no keys one by one.
    pub(super) fn enter() -> Result<Self, Failure> {
        // Whether there are colours has been decided by `--color` and the environment: see `style`.
        force_color_output(true);
        let terminal = ratatui::try_init()
            .map_err(|error| Failure::failed(format!("this terminal cannot be used: {error}")))?;
        Ok(Self { terminal: ManuallyDrop::new(terminal) })
    }

    /// Draws the screen.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> Result<(), Failure> {
        self.terminal.draw(draw).map(drop).map_err(|_| Failure::nobody_reads())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        // After a panic the screen has been left already, and leaving it again would put the cursor above what the panic told.
        if !std::thread::panicking() {
            let _ = ratatui::try_restore();
        }
    }
}

/// Sends each key and each change of the terminal's size, from a thread of its own, until nobody receives them. Nobody waits for
/// its end: where the terminal has gone, the one who reads from it looks for more for ever.
pub(super) fn read_keys(inputs: Sender<Input>) {
    std::thread::spawn(move || {
        while !inputs.is_closed() {
            let input = match next() {
                Ok(None) => continue,
                Ok(Some(input)) => input,
                Err(_) => Input::Gone,
            };
            let is_last = matches!(input, Input::Gone);
            if inputs.blocking_send(input).is_err() || is_last {
                return;
            }
        }
    });
}

/// What has come from the terminal within a moment.
fn next() -> io::Result<Option<Input>> {
    if !event::poll(PATIENCE)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(Input::Key(key)),
        Event::Resize(..) => Some(Input::Resized),
        _ => None,
    })
}
