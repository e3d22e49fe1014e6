//! Calls to replicas over any byte stream: a Unix socket, TCP, whatever else reads and writes. Many calls are under way at a time,
//! and none stands in the way of another:
//!
//! - a payload that cannot be read ends its own call;
//! - large messages go in pieces that take turns, and cancels, starts and credit go before them;
//! - each call sends only what its receiver has given it credit for, so that a slow reader stops its producer and nobody else;
//! - every queue has a bound in bytes, and what is too large is refused before it is sent.
//!
//! [`Caller`] is the end that calls (in an ingress), [`serve`] the one that answers (in a worker). Values are written straight from
//! [`Value`](millstream_values::Value) and read within limits. Who is at the other end is not this crate's business: the stream is
//! handed in once both have proved to belong together.
//!
//! ```text
//! Caller::call ─▶ outbox ─▶ stream ─▶ reader ─▶ ReplicaClient::call
//! PendingCall  ◀─ reader ◀─ stream ◀─ outbox ◀─ its PendingCall
//! ```
//!
//! The bytes: both ends greet with a magic word and a version (`wire.rs`, 16 bytes each way), and then send frames: see `frame.rs` for
//! their form, `message.rs` for what they say and `codec.rs` for values. `outbox.rs` and `inbox.rs` are the rules as plain state.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod caller;
mod codec;
mod frame;
mod host;
mod inbox;
mod message;
mod outbox;
mod socket;
#[cfg(test)]
mod tests;
mod wire;

pub use caller::Caller;
pub use codec::{MAX_MESSAGE_BYTES, MAX_VALUES};
pub use host::serve;
pub use socket::socket_name;
pub use wire::{Broken, Duplex};
