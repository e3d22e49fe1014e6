//! Tensors into ONNX Runtime and back. Inputs are lent, not copied, wherever their bytes are aligned; outputs are copied
//! once, out of ONNX Runtime's memory.

use std::fmt::Debug;

use bytemuck::{AnyBitPattern, NoUninit};
use bytes::Bytes;
use half::{bf16, f16};
use millstream_pipelines::Element;
use millstream_values::{DType, Tensor};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef};

use crate::array::{Array, Texts};

// Bytes are handed over as they are, and tensors are little-endian by definition.
const _: () = assert!(cfg!(target_endian = "little"), "this engine needs a little-endian machine");

/// The element type in our terms; `None` for those that pipelines do not have.
pub(crate) fn element_of(element: TensorElementType) -> Option<Element> {
    if element == TensorElementType::String {
        return Some(Element::Text);
    }
    dtype_of(element).map(Element::Of)
}

fn dtype_of(element: TensorElementType) -> Option<DType> {
    Some(match element {
        TensorElementType::Bool => DType::Bool,
        TensorElementType::Uint8 => DType::U8,
        TensorElementType::Uint16 => DType::U16,
        TensorElementType::Uint32 => DType::U32,
        TensorElementType::Uint64 => DType::U64,
        TensorElementType::Int8 => DType::I8,
        TensorElementType::Int16 => DType::I16,
        TensorElementType::Int32 => DType::I32,
        TensorElementType::Int64 => DType::I64,
        TensorElementType::Float16 => DType::F16,
        TensorElementType::Bfloat16 => DType::BF16,
        TensorElementType::Float32 => DType::F32,
        TensorElementType::Float64 => DType::F64,
        _ => return None,
    })
}

/// The tensor as an input that borrows its bytes. Texts are copied.
///
/// # Errors
/// ONNX Runtime's, and for booleans that are neither 0 nor 1.
pub(crate) fn borrow(array: &Array) -> ort::Result<SessionInputValue<'_>> {
    match array {
        Array::Numbers(tensor) => borrow_numbers(tensor),
        Array::Texts(texts) => {
            let of = (texts.shape().to_vec(), texts.texts());
            Ok(ort::value::Tensor::from_string_array(of)?.into())
        }
    }
}

fn borrow_numbers(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    match tensor.dtype() {
        DType::Bool => borrow_bool(tensor),
        DType::U8 => borrow_as::<u8>(tensor),
        DType::U16 => borrow_as::<u16>(tensor),
        DType::U32 => borrow_as::<u32>(tensor),
        DType::U64 => borrow_as::<u64>(tensor),
        DType::I8 => borrow_as::<i8>(tensor),
        DType::I16 => borrow_as::<i16>(tensor),
        DType::I32 => borrow_as::<i32>(tensor),
        DType::I64 => borrow_as::<i64>(tensor),
        DType::F16 => borrow_as::<f16>(tensor),
        DType::BF16 => borrow_as::<bf16>(tensor),
        DType::F32 => borrow_as::<f32>(tensor),
        DType::F64 => borrow_as::<f64>(tensor),
    }
}

fn borrow_as<T>(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>>
where
    T: PrimitiveTensorElementType + AnyBitPattern + NoUninit + Debug + 'static,
{
    let shape = tensor.shape().to_vec();
    match bytemuck::try_cast_slice::<u8, T>(tensor.data()) {
        Ok(elements) => Ok(TensorRef::from_array_view((shape, elements))?.into()),
        Err(_) => {
            let elements: Vec<T> = bytemuck::pod_collect_to_vec(tensor.data());
            Ok(ort::value::Tensor::from_array((shape, elements))?.into())
        }
    }
}

fn borrow_bool(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let elements = bytemuck::checked::try_cast_slice::<u8, bool>(tensor.data())
        .map_err(|_| ort::Error::new("a boolean is neither 0 nor 1"))?;
    Ok(TensorRef::from_array_view((tensor.shape().to_vec(), elements))?.into())
}

/// A copy of an output.
///
/// # Errors
/// ONNX Runtime's, when the value is not a tensor of that type.
pub(crate) fn copy_out(value: &DynValue, element: Element) -> ort::Result<Array> {
    match element {
        Element::Of(dtype) => copy_numbers(value, dtype).map(Array::Numbers),
        Element::Text => {
            let (shape, texts) = value.try_extract_strings()?;
            let texts = Texts::new(sizes(shape)?, texts.into_iter().map(Into::into).collect());
            texts.map(Array::Texts).ok_or_else(|| ort::Error::new("an output has fewer texts than its shape"))
        }
    }
}

fn copy_numbers(value: &DynValue, dtype: DType) -> ort::Result<Tensor> {
    match dtype {
        DType::Bool => copy_as::<bool>(value, dtype),
        DType::U8 => copy_as::<u8>(value, dtype),
        DType::U16 => copy_as::<u16>(value, dtype),
        DType::U32 => copy_as::<u32>(value, dtype),
        DType::U64 => copy_as::<u64>(value, dtype),
        DType::I8 => copy_as::<i8>(value, dtype),
        DType::I16 => copy_as::<i16>(value, dtype),
        DType::I32 => copy_as::<i32>(value, dtype),
        DType::I64 => copy_as::<i64>(value, dtype),
        DType::F16 => copy_as::<f16>(value, dtype),
        DType::BF16 => copy_as::<bf16>(value, dtype),
        DType::F32 => copy_as::<f32>(value, dtype),
        DType::F64 => copy_as::<f64>(value, dtype),
    }
}

fn copy_as<T: PrimitiveTensorElementType + NoUninit>(value: &DynValue, dtype: DType) -> ort::Result<Tensor> {
    let (shape, elements) = value.try_extract_tensor::<T>()?;
    let shape = sizes(shape)?;
    Tensor::new(dtype, shape, Bytes::copy_from_slice(bytemuck::cast_slice(elements)))
        .map_err(ort::Error::wrap)
}

/// An output's shape.
///
/// # Errors
/// When ONNX Runtime gives a size that no tensor has.
pub(crate) fn sizes(shape: &[i64]) -> ort::Result<Vec<usize>> {
    shape.iter().map(|&size| usize::try_from(size).map_err(ort::Error::wrap)).collect()
}
