//! What a streaming answer is made of.

use std::sync::Arc;

/// A part of a response field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StreamPart {
    /// The field of the response.
    pub field: Arc<str>,
    /// What comes next in it.
    pub text: Arc<str>,
}
