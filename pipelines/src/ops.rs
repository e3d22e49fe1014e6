//! Built-in operators: small pure functions of their inputs, run where the plan runs (`use = "op:similarity"`).

mod rank;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_values::{DType, Map, Value};

use crate::expr::EvalError;
use crate::types::{Inputs, Type, ranked};

/// A built-in operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
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

/// Inputs of an operator by name; few enough to be searched.
pub(crate) type Given = [(Arc<str>, Value)];

impl Operator {
    /// All of them, for messages that list what there is.
    pub(crate) const ALL: [Self; 5] =
        [Self::Similarity, Self::TopK, Self::Select, Self::Template, Self::Merge];

    /// The name after `op:`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Similarity => "similarity",
            Self::TopK => "top_k",
            Self::Select => "select",
            Self::Template => "template",
            Self::Merge => "merge",
        }
    }

    /// The operator of that name, without `op:`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.as_str() == name)
    }

    /// What it takes. `op:template` takes the rendered text as the input `template`.
    pub(crate) fn inputs(self) -> Inputs {
        let vectors = |shapes: &[&[Option<usize>]]| {
            Type::one_of(shapes.iter().map(|shape| Type::tensor(DType::F32, *shape)).collect())
        };
        let items = || Type::list(Type::Any);
        match self {
            Self::Similarity => Inputs::default()
                .required("query", vectors(&[&[None], &[Some(1), None]]))
                .required("vectors", vectors(&[&[None, None]]))
                .required("items", items())
                .optional("keep", Type::Int),
            Self::TopK => {
                let scores = Type::OneOf(vec![Type::list(Type::Float), Type::tensor(DType::F32, [None])]);
                Inputs::default()
                    .required("items", items())
                    .required("scores", scores)
                    .optional("keep", Type::Int)
            }
            Self::Select => {
                let indices = Type::OneOf(vec![Type::list(Type::Int), Type::tensor(DType::I64, [None])]);
                Inputs::default().required("items", items()).required("indices", indices)
            }
            Self::Template => Inputs::default().required("template", Type::Text),
            Self::Merge => Inputs::any(),
        }
    }

    /// What it gives for inputs of these types.
    pub(crate) fn output(self, inputs: &BTreeMap<Arc<str>, Type>) -> Type {
        let items = || match inputs.get("items").map(Type::required) {
            Some(Type::List(item)) => (**item).clone(),
            _ => Type::Any,
        };
        match self {
            Self::Similarity | Self::TopK => ranked(items()),
            Self::Select => Type::list(items()),
            Self::Template => Type::Text,
            Self::Merge => Type::map(inputs.iter().map(|(name, ty)| (Arc::clone(name), ty.clone()))),
        }
    }

    /// Computes on the given inputs.
    ///
    /// # Errors
    /// [`EvalError`] of class `Invalid` when sizes or types do not agree.
    pub(crate) fn apply(self, given: &Given) -> Result<Value, EvalError> {
        match self {
            Self::Similarity => rank::similarity(given),
            Self::TopK => rank::top_k(given),
            Self::Select => rank::select(given),
            Self::Template => Ok(input(given, "template")?.clone()),
            Self::Merge => Ok(Value::Map(Arc::new(
                given.iter().map(|(name, value)| (Arc::clone(name), value.clone())).collect::<Map>(),
            ))),
        }
    }
}

/// The input of that name.
fn input<'v>(given: &'v Given, name: &str) -> Result<&'v Value, EvalError> {
    let found = given.iter().find(|(known, _)| **known == *name);
    found.map(|(_, value)| value).ok_or_else(|| EvalError::invalid(format!("`{name}` is missing")))
}

#[cfg(test)]
mod tests;
