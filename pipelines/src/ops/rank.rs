//! Ranking: best first, ties in the order of the items.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use millstream_values::{DType, Tensor, Value};

use super::{Given, input};
use crate::expr::EvalError;

/// `{query, vectors, items, keep}`: cosine of the query `[d]` or `[1, d]` with each row of `vectors` `[n, d]`.
/// Cost: n × d.
pub(super) fn similarity(given: &Given) -> Result<Value, EvalError> {
    let items = list(given, "items")?;
    let query = tensor(given, "query")?;
    let vectors = tensor(given, "vectors")?;
    let (&[size] | &[1, size]) = query.shape() else {
        return Err(EvalError::invalid(format!(
            "`query` has the shape {:?}; it takes one vector, [d] or [1, d]",
            query.shape()
        )));
    };
    let &[num_rows, row_size] = vectors.shape() else {
        return Err(EvalError::invalid(format!(
            "`vectors` has the shape {:?}; it takes rows, [n, d]",
            vectors.shape()
        )));
    };
    if row_size != size {
        return Err(EvalError::invalid(format!(
            "`query` has {size} numbers, but rows of `vectors` have {row_size}"
        )));
    }
    if num_rows != items.len() {
        return Err(EvalError::invalid(format!("`vectors` has {num_rows} rows for {} items", items.len())));
    }
    let query = floats(query, "query")?;
    let vectors = floats(vectors, "vectors")?;
    let query_norm = norm(&query);
    let mut scores = Vec::with_capacity(num_rows);
    for row in 0..num_rows {
        let vector = &vectors[row * size..(row + 1) * size];
        let norms = query_norm * norm(vector);
        // A vector of zeros has no direction: nothing is near to it.
        scores.push(if norms == 0.0 { 0.0 } else { f64::from(dot(&query, vector)) / norms });
    }
    rank(items, &scores, keep(given)?)
}

/// `{items, scores, keep}`.
pub(super) fn top_k(given: &Given) -> Result<Value, EvalError> {
    let items = list(given, "items")?;
    let scores: Vec<f64> = match input(given, "scores")? {
        Value::List(scores) => scores
            .iter()
            .map(|score| {
                score.as_f64().ok_or_else(|| {
                    EvalError::invalid(format!("a score is a {}, not a number", score.type_name()))
                })
            })
            .collect::<Result<_, _>>()?,
        Value::Tensor(scores) if scores.shape().len() == 1 => scores.iter_f64().collect(),
        Value::Tensor(scores) => {
            return Err(EvalError::invalid(format!(
                "`scores` has the shape {:?}; it takes [n]",
                scores.shape()
            )));
        }
        other => return Err(wrong_type("scores", "a list of numbers", other)),
    };
    if scores.len() != items.len() {
        return Err(EvalError::invalid(format!("{} scores for {} items", scores.len(), items.len())));
    }
    rank(items, &scores, keep(given)?)
}

/// `{items, indices}`: the items at these indices, in their order.
pub(super) fn select(given: &Given) -> Result<Value, EvalError> {
    let items = list(given, "items")?;
    let out_of_range =
        |index: i64| EvalError::invalid(format!("there is no item {index}; there are {}", items.len()));
    let pick = |index: i64| {
        usize::try_from(index)
            .ok()
            .and_then(|index| items.get(index))
            .cloned()
            .ok_or_else(|| out_of_range(index))
    };
    let picked: Result<Vec<Value>, EvalError> = match input(given, "indices")? {
        Value::List(indices) => indices
            .iter()
            .map(|index| match index {
                Value::Int(index) => pick(*index),
                other => Err(wrong_type("indices", "a list of int", other)),
            })
            .collect(),
        Value::Tensor(indices) if indices.shape().len() == 1 => {
            let indices = indices
                .to_i64()
                .map_err(|_| EvalError::invalid(format!("`indices` is {}, not i64", indices.dtype())))?;
            indices.into_iter().map(pick).collect()
        }
        other => return Err(wrong_type("indices", "a list of int", other)),
    };
    Ok(Value::List(picked?.into()))
}

/// `{items, scores, indices}` of the best `keep`.
fn rank(items: &[Value], scores: &[f64], keep: usize) -> Result<Value, EvalError> {
    if let Some(index) = scores.iter().position(|score| score.is_nan()) {
        return Err(EvalError::invalid(format!("the score of item {index} is not a number")));
    }
    let order = |&a: &usize, &b: &usize| -> Ordering {
        scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal).then(a.cmp(&b))
    };
    let mut best: Vec<usize> = (0..items.len()).collect();
    if keep < best.len() {
        best.select_nth_unstable_by(keep, order);
        best.truncate(keep);
    }
    best.sort_unstable_by(order);
    Ok(Value::map([
        ("items", Value::list(best.iter().map(|&index| items[index].clone()))),
        ("scores", Value::list(best.iter().map(|&index| Value::Float(scores[index])))),
        (
            "indices",
            Value::list(best.iter().map(|&index| Value::Int(i64::try_from(index).unwrap_or(i64::MAX)))),
        ),
    ]))
}

/// How many to keep; all when it is left out.
fn keep(given: &Given) -> Result<usize, EvalError> {
    match input(given, "keep") {
        Err(_) | Ok(Value::None) => Ok(usize::MAX),
        Ok(Value::Int(keep)) if *keep >= 1 => Ok(usize::try_from(*keep).unwrap_or(usize::MAX)),
        Ok(Value::Int(keep)) => Err(EvalError::invalid(format!("`keep` is {keep}; it must be 1 or more"))),
        Ok(other) => Err(wrong_type("keep", "an int", other)),
    }
}

fn list<'v>(given: &'v Given, name: &str) -> Result<&'v Arc<[Value]>, EvalError> {
    match input(given, name)? {
        Value::List(items) => Ok(items),
        other => Err(wrong_type(name, "a list", other)),
    }
}

fn tensor<'v>(given: &'v Given, name: &str) -> Result<&'v Tensor, EvalError> {
    match input(given, name)? {
        Value::Tensor(tensor) => Ok(tensor),
        other => Err(wrong_type(name, "a tensor", other)),
    }
}

fn wrong_type(name: &str, wanted: &str, found: &Value) -> EvalError {
    EvalError::invalid(format!("`{name}` takes {wanted}, not {}", found.type_name()))
}

/// The numbers in place where they are aligned `f32`, else copied.
#[expect(clippy::cast_possible_truncation, reason = "embeddings need no more than f32")]
fn floats<'t>(tensor: &'t Tensor, name: &str) -> Result<Cow<'t, [f32]>, EvalError> {
    if !tensor.dtype().is_float() {
        return Err(EvalError::invalid(format!("`{name}` is {}; it takes f32", tensor.dtype())));
    }
    if cfg!(target_endian = "little")
        && tensor.dtype() == DType::F32
        && let Ok(numbers) = bytemuck::try_cast_slice(tensor.data())
    {
        return Ok(Cow::Borrowed(numbers));
    }
    Ok(Cow::Owned(tensor.iter_f64().map(|number| number as f32).collect()))
}

/// Sums eight lanes apart, so that the compiler can use vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

fn norm(vector: &[f32]) -> f64 {
    f64::from(dot(vector, vector)).sqrt()
}
