//! What whole-system tests share: real `cluster` processes on free ports with data directories of their own, real HTTP
//! calls, and waiting for a state instead of sleeping.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_errors_doc,
    clippy::unwrap_used,
    reason = "a test helper's errors are anyhow's, and it may panic"
)]

use std::path::{Path, PathBuf};

pub mod axum_echo;
mod binary;
pub mod chat_client;
pub mod echo_client;
pub mod inference_client;
mod load;
pub mod model_stand_in;
mod process;
pub mod prometheus;
mod resources;
mod revisions;
pub mod tonic_echo;

pub use binary::{cluster_binary, run_cluster};
pub use load::{Callers, Ended, Load};
pub use millstream_test_support::{Echo, eventually};
pub use process::{Cluster, Node, UpOptions};
pub use resources::{allow_descriptors, cpu_s_of, pss_mib_of};
pub use revisions::{broken_revision, failing_revision, good_revision, revision};

/// The repository's folder.
///
/// # Panics
/// Never: this crate lies in a folder of it.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
