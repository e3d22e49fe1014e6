//! What goes into a model and comes out of it: a tensor of numbers, or one of texts. Pure data.

use std::sync::Arc;

use millstream_values::{Tensor, Value};

/// A tensor of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Array {
    /// Numbers or booleans.
    Numbers(Tensor),
    /// Texts.
    Texts(Texts),
}

/// Texts, row-major. There are as many as the shape says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Texts {
    shape: Vec<usize>,
    texts: Vec<Arc<str>>,
}

impl Texts {
    /// `None` where the shape has another number of elements.
    pub(crate) fn new(shape: Vec<usize>, texts: Vec<Arc<str>>) -> Option<Self> {
        let num_elements = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))?;
        (num_elements == texts.len()).then_some(Self { shape, texts })
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn texts(&self) -> &[Arc<str>] {
        &self.texts
    }

    /// The same texts as the one row of a tensor.
    pub(crate) fn into_one_row(mut self) -> Self {
        self.shape.insert(0, 1);
        self
    }

    /// Texts of an entry along the first axis.
    fn stride(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

impl Array {
    #[cfg(test)]
    pub(crate) fn element(&self) -> millstream_pipelines::Element {
        match self {
            Self::Numbers(tensor) => millstream_pipelines::Element::Of(tensor.dtype()),
            Self::Texts(_) => millstream_pipelines::Element::Text,
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Numbers(tensor) => tensor.shape(),
            Self::Texts(texts) => &texts.shape,
        }
    }

    /// Size of the first axis; `None` for a scalar.
    pub(crate) fn len(&self) -> Option<usize> {
        self.shape().first().copied()
    }

    /// Entries `start..end` along the first axis; `None` for a scalar. Numbers are not copied.
    pub(crate) fn slice(&self, start: usize, end: usize) -> Option<Self> {
        match self {
            Self::Numbers(tensor) => tensor.slice(start, end).map(Self::Numbers),
            Self::Texts(texts) => {
                let end = end.min(*texts.shape.first()?);
                let start = start.min(end);
                let mut shape = texts.shape.clone();
                shape[0] = end - start;
                let rows = start * texts.stride()..end * texts.stride();
                Some(Self::Texts(Texts { shape, texts: texts.texts[rows].to_vec() }))
            }
        }
    }

    /// As pipelines have it: a tensor, or texts in lists as deep as the shape.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Numbers(tensor) => Value::Tensor(tensor),
            Self::Texts(Texts { shape, texts }) => nested(&shape, &texts),
        }
    }
}

fn nested(shape: &[usize], texts: &[Arc<str>]) -> Value {
    let Some((&len, shape)) = shape.split_first() else {
        return texts.first().map_or(Value::None, |text| Value::Text(text.clone()));
    };
    let stride = texts.len().checked_div(len).unwrap_or(0);
    Value::list((0..len).map(|at| nested(shape, &texts[at * stride..(at + 1) * stride])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(shape: &[usize], texts: &[&str]) -> Texts {
        Texts::new(shape.to_vec(), texts.iter().map(|&text| text.into()).collect()).unwrap()
    }

    #[test]
    fn texts_are_lists_in_lists() {
        let shown = |shape: &[usize], all: &[&str]| {
            serde_json::to_string(&Array::Texts(texts(shape, all)).into_value()).unwrap()
        };
        assert_eq!(shown(&[2, 2], &["a", "b", "c", "d"]), r#"[["a","b"],["c","d"]]"#);
        assert_eq!(shown(&[1], &["a"]), r#"["a"]"#);
        assert_eq!(shown(&[], &["a"]), r#""a""#);
        assert_eq!(shown(&[2, 0], &[]), "[[],[]]");
        assert_eq!(Texts::new(vec![2], vec!["a".into()]), None);
        assert_eq!(Texts::new(vec![usize::MAX, 2], Vec::new()), None);
    }

    #[test]
    fn rows_are_taken_out() {
        let all = Array::Texts(texts(&[3, 2], &["a", "b", "c", "d", "e", "f"]));
        assert_eq!(all.slice(1, 9), Some(Array::Texts(texts(&[2, 2], &["c", "d", "e", "f"]))));
        assert_eq!(all.slice(3, 1).unwrap().shape(), [0, 2]);
        assert_eq!(Array::Texts(texts(&[], &["a"])).slice(0, 1), None);
    }
}
