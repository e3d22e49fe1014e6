//! The actors: they pass events in and carry commands out, and decide nothing.
//!
//! ```text
//! HeadActor                       restarted by   the process manager
//! └─ Reconciler                                  HeadActor, backoff, for ever; a new term each time
//!    └─ NodeSession (one a worker)               not restarted: the worker dials again
//! ```

pub(crate) mod head_actor;
pub(crate) mod node_session_actor;
pub(crate) mod reconciler_actor;
mod told;
