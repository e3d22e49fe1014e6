//! (being written)
use super::{Env, EvalError, node::Node};
use millstream_values::Value;
pub(crate) fn evaluate(_node: &Node, _env: &Env<'_>) -> Result<Value, EvalError> { unimplemented!() }
pub(crate) fn is_true(_value: &Value) -> bool { unimplemented!() }
