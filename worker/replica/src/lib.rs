//! The host of one engine: who gets in, who waits, the thread that runs it step by step, and the watch over its steps. It knows
//! no head, no actors and no routes, so that it serves in a worker's process as in one of its own.
//!
//! ```text
//! Replica::call ─▶ Slots ─▶ Queue ─▶ thread: SteppingEngine::step    (engines that compute)
//!                       └─▶ the async runtime: ConcurrentEngine::call (engines that wait)
//! Watchdog: a step that does not come back ends the replica, and its calls go elsewhere
//! ```
//!
//! [`Host`] owns the engine, [`Replica`] is the way in. What happens is told as [`Event`]s.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod host;
mod panics;
mod queue;
mod shared;
mod slots;
mod tasks;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod thread;
mod watchdog;

pub use host::{Host, Replica, Settings};
pub use shared::{Event, Load};
