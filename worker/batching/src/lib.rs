//! Dynamic batching: inputs of several calls run through a model together.
//!
//! - [`decide`] is the rule, a plain function: which waiting parts of calls run now, or until when to wait for company.
//! - [`learn`] finds out how long a batch takes and how often calls come, for `batch = "auto"`.
//! - [`Batched`] makes an engine of it: it takes calls apart, runs their parts, repeats a failed batch call by call, and
//!   puts answers together in order.
//!
//! An engine that computes batches implements [`BatchEngine`] and knows nothing of queues, waits, deadlines or callers.
//! Generators batch continuously, sequence by sequence, and are no part of this.
#![forbid(unsafe_code)]

mod batched;
mod clock;
pub mod decide;
pub mod learn;

pub use batched::{BatchEngine, Batched, Shape};
