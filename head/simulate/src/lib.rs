//! What-if: the decisions of production on a virtual clock or a recorded workload, without a cluster. Nothing here decides;
//! it feeds the very functions that the reconciler calls, and counts.

pub mod autoscaling;
pub mod placement;
pub mod recorded;
mod table;

pub use table::CsvFault;
