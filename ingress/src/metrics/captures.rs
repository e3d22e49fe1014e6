//! Counts what is captured.

use ::metrics::{Counter, counter};

use super::CAPTURED_REQUESTS;

/// Counts the captures of one pipeline.
pub(crate) struct CaptureMeter {
    kept: Counter,
    dropped: Counter,
}

impl CaptureMeter {
    /// For the requests of that pipeline.
    pub(crate) fn of(pipeline: &str) -> Self {
        let count = |result: &'static str| counter!(CAPTURED_REQUESTS.name, "pipeline" => pipeline.to_owned(), "result" => result);
        Self { kept: count("kept"), dropped: count("dropped") }
    }

    /// One is on disk, or its sink has it.
    pub(crate) fn kept(&self) {
        self.kept.increment(1);
    }

    /// One is nowhere.
    pub(crate) fn dropped(&self) {
        self.dropped.increment(1);
    }
}
