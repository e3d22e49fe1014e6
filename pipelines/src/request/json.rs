//! Any JSON to a value, for fields of type `json` and to pass over what is wrong: bounds on depth and items and the ban
//! on duplicate keys hold there too.

use std::fmt;
use std::sync::Arc;

use millstream_values::{Map, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::pass::Shared;
use super::{MAX_DEPTH, MAX_ITEMS};

/// A seed for any JSON, `depth` arrays and objects down.
#[derive(Clone, Copy)]
pub(super) struct AnyJson<'s> {
    /// Arrays and objects around it.
    pub(super) depth: usize,
    /// Counts the values.
    pub(super) state: Shared<'s>,
}

/// Refuses what is nested too deep.
pub(super) fn check_depth<E: Error>(depth: usize) -> Result<(), E> {
    if depth > MAX_DEPTH {
        return Err(E::custom(format_args!("arrays and objects are nested more than {MAX_DEPTH} deep")));
    }
    Ok(())
}

impl<'de> DeserializeSeed<'de> for AnyJson<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.state.borrow_mut().count_value()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyJson<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "whole numbers beyond 63 bits round, as in most JSON readers"
    )]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.depth + 1;
        check_depth(depth)?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Self { depth, ..self })? {
            // One more than allowed is kept, so that the caller sees that there were too many.
            if items.len() <= MAX_ITEMS {
                items.push(item);
            }
        }
        Ok(Value::list(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.depth + 1;
        check_depth(depth)?;
        let mut entries = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let key: Arc<str> = key.into();
            if entries.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key `{key}` is given twice")));
            }
            let value = map.next_value_seed(Self { depth, ..self })?;
            // One more than allowed is kept, as above.
            if entries.len() <= MAX_ITEMS {
                entries.insert(key, value);
            }
        }
        Ok(Value::from(entries))
    }
}

/// Whether an array or object in the value has too many items.
pub(super) fn has_too_many_items(value: &Value) -> bool {
    match value {
        Value::List(items) => items.len() > MAX_ITEMS || items.iter().any(has_too_many_items),
        Value::Map(map) => map.len() > MAX_ITEMS || map.values().any(has_too_many_items),
        _ => false,
    }
}
