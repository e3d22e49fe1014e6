//! What one evaluation may use. Every node, loop turn and list element made costs a step, and so does every value and every 64 bytes
//! of text that something looks through; every byte of text made counts. So neither a loop nor a repeated text can take a server's
//! time or memory.

use millstream_values::Value;

use super::EvalError;

/// Nodes evaluated, loop turns, and list elements made.
const MAX_STEPS: usize = 1_000_000;
/// Bytes of text made on the way.
const MAX_BYTES: usize = 32 << 20;
/// Bytes of one template's text.
pub(crate) const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// Bytes of text that are looked through for a step.
const BYTES_PER_STEP: usize = 64;

/// Steps that it takes to look through a value.
fn cost(value: &Value) -> usize {
    match value {
        Value::Text(text) => 1 + text.len() / BYTES_PER_STEP,
        Value::List(items) => 1 + items.iter().map(cost).sum::<usize>(),
        Value::Map(map) => 1 + map.values().map(cost).sum::<usize>(),
        _ => 1,
    }
}

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

    /// Pays for looking through a value, so many times.
    pub(crate) fn look_through(&mut self, value: &Value, times: usize) -> Result<(), EvalError> {
        self.spend(cost(value).saturating_mul(times))
    }

    /// Pays for comparing two values: who differs early costs less, but that is not known before.
    pub(crate) fn compare(&mut self, left: &Value, right: &Value) -> Result<(), EvalError> {
        match (left, right) {
            (Value::Text(a), Value::Text(b)) => self.spend(a.len().min(b.len()) / BYTES_PER_STEP),
            (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) => {
                self.spend(cost(left).min(cost(right)))
            }
            _ => Ok(()),
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
