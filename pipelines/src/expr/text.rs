//! Values as text: what `{{ … }}` and `~` write. Text and numbers are written as they are, lists and maps as
//! minijinja writes them.

use std::fmt::Write as _;

use millstream_values::{MAX_DEPTH, Value};

use super::EvalError;
use super::budget::Budget;
use super::object::to_jinja;

/// Appends the value's text. A tensor has none: it would be pages of numbers.
pub(crate) fn write(value: &Value, out: &mut String, budget: &mut Budget) -> Result<(), EvalError> {
    let before = out.len();
    // Writing to a text does not fail.
    let _ = match value {
        Value::Text(text) => out.write_str(text),
        Value::Int(number) => write!(out, "{number}"),
        Value::Tensor(_) => return Err(EvalError::invalid("a tensor is not written as text")),
        Value::List(_) | Value::Map(_) => {
            check(value, budget, MAX_DEPTH)?;
            write!(out, "{}", to_jinja(value))
        }
        other => write!(out, "{}", to_jinja(other)),
    };
    budget.spend_bytes(out.len() - before)
}

/// Pays for a nested value before it is written, and refuses tensors within.
fn check(value: &Value, budget: &mut Budget, depth: usize) -> Result<(), EvalError> {
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(EvalError::too_large("a value is nested too deep"));
    };
    match value {
        Value::Tensor(_) => Err(EvalError::invalid("a tensor is not written as text")),
        Value::List(list) => {
            budget.spend(list.len())?;
            list.iter().try_for_each(|item| check(item, budget, deeper))
        }
        Value::Map(map) => {
            budget.spend(map.len())?;
            map.values().try_for_each(|entry| check(entry, budget, deeper))
        }
        _ => Ok(()),
    }
}
