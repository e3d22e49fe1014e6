//! The tensors of a request, whichever way they came: checked against their shapes, with bounds of their own.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use millstream_pipelines::{MAX_ITEMS, MAX_VALUES};
use millstream_values::{DType, Tensor};

use super::super::Problem;
use super::super::problem::shown;
use super::data;
use super::datatype::Datatype;

/// Most axes of a tensor.
const MAX_AXES: usize = 8;
/// Most elements of a tensor of texts; each is a value of its own.
const MAX_TEXTS: usize = MAX_ITEMS;

/// A named tensor.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) name: Arc<str>,
    pub(super) content: Content,
}

/// What a tensor holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// Numbers or booleans.
    Tensor(Tensor),
    /// Texts or bytes.
    Texts(Texts),
}

/// A tensor of texts or bytes, row by row; there are as many as the shape says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Texts {
    pub(super) shape: Vec<usize>,
    pub(super) texts: Vec<Bytes>,
}

/// What a tensor is said to be.
#[derive(Debug)]
pub(super) struct TensorHead {
    pub(super) datatype: Datatype,
    pub(super) shape: Vec<usize>,
}

impl TensorHead {
    /// The tensor of these bytes.
    ///
    /// # Errors
    /// What is wrong, without the tensor's name.
    pub(super) fn of_bytes(&self, bytes: Bytes) -> Result<Content, String> {
        match self.datatype {
            Datatype::Bytes => Ok(self.of_texts(texts(bytes, self.shape.iter().product())?)),
            Datatype::Of(dtype) => tensor(dtype, &self.shape, bytes),
        }
    }

    /// The tensor of these texts, of which there are as many as the shape says.
    pub(super) fn of_texts(&self, texts: Vec<Bytes>) -> Content {
        Content::Texts(Texts { shape: self.shape.clone(), texts })
    }

    /// How many elements it has; `None` for more than can be counted.
    pub(super) fn num_elements(&self) -> Option<usize> {
        data::num_elements(&self.shape)
    }
}

/// The inputs of a request as they are read.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    all: Vec<Input>,
    names: HashSet<Arc<str>>,
    /// Texts of all of them.
    num_texts: usize,
}

impl Inputs {
    /// What the next one is said to be.
    ///
    /// # Errors
    /// What is wrong, without the tensor's name.
    pub(super) fn head(&mut self, datatype: &str, sizes: &[i64]) -> Result<TensorHead, String> {
        let known = Datatype::parse(datatype);
        let datatype = known.ok_or_else(|| {
            let names = Datatype::names();
            format!("the datatype `{}` is unknown; it is one of {names}", shown(datatype))
        })?;
        let shape = shape_of(sizes)?;
        if datatype == Datatype::Bytes {
            // Lists are made of them, also where an axis of size zero leaves no elements.
            let num_lists =
                shape.iter().try_fold(1, |product: usize, &size| product.checked_mul(size.max(1)));
            if num_lists.is_none_or(|number| number > MAX_TEXTS) {
                return Err(format!("the shape has more than {MAX_TEXTS} elements"));
            }
            self.num_texts += shape.iter().product::<usize>();
            if self.num_texts > MAX_VALUES {
                return Err(format!("the inputs have more than {MAX_VALUES} elements of type BYTES"));
            }
        }
        Ok(TensorHead { datatype, shape })
    }

    /// Adds one.
    ///
    /// # Errors
    /// A problem (400) with its name: what is wrong with it, or that its name is there already.
    pub(super) fn add(&mut self, name: &str, content: Result<Content, String>) -> Result<(), Problem> {
        let refused = |reason: &str| Problem::malformed(format!("input `{}`: {reason}", shown(name)));
        let content = content.map_err(|reason| refused(&reason))?;
        let name: Arc<str> = name.into();
        if !self.names.insert(name.clone()) {
            return Err(refused("is given twice"));
        }
        self.all.push(Input { name, content });
        Ok(())
    }

    /// All of them.
    pub(super) fn into_all(self) -> Vec<Input> {
        self.all
    }
}

fn shape_of(sizes: &[i64]) -> Result<Vec<usize>, String> {
    if sizes.len() > MAX_AXES {
        return Err(format!("the shape has {} axes, at most {MAX_AXES} fit", sizes.len()));
    }
    let size = |&size: &i64| usize::try_from(size).map_err(|_| format!("the shape has the size {size}"));
    sizes.iter().map(size).collect()
}

/// Numbers or booleans in their bytes.
pub(super) fn tensor(dtype: DType, shape: &[usize], bytes: Bytes) -> Result<Content, String> {
    // Code behind this takes for granted that one is 0 or 1.
    if dtype == DType::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Err("is of type BOOL and has bytes other than 0 and 1".to_owned());
    }
    let size = bytes.len();
    let tensor = Tensor::new(dtype, shape, bytes).map_err(|_| {
        let datatype = Datatype::Of(dtype);
        format!("{size} bytes do not make a tensor of type {datatype} and shape {shape:?}")
    })?;
    Ok(Content::Tensor(tensor))
}

/// Texts in binary: each behind its length, of 4 bytes, least significant byte first.
fn texts(mut bytes: Bytes, num_texts: usize) -> Result<Vec<Bytes>, String> {
    let mut texts = Vec::new();
    while let Some((length, _)) = bytes.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let left = bytes.len() - 4;
        if length > left {
            return Err(format!(
                "element {} has the length {length}, but {left} bytes are left",
                texts.len()
            ));
        }
        if texts.len() == num_texts {
            return Err(format!("has more elements than the shape, which has {num_texts}"));
        }
        let mut text = bytes.split_to(4 + length);
        texts.push(text.split_off(4));
    }
    if !bytes.is_empty() {
        return Err(format!("ends with {} bytes that are no length of 4 bytes", bytes.len()));
    }
    if texts.len() != num_texts {
        return Err(format!("has {} elements, the shape {num_texts}", texts.len()));
    }
    Ok(texts)
}
