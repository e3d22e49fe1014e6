//! Values that may be expressions: a string is one, what else TOML knows stands for itself.

use std::sync::Arc;

use millstream_values::Value;

use crate::expr::{ExprFault, Expression, Scope, Template};
use crate::fault::FaultSink;
use crate::raw::{Raw, RawValue};

/// Compiles a value; `label` tells whose it is.
pub(super) fn expression(
    raw: &Raw,
    label: &str,
    scope: &Scope,
    faults: &mut FaultSink<'_>,
) -> Option<Expression> {
    match &raw.value {
        RawValue::Text(source) => match Expression::compile(source, scope) {
            Ok(expression) => Some(expression),
            Err(fault) => {
                push(raw, label, fault, faults);
                None
            }
        },
        RawValue::Int(value) => Some(Expression::constant(Value::Int(*value))),
        RawValue::Float(value) if value.is_finite() => Some(Expression::constant(Value::Float(*value))),
        RawValue::Bool(value) => Some(Expression::constant(Value::Bool(*value))),
        RawValue::Float(_) | RawValue::Unusable(_) => {
            let message = format!("{label} is {}, which cannot be a value here", raw.kind());
            faults.push(
                raw.span.clone(),
                message,
                "write an expression in quotes, a finite number, `true` or `false`",
            );
            None
        }
        RawValue::Array(items) => {
            let items: Vec<Option<Expression>> =
                items.iter().map(|item| expression(item, label, scope, faults)).collect();
            items.into_iter().collect::<Option<Vec<_>>>().map(Expression::list)
        }
        RawValue::Table(table) => {
            let entries: Vec<Option<(Arc<str>, Expression)>> = table
                .entries
                .iter()
                .map(|(key, raw)| {
                    Some((Arc::from(key.text.as_str()), expression(raw, label, scope, faults)?))
                })
                .collect();
            entries.into_iter().collect::<Option<Vec<_>>>().map(Expression::map)
        }
    }
}

/// Compiles a template.
pub(super) fn template(
    raw: &Raw,
    label: &str,
    scope: &Scope,
    faults: &mut FaultSink<'_>,
) -> Option<Template> {
    let source = raw.as_text()?;
    Template::compile(source, scope).map_err(|fault| push(raw, label, fault, faults)).ok()
}

fn push(raw: &Raw, label: &str, fault: ExprFault, faults: &mut FaultSink<'_>) {
    let span = raw.span_within(faults.text(), fault.range);
    faults.push(span, format!("{label}: {}", fault.message), fault.help);
}

/// The value as it stands, nothing in it being an expression; the place of what cannot be one otherwise.
pub(super) fn literal(raw: &Raw) -> Result<Value, &Raw> {
    Ok(match &raw.value {
        RawValue::Text(text) => Value::from(text.as_str()),
        RawValue::Int(value) => Value::Int(*value),
        RawValue::Float(value) if value.is_finite() => Value::Float(*value),
        RawValue::Bool(value) => Value::Bool(*value),
        RawValue::Float(_) | RawValue::Unusable(_) => return Err(raw),
        RawValue::Array(items) => Value::list(items.iter().map(literal).collect::<Result<Vec<_>, _>>()?),
        RawValue::Table(table) => {
            let entries: Result<Vec<_>, _> =
                table.entries.iter().map(|(key, raw)| Ok((key.text.as_str(), literal(raw)?))).collect();
            Value::map(entries?)
        }
    })
}
