//! The actors: they pass events in and carry commands out, and decide nothing.
//!
//! ```text
//! Campaign                        restarted by   the process manager
//! └─ Reconciler                                  Campaign, backoff, for ever; a new term each time
//!    └─ NodeSession (one a worker)               not restarted: the worker dials again
//! ```

mod command_log;
pub(crate) mod messages;
pub(crate) mod node_session_actor;
pub(crate) mod reconciler_actor;
