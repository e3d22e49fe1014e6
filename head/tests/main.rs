//! The control plane over real gRPC: a worker, an ingress and the command talk to a head on loopback. One program, so that it is linked once.

#![allow(clippy::disallowed_methods, reason = "a test takes real time")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
mod control;
mod sessions;
