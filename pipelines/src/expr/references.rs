//! Which names a text mentions: known before types are, so that stages can be put in order.

use std::collections::BTreeSet;

use super::compile::{Names, Resolver};
use super::parse::{self, Form};
use super::{ExprFault, render};

/// The names that an expression mentions, before types are known: `request`, stages, a loop variable. `known` are
/// the names of the file's stages: one with a dash is a name only where it stands there, else `a-b` subtracts.
///
/// # Errors
/// A fault of syntax.
pub fn references(source: &str, known: &[&str]) -> Result<BTreeSet<String>, ExprFault> {
    mentioned(source, known, Form::Expression)
}

/// As [`references`], for a template; its own variables are left out.
///
/// # Errors
/// A fault of syntax.
pub fn template_references(source: &str, known: &[&str]) -> Result<BTreeSet<String>, ExprFault> {
    mentioned(source, known, Form::Template)
}

fn mentioned(source: &str, known: &[&str], form: Form) -> Result<BTreeSet<String>, ExprFault> {
    let prepared = parse::prepare(source, form, &mut known.iter().copied())?;
    let mut resolver = Resolver::new(source, Names::Any);
    match form {
        Form::Expression => {
            resolver.expression(&parse::expression(&prepared)?)?;
        }
        Form::Template => {
            render::resolve(&mut resolver, &parse::template(&prepared)?)?;
        }
    }
    Ok(resolver.references.iter().map(ToString::to_string).collect())
}
