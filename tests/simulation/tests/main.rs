//! Seeds of the simulated cluster, and faults that the rules must find. One program, so that it is linked once.

#![allow(clippy::disallowed_methods, reason = "a test takes real time")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod mutations;
mod seeds;
