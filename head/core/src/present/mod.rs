//! The cluster as people and programs see it: functions of what is desired and observed.

pub mod defrag;
pub mod explain;
pub mod numbers;
mod rollout;
pub mod series;
mod shown;
pub mod snapshot;
pub mod stages;
pub mod status;
pub mod what_if;
