//! Objects whose fields are declared: the body itself, and objects in it.

use std::sync::Arc;

use millstream_values::{Map, Value};

use super::Field;
use super::pass::{Shared, Step};
use crate::MAX_NAME_LENGTH;

/// A key that none of the fields has is a fault.
pub(super) fn unknown_field(fields: &[Field], key: &str, state: Shared<'_>) {
    let mut state = state.borrow_mut();
    let message = if state.may_suggest() {
        let names = fields.iter().map(|field| &*field.name);
        format!("the field is unknown; {}", crate::raw::did_you_mean(key, names))
    } else {
        "the field is unknown".to_owned()
    };
    let shown: String = key.chars().take(MAX_NAME_LENGTH + 1).collect();
    state.path.push(Step::Key(shown.into()));
    state.fault(message);
    state.path.pop();
}

/// The fields in the order in which they are declared, defaults filled in; missing ones are faults, unless they had one of their own.
pub(super) fn complete(
    fields: &[Field],
    mut values: Vec<Option<Value>>,
    had_fault: impl Fn(usize) -> bool,
    state: Shared<'_>,
) -> Map {
    let mut completed = Map::with_capacity(values.len());
    for (index, field) in fields.iter().enumerate() {
        let value = values[index].take().or_else(|| field.default.clone());
        if value.is_none() && field.is_optional {
            continue;
        }
        if value.is_none() && !had_fault(index) {
            let mut state = state.borrow_mut();
            state.path.push(Step::Key(Arc::clone(&field.name)));
            state.fault(format!("the field is missing; it is required and of type `{}`", field.ty));
            state.path.pop();
        }
        completed.insert(Arc::clone(&field.name), value.unwrap_or_default());
    }
    completed
}
