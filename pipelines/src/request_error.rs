//! Why a request's body was refused.

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON, nested too deep, or a key twice (400).
    #[error("{message}")]
    Malformed {
        /// What and where (line and column).
        message: String,
    },
    /// JSON, but not what `[request]` asks for (422).
    #[error("the body has {} fault(s)", .0.len())]
    Invalid(Vec<FieldFault>),
}

/// One fault of a body.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldFault {
    /// JSON pointer (RFC 6901) such as `/documents/3`.
    pub path: String,
    /// What is wrong and what is asked for.
    pub message: String,
}
