//! `--watch`: something of the status again at each change, until Ctrl-C. On a terminal it has a screen of its own, as an editor has:
//! what was there before is there again afterwards.

use std::io::{self, IsTerminal as _};

use millstream_proto::status::ClusterStatus;
use serde::Serialize;

use crate::client::Client;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::terminal;

/// Goes to a screen of its own, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Goes back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Clears the screen and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Where what is watched is shown.
pub(super) struct Screen {
    /// Whether a person watches, in text.
    is_terminal: bool,
}

impl Screen {
    fn enter(output: Output) -> Self {
        let is_terminal = output == Output::Text && io::stdout().is_terminal();
        if is_terminal {
            let _ = output.raw(ENTER);
        }
        Self { is_terminal }
    }

    /// Shows it in place of what was shown before: as much as there is room for.
    ///
    /// # Errors
    /// When nobody reads.
    pub(super) fn show(
        &self,
        output: Output,
        json: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if !self.is_terminal {
            return output.show(json, text);
        }
        output.raw(&format!("{CLEAR}{}", cut(&text(), terminal().map(|(_, lines)| lines))))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_terminal {
            let _ = Output::Text.raw(LEAVE);
        }
    }
}

/// The first lines of a text, and how many more there are.
fn cut(text: &str, lines: Option<usize>) -> String {
    let all = text.lines().count();
    let Some(room) = lines.filter(|&room| all > room && room > 1) else { return text.to_owned() };
    let shown: Vec<_> = text.lines().take(room - 1).collect();
    format!(
        "{}\n… {} more lines: a taller terminal, or `cluster status NAME`",
        shown.join("\n"),
        all + 1 - room
    )
}

/// Shows the status now and at each change; Ctrl-C ends it.
///
/// # Errors
/// When the cluster goes away: that is not what was asked for.
pub(super) async fn watch(
    client: &Client,
    output: Output,
    mut show: impl FnMut(&ClusterStatus, &Screen) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut watch = client.watch_status().await?;
    let screen = Screen::enter(output);
    let mut leave = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let status = tokio::select! {
            status = watch.next() => status?,
            _ = &mut leave => return Ok(()),
        };
        let Some(status) = status else { break };
        show(&status, &screen)?;
    }
    Err(Failure::unreachable(format!("the cluster on `{}` has stopped", client.address())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taller_than_the_terminal_is_cut_and_says_so() {
        assert_eq!(cut("a\nb\nc\n", Some(3)), "a\nb\nc\n");
        let text = cut("a\nb\nc\nd\n", Some(3));
        assert!(text.starts_with("a\nb\n… 2 more lines"), "{text}");
        assert_eq!(cut("a\nb\n", None), "a\nb\n");
    }
}
