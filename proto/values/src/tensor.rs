//! Tensors: element type, shape and contiguous little-endian bytes, row-major. Slices are views without copying.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The type of a tensor's elements. `Bool` takes one byte an element (0 or 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum DType {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl DType {
    /// Every type, in the order of declaration.
    pub const ALL: [Self; 13] = [
        Self::Bool,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
    ];

    /// The name as it is written in pipeline files, such as `f32`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// The type of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.as_str() == name)
    }

    /// Bytes of one element.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether elements are floating-point numbers.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why bytes and shape do not make a tensor, or a tensor is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The number of bytes does not follow from type and shape.
    #[error("a {dtype} tensor of shape {shape:?} takes {expected} bytes, not {actual}")]
    Size {
        /// Element type.
        dtype: DType,
        /// Shape asked for.
        shape: Vec<usize>,
        /// Bytes that it takes.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The shape's product does not fit the address space.
    #[error("shape {0:?} has too many elements")]
    Overflow(Vec<usize>),
    /// Another element type was asked for.
    #[error("tensor is {actual}, not {expected}")]
    DType {
        /// Type asked for.
        expected: DType,
        /// Type it has.
        actual: DType,
    },
}

/// A tensor: contiguous, row-major, little-endian. Cloning and slicing along the first axis share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Axes,
    data: Bytes,
}

/// Largest product of the other sizes of a tensor with a size of zero.
const MAX_EMPTY_SIZE: usize = 65_536;

/// Sizes of axes, in place: tensors are cloned and sliced for every call.
type Axes = SmallVec<[usize; 3]>;

impl Tensor {
    /// Makes a tensor of bytes that are already in place.
    ///
    /// # Errors
    /// [`TensorError::Size`] when the number of bytes does not follow from type and shape,
    /// [`TensorError::Overflow`] when the shape is too large to exist.
    pub fn new(dtype: DType, shape: impl AsRef<[usize]>, data: Bytes) -> Result<Self, TensorError> {
        let shape = Axes::from_slice(shape.as_ref());
        // Whoever walks an axis takes as many steps as it says, also where another one of size zero leaves no bytes.
        let num_others =
            shape.iter().filter(|&&dim| dim > 0).try_fold(1, |product: usize, &dim| product.checked_mul(dim));
        let is_empty = shape.contains(&0);
        if is_empty && num_others.is_none_or(|product| product > MAX_EMPTY_SIZE) {
            return Err(TensorError::Overflow(shape.to_vec()));
        }
        let expected = shape
            .iter()
            .try_fold(dtype.size_bytes(), |product, &dim| product.checked_mul(dim))
            .ok_or_else(|| TensorError::Overflow(shape.to_vec()))?;
        if data.len() != expected {
            return Err(TensorError::Size { dtype, shape: shape.to_vec(), expected, actual: data.len() });
        }
        Ok(Self { dtype, shape, data })
    }

    /// Makes an `f32` tensor of `values`; shape `[…]` row-major.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_f32(shape: impl AsRef<[usize]>, values: &[f32]) -> Result<Self, TensorError> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(DType::F32, shape, data.into())
    }

    /// Makes an `i64` tensor of `values`; shape `[…]` row-major.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_i64(shape: impl AsRef<[usize]>, values: &[i64]) -> Result<Self, TensorError> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(DType::I64, shape, data.into())
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes of the axes; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements' bytes, little-endian, row-major.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Number of elements.
    #[must_use]
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size of the first axis; `None` for a scalar.
    #[must_use]
    pub fn len(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// Whether the tensor has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.num_elements() == 0
    }

    /// The `index`-th entry along the first axis, as a view: shape `[a, b, c]` gives `[b, c]`.
    #[must_use]
    pub fn index(&self, index: usize) -> Option<Self> {
        let len = self.len()?;
        if index >= len {
            return None;
        }
        let stride = self.data.len() / len;
        Some(Self {
            dtype: self.dtype,
            shape: self.shape[1..].into(),
            data: self.data.slice(index * stride..(index + 1) * stride),
        })
    }

    /// Entries `start..end` along the first axis, as a view; the range is clamped to what there is.
    /// `None` for a scalar.
    #[must_use]
    pub fn slice(&self, start: usize, end: usize) -> Option<Self> {
        let len = self.len()?;
        let end = end.min(len);
        let start = start.min(end);
        let stride = self.data.len().checked_div(len).unwrap_or(0);
        let mut shape = self.shape.clone();
        shape[0] = end - start;
        Some(Self { dtype: self.dtype, shape, data: self.data.slice(start * stride..end * stride) })
    }

    /// The elements as `f64`, in order; booleans are 0 and 1. 64-bit integers round to the nearest `f64`.
    pub fn iter_f64(&self) -> impl Iterator<Item = f64> + '_ {
        self.data.chunks_exact(self.dtype.size_bytes()).map(move |bytes| element_f64(self.dtype, bytes))
    }

    /// The elements as `f32`.
    ///
    /// # Errors
    /// [`TensorError::DType`] when they are of another type.
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        if self.dtype != DType::F32 {
            return Err(TensorError::DType { expected: DType::F32, actual: self.dtype });
        }
        Ok(self.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// The elements as `i64`.
    ///
    /// # Errors
    /// [`TensorError::DType`] when they are of another type.
    pub fn to_i64(&self) -> Result<Vec<i64>, TensorError> {
        if self.dtype != DType::I64 {
            return Err(TensorError::DType { expected: DType::I64, actual: self.dtype });
        }
        Ok(self
            .data
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect())
    }
}

/// One element of little-endian bytes as `f64`.
#[expect(clippy::cast_precision_loss, reason = "documented at the caller: 64-bit integers round")]
fn element_f64(dtype: DType, b: &[u8]) -> f64 {
    match dtype {
        DType::Bool | DType::U8 => f64::from(b[0]),
        DType::I8 => f64::from(b[0].cast_signed()),
        DType::U16 => f64::from(u16::from_le_bytes([b[0], b[1]])),
        DType::I16 => f64::from(i16::from_le_bytes([b[0], b[1]])),
        DType::F16 => f64::from(f16::from_le_bytes([b[0], b[1]])),
        DType::BF16 => f64::from(bf16::from_le_bytes([b[0], b[1]])),
        DType::U32 => f64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        DType::I32 => f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        DType::F32 => f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        DType::U64 => u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f64,
        DType::I64 => i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f64,
        DType::F64 => f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{:?})", self.dtype, self.shape)
    }
}

/// JSON form: nested lists of numbers (or booleans), as deep as the shape. Made at the edge only.
impl Serialize for Tensor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Nested { dtype: self.dtype, shape: &self.shape, data: &self.data }.serialize(serializer)
    }
}

/// A tensor or an entry of one, borrowed: nothing is counted or allocated for an element.
#[derive(Clone, Copy)]
struct Nested<'a> {
    dtype: DType,
    shape: &'a [usize],
    data: &'a [u8],
}

impl Nested<'_> {
    fn element<S: serde::Serializer>(self, serializer: S) -> Result<S::Ok, S::Error> {
        let b = self.data;
        match self.dtype {
            DType::Bool => serializer.serialize_bool(b[0] != 0),
            DType::U64 => {
                serializer.serialize_u64(u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            }
            DType::I64 => {
                serializer.serialize_i64(i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            }
            DType::F32 => serializer.serialize_f32(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            DType::F16 => serializer.serialize_f32(f16::from_le_bytes([b[0], b[1]]).to_f32()),
            DType::BF16 => serializer.serialize_f32(bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            DType::F64 => serializer.serialize_f64(element_f64(self.dtype, b)),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "32-bit integers and smaller are exact in f64"
            )]
            _ => serializer.serialize_i64(element_f64(self.dtype, b) as i64),
        }
    }
}

impl Serialize for Nested<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [len, shape @ ..] = self.shape else { return self.element(serializer) };
        let stride = self.data.len().checked_div(*len).unwrap_or(0);
        let entry = |index| Nested {
            dtype: self.dtype,
            shape,
            data: &self.data[index * stride..(index + 1) * stride],
        };
        serializer.collect_seq((0..*len).map(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_and_slice_are_views_of_the_same_bytes() {
        let tensor = Tensor::from_f32([3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let row = tensor.index(1).unwrap();
        assert_eq!(row.shape(), [2]);
        assert_eq!(row.to_f32().unwrap(), [3.0, 4.0]);
        assert_eq!(row.data().as_ptr(), tensor.data()[8..].as_ptr());
        let rest = tensor.slice(1, 99).unwrap();
        assert_eq!(rest.shape(), [2, 2]);
        assert_eq!(rest.to_f32().unwrap(), [3.0, 4.0, 5.0, 6.0]);
        assert!(tensor.index(3).is_none());
        assert_eq!(tensor.slice(5, 2).unwrap().shape(), [0, 2]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let fault = Tensor::new(DType::F32, [2, 2], Bytes::from_static(&[0; 12])).unwrap_err();
        assert_eq!(fault.to_string(), "a f32 tensor of shape [2, 2] takes 16 bytes, not 12");
        assert!(matches!(
            Tensor::new(DType::F64, [usize::MAX, 2], Bytes::new()),
            Err(TensorError::Overflow(_))
        ));
        let empty = |shape: [usize; 3]| Tensor::new(DType::F64, shape, Bytes::new());
        assert!(empty([65_536, 0, 1]).is_ok());
        for endless in [[1 << 60, 0, 1], [0, 256, 257], [0, usize::MAX, 2]] {
            assert!(matches!(empty(endless), Err(TensorError::Overflow(_))), "{endless:?}");
        }
    }

    #[test]
    fn json_is_nested_lists() {
        let tensor = Tensor::from_f32([2, 2], &[1.0, 2.5, 3.0, 4.0]).unwrap();
        assert_eq!(serde_json::to_string(&tensor).unwrap(), "[[1.0,2.5],[3.0,4.0]]");
        let empty = Tensor::from_f32([0, 2], &[]).unwrap();
        assert_eq!(serde_json::to_string(&empty).unwrap(), "[]");
        let ints = Tensor::from_i64([2], &[-1, i64::MAX]).unwrap();
        assert_eq!(serde_json::to_string(&ints).unwrap(), "[-1,9223372036854775807]");
    }
}
