//! Fields that were made from something other than a JSON body, against the schema: the rules are those for bodies.

use std::cell::RefCell;
use std::sync::Arc;

use millstream_values::{Map, Tensor, Value};

use super::body::{BodySeed, ValueSeed};
use super::bounds::UNBOUNDED;
use super::json::has_too_many_items;
use super::object;
use super::pass::{Shared, State, Step, enter_index, leave};
use super::{Bounds, Field, FieldType, MAX_ITEMS, MAX_VALUES, Schema};
use crate::{Request, RequestError, TensorType};

impl Schema {
    /// The value of a field that is given as JSON; `None` where it is not JSON, or not of the field's type.
    pub(crate) fn read_field(&self, name: &str, json: &[u8]) -> Option<Value> {
        let field = self.fields.iter().find(|field| *field.name == *name)?;
        let state = RefCell::new(State::default());
        ValueSeed::of(field, &state).read(json).filter(|_| state.borrow().faults.is_empty())
    }

    /// Checks fields and fills in defaults. Finds every fault.
    pub(crate) fn check(&self, given: Map) -> Result<Request, RequestError> {
        let state = RefCell::new(State::default());
        let seed = BodySeed { schema: self, state: &state };
        let mut values: Vec<Option<Value>> = vec![None; self.fields.len()];
        let mut seen = vec![false; self.fields.len()];
        let mut others = Map::new();
        for (name, value) in given {
            let index = self.fields.iter().position(|field| field.name == name);
            state.borrow_mut().path.push(Step::Key(Arc::clone(&name)));
            match index {
                Some(index) => {
                    seen[index] = true;
                    values[index] = Given::of(&self.fields[index], &state).check(value);
                }
                None if self.is_open => {
                    let any = Given { ty: &FieldType::Json, bounds: &UNBOUNDED, state: &state };
                    others.extend(any.check(value).map(|value| (name, value)));
                }
                None => {
                    leave(&state);
                    seed.unknown_field(&name);
                    continue;
                }
            }
            leave(&state);
        }
        let fields = seed.complete(values, others, |index| seen[index]);
        let mut state = state.into_inner();
        if state.num_values > MAX_VALUES {
            state.fault(format!("the request has more than {MAX_VALUES} values"));
        }
        if state.faults.is_empty() {
            Ok(Request { fields, stream: false, num_values: state.num_values })
        } else {
            Err(RequestError::Invalid(state.into_faults()))
        }
    }
}

/// A field that has a value, or an item of its list.
#[derive(Clone, Copy)]
struct Given<'s> {
    ty: &'s FieldType,
    /// The field's, which hold for items as well, but for lengths; an unnamed field has none.
    bounds: &'s Bounds,
    state: Shared<'s>,
}

impl<'s> Given<'s> {
    fn of(field: &'s Field, state: Shared<'s>) -> Self {
        Self { ty: &field.ty, bounds: &field.bounds, state }
    }

    /// The value, when it is one of the type and keeps the bounds.
    fn check(self, value: Value) -> Option<Value> {
        let value = self.typed(value)?;
        match self.bounds.check_length(&value) {
            Some(message) => self.fault(message),
            None => Some(value),
        }
    }

    fn typed(self, value: Value) -> Option<Value> {
        self.state.borrow_mut().num_values += 1;
        match (self.ty, value) {
            (_, Value::None) => self.fault("none is not a value; leave the field out"),
            (FieldType::List(item), Value::List(items)) => self.items(item, &items),
            (FieldType::Object(fields), Value::Map(given)) => self.object(fields, &given),
            (FieldType::Tensor(ty), Value::Tensor(tensor)) if fits(ty, &tensor) => {
                Some(Value::Tensor(tensor))
            }
            (FieldType::Tensor(ty), Value::Tensor(tensor)) => {
                let found = crate::types::Type::of(&Value::Tensor(tensor));
                self.fault(format!("expected `{ty}`, found `{found}`"))
            }
            #[expect(clippy::cast_precision_loss, reason = "a float was asked for")]
            (FieldType::Float, Value::Int(value)) => self.scalar(Value::Float(value as f64)),
            (FieldType::Float, Value::Float(value)) if !value.is_finite() => {
                self.fault("the number is out of range")
            }
            (FieldType::Json, value) if has_too_many_items(&value) => {
                self.fault(format!("a list or object in it has more than {MAX_ITEMS} items"))
            }
            (FieldType::Json, value) => {
                // What is in it counts as well.
                self.state.borrow_mut().num_values += num_values_in(&value);
                Some(value)
            }
            (FieldType::Text, value @ Value::Text(_))
            | (FieldType::Int, value @ Value::Int(_))
            | (FieldType::Float, value @ Value::Float(_))
            | (FieldType::Bool, value @ Value::Bool(_))
            | (FieldType::Bytes, value @ Value::Bytes(_)) => self.scalar(value),
            (ty, value) => self.fault(format!("expected {}, found {}", ty.wanted(), value.type_name())),
        }
    }

    fn items(self, item: &FieldType, items: &[Value]) -> Option<Value> {
        if items.len() > MAX_ITEMS {
            return self.fault(format!("{} items are more than {MAX_ITEMS}", items.len()));
        }
        let mut checked = Vec::with_capacity(items.len());
        for (index, value) in items.iter().enumerate() {
            enter_index(self.state, index);
            checked.extend(Given { ty: item, ..self }.typed(value.clone()));
            leave(self.state);
        }
        (checked.len() == items.len()).then(|| Value::list(checked))
    }

    fn object(self, fields: &[Field], given: &Map) -> Option<Value> {
        let num_faults = self.state.borrow().faults.len();
        let mut values: Vec<Option<Value>> = vec![None; fields.len()];
        let mut seen = vec![false; fields.len()];
        for (name, value) in given.iter() {
            let Some(index) = fields.iter().position(|field| field.name == *name) else {
                object::unknown_field(fields, name, self.state);
                continue;
            };
            seen[index] = true;
            self.state.borrow_mut().path.push(Step::Key(Arc::clone(name)));
            values[index] = Given::of(&fields[index], self.state).check(value.clone());
            leave(self.state);
        }
        let completed = object::complete(fields, values, |index| seen[index], self.state);
        (self.state.borrow().faults.len() == num_faults).then(|| Value::from(completed))
    }

    fn scalar(self, value: Value) -> Option<Value> {
        match self.bounds.check_scalar(&value) {
            Some(message) => self.fault(message),
            None => Some(value),
        }
    }

    fn fault(self, message: impl Into<String>) -> Option<Value> {
        self.state.borrow_mut().fault(message);
        None
    }
}

fn fits(ty: &TensorType, tensor: &Tensor) -> bool {
    let sizes = ty.shape.iter().zip(tensor.shape());
    ty.dtype == tensor.dtype()
        && ty.shape.len() == tensor.shape().len()
        && sizes.into_iter().all(|(wanted, size)| wanted.is_none_or(|wanted| wanted == *size))
}

fn num_values_in(value: &Value) -> usize {
    match value {
        Value::List(items) => items.iter().map(|item| 1 + num_values_in(item)).sum(),
        Value::Map(map) => map.values().map(|item| 1 + num_values_in(item)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::body::tests::schema;
    use super::*;

    const FIELDS: &str = r#"
t = "text"
n = { type = "int", default = 3, min = 1, max = 9 }
f = { type = "float", default = 0.5 }
l = { type = "text[]", default = [], max_length = 2 }
b = { type = "bool", default = false }
x = { type = "f32[2]", default = [1, 2] }
j = { type = "json", default = {} }
"#;

    fn faults(given: Map) -> Vec<String> {
        match schema(FIELDS).check(given) {
            Ok(_) => Vec::new(),
            Err(RequestError::Invalid(faults)) => {
                faults.into_iter().map(|fault| format!("{} {}", fault.path, fault.message)).collect()
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn with(name: &str, value: Value) -> Map {
        Map::from_iter([("t".into(), Value::from("a")), (Arc::from(name), value)])
    }

    #[test]
    fn all_faults_are_found_at_their_place() {
        let tensor = |values: &[f32]| Value::Tensor(Tensor::from_f32([values.len()], values).unwrap());
        let table = [
            (with("t", Value::from("b")), ""),
            (Map::new(), "/t the field is missing"),
            (with("t", Value::Int(1)), "/t expected text, found int"),
            (with("n", Value::Int(10)), "/n `10` is more than `9`"),
            (with("n", Value::Float(2.0)), "/n expected a whole number, found float"),
            (with("f", Value::Int(2)), ""),
            (with("f", Value::Float(f64::NAN)), "/f the number is out of range"),
            (with("l", Value::list(["a", "b", "c"].map(Value::from))), "/l 3 items are more than 2"),
            (with("l", Value::list([Value::from("a"), Value::Int(1)])), "/l/1 expected text, found int"),
            (with("x", tensor(&[1.0, 2.0])), ""),
            (with("x", tensor(&[1.0])), "/x expected `f32[2]`, found `f32[1]`"),
            (with("b", Value::None), "/b none is not a value"),
            (with("nn", Value::Int(1)), "/nn the field is unknown; did you mean `n`?"),
        ];
        for (given, expected) in table {
            let found = faults(given.clone());
            let is_expected = match expected {
                "" => found.is_empty(),
                start => found.len() == 1 && found[0].starts_with(start),
            };
            assert!(is_expected, "{given:?}: {found:?}");
        }
        assert_eq!(
            faults(Map::from_iter([("n".into(), Value::Int(0)), ("l".into(), Value::Int(1))])).len(),
            3
        );
    }

    proptest! {
        /// What a body gives passes as it is.
        #[test]
        fn what_a_body_gives_is_good(
            text in "[a-z]{0,5}", number in 1_i64..10, items in prop::collection::vec("[a-z]", 0..3), nested in 0..5_i64,
        ) {
            let body = serde_json::json!({"t": text, "n": number, "l": items, "x": [0.5, number], "j": {"a": [nested, {"b": 1}]}});
            let schema = schema(FIELDS);
            let parsed = schema.parse(body.to_string().as_bytes()).unwrap();
            let given = parsed.fields.as_map().unwrap().clone();
            let checked = schema.check(given).unwrap();
            prop_assert_eq!(&checked.fields, &parsed.fields);
        }
    }
}
