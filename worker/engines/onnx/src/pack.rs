//! How tensors of several calls are joined and split again. Pure.

use bytes::Bytes;
use millstream_values::{Tensor, TensorError};

use crate::array::{Array, Texts};

/// How many rows a call has: the size of the first axis, where all of its tensors agree on one.
pub(crate) fn num_rows(tensors: &[Array]) -> Option<usize> {
    let rows = tensors.first()?.len()?;
    (rows > 0 && tensors.iter().all(|tensor| tensor.len() == Some(rows))).then_some(rows)
}

/// The calls' tensors one after the other along the first axis; all calls have like rows and there is at least one.
pub(crate) fn join(calls: &[&[Array]]) -> Result<Vec<Array>, TensorError> {
    let Some(first) = calls.first() else { return Ok(Vec::new()) };
    let joined = first.iter().enumerate().map(|(at, array)| {
        let parts = || calls.iter().map(|call| &call[at]);
        let mut shape = array.shape().to_vec();
        shape[0] = parts().map(|part| part.len().unwrap_or(0)).sum();
        match array {
            Array::Numbers(tensor) => {
                let parts = || {
                    parts().filter_map(|part| match part {
                        Array::Numbers(tensor) => Some(tensor.data()),
                        Array::Texts(_) => None,
                    })
                };
                let mut data = Vec::with_capacity(parts().map(Bytes::len).sum());
                parts().for_each(|part| data.extend_from_slice(part));
                Tensor::new(tensor.dtype(), shape, Bytes::from(data)).map(Array::Numbers)
            }
            Array::Texts(_) => {
                let texts = parts().filter_map(|part| match part {
                    Array::Texts(texts) => Some(texts.texts()),
                    Array::Numbers(_) => None,
                });
                let joined = Texts::new(shape.clone(), texts.flatten().cloned().collect());
                joined.map(Array::Texts).ok_or(TensorError::Overflow(shape))
            }
        }
    });
    joined.collect()
}

/// Where the rows of each call begin in the outputs, and where the last one's end. `None` when an output does not have
/// one row for each input row.
pub(crate) fn starts(outputs: &[Array], rows: &[usize]) -> Option<Vec<usize>> {
    let mut starts = Vec::with_capacity(rows.len() + 1);
    let mut total = 0;
    starts.push(total);
    starts.extend(rows.iter().map(|count| {
        total += count;
        total
    }));
    outputs.iter().all(|output| output.len() == Some(total)).then_some(starts)
}

/// Rows `start..end` of each tensor, numbers as views; `None` for scalars.
pub(crate) fn rows_of(tensors: &[Array], start: usize, end: usize) -> Option<Vec<Array>> {
    tensors.iter().map(|tensor| tensor.slice(start, end)).collect()
}

/// Whether two results are equal up to rounding: same types and shapes, floats within a thousandth, texts to the letter.
pub(crate) fn alike(a: &[Array], b: &[Array]) -> bool {
    let close =
        |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-4 + 1e-3 * b.abs();
    let is_alike = |(a, b): (&Array, &Array)| match (a, b) {
        (Array::Numbers(a), Array::Numbers(b)) => {
            a.dtype() == b.dtype()
                && a.shape() == b.shape()
                && a.iter_f64().zip(b.iter_f64()).all(|(a, b)| close(a, b))
        }
        (a, b) => a == b,
    };
    a.len() == b.len() && a.iter().zip(b).all(is_alike)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(rows: usize, width: usize) -> Vec<Array> {
        let values: Vec<i64> = (0..rows * width).map(|at| i64::try_from(at).unwrap()).collect();
        let texts = values.iter().map(|value| value.to_string().into()).collect();
        let numbers = Tensor::from_i64([rows, width], &values).unwrap();
        vec![Array::Numbers(numbers), Array::Texts(Texts::new(vec![rows, width], texts).unwrap())]
    }

    #[test]
    fn what_is_joined_comes_apart_again() {
        let (a, b) = (call(2, 3), call(1, 3));
        let joined = join(&[&a, &b]).unwrap();
        assert_eq!((joined[0].shape(), joined[1].shape()), (&[3, 3][..], &[3, 3][..]));
        assert_eq!(starts(&joined, &[2, 1]).unwrap(), [0, 2, 3]);
        assert_eq!([rows_of(&joined, 0, 2).unwrap(), rows_of(&joined, 2, 3).unwrap()], [a, b]);
        assert!(starts(&joined, &[2, 2]).is_none());
        assert!(join(&[]).unwrap().is_empty());
    }

    #[test]
    fn rounding_is_alike_and_other_shapes_are_not() {
        let tensor = |values: &[f32]| vec![Array::Numbers(Tensor::from_f32([values.len()], values).unwrap())];
        assert!(alike(&tensor(&[1.0, f32::NAN]), &tensor(&[1.000_01, f32::NAN])));
        assert!(!alike(&tensor(&[1.0]), &tensor(&[1.1])));
        assert!(!alike(&tensor(&[1.0]), &tensor(&[1.0, 1.0])));
    }
}
