//! What a field's values must keep besides their type: ranges, lengths, allowed values.

use millstream_values::Value;

/// The bounds of a field. `min`, `max` and `allowed` hold for each item of a list, the lengths for the list itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Bounds {
    /// Smallest number.
    pub(crate) min: Option<Value>,
    /// Largest number.
    pub(crate) max: Option<Value>,
    /// Fewest characters of a text, bytes of bytes, items of a list.
    pub(crate) min_length: Option<usize>,
    /// Most of them.
    pub(crate) max_length: Option<usize>,
    /// The only values allowed; empty for any.
    pub(crate) allowed: Vec<Value>,
}

/// No bounds at all.
pub(super) static UNBOUNDED: Bounds =
    Bounds { min: None, max: None, min_length: None, max_length: None, allowed: Vec::new() };

impl Bounds {
    /// What is wrong with a value that is not a list; `None` when nothing is.
    pub(crate) fn check_scalar(&self, value: &Value) -> Option<String> {
        if let Some(min) = self.min.as_ref().filter(|min| is_less(value, min)) {
            return Some(format!("{} is less than {}", show(value), show(min)));
        }
        if let Some(max) = self.max.as_ref().filter(|max| is_less(max, value)) {
            return Some(format!("{} is more than {}", show(value), show(max)));
        }
        if !self.allowed.is_empty() && !self.allowed.iter().any(|allowed| same(allowed, value)) {
            let all: Vec<String> = self.allowed.iter().map(show).collect();
            return Some(format!("the value is none of {}", all.join(", ")));
        }
        None
    }

    /// What is wrong with the length of a text, of bytes or of a list.
    pub(crate) fn check_length(&self, value: &Value) -> Option<String> {
        if self.min_length.is_none() && self.max_length.is_none() {
            return None;
        }
        let (length, unit) = match value {
            Value::Text(text) => (text.chars().count(), "characters"),
            Value::Bytes(bytes) => (bytes.len(), "bytes"),
            Value::List(items) => (items.len(), "items"),
            _ => return None,
        };
        match (self.min_length, self.max_length) {
            (Some(min), _) if length < min => Some(format!("{length} {unit} are fewer than {min}")),
            (_, Some(max)) if length > max => Some(format!("{length} {unit} are more than {max}")),
            _ => None,
        }
    }
}

fn is_less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a < b,
        (a, b) => a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a < b),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            !is_less(a, b) && !is_less(b, a)
        }
        (a, b) => a == b,
    }
}

/// A number or text as JSON shows it.
fn show(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("`{text}`"),
        Value::Int(value) => format!("`{value}`"),
        Value::Float(value) => format!("`{value}`"),
        other => other.type_name().to_owned(),
    }
}
