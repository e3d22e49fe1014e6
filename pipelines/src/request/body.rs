//! A body against the schema: one pass over the JSON, every fault with its JSON pointer.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use millstream_values::{Map, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::bounds::UNBOUNDED;
use super::json::{AnyJson, check_depth, has_too_many_items};
use super::object;
use super::pass::{Shared, State, Step, enter_index, leave};
use super::tensor::{self, TensorSeed};
use super::{Bounds, Field, FieldType, MAX_ITEMS, STREAM_FIELD, Schema, decode_base64};
use crate::{Request, RequestError};

impl Schema {
    /// Validates a body and fills in defaults; slower than `quick` where there are tensors. Finds every fault.
    pub(super) fn parse_carefully(&self, body: &[u8]) -> Result<Request, RequestError> {
        let state = RefCell::new(State::default());
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let outcome = BodySeed { schema: self, state: &state }
            .deserialize(&mut deserializer)
            .and_then(|request| deserializer.end().map(|()| request));
        let mut state = state.into_inner();
        match outcome {
            Ok(request) if state.faults.is_empty() => Ok(request),
            Ok(_) => Err(RequestError::Invalid(state.into_faults())),
            // serde_json cannot hold such a number, but it is JSON: a fault against the schema, not against the form.
            Err(error) if error.to_string().starts_with("number out of range") => {
                state.fault("the number is out of range");
                Err(RequestError::Invalid(state.into_faults()))
            }
            Err(_) if body.iter().all(u8::is_ascii_whitespace) => {
                Err(RequestError::Malformed { message: "the body is empty; send a JSON object".to_owned() })
            }
            Err(error) => {
                Err(RequestError::Malformed { message: format!("the body is not usable JSON: {error}") })
            }
        }
    }
}

/// A seed for the whole body.
pub(super) struct BodySeed<'s> {
    pub(super) schema: &'s Schema,
    pub(super) state: Shared<'s>,
}

impl<'de> DeserializeSeed<'de> for BodySeed<'_> {
    type Value = Request;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Request, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl BodySeed<'_> {
    fn no_object(&self, found: &str) -> Request {
        self.state.borrow_mut().fault(format!("expected an object, found {found}"));
        Request { fields: Value::None, stream: false, num_values: 0 }
    }

    pub(super) fn unknown_field(&self, key: &str) {
        object::unknown_field(&self.schema.fields, key, self.state);
    }

    /// The fields of the schema, then those that it does not name.
    pub(super) fn complete(
        &self,
        values: Vec<Option<Value>>,
        others: Map,
        had_fault: impl Fn(usize) -> bool,
    ) -> Value {
        let mut fields = object::complete(&self.schema.fields, values, had_fault, self.state);
        fields.extend(others);
        Value::from(fields)
    }
}

impl<'de> Visitor<'de> for BodySeed<'_> {
    type Value = Request;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request, A::Error> {
        let fields = &self.schema.fields;
        let mut values: Vec<Option<Value>> = vec![None; fields.len()];
        let mut seen = vec![false; fields.len()];
        let mut others = HashSet::new();
        let mut unnamed = Map::new();
        let mut stream = false;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if let Some(index) = fields.iter().position(|field| *field.name == *key) {
                if std::mem::replace(&mut seen[index], true) {
                    return Err(A::Error::custom(format_args!("the key `{key}` is given twice")));
                }
                let field = &fields[index];
                self.state.borrow_mut().path.push(Step::Key(Arc::clone(&field.name)));
                values[index] = map.next_value_seed(ValueSeed::of(field, self.state))?;
                leave(self.state);
                continue;
            }
            if !others.insert(key.to_string()) {
                return Err(A::Error::custom(format_args!("the key `{key}` is given twice")));
            }
            if key == STREAM_FIELD {
                self.state.borrow_mut().path.push(Step::Key(STREAM_FIELD.into()));
                let seed = ValueSeed::unbounded(&FieldType::Bool, self.state);
                stream = map.next_value_seed(seed)? == Some(Value::Bool(true));
                leave(self.state);
            } else if self.schema.is_open {
                let name: Arc<str> = Arc::from(&*key);
                self.state.borrow_mut().path.push(Step::Key(Arc::clone(&name)));
                if let Some(value) =
                    map.next_value_seed(ValueSeed::unbounded(&FieldType::Json, self.state))?
                {
                    unnamed.insert(name, value);
                }
                leave(self.state);
            } else {
                self.unknown_field(&key);
                map.next_value_seed(AnyJson { depth: 1, state: self.state })?;
            }
        }
        let fields = self.complete(values, unnamed, |index| seen[index]);
        Ok(Request { fields, stream, num_values: self.state.borrow().num_values })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Request, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.no_object("an array"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Request, E> {
        Ok(self.no_object("text"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Request, E> {
        Ok(self.no_object("a number"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Request, E> {
        Ok(self.no_object("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Request, E> {
        Ok(self.no_object("a number"))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Request, E> {
        Ok(self.no_object("a boolean"))
    }

    fn visit_unit<E: Error>(self) -> Result<Request, E> {
        Ok(self.no_object("null"))
    }
}

/// A seed for a field's value, or for an item of a list. Returns `None` when there was a fault.
#[derive(Clone, Copy)]
pub(super) struct ValueSeed<'s> {
    ty: &'s FieldType,
    bounds: &'s Bounds,
    part: Part,
    /// Arrays and objects around it.
    depth: usize,
    state: Shared<'s>,
}

/// Whose value it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The field's own: the bounds on lengths are meant for it.
    Field,
    /// That of an item of the field's list.
    Item,
}

impl<'s> ValueSeed<'s> {
    /// A seed for the field's value.
    pub(super) fn of(field: &'s Field, state: Shared<'s>) -> Self {
        Self { ty: &field.ty, bounds: &field.bounds, part: Part::Field, depth: 1, state }
    }

    /// A seed for the value of a field without bounds.
    fn unbounded(ty: &'s FieldType, state: Shared<'s>) -> Self {
        Self { ty, bounds: &UNBOUNDED, part: Part::Field, depth: 1, state }
    }

    /// The value that `json` is, when it is nothing but that.
    pub(super) fn read(self, json: &[u8]) -> Option<Value> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let value = self.deserialize(&mut deserializer).ok()?;
        deserializer.end().ok()?;
        value
    }

    fn check_length(&self, value: &Value) -> Option<String> {
        if self.part == Part::Field { self.bounds.check_length(value) } else { None }
    }

    fn fault(&self, message: impl Into<String>) -> Option<Value> {
        self.state.borrow_mut().fault(message);
        None
    }

    fn wrong(&self, found: &str) -> Option<Value> {
        self.fault(format!("expected {}, found {found}", self.ty.wanted()))
    }

    /// The value, when it keeps the bounds.
    fn checked(&self, value: Value) -> Option<Value> {
        match self.bounds.check_scalar(&value).or_else(|| self.check_length(&value)) {
            Some(message) => self.fault(message),
            None => Some(value),
        }
    }

    fn items<'de, A: SeqAccess<'de>>(self, item: &FieldType, mut seq: A) -> Result<Option<Value>, A::Error> {
        let depth = self.depth + 1;
        check_depth(depth)?;
        let seed = ValueSeed { ty: item, depth, part: Part::Item, ..self };
        let mut items = Vec::new();
        let mut index = 0;
        let mut sound = true;
        loop {
            enter_index(self.state, index);
            let next = if index < MAX_ITEMS {
                seq.next_element_seed(seed)?
            } else {
                seq.next_element_seed(AnyJson { depth, state: self.state })?.map(|_| None)
            };
            leave(self.state);
            match next {
                None => break,
                Some(Some(item)) => items.push(item),
                Some(None) => sound = false,
            }
            index += 1;
        }
        if index > MAX_ITEMS {
            return Ok(self.fault(format!("{index} items are more than {MAX_ITEMS}")));
        }
        if !sound {
            return Ok(None);
        }
        let list = Value::list(items);
        Ok(match self.check_length(&list) {
            Some(message) => self.fault(message),
            None => Some(list),
        })
    }

    /// An object with these fields.
    fn object<'de, A: MapAccess<'de>>(self, fields: &[Field], mut map: A) -> Result<Option<Value>, A::Error> {
        let depth = self.depth + 1;
        check_depth(depth)?;
        let num_faults = self.state.borrow().faults.len();
        let mut values: Vec<Option<Value>> = vec![None; fields.len()];
        let mut seen = vec![false; fields.len()];
        let mut others = HashSet::new();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let index = fields.iter().position(|field| *field.name == *key);
            let is_new = match index {
                Some(index) => !std::mem::replace(&mut seen[index], true),
                None => others.insert(key.to_string()),
            };
            if !is_new {
                return Err(A::Error::custom(format_args!("the key `{key}` is given twice")));
            }
            let Some(index) = index else {
                object::unknown_field(fields, &key, self.state);
                map.next_value_seed(AnyJson { depth, state: self.state })?;
                continue;
            };
            let field = &fields[index];
            self.state.borrow_mut().path.push(Step::Key(Arc::clone(&field.name)));
            values[index] = map.next_value_seed(ValueSeed { depth, ..ValueSeed::of(field, self.state) })?;
            leave(self.state);
        }
        let completed = object::complete(fields, values, |index| seen[index], self.state);
        let is_sound = self.state.borrow().faults.len() == num_faults;
        Ok(is_sound.then(|| Value::from(completed)))
    }

    /// Numbers of a schema's `float`: any that is finite.
    fn float(&self, value: f64) -> Option<Value> {
        match self.ty {
            FieldType::Float | FieldType::Json => self.checked(Value::Float(value)),
            FieldType::Int => {
                self.wrong("a number with a fraction, an exponent, or more digits than fit 64 bits")
            }
            _ => self.wrong("a number"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.state.borrow_mut().count_value()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type `{}`", self.ty)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(self.fault("null is not a value; leave the field out"))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(match self.ty {
            FieldType::Bool | FieldType::Json => Some(Value::Bool(value)),
            _ => self.wrong("a boolean"),
        })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(match self.ty {
            FieldType::Int | FieldType::Json => self.checked(Value::Int(value)),
            #[expect(clippy::cast_precision_loss, reason = "a float was asked for")]
            FieldType::Float => self.checked(Value::Float(value as f64)),
            _ => self.wrong("a number"),
        })
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "beyond 63 bits only a float can hold it")]
        i64::try_from(value).map_or_else(|_| Ok(self.float(value as f64)), |value| self.visit_i64(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(self.float(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(match self.ty {
            FieldType::Text | FieldType::Json => self.checked(Value::text(text)),
            FieldType::Bytes => match decode_base64(text) {
                Some(bytes) => self.checked(Value::Bytes(bytes)),
                None => self.wrong("text that is not base64"),
            },
            _ => self.wrong("text"),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        match self.ty {
            FieldType::List(item) => self.items(item, seq),
            FieldType::Tensor(ty) => {
                let seed = TensorSeed::new(ty, self.depth, self.state);
                tensor::collect(seed, seq)
            }
            FieldType::Json => {
                let value = AnyJson { depth: self.depth, state: self.state }.visit_seq(seq)?;
                if has_too_many_items(&value) {
                    return Ok(self.fault(format!("a list or object in it has more than {MAX_ITEMS} items")));
                }
                Ok(Some(value))
            }
            _ => {
                check_depth(self.depth + 1)?;
                while seq.next_element_seed(AnyJson { depth: self.depth + 1, state: self.state })?.is_some() {
                }
                Ok(self.wrong("a list"))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        if let FieldType::Object(fields) = self.ty {
            return self.object(fields, map);
        }
        let value = AnyJson { depth: self.depth, state: self.state }.visit_map(map)?;
        Ok(match self.ty {
            FieldType::Json if has_too_many_items(&value) => {
                self.fault(format!("a list or object in it has more than {MAX_ITEMS} items"))
            }
            FieldType::Json => Some(value),
            _ => self.wrong("an object"),
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
