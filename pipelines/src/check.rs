//! From values as they were written to a checked plan: names, ranges, types and the DAG. Every fault is reported; what
//! is wrong is replaced by what harms no other check, so that one fault does not bring forth others.

use crate::fault::FaultSink;
use crate::raw::{self, Syntax};
use crate::types::Signatures;
use crate::{Faults, Plan};

mod about;
mod capture;
mod chat;
mod deployment;
mod limits;
mod order;
mod pipeline;
mod request;
mod rollout;
mod serving;
mod stage;
mod value;

/// Most deployments, stages, request fields and response fields of a file, each.
const MAX_ENTRIES: usize = 256;

impl Plan {
    /// Parses, checks and compiles a pipeline's text. `file_name` is for messages only.
    ///
    /// # Errors
    /// All faults of the text at once.
    pub fn compile(file_name: &str, text: &str) -> Result<Self, Faults> {
        compile(file_name, text, &Signatures::new())
    }

    /// The same for a file whose models are loaded: what its stages pass to them, and take of what they return, is checked
    /// against their signatures.
    ///
    /// # Errors
    /// All faults of the text at once.
    pub fn compile_with(file_name: &str, text: &str, signatures: &Signatures) -> Result<Self, Faults> {
        compile(file_name, text, signatures)
    }
}

fn compile(file_name: &str, text: &str, signatures: &Signatures) -> Result<Plan, Faults> {
    let mut faults = FaultSink::new(text);
    let (file, syntax) = raw::parse(&mut faults);
    if syntax == Syntax::Broken {
        return Err(faults.into_faults(file_name).expect("a file that cannot be read has a fault"));
    }
    let parts = pipeline::check(&file, signatures, &mut faults);
    match faults.into_faults(file_name) {
        Some(faults) => Err(faults),
        None => Ok(Plan::new(parts)),
    }
}

#[cfg(test)]
mod tests;
