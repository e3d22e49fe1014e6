//! (being written)
use super::{Expression, ExprFault, Scope};
pub(crate) fn expression(_source: &str, _scope: &Scope) -> Result<Expression, ExprFault> { unimplemented!() }
