//! What whole-system tests share: real `cluster` processes on free ports with data directories of their own, real HTTP
//! calls, and waiting for a state instead of sleeping.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_errors_doc,
    clippy::unwrap_used,
    reason = "a test helper's errors are anyhow's, and it may panic"
)]

pub mod axum_echo;
mod load;
mod process;
pub mod prometheus;
mod revisions;
mod wait;

pub use load::{Ended, Load};
pub use process::{Cluster, Node, UpOptions, cluster_binary, run_cluster};
pub use revisions::{broken_revision, failing_revision, good_revision, revision, two_stages};
pub use wait::{eventually, within};
