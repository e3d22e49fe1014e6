//! The request of a pipeline: the schema that `[request]` declares, and the validation of bodies against it, straight
//! from JSON to values without a JSON tree in between.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use millstream_values::{DType, Value};

use crate::TensorType;
use crate::types::Type;

mod base64;
mod body;
mod bounds;
mod example;
mod json;
mod json_schema;
mod object;
mod parse;
mod pass;
mod quick;
mod tensor;
mod values;

pub(crate) use base64::decode as decode_base64;
pub(crate) use bounds::Bounds;
pub(crate) use millstream_values::MAX_DEPTH;
pub use tensor::{push_float, push_whole};

/// Most items of one array, and entries of one object.
pub const MAX_ITEMS: usize = 65_536;
/// Most values of one body; the numbers of a tensor are one.
pub const MAX_VALUES: usize = 262_144;
/// Most faults of a body that are told.
pub(crate) const MAX_FIELD_FAULTS: usize = 256;
/// The one field that bodies may have without declaring it.
pub(crate) const STREAM_FIELD: &str = "stream";

/// What `[request]` declares.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Schema {
    /// The fields in the order of the file.
    pub(crate) fields: Vec<Field>,
    /// Whether fields that it does not name are taken too, as any JSON.
    pub(crate) is_open: bool,
}

/// A field of the body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// Its key.
    pub(crate) name: Arc<str>,
    /// Its type.
    pub(crate) ty: FieldType,
    /// What it is when it is left out; `None` makes it required, unless it is optional.
    pub(crate) default: Option<Value>,
    /// Whether it may be left out without a default; it is not among the fields then.
    pub(crate) is_optional: bool,
    /// A value to show in examples.
    pub(crate) example: Option<Value>,
    /// What its values must keep.
    pub(crate) bounds: Bounds,
    /// For people who read the API's description.
    pub(crate) description: Option<Arc<str>>,
}

/// A field's type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FieldType {
    /// UTF-8 text.
    Text,
    /// A whole number of 64 bits.
    Int,
    /// A number.
    Float,
    /// A truth value.
    Bool,
    /// Any JSON but null.
    Json,
    /// Bytes, in base64.
    Bytes,
    /// A list.
    List(Box<Self>),
    /// An object with these fields and no others.
    Object(Arc<[Field]>),
    /// A tensor, as nested lists.
    Tensor(TensorType),
}

impl Field {
    /// A field of that name and type, which every request has.
    pub(crate) fn required(name: Arc<str>, ty: FieldType) -> Self {
        let bounds = Bounds::default();
        Self { name, ty, default: None, is_optional: false, example: None, bounds, description: None }
    }
}

impl Schema {
    /// The type of `request` in expressions.
    pub(crate) fn ty(&self) -> Type {
        Type::map(self.fields.iter().map(|field| (Arc::clone(&field.name), field.ty.ty())))
    }
}

impl FieldType {
    /// The type of the field's values.
    pub(crate) fn ty(&self) -> Type {
        match self {
            Self::Text => Type::Text,
            Self::Int => Type::Int,
            Self::Float => Type::Float,
            Self::Bool => Type::Bool,
            Self::Json => Type::Any,
            Self::Bytes => Type::Bytes,
            Self::List(item) => Type::list(item.ty()),
            Self::Object(fields) => {
                Type::map(fields.iter().map(|field| (Arc::clone(&field.name), field.ty.ty())))
            }
            Self::Tensor(tensor) => tensor.into(),
        }
    }

    /// What it wants, in JSON's words.
    pub(crate) fn wanted(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Int => "a whole number".to_owned(),
            Self::Float => "a number".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Json => "JSON".to_owned(),
            Self::Bytes => "base64 text".to_owned(),
            Self::List(_) => format!("a list of type `{self}`"),
            Self::Object(_) => format!("an object of type `{self}`"),
            Self::Tensor(_) => format!("nested lists of numbers of type `{self}`"),
        }
    }

    /// What a list is made of; any other type is what it is.
    pub(crate) fn innermost(&self) -> &Self {
        match self {
            Self::List(item) => item.innermost(),
            other => other,
        }
    }
}

/// The ways to write a type, for help texts.
pub(crate) const TYPE_HELP: &str = "use `text`, `int`, `float`, `bool`, `json`, `bytes`, a list such as `text[]`, a tensor such as `f32[?,384]`, or a list of objects such as `[{ role = \"text\" }]`";

/// Deepest list of lists.
const MAX_LIST_DEPTH: usize = 4;

impl FromStr for FieldType {
    type Err = String;

    /// `text`, `int[]`, `f32[?,384]`. The error says what to write.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut depth = 0;
        let mut inner = text;
        while let Some(item) = inner.strip_suffix("[]") {
            inner = item;
            depth += 1;
        }
        if depth > MAX_LIST_DEPTH {
            return Err(format!("nest lists at most {MAX_LIST_DEPTH} deep, or use `json`"));
        }
        let innermost = match inner {
            "text" => Self::Text,
            "int" => Self::Int,
            "float" => Self::Float,
            "bool" => Self::Bool,
            "json" => Self::Json,
            "bytes" => Self::Bytes,
            other if DType::parse(other).is_some() => {
                return Err(format!("a tensor needs its shape: `{other}[?]` for any length"));
            }
            other if other.contains('[') => Self::Tensor(other.parse()?),
            _ => return Err(TYPE_HELP.to_owned()),
        };
        Ok((0..depth).fold(innermost, |item, _| Self::List(Box::new(item))))
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ty().fmt(f)
    }
}

/// Most axes of a tensor.
const MAX_RANK: usize = 8;

impl FromStr for TensorType {
    type Err = String;

    /// `f32[42]`, `i64[?]`, `f32[?,384]`. The error says what to write.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.strip_suffix(']').and_then(|text| text.split_once('['));
        let Some((dtype, shape)) = parts else {
            return Err("write a tensor as `f32[42]`, `i64[?]` or `f32[?,384]`".to_owned());
        };
        let Some(dtype) = DType::parse(dtype) else {
            let names: Vec<&str> = DType::ALL.into_iter().map(DType::as_str).collect();
            return Err(crate::raw::did_you_mean(dtype, names.iter().copied()));
        };
        let shape: Option<Vec<Option<usize>>> = shape.split(',').map(|axis| axis_size(axis.trim())).collect();
        let shape = shape.ok_or("write each axis as a size of at least 1, or `?` for any: `f32[?,384]`")?;
        if shape.len() > MAX_RANK {
            return Err(format!("use at most {MAX_RANK} axes"));
        }
        let elements = shape.iter().flatten().try_fold(1_usize, |all, &size| all.checked_mul(size));
        if elements.is_none_or(|elements| elements > 1 << 32) {
            return Err("make the tensor smaller: it has more than 2^32 elements".to_owned());
        }
        Ok(Self { dtype, shape })
    }
}

/// One axis: a size of at least 1, or `?`.
fn axis_size(text: &str) -> Option<Option<usize>> {
    match text {
        "?" => Some(None),
        size if size.bytes().all(|b| b.is_ascii_digit()) => {
            size.parse().ok().filter(|&size: &usize| size > 0).map(Some)
        }
        _ => None,
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Type::from(self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_and_shown_alike() {
        for text in [
            "text",
            "int",
            "float",
            "bool",
            "bytes",
            "text[]",
            "int[][]",
            "f32[42]",
            "i64[?]",
            "f32[?,384]",
            "bool[3]",
            "bool[]",
            "bf16[1,2,3]",
        ] {
            assert_eq!(text.parse::<FieldType>().unwrap().to_string(), text);
        }
        assert_eq!("f32[?, 384]".parse::<TensorType>().unwrap().shape, [None, Some(384)]);
    }

    #[test]
    fn other_types_are_refused_with_help() {
        let cases = [
            ("string", "use `text`"),
            ("f32", "`f32[?]`"),
            ("f32[]", "`f32[?]`"),
            ("f32[0]", "at least 1"),
            ("f32[-1]", "at least 1"),
            ("f32[+1]", "at least 1"),
            ("f32[?", "write a tensor"),
            ("f33[?]", "did you mean `f32`?"),
            ("f32[,]", "at least 1"),
            ("text[3]", "use one of"),
            ("int[][][][][]", "at most 4"),
            ("f32[99999999999999999999]", "at least 1"),
            ("f32[4294967296,4294967296]", "smaller"),
            ("u8[1,1,1,1,1,1,1,1,1]", "8 axes"),
            ("", "use `text`"),
            ("é[", "write a tensor"),
        ];
        for (text, help) in cases {
            let found = text.parse::<FieldType>().unwrap_err();
            assert!(found.contains(help), "{text}: {found}");
        }
    }
}
