//! Text to minijinja's syntax tree, with what its parser leaves to us: names with a dash, and a bound on nesting
//! (its parser and the dropping of its trees recurse).

use std::borrow::Cow;
use std::ops::Range;

use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::machinery::{Token, parse, parse_expr, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::ExprFault;

/// Longest text of an expression or template, in bytes.
const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Operators, brackets and the like between two delimiters: what makes a syntax tree deep.
const MAX_OPERATORS: usize = 400;
/// `elif` in one template: each is a level.
const MAX_ELIFS: usize = 100;

/// Whether a text is an expression or a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Expression,
    Template,
}

/// `source` made fit for the parser: checked for length and nesting, the dashes of known names replaced by `_` (same
/// length, so that places stay; the compiler reads names from the original).
///
/// # Errors
/// A fault of the lexer, or too long or nested too deep.
pub(crate) fn prepare<'s>(
    source: &'s str,
    form: Form,
    known: &mut dyn Iterator<Item = &str>,
) -> Result<Cow<'s, str>, ExprFault> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(ExprFault {
            range: 0..source.len(),
            message: format!("a text of {} bytes", source.len()),
            help: format!("keep it under {} KiB; long texts belong into the request", MAX_SOURCE_BYTES >> 10),
        });
    }
    let dashed: Vec<&str> = known.filter(|name| name.contains('-')).collect();
    let mut replaced: Option<Vec<u8>> = None;
    let (mut operators, mut elifs) = (0, 0);
    let mut after_dot = false;
    for token in tokenize(source, form == Form::Expression, SyntaxConfig::default()) {
        let (token, span) = token.map_err(|error| syntax_fault(&error, source))?;
        let start = span.start_offset as usize;
        match token {
            Token::VariableEnd | Token::BlockEnd => operators = 0,
            Token::Ident("elif") => elifs += 1,
            Token::Ident("not" | "is" | "if" | "else" | "and" | "or" | "in") => operators += 1,
            Token::Ident(_) if !after_dot => {
                if let Some(name) = dashed.iter().find(|name| stands_at(source, start, name)) {
                    let bytes = replaced.get_or_insert_with(|| source.as_bytes().to_vec());
                    bytes[start..start + name.len()]
                        .iter_mut()
                        .filter(|byte| **byte == b'-')
                        .for_each(|byte| *byte = b'_');
                }
            }
            Token::TemplateData(_)
            | Token::Comma
            | Token::Colon
            | Token::Str(_)
            | Token::String(_)
            | Token::Int(_) => {}
            Token::Ident(_) | Token::VariableStart | Token::BlockStart => {}
            _ => operators += 1,
        }
        if operators > MAX_OPERATORS || elifs > MAX_ELIFS {
            return Err(too_deep(start..span.end_offset as usize));
        }
        after_dot = matches!(token, Token::Dot);
    }
    Ok(match replaced {
        Some(bytes) => Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|_| source.to_owned())),
        None => Cow::Borrowed(source),
    })
}

/// The syntax tree of a prepared expression.
pub(crate) fn expression(prepared: &str) -> Result<Expr<'_>, ExprFault> {
    if prepared.trim().is_empty() {
        return Err(ExprFault {
            range: 0..prepared.len(),
            message: "an empty expression".to_owned(),
            help: "write a value such as `request.question`".to_owned(),
        });
    }
    parse_expr(prepared).map_err(|error| syntax_fault(&error, prepared))
}

/// The syntax tree of a prepared template.
pub(crate) fn template(prepared: &str) -> Result<Stmt<'_>, ExprFault> {
    parse(prepared, "template", SyntaxConfig::default()).map_err(|error| syntax_fault(&error, prepared))
}

pub(crate) fn too_deep(range: Range<usize>) -> ExprFault {
    ExprFault {
        range,
        message: "the expression is nested too deep".to_owned(),
        help: "split it into several stages, or into `{% set %}` lines of a template".to_owned(),
    }
}

/// Whether `name` stands in `source` at `start` and ends there.
fn stands_at(source: &str, start: usize, name: &str) -> bool {
    let Some(rest) = source.get(start..).and_then(|rest| rest.strip_prefix(name)) else { return false };
    let mut following = rest.chars();
    match following.next() {
        Some('-') => !following.next().is_some_and(|next| next.is_ascii_lowercase() || next.is_ascii_digit()),
        Some(next) => !(next.is_ascii_alphanumeric() || next == '_'),
        None => true,
    }
}

fn syntax_fault(error: &minijinja::Error, source: &str) -> ExprFault {
    let found = error.range().unwrap_or(0..source.len());
    let mut start = source.floor_char_boundary(found.start);
    let end = source.ceil_char_boundary(found.end.max(start));
    // The place after the last token is empty: show the character before it.
    if start == end {
        start = source[..start].char_indices().next_back().map_or(0, |(before, _)| before);
    }
    let range = start..end;
    let message = error.detail().unwrap_or("a syntax error").to_owned();
    ExprFault {
        range,
        message,
        help: "see https://jinja.palletsprojects.com/templates for the syntax".to_owned(),
    }
}
