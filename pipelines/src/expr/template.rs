//! Templates: the texts with holes of `prompt` and `op:template`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::compile::{Names, Resolver};
use super::eval::Context;
use super::parse::{self, Form};
use super::render::{self, Stmt};
use super::{Env, EvalError, ExprFault, Root, Scope};

/// A compiled template: a text with expressions, loops and conditions. Nothing is escaped.
#[derive(Debug, Clone)]
pub struct Template {
    statements: Vec<Stmt>,
    num_locals: usize,
    references: BTreeSet<Arc<str>>,
    stages: BTreeSet<usize>,
}

impl Template {
    /// Parses, resolves and types a template.
    ///
    /// # Errors
    /// The first fault, with its range within `source`.
    pub fn compile(source: &str, scope: &Scope) -> Result<Self, ExprFault> {
        let prepared = parse::prepare(source, Form::Template, &mut scope.names())?;
        let tree = parse::template(&prepared)?;
        let mut resolver = Resolver::new(source, Names::Of(scope));
        let statements = render::resolve(&mut resolver, &tree)?;
        let stages = resolver.references.iter().filter_map(|name| match scope.get(name) {
            Some((Root::Stage(index), _)) => Some(index),
            _ => None,
        });
        let stages = stages.collect();
        Ok(Self { statements, num_locals: resolver.num_locals, references: resolver.references, stages })
    }

    /// The names it uses: `request`, stages, the loop variable of `for_each`.
    #[must_use]
    pub fn references(&self) -> &BTreeSet<Arc<str>> {
        &self.references
    }

    /// The text, at most 4 MiB.
    ///
    /// # Errors
    /// [`EvalError`] when the data does not allow an operation, or the budget is used up.
    pub fn render(&self, env: &Env<'_>) -> Result<String, EvalError> {
        let mut context = Context::new(env);
        context.locals.resize(self.num_locals, None);
        let mut out = String::new();
        render::run(&self.statements, &mut out, &mut context)?;
        Ok(out)
    }

    /// The stages that it uses, by index.
    pub(crate) fn stages(&self, into: &mut BTreeSet<usize>) {
        into.extend(&self.stages);
    }
}
