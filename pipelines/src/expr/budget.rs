//! What one evaluation may use. Every node, loop turn and list element made costs a step; every byte of text made
//! counts, so that neither a loop nor a repeated text can take a server's time or memory.

use super::EvalError;

/// Nodes evaluated, loop turns, and list elements made.
const MAX_STEPS: usize = 1_000_000;
/// Bytes of text made on the way.
const MAX_BYTES: usize = 32 << 20;
/// Bytes of one template's text.
pub(crate) const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Budget {
    steps: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: MAX_STEPS, bytes: MAX_BYTES }
    }
}

impl Budget {
    /// Pays for `steps`.
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), EvalError> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(EvalError::too_large(format!("an expression takes more than {MAX_STEPS} steps"))),
        }
    }

    /// Pays for `bytes` of text.
    pub(crate) fn spend_bytes(&mut self, bytes: usize) -> Result<(), EvalError> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => Err(EvalError::too_large(format!(
                "an expression makes more than {} MiB of text",
                MAX_BYTES >> 20
            ))),
        }
    }
}
