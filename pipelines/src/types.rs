//! The types of the pipeline language: what a request field, a stage's input and a stage's value may be. The checker
//! asks [`assignable`] whether one fits another; expressions infer theirs.
//!
//! Checking is gradual: what cannot be known at deploy time is [`Type::Any`] and is checked by the run.

mod json_schema;
mod model_signature;
mod port;
mod signature;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use millstream_values::{DType, Value};

use crate::TensorType;

pub(crate) use model_signature::fits_model;
pub use model_signature::{ModelSignature, Signatures};
pub(crate) use signature::ranked;
pub use signature::{InputField, Inputs, task_inputs, task_output};

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Type {
    /// Anything: a `json` field, or what cannot be inferred.
    #[default]
    Any,
    /// No value: what a skipped stage gives.
    None,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number; a whole one will do.
    Float,
    /// UTF-8 text.
    Text,
    /// Raw bytes.
    Bytes,
    /// A tensor, as far as element type and shape are known.
    Tensor(TensorShape),
    /// A list of values of one type.
    List(Box<Type>),
    /// Values by name.
    Map(MapType),
    /// A value or none.
    Optional(Box<Type>),
    /// One of these types; never empty.
    OneOf(Vec<Type>),
}

/// What is known of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TensorShape {
    /// Element type; `None` is any.
    pub dtype: Option<DType>,
    /// Sizes of the axes, `None` for any size (`?`); `None` for any number of axes.
    pub shape: Option<Vec<Option<usize>>>,
}

/// What is known of a map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapType {
    /// The entries that are always there.
    pub fields: BTreeMap<Arc<str>, Type>,
    /// The type of further entries; `None` when there are none.
    pub rest: Option<Box<Type>>,
}

impl Type {
    /// A list of values of type `item`.
    #[must_use]
    pub fn list(item: Self) -> Self {
        Self::List(Box::new(item))
    }

    /// A tensor of that element type and shape; `None` in a shape is any size.
    #[must_use]
    pub fn tensor(dtype: DType, shape: impl Into<Vec<Option<usize>>>) -> Self {
        Self::Tensor(TensorShape { dtype: Some(dtype), shape: Some(shape.into()) })
    }

    /// A map with exactly these entries.
    #[must_use]
    pub fn map<K: Into<Arc<str>>>(fields: impl IntoIterator<Item = (K, Self)>) -> Self {
        let fields = fields.into_iter().map(|(name, ty)| (name.into(), ty)).collect();
        Self::Map(MapType { fields, rest: None })
    }

    /// A map of any entries of type `rest`.
    #[must_use]
    pub fn open_map(rest: Self) -> Self {
        Self::Map(MapType { fields: BTreeMap::new(), rest: Some(Box::new(rest)) })
    }

    /// This type or none; anything and none already include it.
    #[must_use]
    pub fn optional(self) -> Self {
        match self {
            Self::Any | Self::None | Self::Optional(_) => self,
            other => Self::Optional(Box::new(other)),
        }
    }

    /// The type without the possibility of none.
    #[must_use]
    pub fn required(&self) -> &Self {
        match self {
            Self::Optional(inner) => inner,
            other => other,
        }
    }

    /// Whether that is a text, or a list of texts.
    fn is_texts(&self) -> bool {
        match self {
            Self::List(item) => item.is_texts(),
            ty => *ty == Self::Text,
        }
    }

    /// The type of a value that may be of either: the same, the wider number, else one of both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Any, _) | (_, Self::Any) => Self::Any,
            (Self::None, other) | (other, Self::None) => other.optional(),
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            (Self::Optional(a), b) => a.join(b.required().clone()).optional(),
            (a, Self::Optional(b)) => a.join(*b).optional(),
            (Self::List(a), Self::List(b)) => Self::list(a.join(*b)),
            (Self::Tensor(a), Self::Tensor(b)) => Self::Tensor(a.join(&b)),
            (Self::OneOf(mut all), Self::OneOf(more)) => {
                all.extend(more);
                Self::one_of(all)
            }
            (Self::OneOf(mut all), other) | (other, Self::OneOf(mut all)) => {
                all.push(other);
                Self::one_of(all)
            }
            (a, b) => Self::one_of(vec![a, b]),
        }
    }

    /// One of these types, each once; anything when there are none.
    #[must_use]
    pub fn one_of(types: Vec<Self>) -> Self {
        let mut all: Vec<Self> = Vec::with_capacity(types.len());
        for ty in types {
            if !all.contains(&ty) {
                all.push(ty);
            }
        }
        match all.len() {
            0 => Self::Any,
            1 => all.remove(0),
            _ => Self::OneOf(all),
        }
    }

    /// The type of that value, as narrow as it can be told.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        match value {
            Value::None => Self::None,
            Value::Bool(_) => Self::Bool,
            Value::Int(_) => Self::Int,
            Value::Float(_) => Self::Float,
            Value::Text(_) => Self::Text,
            Value::Bytes(_) => Self::Bytes,
            Value::Tensor(tensor) => {
                Self::tensor(tensor.dtype(), tensor.shape().iter().copied().map(Some).collect::<Vec<_>>())
            }
            Value::List(values) => {
                Self::list(values.iter().map(Self::of).reduce(Self::join).unwrap_or_default())
            }
            Value::Map(map) => Self::map(map.iter().map(|(name, value)| (Arc::clone(name), Self::of(value)))),
        }
    }
}

impl From<&TensorType> for Type {
    fn from(tensor: &TensorType) -> Self {
        Self::tensor(tensor.dtype, tensor.shape.clone())
    }
}

impl TensorShape {
    /// What holds for both.
    fn join(&self, other: &Self) -> Self {
        let dtype = self.dtype.filter(|_| self.dtype == other.dtype);
        let shape = match (&self.shape, &other.shape) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                Some(a.iter().zip(b).map(|(a, b)| a.filter(|_| a == b)).collect())
            }
            _ => None,
        };
        Self { dtype, shape }
    }

    /// Whether a tensor may be of both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let dtype = self.dtype.is_none() || other.dtype.is_none() || self.dtype == other.dtype;
        let shape = match (&self.shape, &other.shape) {
            (Some(a), Some(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_none() || b.is_none() || a == b)
            }
            _ => true,
        };
        dtype && shape
    }
}

/// Whether a value of type `from` may stand where `to` is asked for. What can only be known by running is allowed.
///
/// # Errors
/// What is asked for and what was given, such as `` expected `text`, found `f32[?,?]` ``.
pub fn assignable(from: &Type, to: &Type) -> Result<(), String> {
    if fits(from, to) {
        return Ok(());
    }
    if let (Type::Map(from_map), Type::Map(to_map)) = (from, to) {
        for (name, wanted) in &to_map.fields {
            match from_map.get(name) {
                None => return Err(format!("expected `{to}`, but `{from}` has no `{name}`")),
                Some(given) => {
                    assignable(given, wanted).map_err(|reason| format!("in `{name}`: {reason}"))?
                }
            }
        }
    }
    Err(format!("expected `{to}`, found `{from}`"))
}

fn fits(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (Type::Any, _) | (_, Type::Any) | (Type::None, Type::Optional(_)) | (Type::Int, Type::Float) => true,
        (Type::OneOf(all), to) => all.iter().any(|from| fits(from, to)),
        (Type::Optional(from), to) => fits(from, to.required()),
        (from, Type::Optional(to)) => fits(from, to),
        (from, Type::OneOf(all)) => all.iter().any(|to| fits(from, to)),
        (Type::List(from), Type::List(to)) => fits(from, to),
        (Type::Tensor(from), Type::Tensor(to)) => from.overlaps(to),
        // What a model gives may be texts, as long as nobody knows the model.
        (Type::Tensor(from), to) if *from == TensorShape::default() => to.is_texts(),
        (Type::Map(from), Type::Map(to)) => from.fits(to),
        (from, to) => from == to,
    }
}

impl MapType {
    /// The type of the entry of that name, if there may be one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Type> {
        self.fields.get(name).or(self.rest.as_deref())
    }

    fn fits(&self, to: &Self) -> bool {
        let asked_for =
            to.fields.iter().all(|(name, wanted)| self.get(name).is_some_and(|given| fits(given, wanted)));
        let others =
            self.fields.iter().all(|(name, given)| to.get(name).is_some_and(|wanted| fits(given, wanted)));
        asked_for && others
    }
}

/// As users write it: `text[]`, `f32[?,384]`, `{items, scores}`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("json"),
            Self::None => f.write_str("none"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Float => f.write_str("float"),
            Self::Text => f.write_str("text"),
            Self::Bytes => f.write_str("bytes"),
            Self::Tensor(tensor) => tensor.fmt(f),
            Self::List(item) if matches!(**item, Self::OneOf(_) | Self::Optional(_)) => {
                write!(f, "({item})[]")
            }
            Self::List(item) => write!(f, "{item}[]"),
            Self::Map(map) => map.fmt(f),
            Self::Optional(inner) => write!(f, "{inner} or none"),
            Self::OneOf(all) => {
                for (index, ty) in all.iter().enumerate() {
                    write!(f, "{}{ty}", if index > 0 { " or " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for TensorShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            Some(dtype) => dtype.fmt(f)?,
            None if self.shape.is_none() => return f.write_str("tensor"),
            None => f.write_str("tensor")?,
        }
        let Some(shape) = &self.shape else { return f.write_str("[…]") };
        f.write_str("[")?;
        for (index, size) in shape.iter().enumerate() {
            f.write_str(if index > 0 { "," } else { "" })?;
            match size {
                Some(size) => write!(f, "{size}")?,
                None => f.write_str("?")?,
            }
        }
        f.write_str("]")
    }
}

impl fmt::Display for MapType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fields.is_empty() {
            return f.write_str("map");
        }
        f.write_str("{")?;
        for (index, name) in self.fields.keys().enumerate() {
            write!(f, "{}{name}", if index > 0 { ", " } else { "" })?;
        }
        f.write_str(if self.rest.is_some() { ", …}" } else { "}" })
    }
}

#[cfg(test)]
mod tests;
