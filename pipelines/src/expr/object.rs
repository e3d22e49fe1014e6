//! Our values as minijinja sees them in filters and tests, and back. Nothing large is copied: lists and maps are
//! shared, a tensor's rows are views.

use std::sync::Arc;

use millstream_values::{Map, Tensor, Value};
use minijinja::Value as Jinja;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};

use super::EvalError;
use super::budget::Budget;
use super::slicing::index_tensor;

/// Our value as minijinja's.
pub(crate) fn to_jinja(value: &Value) -> Jinja {
    match value {
        Value::None => Jinja::from(()),
        Value::Bool(value) => Jinja::from(*value),
        Value::Int(value) => Jinja::from(*value),
        Value::Float(value) => Jinja::from(*value),
        Value::Text(text) => Jinja::from(Arc::clone(text)),
        Value::Bytes(bytes) => Jinja::from_bytes(bytes.to_vec()),
        Value::Tensor(tensor) => Jinja::from_object(TensorObject(tensor.clone())),
        Value::List(values) => Jinja::from_object(ListObject(Arc::clone(values))),
        Value::Map(map) => Jinja::from_object(MapObject(Arc::clone(map))),
    }
}

/// minijinja's value as ours; `depth` bounds nesting.
///
/// # Errors
/// For what has no counterpart (a whole number beyond 64 bits), or when the budget is used up.
pub(crate) fn from_jinja(value: &Jinja, budget: &mut Budget, depth: usize) -> Result<Value, EvalError> {
    if let Some(list) = value.downcast_object_ref::<ListObject>() {
        return Ok(Value::List(Arc::clone(&list.0)));
    }
    if let Some(map) = value.downcast_object_ref::<MapObject>() {
        return Ok(Value::Map(Arc::clone(&map.0)));
    }
    if let Some(tensor) = value.downcast_object_ref::<TensorObject>() {
        return Ok(Value::Tensor(tensor.0.clone()));
    }
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(EvalError::too_large("a value is nested too deep"));
    };
    budget.spend(1)?;
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok(Value::None),
        ValueKind::Bool => Ok(Value::Bool(value.is_true())),
        ValueKind::Number => number(value),
        ValueKind::String => {
            let text = value.to_str().unwrap_or_default();
            budget.spend_bytes(text.len())?;
            Ok(Value::Text(text))
        }
        ValueKind::Bytes => Ok(Value::Bytes(value.as_bytes().unwrap_or_default().to_vec().into())),
        ValueKind::Map => {
            let mut map = Map::new();
            for key in entries(value)? {
                let name = key.to_str().unwrap_or_else(|| key.to_string().into());
                let entry = value.get_item(&key).map_err(|_| unusable())?;
                map.insert(name, from_jinja(&entry, budget, deeper)?);
            }
            Ok(Value::Map(Arc::new(map)))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut list = Vec::new();
            for item in entries(value)? {
                list.push(from_jinja(&item, budget, deeper)?);
            }
            Ok(Value::List(list.into()))
        }
        _ => Err(unusable()),
    }
}

/// The elements of a list, the keys of a map.
fn entries(value: &Jinja) -> Result<impl Iterator<Item = Jinja>, EvalError> {
    value.try_iter().map_err(|_| unusable())
}

fn number(value: &Jinja) -> Result<Value, EvalError> {
    if value.is_integer() {
        return value
            .as_i64()
            .map(Value::Int)
            .ok_or_else(|| EvalError::invalid("a whole number does not fit 64 bits"));
    }
    f64::try_from(value.clone()).map(Value::Float).map_err(|_| unusable())
}

fn unusable() -> EvalError {
    EvalError::invalid("a filter gave what is not a value")
}

#[derive(Debug)]
struct ListObject(Arc<[Value]>);

impl Object for ListObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        self.0.get(key.as_usize()?).map(to_jinja)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

#[derive(Debug)]
struct MapObject(Arc<Map>);

impl Object for MapObject {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Jinja> {
        self.0.get(key).map(to_jinja)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(|key| Jinja::from(Arc::clone(key))).collect())
    }
}

#[derive(Debug)]
struct TensorObject(Tensor);

impl Object for TensorObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.0.shape().is_empty() { ObjectRepr::Plain } else { ObjectRepr::Seq }
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        index_tensor(&self.0, key.as_usize()?).as_ref().map(to_jinja)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.0.len().map_or(Enumerator::NonEnumerable, Enumerator::Seq)
    }
}
