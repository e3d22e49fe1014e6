//! How a command ends: exit codes that scripts can use, and messages that say what to do next.

use millstream_pipelines::Faults;
use serde_json::{Map, Value, json};

/// The exit code of arguments that do not fit together.
pub(crate) const WRONG_USAGE: u8 = 2;

/// The exit codes of every command: number, `error.code` of `--json`, meaning.
pub(crate) const CODES: [(u8, &str, &str); 7] = [
    (0, "", "done"),
    (1, "failed", "failed"),
    (WRONG_USAGE, "usage", "wrong usage"),
    (3, "invalid", "a pipeline file has faults"),
    (Failure::UNREACHABLE, "unreachable", "no cluster in reach"),
    (5, "refused", "the cluster refused (unknown name, conflict, wrong token)"),
    (
        130,
        "interrupted",
        "stopped by Ctrl-C before the end: what was asked for goes on, or requests under way were not waited for",
    ),
];

/// The exit codes as the last paragraph of `--help`.
pub(crate) fn help() -> String {
    format!("Exit codes: {}.", CODES.map(|(code, _, meaning)| format!("{code} {meaning}")).join("; "))
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    cause: Cause,
    /// What programs may want to know of it, beside its text.
    details: Map<String, Value>,
}

/// What there is to say about a failure.
#[derive(Debug)]
pub(crate) enum Cause {
    /// A message.
    Text(String),
    /// Faults of pipeline files, to be shown with the source.
    Faults(Vec<Faults>),
    /// Nothing: the output has said it, or nobody reads any more.
    Nothing,
}

impl Failure {
    /// The exit code when no cluster answers.
    pub(crate) const UNREACHABLE: u8 = 4;

    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, cause: Cause::Text(message.into()), details: Map::new() }
    }

    /// The reader of stdout has left (0): the command ends early, and that is all right.
    pub(crate) fn nobody_reads() -> Self {
        Self { code: 0, cause: Cause::Nothing, details: Map::new() }
    }

    /// Something went wrong, and what the command has printed says so (1).
    pub(crate) fn said() -> Self {
        Self { code: 1, cause: Cause::Nothing, details: Map::new() }
    }

    /// Something went wrong (exit code 1).
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// The arguments do not fit together (2).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(WRONG_USAGE, message)
    }

    /// Pipeline files have faults (3).
    pub(crate) fn faults(faults: Vec<Faults>) -> Self {
        let files =
            faults.iter().map(|file| json!({"file": file.file_name, "faults": file.faults})).collect();
        let details = Map::from_iter([("files".to_owned(), files)]);
        Self { code: 3, cause: Cause::Faults(faults), details }
    }

    /// The same with something more for programs.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.details.insert(key.to_owned(), value);
        self
    }

    /// What it says, in one text; empty when there is nothing to say.
    pub(crate) fn message(&self) -> String {
        match &self.cause {
            Cause::Nothing => String::new(),
            Cause::Text(text) => text.clone(),
            Cause::Faults(files) => count_of(files),
        }
    }

    /// The failure as one JSON object; `None` when there is nothing to say.
    pub(crate) fn to_json(&self) -> Option<Value> {
        if matches!(self.cause, Cause::Nothing) {
            return None;
        }
        let message = self.message();
        let code = CODES.iter().find(|(code, ..)| *code == self.code).map(|(_, name, _)| *name);
        let mut error = self.details.clone();
        error.insert("code".to_owned(), code.into());
        error.insert("exit_code".to_owned(), self.code.into());
        error.insert("message".to_owned(), message.into());
        Some(json!({ "error": error }))
    }

    /// The cluster refuses what a pipeline file asks for (3).
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(3, message)
    }

    /// No cluster answers (4).
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Self::UNREACHABLE, message)
    }

    /// The cluster answered no (5).
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(5, message)
    }

    /// Somebody did not want to wait for the end (130, as shells have it for Ctrl-C).
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self::new(130, message)
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// What there is to say.
    pub(crate) fn into_cause(self) -> Cause {
        self.cause
    }

    /// The same failure with more to say, on a line of its own.
    #[must_use]
    pub(crate) fn and(mut self, more: &str) -> Self {
        if let Cause::Text(text) = &mut self.cause {
            text.push('\n');
            text.push_str(more);
        }
        self
    }
}

/// How many faults files have, in words.
pub(crate) fn count_of(files: &[Faults]) -> String {
    let count: usize = files.iter().map(|file| file.faults.len()).sum();
    format!("{count} fault{}", if count == 1 { "" } else { "s" })
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}
