//! The control plane: keeps what people asked for, learns what runs, and closes the gap.
//!
//! Only the head writes the store, and it stores only what people asked for; what runs is learned again from the
//! workers after a restart. No request passes through it.
//!
//! What it decides is in [`millstream_core`], as plain functions of values; actors and servers here collect what they
//! depend on, and carry out what follows.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod actors;
mod catalog;
mod clock;
mod control;
mod events;
mod head;
mod host;
mod leadership;
mod lock;
mod members;
pub mod metrics;
mod presence;
mod random;
mod route_feed;
mod server;
mod snapshots;
mod state_file;
pub mod store;
pub mod stored;
mod targets;
mod telemetry;
mod tokens;
mod traces;
mod usage;
mod wire;

pub use head::{Config, Head, StartError};
pub use lock::{DataDirLock, LockError};
pub use metrics::{MetricsPage, MetricsText};
pub use millstream_core::Timing;
pub use server::http::own_site::{own_origin_only, problem};
pub use server::http::{dashboard_endpoints, openapi_document};
pub use state_file::{FormatError, ImportError, State};
pub use tokens::Tokens;
