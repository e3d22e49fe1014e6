//! Dynamic batching: inputs of several calls run through a model together.
//!
//! - [`decide`] is the rule, a plain function: which waiting parts of calls run now, or until when to wait for company.
//! - [`learn`] finds out how long a batch takes and how often calls come, for `batch = "auto"`.
//! - [`Batched`] makes an engine of it, with one lane or several: it prepares calls, runs their parts, repeats a failed batch call
//!   by call, and finishes calls in order.
//!
//! An engine that computes batches implements [`BatchEngine`] and knows nothing of queues, waits or callers.
//! Generators batch continuously, sequence by sequence, and are no part of this.
#![forbid(unsafe_code)]

mod batched;
pub mod decide;
mod engine;
pub mod learn;
mod waiting_calls;

pub use batched::Batched;
pub use engine::{BatchEngine, Company, Preparing, Shape};
