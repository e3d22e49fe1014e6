//! The decisions of the control plane: what should run, where, how many, on which revision.
//!
//! Plain functions of values and of a time that is passed in. The head's actors, the simulated cluster and `cluster
//! simulate` are shells around the same code.
//!
//! - [`desired`]: what people asked for;
//! - [`model`]: what is observed, decided and published;
//! - [`reconcile`]: the machine that closes the gap, and its rules;
//! - [`scheduler`]: where replicas go;
//! - [`autoscaler`]: how many there are to be;
//! - [`rollout`]: how one revision takes over from another;
//! - [`present`]: the cluster as people and programs see it;
//! - [`dry_run`]: what a deploy would do;
//! - [`usage`]: what API keys have used, by the hour.
#![forbid(unsafe_code)]

pub mod autoscaler;
pub mod desired;
pub mod dry_run;
pub mod model;
pub mod present;
pub mod reconcile;
pub mod rollout;
pub mod scheduler;
#[cfg(test)]
mod testing;
mod timing;
pub mod usage;

pub use timing::Timing;
