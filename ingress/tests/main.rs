//! The HTTP edge from outside: real clients, and a scripted head and workers behind it. One program, so that it is linked once.

#![allow(clippy::disallowed_methods, reason = "a test takes real time")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod cache;
mod common;
mod edge;
mod fuzz;
mod headless;
mod inference;
mod isolation;
mod keys;
mod overhead;
mod replicas;
mod revisions;
mod site;
