//! The `data` of a tensor in JSON: a flat list of elements, row by row, or lists in lists as the shape says. Read straight into the
//! tensor's bytes, and no further than the shape allows.

use std::fmt;

use bytes::Bytes;
use millstream_pipelines::{push_float, push_whole};
use millstream_values::DType;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::datatype::Datatype;

/// Memory that is set aside before any element came.
const MAX_RESERVED_BYTES: usize = 64 << 10;

/// Elements that were read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Elements {
    /// The bytes of numbers and booleans.
    pub(super) bytes: Vec<u8>,
    /// Texts.
    pub(super) texts: Vec<Bytes>,
}

/// Reads elements of that type, as many as the shape has.
///
/// # Errors
/// What is wrong, without the tensor's name.
pub(super) fn read(data: &RawValue, datatype: Datatype, shape: &[usize]) -> Result<Elements, String> {
    let num_elements = num_elements(shape).ok_or("the shape has too many elements")?;
    let mut reader = Reader { datatype, shape, num_elements, num_read: 0, elements: Elements::default() };
    if let Datatype::Of(dtype) = datatype {
        let bytes = num_elements.saturating_mul(dtype.size_bytes());
        reader.elements.bytes.reserve(bytes.min(MAX_RESERVED_BYTES));
    }
    let mut json = serde_json::Deserializer::from_str(data.get());
    ListSeed { reader: &mut reader, axis: 0 }.deserialize(&mut json).map_err(|error| {
        let text = error.to_string();
        text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
    })?;
    if reader.num_read != num_elements {
        return Err(format!("`data` has {} elements, the shape {num_elements}", reader.num_read));
    }
    Ok(reader.elements)
}

/// The elements of a tensor of that shape; `None` for more than can be counted.
pub(super) fn num_elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1, |product: usize, &size| product.checked_mul(size))
}

struct Reader<'a> {
    datatype: Datatype,
    shape: &'a [usize],
    num_elements: usize,
    num_read: usize,
    elements: Elements,
}

impl Reader<'_> {
    fn push<E: Error>(&mut self, element: Element<'_>) -> Result<(), E> {
        if self.num_read == self.num_elements {
            let max = self.num_elements;
            return Err(E::custom(format_args!("`data` has more elements than the shape, which has {max}")));
        }
        self.num_read += 1;
        let bytes = &mut self.elements.bytes;
        let fits = match (self.datatype, element) {
            (Datatype::Bytes, Element::Text(text)) => {
                self.elements.texts.push(Bytes::copy_from_slice(text.as_bytes()));
                true
            }
            (Datatype::Of(DType::Bool), Element::Bool(flag)) => {
                bytes.push(u8::from(flag));
                true
            }
            (Datatype::Of(dtype), Element::Whole(number)) => push_whole(dtype, number, bytes),
            (Datatype::Of(dtype), Element::Fraction(number)) => {
                dtype.is_float() && push_float(dtype, number, bytes)
            }
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(E::custom(format_args!("{element} is not a value of type {}", self.datatype)))
    }
}

#[derive(Clone, Copy)]
enum Element<'a> {
    Whole(i128),
    Fraction(f64),
    Bool(bool),
    Text(&'a str),
}

impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "`{number}`"),
            Self::Fraction(number) => write!(f, "`{number}`"),
            Self::Bool(flag) => write!(f, "`{flag}`"),
            // What a client sends is not repeated.
            Self::Text(_) => f.write_str("a text"),
        }
    }
}

/// A list, or an element where an element may stand: in the outermost list, or in an innermost one.
struct ListSeed<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// How many lists are around it.
    axis: usize,
}

impl ListSeed<'_, '_> {
    fn element<E: Error>(self, element: Element<'_>) -> Result<Nesting, E> {
        // In one list, or in as many as there are axes.
        if self.axis != 1 && (self.axis == 0 || self.axis != self.reader.shape.len()) {
            return Err(E::custom("`data` is not a flat list, and not nested as the shape says"));
        }
        self.reader.push(element)?;
        Ok(Nesting::Element)
    }
}

/// What stood in a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Element,
    List,
}

impl<'de> DeserializeSeed<'de> for ListSeed<'_, '_> {
    type Value = Nesting;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Nesting, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_, '_> {
    type Value = Nesting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lists with elements of type {}", self.reader.datatype)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Nesting, A::Error> {
        let Self { reader, axis } = self;
        if axis > 0 && axis >= reader.shape.len() {
            return Err(A::Error::custom("`data` is nested deeper than the shape"));
        }
        let mut kind = None;
        let mut length = 0;
        while let Some(found) = seq.next_element_seed(ListSeed { reader: &mut *reader, axis: axis + 1 })? {
            if *kind.get_or_insert(found) != found {
                return Err(A::Error::custom("`data` has elements beside lists"));
            }
            length += 1;
        }
        // The elements of a flat list are counted at the end.
        let is_flat = axis == 0 && kind != Some(Nesting::List);
        if !is_flat && length != reader.shape[axis] {
            let size = reader.shape[axis];
            return Err(A::Error::custom(format_args!(
                "a list at axis {axis} of `data` has {length} items, the shape {size}"
            )));
        }
        Ok(Nesting::List)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Nesting, E> {
        self.element(Element::Whole(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Nesting, E> {
        self.element(Element::Whole(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Nesting, E> {
        self.element(Element::Fraction(number))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Nesting, E> {
        self.element(Element::Bool(flag))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Nesting, E> {
        self.element(Element::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(json: &str, datatype: &str, shape: &[usize]) -> Result<Elements, String> {
        let data = RawValue::from_string(json.to_owned()).unwrap();
        read(&data, Datatype::parse(datatype).unwrap(), shape)
    }

    #[test]
    fn flat_and_nested_data_are_the_same() {
        for (json, shape) in [
            ("[1, 2, 3, 4]", &[2, 2][..]),
            ("[[1, 2], [3, 4]]", &[2, 2]),
            ("[[[1], [2]], [[3], [4]]]", &[2, 2, 1]),
            ("[1, 2, 3, 4]", &[4]),
        ] {
            assert_eq!(read_text(json, "UINT8", shape).unwrap().bytes, [1, 2, 3, 4], "{json}");
        }
        assert_eq!(read_text("[7]", "INT16", &[]).unwrap().bytes, [7, 0]);
        for (json, shape) in [("[]", &[0][..]), ("[]", &[2, 0]), ("[[], []]", &[2, 0]), ("[]", &[0, 2])] {
            assert_eq!(read_text(json, "FP32", shape), Ok(Elements::default()), "{json}");
        }
        assert_eq!(read_text("[true, false]", "BOOL", &[2]).unwrap().bytes, [1, 0]);
        assert_eq!(read_text("[1, 0.5]", "FP16", &[2]).unwrap().bytes, [0, 0x3c, 0, 0x38]);
        assert_eq!(read_text("[1]", "BF16", &[1]).unwrap().bytes, [0x80, 0x3f]);
        let texts = read_text(r#"[["a"], ["\u00e9"]]"#, "BYTES", &[2, 1]).unwrap().texts;
        assert_eq!(texts, ["a", "é"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        for (json, datatype, shape, reason) in [
            ("[1, 2, 3]", "INT8", &[2, 2][..], "`data` has 3 elements, the shape 4"),
            ("[1, 2, 3, 4, 5]", "INT8", &[2, 2], "more elements than the shape"),
            ("[[1, 2, 3], [4]]", "INT8", &[2, 2], "a list at axis 1 of `data` has 3 items, the shape 2"),
            ("[[1, 2]]", "INT8", &[2, 1], "a list at axis 1 of `data` has 2 items"),
            ("[[1], 2]", "INT8", &[2, 1], "elements beside lists"),
            ("[1, [2]]", "INT8", &[2, 1], "elements beside lists"),
            ("[[[1]]]", "INT8", &[1, 1], "deeper than the shape"),
            ("[[1]]", "INT8", &[1, 1, 1], "not nested as the shape says"),
            ("[[1]]", "INT8", &[1], "deeper than the shape"),
            ("1", "INT8", &[1], "not a flat list"),
            ("[128]", "INT8", &[1], "`128` is not a value of type INT8"),
            ("[1.5]", "INT8", &[1], "`1.5` is not a value of type INT8"),
            ("[-1]", "UINT64", &[1], "`-1` is not a value of type UINT64"),
            ("[1]", "BOOL", &[1], "`1` is not a value of type BOOL"),
            ("[70000]", "FP16", &[1], "`70000` is not a value of type FP16"),
            ("[1e39]", "FP32", &[1], "not a value of type FP32"),
            ("[1e999]", "FP64", &[1], "number out of range"),
            ("[\"x\"]", "FP64", &[1], "a text is not a value of type FP64"),
            ("[1]", "BYTES", &[1], "`1` is not a value of type BYTES"),
            ("[null]", "INT8", &[1], "invalid type: null"),
            ("{}", "INT8", &[1], "invalid type: map"),
            ("[1]", "INT8", &[usize::MAX, 2], "too many elements"),
        ] {
            let found = read_text(json, datatype, shape).unwrap_err();
            assert!(found.contains(reason), "{json}: {found}");
        }
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(read_text(&deep, "INT8", &[1]).is_err());
    }
}
