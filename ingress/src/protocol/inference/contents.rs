//! The elements of a tensor as lists of numbers (`InferTensorContents`): each datatype has one of them.

use bytes::Bytes;
use millstream_pipelines::push_whole;
use millstream_values::DType;

use super::super::Problem;
use super::super::wire::{Field, Fields, WireValue};
use super::datatype::Datatype;
use super::tensors::{Content, TensorHead, tensor};

/// Memory that is set aside before any element came.
const MAX_RESERVED_BYTES: usize = 64 << 10;

/// The lists, in the order of their numbers, which begin with 1.
const LISTS: [&str; 8] = [
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
];

/// The number of the list that has the elements of a type; `None` for types that have none.
fn list_of(datatype: Datatype) -> Option<u64> {
    match datatype {
        Datatype::Of(dtype) => match dtype {
            DType::Bool => Some(1),
            DType::I8 | DType::I16 | DType::I32 => Some(2),
            DType::I64 => Some(3),
            DType::U8 | DType::U16 | DType::U32 => Some(4),
            DType::U64 => Some(5),
            DType::F32 => Some(6),
            DType::F64 => Some(7),
            DType::F16 | DType::BF16 => None,
        },
        Datatype::Bytes => Some(8),
    }
}

/// Reads as many elements as the shape has; `contents` is a part of `message`.
///
/// # Errors
/// What is wrong, without the tensor's name.
pub(super) fn read(head: &TensorHead, message: &Bytes, contents: &[u8]) -> Result<Content, String> {
    let datatype = head.datatype;
    let num_elements = head.num_elements().ok_or("the shape has too many elements")?;
    let own = list_of(datatype).ok_or_else(|| {
        format!("elements of type {datatype} have no list of their own; send them as `raw_input_contents`")
    })?;
    let (num_read, elements) = (0, Elements::default());
    let mut reader = Reader { message, head, num_elements, num_read, elements };
    if let Datatype::Of(dtype) = datatype
        && !dtype.is_float()
    {
        let bytes = num_elements.saturating_mul(dtype.size_bytes());
        reader.elements.bytes.reserve(bytes.min(MAX_RESERVED_BYTES));
    }
    for field in Fields::of(contents) {
        let Field { number, value } = field.map_err(|problem| told(&problem))?;
        if number == own {
            reader.take(value)?;
        } else if let Some(list) =
            usize::try_from(number).ok().and_then(|number| LISTS.get(number.wrapping_sub(1)))
        {
            let own = LISTS[usize::try_from(own - 1).unwrap_or_default()];
            return Err(format!("is of type {datatype}, whose elements are in `{own}`, and has `{list}`"));
        }
    }
    reader.done()
}

fn told(problem: &Problem) -> String {
    problem.detail().to_owned()
}

struct Reader<'m> {
    message: &'m Bytes,
    head: &'m TensorHead,
    num_elements: usize,
    num_read: usize,
    elements: Elements,
}

#[derive(Default)]
struct Elements {
    /// Floating-point numbers in one piece, as the message has them.
    slice: Bytes,
    /// Others.
    bytes: Vec<u8>,
    texts: Vec<Bytes>,
}

impl Reader<'_> {
    fn take(&mut self, value: WireValue<'_>) -> Result<(), String> {
        match self.head.datatype {
            Datatype::Bytes => {
                self.count(1)?;
                self.elements
                    .texts
                    .push(self.message.slice_ref(value.bytes().map_err(|problem| told(&problem))?));
                Ok(())
            }
            Datatype::Of(dtype) if dtype.is_float() => self.floats(value, dtype.size_bytes()),
            Datatype::Of(dtype) => {
                let mut wrong = None;
                let each = value.each_number(|number| {
                    let added = self.count(1).and_then(|()| self.whole(dtype, number));
                    added.map_err(|reason| {
                        wrong = Some(reason);
                        Problem::malformed("")
                    })
                });
                each.map_err(|problem| wrong.take().unwrap_or_else(|| told(&problem)))
            }
        }
    }

    fn count(&mut self, num_more: usize) -> Result<(), String> {
        self.num_read += num_more;
        if self.num_read > self.num_elements {
            return Err(format!("has more elements than the shape, which has {}", self.num_elements));
        }
        Ok(())
    }

    /// A number as its list has it: of 32 bits, or of 64.
    #[expect(clippy::cast_possible_truncation, reason = "protobuf has numbers of 32 bits in 64")]
    fn whole(&mut self, dtype: DType, number: u64) -> Result<(), String> {
        let number = match dtype {
            DType::Bool => {
                self.elements.bytes.push(u8::from(number != 0));
                return Ok(());
            }
            DType::I8 | DType::I16 | DType::I32 => i128::from(number as i32),
            DType::I64 => i128::from(number.cast_signed()),
            DType::U8 | DType::U16 | DType::U32 => i128::from(number as u32),
            _ => i128::from(number),
        };
        if push_whole(dtype, number, &mut self.elements.bytes) {
            return Ok(());
        }
        Err(format!("`{number}` is not a value of type {}", Datatype::Of(dtype)))
    }

    fn floats(&mut self, value: WireValue<'_>, size: usize) -> Result<(), String> {
        match value {
            WireValue::Bytes(packed) if packed.len().is_multiple_of(size) => {
                self.count(packed.len() / size)?;
                if self.elements.slice.is_empty() && self.elements.bytes.is_empty() {
                    self.elements.slice = self.message.slice_ref(packed);
                } else {
                    self.elements.push(packed);
                }
                Ok(())
            }
            WireValue::Fixed32(number) if size == 4 => {
                self.elements.push(&number);
                self.count(1)
            }
            WireValue::Fixed64(number) if size == 8 => {
                self.elements.push(&number);
                self.count(1)
            }
            _ => Err("has a list of numbers that is cut off, or of another type".to_owned()),
        }
    }

    fn done(self) -> Result<Content, String> {
        let Self { head, num_elements, num_read, elements, .. } = self;
        if num_read != num_elements {
            return Err(format!("has {num_read} elements, the shape {num_elements}"));
        }
        let Elements { slice, bytes, texts } = elements;
        match head.datatype {
            Datatype::Bytes => Ok(head.of_texts(texts)),
            Datatype::Of(dtype) => {
                let bytes = if slice.is_empty() { bytes.into() } else { slice };
                tensor(dtype, &head.shape, bytes)
            }
        }
    }
}

impl Elements {
    fn push(&mut self, more: &[u8]) {
        if !self.slice.is_empty() {
            self.bytes.extend_from_slice(&std::mem::take(&mut self.slice));
        }
        self.bytes.extend_from_slice(more);
    }
}
