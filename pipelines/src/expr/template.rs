//! (being written)
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Env, EvalError, ExprFault, Scope};

/// A compiled template: a text with expressions, loops and conditions.
#[derive(Debug, Clone)]
pub struct Template {
    references: BTreeSet<Arc<str>>,
}

impl Template {
    /// Parses, resolves and types a template.
    ///
    /// # Errors
    /// The first fault, with its range within `source`.
    pub fn compile(source: &str, scope: &Scope) -> Result<Self, ExprFault> {
        let _ = (source, scope);
        unimplemented!()
    }

    /// The names it uses: `request`, stages, the loop variable of `for_each`.
    #[must_use]
    pub fn references(&self) -> &BTreeSet<Arc<str>> {
        &self.references
    }

    /// The text.
    ///
    /// # Errors
    /// [`EvalError`] when the data does not allow an operation, or the budget is used up.
    pub fn render(&self, env: &Env<'_>) -> Result<String, EvalError> {
        let _ = env;
        unimplemented!()
    }

    pub(crate) fn stages(&self, into: &mut BTreeSet<usize>) {
        let _ = into;
        unimplemented!()
    }
}
