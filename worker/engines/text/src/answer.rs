//! Answers of the text tasks, in the form that pipelines and protocols expect.

use bytes::Bytes;
use millstream_values::{CallError, DType, ErrorClass, Tensor, TensorError, Value};

/// Numbers that are read as the bytes of a tensor, where they lie.
struct Numbers(Vec<f32>);

impl AsRef<[u8]> for Numbers {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// The answer of `embed`: a tensor `[n, size]` of `rows`, row-major.
///
/// # Errors
/// [`TensorError`] when `rows` is not `n * size` long.
pub fn embedded(n: usize, size: usize, rows: Vec<f32>) -> Result<Value, TensorError> {
    let data = if cfg!(target_endian = "little") {
        Bytes::from_owner(Numbers(rows))
    } else {
        rows.iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    Tensor::new(DType::F32, [n, size], data).map(Value::Tensor)
}

/// The answer of `rerank`: `{items, scores, indices}`, best first, equal scores in their order, at most `keep`.
#[must_use]
#[expect(clippy::cast_possible_wrap, reason = "a list has fewer than 2^63 items")]
pub fn ranked(documents: &[Value], scores: &[f32], keep: Option<usize>) -> Value {
    let mut order: Vec<usize> = (0..documents.len().min(scores.len())).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(keep.unwrap_or(usize::MAX));
    Value::map([
        ("items", Value::list(order.iter().map(|&at| documents[at].clone()))),
        ("scores", Value::list(order.iter().map(|&at| Value::Float(f64::from(scores[at]))))),
        ("indices", Value::list(order.iter().map(|&at| Value::Int(at as i64)))),
    ])
}

/// The answer of `classify`: `{labels, scores}`, for each text its most likely label and that label's score.
/// `probabilities` is row-major `[n, labels.len()]`.
#[must_use]
pub fn classified(labels: &[Value], probabilities: &[f32]) -> Value {
    let best: Vec<(usize, f32)> = probabilities
        .chunks_exact(labels.len().max(1))
        .map(|row| {
            let first = row.first().copied().unwrap_or(0.0);
            let keep_larger = |best: (usize, f32), (at, &score): (usize, &f32)| {
                if score > best.1 { (at, score) } else { best }
            };
            row.iter().enumerate().fold((0, first), keep_larger)
        })
        .collect();
    Value::map([
        ("labels", Value::list(best.iter().map(|&(at, _)| labels[at].clone()))),
        ("scores", Value::list(best.iter().map(|&(_, score)| Value::Float(f64::from(score))))),
    ])
}

/// The answer of `classify` with `top_k`: `{labels, scores, indices}`, for each text a list of the most likely labels, best first,
/// equal ones in their order; `indices` are the labels' places in the model.
#[must_use]
#[expect(clippy::cast_possible_wrap, reason = "a model has fewer than 2^63 labels")]
pub fn top_labels(labels: &[Value], probabilities: &[f32], top_k: usize) -> Value {
    let rows: Vec<Vec<(usize, f32)>> = probabilities
        .chunks_exact(labels.len().max(1))
        .map(|row| {
            let mut row: Vec<_> = row.iter().copied().enumerate().collect();
            row.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            row.truncate(top_k);
            row
        })
        .collect();
    let lists = |value: &dyn Fn(usize, f32) -> Value| {
        Value::list(rows.iter().map(|row| Value::list(row.iter().map(|&(at, score)| value(at, score)))))
    };
    Value::map([
        ("labels", lists(&|at, _| labels[at].clone())),
        ("scores", lists(&|_, score| Value::Float(f64::from(score)))),
        ("indices", lists(&|at, _| Value::Int(at as i64))),
    ])
}

/// A failure that is not the caller's fault: the reason goes to the log, the caller learns what failed.
pub(crate) fn failed(what: &str, reason: &str) -> CallError {
    tracing::warn!(error = reason, "a call failed in a text engine");
    CallError::started(ErrorClass::Internal, format!("{what} failed on these inputs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_best_first_and_ties_in_order() {
        let documents: Vec<Value> = ["a", "b", "c", "d"].map(Value::from).to_vec();
        let answer = ranked(&documents, &[0.5, 0.75, 0.5, f32::NEG_INFINITY], Some(3));
        assert_eq!(answer.get("items"), Some(&Value::list(["b", "a", "c"].map(Value::from))));
        assert_eq!(answer.get("scores"), Some(&Value::list([0.75, 0.5, 0.5].map(Value::from))));
        assert_eq!(answer.get("indices"), Some(&Value::list([1, 0, 2].map(Value::Int))));
    }

    #[test]
    fn each_text_gets_its_best_label() {
        let labels = ["no", "yes"].map(Value::from);
        let answer = classified(&labels, &[0.25, 0.75, 0.5, 0.5]);
        assert_eq!(answer.get("labels"), Some(&Value::list(["yes", "no"].map(Value::from))));
        assert_eq!(answer.get("scores"), Some(&Value::list([0.75, 0.5].map(Value::from))));
    }

    #[test]
    fn each_text_gets_as_many_labels_as_are_asked_for() {
        let labels = ["no", "maybe", "yes"].map(Value::from);
        let probabilities = [0.25, 0.25, 0.5, 0.75, 0.25, 0.0];
        let shown = |top_k| serde_json::to_string(&top_labels(&labels, &probabilities, top_k)).unwrap();
        assert_eq!(
            shown(9),
            r#"{"labels":[["yes","no","maybe"],["no","maybe","yes"]],"scores":[[0.5,0.25,0.25],[0.75,0.25,0.0]],"indices":[[2,0,1],[0,1,2]]}"#
        );
        assert_eq!(shown(1), r#"{"labels":[["yes"],["no"]],"scores":[[0.5],[0.75]],"indices":[[2],[0]]}"#);
        assert_eq!(
            serde_json::to_string(&top_labels(&labels, &[], 2)).unwrap(),
            r#"{"labels":[],"scores":[],"indices":[]}"#
        );
    }

    #[test]
    fn vectors_are_a_tensor() {
        let value = embedded(2, 1, vec![1.0, -2.0]).unwrap();
        assert_eq!(value.as_tensor().unwrap().to_f32().unwrap(), [1.0, -2.0]);
        assert_eq!(embedded(0, 3, Vec::new()).unwrap().as_tensor().unwrap().shape(), [0, 3]);
    }
}
