//! (being written)
use std::collections::BTreeSet;
use super::ExprFault;

/// The names that an expression mentions, before types are known: `request`, stages, a loop variable. `known` are
/// the names of the file's stages: one with a dash is a name only where it stands there, else `a-b` subtracts.
///
/// # Errors
/// A fault of syntax.
pub fn references(source: &str, known: &[&str]) -> Result<BTreeSet<String>, ExprFault> {
    let _ = (source, known);
    unimplemented!()
}

/// As [`references`], for a template; its own variables are left out.
///
/// # Errors
/// A fault of syntax.
pub fn template_references(source: &str, known: &[&str]) -> Result<BTreeSet<String>, ExprFault> {
    let _ = (source, known);
    unimplemented!()
}
