//! Colours, where the person wants them.

use std::fmt::Display;
use std::io::IsTerminal as _;

use owo_colors::{OwoColorize as _, Stream};

use crate::global::ColorChoice;

/// Applies `--color`; without it terminals decide (and `NO_COLOR`).
pub(crate) fn choose(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => {}
        ColorChoice::Always => owo_colors::set_override(true),
        ColorChoice::Never => owo_colors::set_override(false),
    }
}

/// Whether stderr takes colours.
pub(crate) fn stderr_has_color() -> bool {
    let colored = "x".if_supports_color(Stream::Stderr, |text| text.red()).to_string();
    colored != "x"
}

/// Whether stdout takes colours.
pub(crate) fn stdout_has_color() -> bool {
    let colored = "x".if_supports_color(Stream::Stdout, |text| text.red()).to_string();
    colored != "x"
}

/// Whether a person watches stderr, so that progress bars make sense.
pub(crate) fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// The word before an error, on stderr.
pub(crate) fn error(text: impl Display) -> String {
    text.to_string().if_supports_color(Stream::Stderr, |text| text.red()).to_string()
}

/// Something good, on stdout.
pub(crate) fn good(text: impl Display) -> String {
    text.to_string().if_supports_color(Stream::Stdout, |text| text.green()).to_string()
}

/// Something to look at, on stdout.
pub(crate) fn warn(text: impl Display) -> String {
    text.to_string().if_supports_color(Stream::Stdout, |text| text.yellow()).to_string()
}

/// Something bad, on stdout.
pub(crate) fn bad(text: impl Display) -> String {
    text.to_string().if_supports_color(Stream::Stdout, |text| text.red()).to_string()
}

/// A heading, on stdout.
pub(crate) fn strong(text: impl Display) -> String {
    text.to_string().if_supports_color(Stream::Stdout, |text| text.bold()).to_string()
}
