//! Expressions and templates: minijinja's language, compiled once at deploy, evaluated on our own values.
//!
//! minijinja parses, and runs filters and tests; everything else is resolved here into a small tree: names become
//! indices, types are inferred on the way, and evaluation works on [`Value`]s directly, so that a tensor stays a
//! tensor, a list of documents is shared, a whole number stays one, and every step counts against a budget.

mod arithmetic;
mod budget;
mod compile;
mod eval;
mod filters;
mod infer;
mod node;
mod object;
mod parse;
mod references;
mod render;
mod slicing;
mod template;
mod text;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use millstream_values::{ErrorClass, Value};

use crate::types::Type;
use node::Node;

pub(crate) use infer::items as item_type;
pub use references::{references, template_references};
pub(crate) use render::loop_items;
pub use template::Template;

/// A fault in the text of an expression or template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct ExprFault {
    /// The offending bytes of the expression's or template's text.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Why an evaluation, or an operator, gave no value. Nearly always the data's fault ([`ErrorClass::Invalid`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// The class, which becomes the status.
    pub class: ErrorClass,
    /// Text that may be shown to clients: it names types, sizes and fields, never contents.
    pub message: String,
}

impl EvalError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::Invalid, message: message.into() }
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self { class: ErrorClass::TooLarge, message: message.into() }
    }
}

/// The names that an expression may use, with their types: `request`, the stages before it, a loop variable.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    names: Vec<(Arc<str>, Root, Type)>,
}

/// Where a name's value is found when an expression is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Root {
    /// The request's fields.
    Request,
    /// The value of the stage of that index.
    Stage(usize),
    /// The element of `for_each`.
    Item,
    /// A variable of a template, by its place.
    Local(usize),
}

impl Scope {
    /// A scope with `request` alone.
    #[must_use]
    pub fn new(request: Type) -> Self {
        Self { names: vec![("request".into(), Root::Request, request)] }
    }

    /// Adds a stage: its index in the plan's stages and the type of its value.
    pub fn add_stage(&mut self, name: impl Into<Arc<str>>, index: usize, ty: Type) {
        self.names.push((name.into(), Root::Stage(index), ty));
    }

    /// This scope with the loop variable of `for_each` in addition.
    #[must_use]
    pub fn with_item(&self, name: impl Into<Arc<str>>, ty: Type) -> Self {
        let mut scope = self.clone();
        scope.names.push((name.into(), Root::Item, ty));
        scope
    }

    /// The names, for messages and for finding those with a dash.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, ..)| &**name)
    }

    /// The last added meaning of a name.
    pub(crate) fn get(&self, name: &str) -> Option<(Root, &Type)> {
        self.names.iter().rev().find(|(known, ..)| **known == *name).map(|(_, root, ty)| (*root, ty))
    }
}

/// The values that an expression is evaluated on.
#[derive(Debug, Clone, Copy)]
pub struct Env<'a> {
    /// The map of the request's fields.
    pub request: &'a Value,
    /// The stages' values, by their index in the plan; none for one that has no value.
    pub stages: &'a [Value],
    /// The element of `for_each`.
    pub item: Option<&'a Value>,
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expression {
    node: Node,
    ty: Type,
    references: BTreeSet<Arc<str>>,
}

impl Expression {
    /// Parses, resolves and types an expression. `source` is the text of the TOML string.
    ///
    /// # Errors
    /// The first fault, with its range within `source`: syntax, an unknown name or field, an operation on types that
    /// have it not.
    pub fn compile(source: &str, scope: &Scope) -> Result<Self, ExprFault> {
        compile::expression(source, scope)
    }

    /// An expression that always gives `value`: a literal of the file (`keep = 16`).
    #[must_use]
    pub fn constant(value: Value) -> Self {
        Self { ty: Type::of(&value), node: Node::Const(value), references: BTreeSet::new() }
    }

    /// An expression that gives the list of what `items` give: an array of the file.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        let references = items.iter().flat_map(|item| item.references.iter().cloned()).collect();
        let ty = Type::list(items.iter().map(|item| item.ty.clone()).reduce(Type::join).unwrap_or_default());
        Self { node: Node::List(items.into_iter().map(|item| item.node).collect()), ty, references }
    }

    /// An expression that gives a map of what `entries` give: a table of the file.
    #[must_use]
    pub fn map(entries: Vec<(Arc<str>, Self)>) -> Self {
        let references = entries.iter().flat_map(|(_, entry)| entry.references.iter().cloned()).collect();
        let ty = Type::map(entries.iter().map(|(name, entry)| (Arc::clone(name), entry.ty.clone())));
        Self {
            node: Node::Map(entries.into_iter().map(|(name, entry)| (name, entry.node)).collect()),
            ty,
            references,
        }
    }

    /// The type of its value, as far as it can be told.
    #[must_use]
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// The names it uses: `request`, stages, the loop variable.
    #[must_use]
    pub fn references(&self) -> &BTreeSet<Arc<str>> {
        &self.references
    }

    /// Its value. Costs a lookup for a plain path.
    ///
    /// # Errors
    /// [`EvalError`] when the data does not allow the operation, or the budget is used up.
    pub fn eval(&self, env: &Env<'_>) -> Result<Value, EvalError> {
        eval::evaluate(&self.node, env)
    }

    /// Whether its value counts as true, as `when` asks: not false, none, zero or empty.
    ///
    /// # Errors
    /// As [`Expression::eval`].
    pub fn is_true(&self, env: &Env<'_>) -> Result<bool, EvalError> {
        self.eval(env).map(|value| eval::is_true(&value))
    }

    /// The stages that it uses, by index.
    pub(crate) fn stages(&self, into: &mut BTreeSet<usize>) {
        self.node.visit_roots(&mut |root| {
            if let Root::Stage(index) = root {
                into.insert(index);
            }
        });
    }

    /// The stage and field of a path `stage.field`, if it is one.
    pub(crate) fn as_stage_field(&self) -> Option<(usize, &str)> {
        self.node.as_stage_field()
    }
}

#[cfg(test)]
mod tests;
