//! The whole system: real processes, real clients, what a user sees. One program, so that it is linked once.

#![allow(clippy::disallowed_methods, reason = "a test takes real time")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod authority;
mod autoscaling;
mod bad_input;
mod batching;
mod bench;
mod boards;
mod cache;
mod captures;
mod clients;
mod command_line;
mod command_output;
mod debug;
mod docs;
mod edge;
#[cfg(feature = "etcd")]
mod etcd;
mod failure;
mod headless;
mod join;
mod keys;
mod language;
mod mcp;
mod messages;
mod metrics;
mod model_servers;
mod nodes;
mod openapi;
mod overload;
mod prometheus;
mod pty;
mod quality;
mod refusals;
mod responses;
mod rest;
mod rollouts;
mod secrets;
mod serve;
mod signatures;
mod silent_head;
mod sim;
mod state;
mod steps;
mod terminal;
mod text_calls;
mod tls;
mod top;
mod traces;
mod usage;
