//! A bound on what values come to when they are written down. Values share their parts, so that a few stages that each
//! mention the one before twice make a value that no memory holds as bytes, and many brackets make one too deep to be
//! walked.

use millstream_values::{MAX_DEPTH, Value};

use crate::expr::EvalError;

/// Most bytes of one input or response field, written down.
pub(super) const MAX_BYTES: usize = 256 << 20;
/// What every value counts besides its contents: about what it takes in memory.
const OVERHEAD_BYTES: usize = 64;

/// Refuses a value that is too large or nested too deep. Costs a step for each value in it, up to the bound.
pub(super) fn check(value: Value) -> Result<Value, EvalError> {
    let mut left = MAX_BYTES;
    match charge(&value, &mut left) {
        Ok(()) => Ok(value),
        Err(message) => Err(EvalError::too_large(message)),
    }
}

/// Takes what a value comes to out of what is left.
///
/// # Errors
/// When less is left, or it is nested too deep.
pub(super) fn charge(value: &Value, left: &mut usize) -> Result<(), String> {
    walk(value, 0, left)
}

fn walk(value: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("lists and maps are nested more than {MAX_DEPTH} deep"));
    }
    let contents = match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Tensor(tensor) => tensor.data().len(),
        _ => 0,
    };
    *left = left
        .checked_sub(contents + OVERHEAD_BYTES)
        .ok_or_else(|| format!("the value has more than {} MiB", MAX_BYTES >> 20))?;
    match value {
        Value::List(items) => items.iter().try_for_each(|item| walk(item, depth + 1, left)),
        Value::Map(map) => map.values().try_for_each(|entry| walk(entry, depth + 1, left)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_and_nesting_are_bounded() {
        let doubled = |times: usize| (0..times).fold(Value::Int(1), |v, _| Value::list([v.clone(), v]));
        assert!(check(doubled(10)).is_ok());
        assert!(check(doubled(60)).unwrap_err().message.contains("256 MiB"));
        let nested = |depth: usize| (0..depth).fold(Value::Int(1), |v, _| Value::list([v]));
        assert!(check(nested(MAX_DEPTH)).is_ok());
        assert!(check(nested(MAX_DEPTH + 1)).unwrap_err().message.contains("64 deep"));
    }
}
