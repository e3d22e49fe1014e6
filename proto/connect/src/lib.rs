//! How the processes of a cluster reach one another: which of several heads to ask ([`Heads`]), how long to wait before the
//! next try ([`Backoff`]), and how both ends of a connection prove that they belong to the same cluster ([`connect`],
//! [`serve`]). And what a listener that browsers reach takes for its own ([`is_own_host`]).
//!
//! A cluster has two secrets: the join token, which its workers, ingresses and heads share, and the admin token of those who
//! may change it. Neither ever travels. A caller that knows one opens its connection with a challenge, see [`handshake`];
//! a caller that says nothing of the kind is unknown, and gets what unknown callers may have.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod accept;
mod advertised;
mod backoff;
mod dial;
pub mod handshake;
mod heads;
mod not_leading;
mod own_site;
mod random;
mod secret;

pub use accept::{Peer, demand, serve, serve_grpc};
pub use advertised::advertised;
pub use backoff::{Backoff, Retries};
pub use dial::{chain, connect, dial, refusal};
pub use handshake::Refusal;
pub use heads::{Heads, NotAnAddress};
pub use not_leading::NotLeading;
pub use own_site::{is_own_host, is_own_origin};
pub use secret::{Authority, Secret};
