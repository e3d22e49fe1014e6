//! What is known of wanted revisions once their models are loaded.

use millstream_pipelines::types::Signatures;
use serde::Serialize;

/// A revision that was checked with what was known of its models then.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// What was known.
    pub signatures: Signatures,
    /// What does not fit, a line each; `None` when all of it does.
    pub mismatch: Option<String>,
}
