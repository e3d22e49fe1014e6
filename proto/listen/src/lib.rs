//! The accept loop of every listener of the product, whatever is spoken on its connections: so many at a time and from one address,
//! deadlines for the first byte, for heads and for what is written, places and descriptors that idle ones give up to new ones, an end
//! that is polite at first. And TLS ([`tls`]) and HTTP ([`http`]) on a connection, for all that speak them.
//!
//! What happens on a connection is noted, and a slow tick judges by it: no timer is made for a request.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod activity;
mod body;
mod connection;
mod descriptors;
pub mod http;
mod limits;
mod server;
pub mod tls;

pub use connection::{Busy, Connection};
pub use limits::{ConnectionLimits, H2Limits};
pub use server::{Listener, Server, bind};
