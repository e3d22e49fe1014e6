//! Built-in operators: small pure functions of their inputs, run where the plan runs (`use = "op:similarity"`).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_values::Value;

use crate::expr::EvalError;
use crate::types::{Inputs, Type};

/// A built-in operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The items whose vectors are nearest to a query's, by cosine.
    Similarity,
    /// The items of the highest scores.
    TopK,
    /// The items at given indices.
    Select,
    /// A text with holes.
    Template,
    /// A map of its inputs.
    Merge,
}

impl Operator {
    /// All of them, for messages that list what there is.
    pub const ALL: [Self; 5] = [Self::Similarity, Self::TopK, Self::Select, Self::Template, Self::Merge];

    /// The name after `op:`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Similarity => "similarity",
            Self::TopK => "top_k",
            Self::Select => "select",
            Self::Template => "template",
            Self::Merge => "merge",
        }
    }

    /// The operator of that name, without `op:`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.as_str() == name)
    }

    /// What it takes. `op:template` takes the rendered text as the input `template`.
    #[must_use]
    pub fn inputs(self) -> Inputs {
        unimplemented!()
    }

    /// What it gives for inputs of these types.
    #[must_use]
    pub fn output(self, inputs: &BTreeMap<Arc<str>, Type>) -> Type {
        let _ = inputs;
        unimplemented!()
    }

    /// Computes. `inputs` are the given inputs by name.
    ///
    /// # Errors
    /// [`EvalError`] of class `Invalid` when sizes or types do not agree.
    pub fn apply(self, inputs: &[(Arc<str>, Value)]) -> Result<Value, EvalError> {
        let _ = inputs;
        unimplemented!()
    }
}
