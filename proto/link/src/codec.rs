//! Values as bytes, written straight from a [`Value`] and read straight into one, within limits on depth, number and bytes.
//!
//! A value is a tag and what follows from it; numbers are variable-length (LEB128), small ones take a byte:
//!
//! ```text
//! 0 none   1 false   2 true   3 int (zigzag)   4 float (8 bytes)   5 text (length, UTF-8)   6 bytes (length, bytes)
//! 7 tensor (dtype, rank, sizes, bytes)   8 list (length, values)   9 map (length, then name and value each)
//! ```

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use millstream_values::{DType, MAX_DEPTH, Map, Tensor, Value};
use smallvec::SmallVec;

/// Most bytes of one message: the largest body that the HTTP edge takes, and room for what stands around it.
pub const MAX_MESSAGE_BYTES: usize = 68 << 20;
/// Most values in one message: each takes some dozens of bytes in memory, however few it takes on the way.
pub const MAX_VALUES: usize = 1 << 20;
/// Bytes that are shared with the value rather than copied, from this size on.
const SHARED_FROM: usize = 4 << 10;
/// The map of a call's inputs, or of its outputs, stands around values that may be as deep as values are.
const MAX_WIRE_DEPTH: usize = MAX_DEPTH + 1;

/// Why a value does not travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMuch {
    /// Lists and maps in one another.
    #[error("lists and maps are nested more than {MAX_DEPTH} deep")]
    Deep,
    /// Too many values.
    #[error("there are more than {MAX_VALUES} values in it")]
    Many,
    /// Too many bytes.
    #[error("it takes more than {} MiB", MAX_MESSAGE_BYTES >> 20)]
    Large,
}

/// Why bytes are no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadValue {
    /// There are fewer bytes than they say.
    #[error("it ends too early")]
    Short,
    /// There are more bytes than they say.
    #[error("something follows it")]
    Long,
    /// A tag, a type or a number that does not exist.
    #[error("it has a tag that this version does not know")]
    Tag,
    /// Text that is not UTF-8.
    #[error("a text in it is not UTF-8")]
    Text,
    /// A shape that no tensor of so many bytes has.
    #[error("a tensor in it has another shape than its bytes")]
    Tensor,
    /// Beyond what travels.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
}

/// Bytes to be sent: written ones, and shared ones between them.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    written: BytesMut,
    /// Where in `written` each of them belongs.
    shared: SmallVec<[(usize, Bytes); 2]>,
    num_shared: usize,
    num_values: usize,
}

/// The bytes of a message, in pieces that are not copied together.
pub(crate) type Segments = SmallVec<[Bytes; 2]>;

impl Encoder {
    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.written.len() + self.num_shared
    }

    /// All of it in one piece, if none is shared.
    pub(crate) fn as_slice(&self) -> Option<&[u8]> {
        self.shared.is_empty().then_some(&*self.written)
    }

    /// Empties it for the next message; what was written keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.written.clear();
        self.shared.clear();
        (self.num_shared, self.num_values) = (0, 0);
    }

    /// Takes the bytes out.
    pub(crate) fn take(&mut self) -> Segments {
        let mut segments = Segments::new();
        let mut from = 0;
        for (at, bytes) in self.shared.drain(..) {
            if at > from {
                segments.push(self.written.split_to(at - from).freeze());
            }
            from = at;
            segments.push(bytes);
        }
        if !self.written.is_empty() {
            segments.push(self.written.split().freeze());
        }
        (self.num_shared, self.num_values) = (0, 0);
        segments
    }

    pub(crate) fn put_u8(&mut self, byte: u8) {
        self.written.put_u8(byte);
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    pub(crate) fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.written.put_u8(number as u8 | 0x80);
            number >>= 7;
        }
        self.written.put_u8(number as u8);
    }

    pub(crate) fn put_text(&mut self, text: &str) {
        self.put_number(text.len() as u64);
        self.written.put_slice(text.as_bytes());
    }

    pub(crate) fn put_slice(&mut self, bytes: &[u8]) {
        self.written.put_slice(bytes);
    }

    fn put_bytes(&mut self, bytes: &Bytes) -> Result<(), TooMuch> {
        if self.len() + bytes.len() > MAX_MESSAGE_BYTES {
            return Err(TooMuch::Large);
        }
        if bytes.len() < SHARED_FROM {
            self.written.put_slice(bytes);
        } else {
            self.num_shared += bytes.len();
            self.shared.push((self.written.len(), bytes.clone()));
        }
        Ok(())
    }

    /// Writes a value.
    pub(crate) fn put_value(&mut self, value: &Value) -> Result<(), TooMuch> {
        self.put(value, 0)
    }

    fn put(&mut self, value: &Value, depth: usize) -> Result<(), TooMuch> {
        self.num_values += 1;
        if self.num_values > MAX_VALUES {
            return Err(TooMuch::Many);
        }
        match value {
            Value::None => self.put_u8(0),
            Value::Bool(value) => self.put_u8(if *value { 2 } else { 1 }),
            Value::Int(value) => {
                self.put_u8(3);
                self.put_number(((value << 1) ^ (value >> 63)).cast_unsigned());
            }
            Value::Float(value) => {
                self.put_u8(4);
                self.written.put_f64_le(*value);
            }
            Value::Text(text) => {
                if self.len() + text.len() > MAX_MESSAGE_BYTES {
                    return Err(TooMuch::Large);
                }
                self.put_u8(5);
                self.put_text(text);
            }
            Value::Bytes(bytes) => {
                self.put_u8(6);
                self.put_number(bytes.len() as u64);
                self.put_bytes(bytes)?;
            }
            Value::Tensor(tensor) => self.put_tensor(tensor)?,
            Value::List(values) => {
                self.open(8, values.len(), depth)?;
                for value in values.iter() {
                    self.put(value, depth + 1)?;
                }
            }
            Value::Map(map) => {
                self.open(9, map.len(), depth)?;
                for (name, value) in map.iter() {
                    self.put_text(name);
                    self.put(value, depth + 1)?;
                }
            }
        }
        if self.len() > MAX_MESSAGE_BYTES { Err(TooMuch::Large) } else { Ok(()) }
    }

    fn open(&mut self, tag: u8, length: usize, depth: usize) -> Result<(), TooMuch> {
        if depth >= MAX_WIRE_DEPTH {
            return Err(TooMuch::Deep);
        }
        self.put_u8(tag);
        self.put_number(length as u64);
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "thirteen types; no tensor has 256 axes")]
    fn put_tensor(&mut self, tensor: &Tensor) -> Result<(), TooMuch> {
        let dtype = DType::ALL.iter().position(|dtype| *dtype == tensor.dtype()).unwrap_or_default();
        if tensor.shape().len() > usize::from(u8::MAX) {
            return Err(TooMuch::Deep);
        }
        self.put_u8(7);
        self.put_u8(dtype as u8);
        self.put_u8(tensor.shape().len() as u8);
        tensor.shape().iter().for_each(|&size| self.put_number(size as u64));
        self.put_bytes(tensor.data())
    }
}

/// Reads what an [`Encoder`] wrote.
pub(crate) struct Decoder<'a> {
    left: &'a [u8],
    /// What `left` is the end of; what is large is shared with it. `None`: everything is copied.
    whole: Option<&'a Bytes>,
    num_values: usize,
}

impl<'a> Decoder<'a> {
    /// Of bytes that are needed for something else afterwards: nothing is shared with them.
    pub(crate) fn copying(bytes: &'a [u8]) -> Self {
        Self { left: bytes, whole: None, num_values: 0 }
    }

    /// Of bytes that tensors may keep.
    pub(crate) fn sharing(bytes: &'a Bytes) -> Self {
        Self { left: bytes, whole: Some(bytes), num_values: 0 }
    }

    /// Whether all has been read.
    pub(crate) fn end(&self) -> Result<(), BadValue> {
        if self.left.is_empty() { Ok(()) } else { Err(BadValue::Long) }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, BadValue> {
        let (first, rest) = self.left.split_first().ok_or(BadValue::Short)?;
        self.left = rest;
        Ok(*first)
    }

    pub(crate) fn number(&mut self) -> Result<u64, BadValue> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(BadValue::Tag);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(BadValue::Tag)
    }

    fn length(&mut self) -> Result<usize, BadValue> {
        usize::try_from(self.number()?).map_err(|_| BadValue::Short)
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], BadValue> {
        let (taken, rest) = self.left.split_at_checked(length).ok_or(BadValue::Short)?;
        self.left = rest;
        Ok(taken)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, BadValue> {
        let length = self.length()?;
        std::str::from_utf8(self.slice(length)?).map_err(|_| BadValue::Text)
    }

    fn bytes(&mut self, length: usize) -> Result<Bytes, BadValue> {
        let taken = self.slice(length)?;
        Ok(match self.whole.filter(|_| length >= SHARED_FROM) {
            Some(whole) => whole.slice_ref(taken),
            None => Bytes::copy_from_slice(taken),
        })
    }

    /// Reads a value.
    pub(crate) fn value(&mut self) -> Result<Value, BadValue> {
        self.read(0)
    }

    fn read(&mut self, depth: usize) -> Result<Value, BadValue> {
        self.num_values += 1;
        if self.num_values > MAX_VALUES {
            return Err(TooMuch::Many.into());
        }
        Ok(match self.u8()? {
            0 => Value::None,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => {
                let zigzag = self.number()?;
                Value::Int((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
            }
            4 => {
                let bytes = self.slice(8)?.try_into().map_err(|_| BadValue::Short)?;
                Value::Float(f64::from_le_bytes(bytes))
            }
            5 => Value::Text(Arc::from(self.text()?)),
            6 => {
                let length = self.length()?;
                Value::Bytes(self.bytes(length)?)
            }
            7 => Value::Tensor(self.tensor()?),
            8 => {
                let length = self.items(1, depth)?;
                let values: Result<Arc<[Value]>, _> = (0..length).map(|_| self.read(depth + 1)).collect();
                Value::List(values?)
            }
            9 => {
                let length = self.items(2, depth)?;
                let mut map = Map::with_capacity(length);
                for _ in 0..length {
                    let name = Arc::from(self.text()?);
                    map.insert(name, self.read(depth + 1)?);
                }
                Value::Map(Arc::new(map))
            }
            _ => return Err(BadValue::Tag),
        })
    }

    /// How many items a list or map has, of which each takes at least so many bytes: nobody makes us reserve for more than
    /// what can be there.
    fn items(&mut self, min_bytes: usize, depth: usize) -> Result<usize, BadValue> {
        if depth >= MAX_WIRE_DEPTH {
            return Err(TooMuch::Deep.into());
        }
        let length = self.length()?;
        if length > MAX_VALUES {
            return Err(TooMuch::Many.into());
        }
        if length > self.left.len() / min_bytes { Err(BadValue::Short) } else { Ok(length) }
    }

    fn tensor(&mut self) -> Result<Tensor, BadValue> {
        let dtype = *DType::ALL.get(usize::from(self.u8()?)).ok_or(BadValue::Tag)?;
        let rank = self.u8()?;
        let sizes: Result<SmallVec<[usize; 4]>, _> = (0..rank).map(|_| self.length()).collect();
        let sizes = sizes?;
        let num_bytes = sizes.iter().try_fold(dtype.size_bytes(), |bytes, &size| bytes.checked_mul(size));
        let data = self.bytes(num_bytes.ok_or(BadValue::Tensor)?)?;
        Tensor::new(dtype, &sizes, data).map_err(|_| BadValue::Tensor)
    }
}

#[cfg(test)]
pub(crate) mod tests;
