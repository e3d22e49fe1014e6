//! How a command ends: exit codes that scripts can use, and messages that say what to do next.

use std::process::ExitCode;

use millstream_pipelines::{Color, Faults};

use crate::style;

/// The exit codes of every command.
pub(crate) const CODES: [(u8, &str); 6] = [
    (0, "done"),
    (1, "failed"),
    (2, "wrong usage"),
    (3, "a pipeline file has faults"),
    (4, "no cluster in reach"),
    (5, "the cluster refused (unknown name, conflict, wrong token)"),
];

/// The exit codes as the last paragraph of `--help`.
pub(crate) fn help() -> String {
    format!("Exit codes: {}.", CODES.map(|(code, meaning)| format!("{code} {meaning}")).join("; "))
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: Message,
}

#[derive(Debug)]
enum Message {
    Text(String),
    /// Faults of pipeline files, rendered with the source.
    Faults {
        faults: Vec<Faults>,
        json: bool,
    },
}

impl Failure {
    /// Something went wrong (exit code 1).
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: Message::Text(message.into()) }
    }

    /// The arguments do not fit together (2).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: Message::Text(message.into()) }
    }

    /// Pipeline files have faults (3).
    pub(crate) fn faults(faults: Vec<Faults>, json: bool) -> Self {
        Self { code: 3, message: Message::Faults { faults, json } }
    }

    /// The cluster refuses what a pipeline file asks for (3).
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { code: 3, message: Message::Text(message.into()) }
    }

    /// No cluster answers (4).
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { code: 4, message: Message::Text(message.into()) }
    }

    /// The cluster answered no (5).
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { code: 5, message: Message::Text(message.into()) }
    }

    /// Tells the person, and gives the process's exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self.message {
            Message::Text(text) => eprintln!("{} {text}", style::error("error:")),
            Message::Faults { faults, json: true } => {
                let files: Vec<_> = faults
                    .iter()
                    .map(|file| serde_json::json!({"file": file.file_name, "faults": file.faults}))
                    .collect();
                println!("{}", serde_json::json!({"valid": false, "files": files}));
            }
            Message::Faults { faults, json: false } => {
                let color = if style::stderr_has_color() { Color::Ansi } else { Color::Plain };
                for file in &faults {
                    eprintln!("{}", file.render(color));
                }
                let count: usize = faults.iter().map(|file| file.faults.len()).sum();
                eprintln!("{} {count} fault{}", style::error("error:"), if count == 1 { "" } else { "s" });
            }
        }
        ExitCode::from(self.code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}
