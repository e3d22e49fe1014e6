//! A debug bundle: one `.tar.gz` with all that is known of a cluster and nothing that nobody else may know. Written by `cluster
//! debug bundle`, read by `cluster simulate --from`.
//!
//! What goes in passes [`Redaction`] first: it is made of documents without secrets, and this is for what nobody thought of.

mod read;
mod redact;
mod write;

use serde::{Deserialize, Serialize};

pub(crate) use read::Contents;
pub(crate) use redact::Redaction;
pub(crate) use write::Bundle;

/// What a bundle says that it is.
const FORMAT: &str = "millstream-debug-bundle";
/// The version of the form that this program writes, and the newest that it reads.
const FORMAT_VERSION: u32 = 1;

/// Names of files in a bundle.
pub(crate) mod file {
    pub(crate) const MANIFEST: &str = "manifest.json";
    pub(crate) const VERSIONS: &str = "versions.json";
    pub(crate) const STATUS: &str = "status.json";
    pub(crate) const EVENTS: &str = "events.json";
    pub(crate) const SERIES: &str = "series.json";
    pub(crate) const TRACES: &str = "traces.json";
    pub(crate) const STAGES: &str = "stages.json";
    pub(crate) const HEAD: &str = "head.json";
    pub(crate) const REVISIONS: &str = "revisions.json";
    /// Folder of pipelines' files: `pipelines/NAME/REVISION.toml`.
    pub(crate) const PIPELINES: &str = "pipelines";
    pub(crate) const ENDPOINTS: &str = "local/endpoints.json";
    pub(crate) const ARGUMENTS: &str = "local/arguments.json";
    pub(crate) const METRICS: &str = "local/metrics.txt";
    /// Folder of logs.
    pub(crate) const LOGS: &str = "local/logs";

    /// Where the file of a pipeline's revision is.
    pub(crate) fn pipeline(name: &str, revision: u64) -> String {
        format!("{PIPELINES}/{name}/{revision}.toml")
    }
}

/// What is in a bundle, and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: String,
    pub(crate) format_version: u32,
    /// Version of the command that wrote it.
    pub(crate) command_version: String,
    /// When, in milliseconds since the Unix epoch by this machine's clock.
    pub(crate) created_at_ms: u64,
    /// Its files but this one.
    pub(crate) files: Vec<Entry>,
    /// What could not be had, and why.
    pub(crate) missing: Vec<Missing>,
    /// What is left out on purpose.
    pub(crate) left_out: Vec<String>,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) bytes: usize,
    /// What it is.
    pub(crate) what: String,
}

/// What could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Missing {
    /// The file that it would be.
    pub(crate) path: String,
    /// Why it is not there.
    pub(crate) why: String,
}

#[cfg(test)]
mod tests;
