//! Nested lists of numbers to a tensor, element by element into its bytes; no list is built.

use std::fmt;

use half::{bf16, f16};
use millstream_values::{DType, Tensor, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::MAX_ITEMS;
use super::json::{AnyJson, check_depth};
use super::pass::{Shared, enter_index, leave};
use crate::TensorType;

/// Memory that is set aside for a tensor before any of it came.
pub(super) const MAX_RESERVED_BYTES: usize = 64 << 10;

/// A tensor to be read.
#[derive(Clone, Copy)]
pub(super) struct TensorSeed<'s> {
    ty: &'s TensorType,
    /// Arrays and objects around it.
    depth: usize,
    state: Shared<'s>,
}

impl<'s> TensorSeed<'s> {
    /// A seed for a tensor of type `ty`, `depth` arrays and objects down.
    pub(super) fn new(ty: &'s TensorType, depth: usize, state: Shared<'s>) -> Self {
        Self { ty, depth, state }
    }
}

/// What has been read.
struct Elements {
    bytes: Vec<u8>,
    /// Sizes as declared, `?` fixed by the first list of that axis.
    shape: Vec<Option<usize>>,
    sound: bool,
    /// Whether it was said that lists are missing.
    is_flat: bool,
}

/// Reads the outermost list. Returns `None` when there was a fault.
pub(super) fn collect<'de, A: SeqAccess<'de>>(
    seed: TensorSeed<'_>,
    seq: A,
) -> Result<Option<Value>, A::Error> {
    let bytes = Vec::with_capacity(declared_bytes(seed.ty).min(MAX_RESERVED_BYTES));
    let mut elements = Elements { bytes, shape: seed.ty.shape.clone(), sound: true, is_flat: false };
    AxisSeed { seed: &seed, elements: &mut elements, axis: 0, index: 0 }.visit_seq(seq)?;
    if !elements.sound {
        return Ok(None);
    }
    // An axis inside an empty one was never seen: its size is 0.
    let shape: Vec<usize> = elements.shape.iter().map(|size| size.unwrap_or(0)).collect();
    match Tensor::new(seed.ty.dtype, shape, elements.bytes.into()) {
        Ok(tensor) => Ok(Some(Value::Tensor(tensor))),
        Err(error) => {
            seed.state.borrow_mut().fault(error.to_string());
            Ok(None)
        }
    }
}

/// What a tensor of that type takes, as far as the type says it.
fn declared_bytes(ty: &TensorType) -> usize {
    ty.shape.iter().fold(ty.dtype.size_bytes(), |product, size| product.saturating_mul(size.unwrap_or(1)))
}

/// A list at `axis`, or an element when `axis` is the rank.
struct AxisSeed<'a, 's> {
    seed: &'a TensorSeed<'s>,
    elements: &'a mut Elements,
    axis: usize,
    /// Where it stands in the list around it. The pass's path leads to that list when this is an element, which are
    /// many, and to this itself when it is a list.
    index: usize,
}

impl AxisSeed<'_, '_> {
    fn fault(&mut self, message: impl Into<String>) {
        self.elements.sound = false;
        if self.is_element() {
            enter_index(self.seed.state, self.index);
        }
        self.seed.state.borrow_mut().fault(message);
        if self.is_element() {
            leave(self.seed.state);
        }
    }

    fn is_element(&self) -> bool {
        self.axis == self.elements.shape.len()
    }

    /// A number where a list of them is to be: said once, as all its neighbours are the same.
    fn flat(&mut self, found: &str) {
        if std::mem::replace(&mut self.elements.is_flat, true) {
            return;
        }
        let shape = &self.seed.ty.shape;
        let wanted = match shape.get(self.axis..) {
            Some([Some(1)]) => "a list of 1 number".to_owned(),
            Some([Some(size)]) => format!("a list of {size} numbers"),
            Some([None]) => "a list of numbers".to_owned(),
            _ => "a list of lists".to_owned(),
        };
        let cure = if self.axis > 0 { "; write one more pair of brackets, as in `[[1, 2]]`" } else { "" };
        self.fault(format!("expected {wanted} for `{}`, found {found}{cure}", self.seed.ty));
    }

    fn wrong(&mut self, found: &str) {
        if !self.is_element() && found.starts_with("a number") {
            return self.flat("a number");
        }
        let wanted = match (self.is_element(), self.seed.ty.dtype) {
            (false, _) => "a list".to_owned(),
            (true, DType::Bool) => "`true` or `false`".to_owned(),
            (true, dtype) if dtype.is_float() => format!("a number of type `{dtype}`"),
            (true, dtype) => format!("a whole number of type `{dtype}`"),
        };
        self.fault(format!("expected {wanted}, found {found}"));
    }

    fn whole(&mut self, value: i128) {
        let dtype = self.seed.ty.dtype;
        if !self.is_element() || dtype == DType::Bool {
            return self.wrong("a number");
        }
        if !push_whole(dtype, value, &mut self.elements.bytes) {
            self.fault(format!("`{value}` is out of the range of `{dtype}`"));
        }
    }

    fn fractional(&mut self, value: f64) {
        let dtype = self.seed.ty.dtype;
        if !self.is_element() || !dtype.is_float() {
            return self.wrong("a number with a fraction, an exponent, or more digits than fit 64 bits");
        }
        if !push_float(dtype, value, &mut self.elements.bytes) {
            self.fault(format!("`{value}` is out of the range of `{dtype}`"));
        }
    }

    /// Compares a list's length with the axis, or fixes the axis by it.
    fn close_axis(&mut self, length: usize) {
        if length > MAX_ITEMS {
            return self.fault(format!("{length} items are more than {MAX_ITEMS}"));
        }
        match self.elements.shape[self.axis] {
            None => self.elements.shape[self.axis] = Some(length),
            Some(size) if size != length => {
                let why = match self.seed.ty.shape[self.axis] {
                    Some(_) => format!("`{}`", self.seed.ty),
                    None => "the first list of this axis".to_owned(),
                };
                self.fault(format!("the list has {length} items, but {why} has {size}"));
            }
            Some(_) => {}
        }
    }
}

impl<'de> DeserializeSeed<'de> for AxisSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AxisSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nested lists of type `{}`", self.seed.ty)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let depth = self.seed.depth + self.axis + 1;
        check_depth(depth)?;
        if self.is_element() {
            while seq.next_element_seed(AnyJson { depth, state: self.seed.state })?.is_some() {}
            self.wrong("a list");
            return Ok(());
        }
        let axis = self.axis + 1;
        let are_elements = axis == self.elements.shape.len();
        let mut index = 0;
        loop {
            if !are_elements {
                enter_index(self.seed.state, index);
            }
            let next = if index < MAX_ITEMS {
                let item = AxisSeed { seed: self.seed, elements: self.elements, axis, index };
                seq.next_element_seed(item)
            } else {
                seq.next_element_seed(AnyJson { depth, state: self.seed.state }).map(|item| item.map(drop))
            };
            if are_elements && next.is_err() {
                // What cannot be read at all is told with the path as it is then.
                enter_index(self.seed.state, index);
            }
            let next = next?;
            if !are_elements {
                leave(self.seed.state);
            }
            if next.is_none() {
                break;
            }
            index += 1;
        }
        self.close_axis(index);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        AnyJson { depth: self.seed.depth + self.axis, state: self.seed.state }.visit_map(map)?;
        self.wrong("an object");
        Ok(())
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.wrong("null");
        Ok(())
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        if self.is_element() && self.seed.ty.dtype == DType::Bool {
            self.elements.bytes.push(u8::from(value));
        } else {
            self.wrong("a boolean");
        }
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        self.whole(value.into());
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
        self.whole(value.into());
        Ok(())
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        self.fractional(value);
        Ok(())
    }

    fn visit_str<E: Error>(mut self, _: &str) -> Result<(), E> {
        self.wrong("text");
        Ok(())
    }
}

/// Appends a whole number as an element of that type; `false` when it is out of range, or the type is `bool`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a float was asked for")]
pub fn push_whole(dtype: DType, value: i128, bytes: &mut Vec<u8>) -> bool {
    macro_rules! push {
        ($int:ty) => {
            match <$int>::try_from(value) {
                Ok(value) => bytes.extend_from_slice(&value.to_le_bytes()),
                Err(_) => return false,
            }
        };
    }
    match dtype {
        DType::U8 => push!(u8),
        DType::U16 => push!(u16),
        DType::U32 => push!(u32),
        DType::U64 => push!(u64),
        DType::I8 => push!(i8),
        DType::I16 => push!(i16),
        DType::I32 => push!(i32),
        DType::I64 => push!(i64),
        DType::Bool => return false,
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => return push_float(dtype, value as f64, bytes),
    }
    true
}

/// Appends a 32-bit float; `false` when it is out of range.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "rounding to the tensor's type is what is asked for")]
pub(super) fn push_f32(value: f64, bytes: &mut Vec<u8>) -> bool {
    let value = value as f32;
    bytes.extend_from_slice(&value.to_le_bytes());
    value.is_finite()
}

/// Appends a number as an element of that floating-point type; `false` when it is out of range.
#[must_use]
pub fn push_float(dtype: DType, value: f64, bytes: &mut Vec<u8>) -> bool {
    macro_rules! push {
        ($float:expr) => {{
            let value = $float;
            bytes.extend_from_slice(&value.to_le_bytes());
            value.is_finite()
        }};
    }
    match dtype {
        DType::F16 => push!(f16::from_f64(value)),
        DType::BF16 => push!(bf16::from_f64(value)),
        DType::F32 => push_f32(value, bytes),
        _ => push!(value),
    }
}
