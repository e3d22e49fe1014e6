//! What-if: the decisions of production on recorded work, without a cluster. Nothing here decides; it feeds the very
//! functions that the reconciler calls, and counts.

pub mod placement;
