//! The closed list of error classes, and the error that a call to a replica can end with.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure left a service; only the edge turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The bytes are not what the protocol says (HTTP 400).
    Malformed,
    /// More bytes, items or tokens than allowed (413).
    TooLarge,
    /// Well formed, but against the schema (422).
    Invalid,
    /// No such route, pipeline, deployment, model (404).
    NotFound,
    /// An older epoch or revision than the current one (409).
    Conflict,
    /// This key has used up its rate (429).
    RateLimited,
    /// The queue is full (503 with `Retry-After`).
    Overloaded,
    /// No replica, draining, or no leader (503).
    Unavailable,
    /// The deadline has passed (504).
    DeadlineExceeded,
    /// The caller left (499, logged only).
    Cancelled,
    /// A fault of ours (500).
    Internal,
}

impl ErrorClass {
    /// All classes.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::TooLarge,
        Self::Invalid,
        Self::NotFound,
        Self::Conflict,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The class as a stable lower-case word, as it stands in JSON, logs and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status of an answer of that class.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TooLarge => 413,
            Self::Invalid => 422,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::RateLimited => 429,
            Self::Overloaded | Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
            Self::Cancelled => 499,
            Self::Internal => 500,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a call had begun to run when it failed: what has not started is always safe to send elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Started {
    /// No engine has seen the call.
    No,
    /// An engine may have worked on it.
    Yes,
    /// An engine was working on it when it crashed: this call may be what crashed it.
    Crashed,
}

/// How a call to a replica failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// The class, which decides status and retries.
    pub class: ErrorClass,
    /// Text that may be shown to clients: no prompts, paths or internals.
    pub message: String,
    /// Whether the call had begun to run.
    pub started: Started,
}

impl CallError {
    /// A failure of a call that no engine had begun to work on.
    #[must_use]
    pub fn not_started(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), started: Started::No }
    }

    /// A failure of a call that an engine may have worked on.
    #[must_use]
    pub fn started(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), started: Started::Yes }
    }
}
