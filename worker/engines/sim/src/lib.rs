//! A simulated language model, `engine = "sim"`: streams, gateways and scaling are tested with it at the load of a large model, without
//! weights. Its times are curves of prompt and load, its tokens come from a small corpus, the same for the same request.
//!
//! ```text
//! waiting ─▶ (the cache has room) ─▶ prompt ─▶ (first token) ─▶ joins ─▶ (the next step begins) ─▶ decoding ─▶ answered
//! ```
//!
//! What it decides are plain functions of a time that is passed in; a replica costs a thread that sleeps until the next token is due.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod corpus;
mod curves;
mod engine;
mod faults;
mod prefixes;
mod prompt;
mod sequence;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use millstream_engine::{Engine, EngineFactory, LoadArgs, LoadError};

use crate::engine::SimEngine;

/// Makes simulated models.
#[derive(Debug, Default)]
pub struct SimFactory {
    /// Replicas so far.
    num_loaded: AtomicU64,
}

impl EngineFactory for SimFactory {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn accepts(&self, _: &LoadArgs<'_>) -> Result<(), LoadError> {
        Err(LoadError::Unsupported("runs no model; it is chosen by `engine = \"sim\"` only".to_owned()))
    }

    fn load(&self, args: &LoadArgs<'_>) -> Result<Engine, LoadError> {
        let settings = args.spec.sim().cloned().unwrap_or_default();
        let number = self.num_loaded.fetch_add(1, Ordering::Relaxed);
        Ok(Engine::stepping(SimEngine::new(settings, &args.spec.batch, number)))
    }
}
