//! Why a request ended without a response, for whoever answers it.

use millstream_proto::ErrorClass;

/// Why a request ended without a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The class, which becomes the status.
    pub class: ErrorClass,
    /// For the client.
    pub message: String,
    /// When to come back, if that is known.
    pub retry_after_s: Option<u32>,
}
