//! The pipeline language from outside: files, bodies of requests, and runs of plans. One program, so that it is linked once.

#![allow(clippy::disallowed_methods, reason = "a test takes real time")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod bodies;
mod files;
mod fuzz;
mod runs;
