//! What processes keep in their data directories so that they start without a head: small files that are written whole or
//! not at all, readable by their owner alone, and files that say by themselves what they are and whether they are whole.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod cluster;
mod keeper;
mod private;
mod sealed;

pub use crate::cluster::{cluster_id_file, load_cluster_id};
pub use crate::keeper::Keeper;
pub use crate::private::write_private;
pub use crate::sealed::{Kept, KeptFile, Unusable};
