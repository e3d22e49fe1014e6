//! The decision code of the head on a virtual clock, for questions such as "what would these settings have cost?".

pub mod autoscaling;
