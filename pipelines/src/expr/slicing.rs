//! Indices and slices as Python and Jinja have them: negative from the end, bounds clamped.

use millstream_values::{DType, Tensor, Value};

use super::EvalError;
use super::budget::Budget;

/// The place of an index that may count from the end.
pub(crate) fn position(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 {
        len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?
    } else {
        usize::try_from(index).ok()?
    };
    (index < len).then_some(index)
}

/// A row of a tensor as a view; of a tensor with one axis, a number.
pub(crate) fn index_tensor(tensor: &Tensor, index: usize) -> Option<Value> {
    let row = tensor.index(index)?;
    if !row.shape().is_empty() {
        return Some(Value::Tensor(row));
    }
    let data = row.data();
    Some(match row.dtype() {
        DType::Bool => Value::Bool(data[0] != 0),
        DType::I64 => Value::Int(i64::from_le_bytes(<[u8; 8]>::try_from(&data[..]).ok()?)),
        DType::U64 => {
            let number = u64::from_le_bytes(<[u8; 8]>::try_from(&data[..]).ok()?);
            i64::try_from(number)
                .map_or_else(|_| row.iter_f64().next().map(Value::Float), |n| Some(Value::Int(n)))?
        }
        dtype if dtype.is_float() => Value::Float(row.iter_f64().next()?),
        #[expect(clippy::cast_possible_truncation, reason = "integers of 32 bits and fewer are exact in f64")]
        _ => Value::Int(row.iter_f64().next()? as i64),
    })
}

/// `value[start:stop:step]` of a list, a text or a tensor; a tensor's is a view.
pub(crate) fn slice(
    value: &Value,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
    budget: &mut Budget,
) -> Result<Value, EvalError> {
    if step == 0 {
        return Err(EvalError::invalid("a slice with a step of 0"));
    }
    match value {
        Value::Tensor(tensor) => {
            let len =
                tensor.len().ok_or_else(|| EvalError::invalid("a tensor without axes is not sliced"))?;
            if step != 1 {
                return Err(EvalError::invalid("a tensor is sliced in steps of 1 only"));
            }
            let (start, stop) = forward(start, stop, len);
            tensor
                .slice(start, stop)
                .map(Value::Tensor)
                .ok_or_else(|| EvalError::invalid("a tensor without axes is not sliced"))
        }
        Value::List(list) => {
            let list: Vec<Value> =
                indices(start, stop, step, list.len()).map(|index| list[index].clone()).collect();
            budget.spend(list.len())?;
            Ok(Value::List(list.into()))
        }
        Value::Text(text) => {
            budget.spend_bytes(text.len())?;
            if step == 1 {
                let (start, stop) = forward(start, stop, text.chars().count());
                return Ok(Value::text(
                    text.chars().skip(start).take(stop.saturating_sub(start)).collect::<String>(),
                ));
            }
            let chars: Vec<char> = text.chars().collect();
            Ok(Value::text(
                indices(start, stop, step, chars.len()).map(|index| chars[index]).collect::<String>(),
            ))
        }
        other => Err(EvalError::invalid(format!("a {} is not sliced", other.type_name()))),
    }
}

/// Bounds of a slice with step 1, clamped to `0..=len`, start not after stop.
fn forward(start: Option<i64>, stop: Option<i64>, len: usize) -> (usize, usize) {
    let start = start.map_or(0, |bound| clamp(bound, len));
    let stop = stop.map_or(len, |bound| clamp(bound, len));
    (start, stop.max(start))
}

/// A bound that may count from the end, clamped to `0..=len`.
fn clamp(bound: i64, len: usize) -> usize {
    let distance = usize::try_from(bound.unsigned_abs()).unwrap_or(usize::MAX);
    if bound < 0 { len.saturating_sub(distance) } else { distance.min(len) }
}

/// The indices of a slice, in its order, by CPython's rules.
fn indices(start: Option<i64>, stop: Option<i64>, step: i64, len: usize) -> impl Iterator<Item = usize> {
    let len = i128::try_from(len).unwrap_or(i128::MAX);
    let step = i128::from(step);
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let adjust = |bound: i64| {
        let bound = i128::from(bound);
        (if bound < 0 { bound + len } else { bound }).clamp(low, high)
    };
    let start = start.map_or(if step > 0 { low } else { high }, adjust);
    let stop = stop.map_or(if step > 0 { high } else { low }, adjust);
    let count = ((stop - start + step - step.signum()) / step).max(0);
    (0..count).filter_map(move |turn| usize::try_from(start + turn * step).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_pythons() {
        let list: Vec<Value> = (0..5).map(Value::Int).collect();
        let list = Value::List(list.into());
        for (start, stop, step, expected) in [
            (None, None, 1, vec![0, 1, 2, 3, 4]),
            (Some(1), None, 1, vec![1, 2, 3, 4]),
            (None, Some(-1), 1, vec![0, 1, 2, 3]),
            (Some(-2), None, 1, vec![3, 4]),
            (Some(3), Some(1), 1, vec![]),
            (Some(-99), Some(99), 1, vec![0, 1, 2, 3, 4]),
            (None, None, 2, vec![0, 2, 4]),
            (None, None, -1, vec![4, 3, 2, 1, 0]),
            (Some(3), Some(0), -2, vec![3, 1]),
            (Some(1), None, i64::MIN, vec![1]),
            (None, Some(i64::MIN), i64::MAX, vec![]),
        ] {
            let found = slice(&list, start, stop, step, &mut Budget::default()).unwrap();
            assert_eq!(
                found,
                Value::list(expected.iter().copied().map(Value::Int)),
                "{start:?}:{stop:?}:{step}"
            );
        }
        assert!(slice(&list, None, None, 0, &mut Budget::default()).is_err());
        let text = slice(&Value::from("äöü"), Some(1), None, 1, &mut Budget::default()).unwrap();
        assert_eq!(text, Value::from("öü"));
        assert_eq!(
            slice(&Value::from("abc"), None, None, -1, &mut Budget::default()).unwrap(),
            Value::from("cba")
        );
    }

    #[test]
    fn positions_count_from_both_ends() {
        for (index, len, expected) in [
            (0, 3, Some(0)),
            (2, 3, Some(2)),
            (3, 3, None),
            (-1, 3, Some(2)),
            (-3, 3, Some(0)),
            (-4, 3, None),
            (i64::MIN, 3, None),
        ] {
            assert_eq!(position(index, len), expected, "{index} of {len}");
        }
    }
}
