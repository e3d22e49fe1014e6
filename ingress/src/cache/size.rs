//! What a kept answer takes in memory, and making it take no more than that.

use std::sync::Arc;

use bytes::Bytes;
use millstream_proto::{Tensor, Value};

/// A map's entry beside name and value: hash, index, and the name's own counts.
const ENTRY_BYTES: usize = 48;

/// Bytes that a value takes by itself; `None` for one that takes more than `max`. What it has twice counts twice.
pub(crate) fn size(value: &Value, max: u64) -> Option<u64> {
    let mut left = usize::try_from(max).unwrap_or(usize::MAX);
    let whole = left;
    take(value, &mut left)?;
    Some((whole - left) as u64)
}

fn take(value: &Value, left: &mut usize) -> Option<()> {
    let contents = match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Tensor(tensor) => tensor.data().len() + size_of_val(tensor.shape()),
        Value::Map(map) => map.keys().map(|name| name.len() + ENTRY_BYTES).sum(),
        _ => 0,
    };
    *left = left.checked_sub(size_of::<Value>() + contents)?;
    match value {
        Value::List(items) => items.iter().try_for_each(|item| take(item, left)),
        Value::Map(map) => map.values().try_for_each(|entry| take(entry, left)),
        _ => Some(()),
    }
}

/// The value with bytes of its own: an answer may be a view of the batch, or of the frame, that it came in, and would
/// keep all of that in memory.
pub(crate) fn detached(value: &Value) -> Value {
    detach(value).unwrap_or_else(|| value.clone())
}

/// `None` where there is nothing to copy.
fn detach(value: &Value) -> Option<Value> {
    match value {
        Value::Bytes(bytes) => Some(Value::Bytes(Bytes::copy_from_slice(bytes))),
        Value::Tensor(tensor) => {
            let data = Bytes::copy_from_slice(tensor.data());
            Tensor::new(tensor.dtype(), tensor.shape(), data).ok().map(Value::Tensor)
        }
        Value::List(items) => {
            let found: Vec<_> = items.iter().map(detach).collect();
            let any = found.iter().any(Option::is_some);
            let both = || found.into_iter().zip(items.iter());
            any.then(|| Value::list(both().map(|(new, old)| new.unwrap_or_else(|| old.clone()))))
        }
        Value::Map(map) => {
            let found: Vec<_> = map.values().map(detach).collect();
            let any = found.iter().any(Option::is_some);
            let both = || found.into_iter().zip(map.iter());
            let entry = |(new, (name, old)): (Option<Value>, (&Arc<str>, &Value))| {
                (Arc::clone(name), new.unwrap_or_else(|| old.clone()))
            };
            any.then(|| Value::map(both().map(entry)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data: Bytes) -> Value {
        Value::Tensor(Tensor::new(millstream_proto::DType::U8, [data.len()], data).unwrap())
    }

    #[test]
    fn contents_count_and_what_is_too_large_has_no_size() {
        let own = size_of::<Value>() as u64;
        for (value, expected) in [
            (Value::Int(1), own),
            (Value::from("abc"), own + 3),
            (tensor(Bytes::from(vec![0; 100])), own + 108),
            (Value::list([Value::from("abc"), Value::None]), 3 * own + 3),
            (Value::map([("ab", Value::from("c"))]), 2 * own + 2 + 48 + 1),
        ] {
            assert_eq!(size(&value, u64::MAX), Some(expected), "{value:?}");
            assert_eq!(size(&value, expected), Some(expected));
            assert_eq!(size(&value, expected - 1), None);
        }
    }

    #[test]
    fn a_view_is_copied_and_all_else_is_shared() {
        let batch = Bytes::from(vec![7; 1000]);
        let text = Value::from("shared");
        let answer = Value::map([
            ("row", tensor(batch.slice(10..20))),
            ("raw", Value::Bytes(batch.slice(0..5))),
            ("nested", Value::list([text.clone(), Value::list([tensor(batch.slice(20..30))])])),
        ]);
        let kept = detached(&answer);
        assert_eq!(kept, answer);
        drop(answer);
        assert!(batch.is_unique(), "nothing of the batch is held");
        let nested = kept.get("nested").unwrap().as_list().unwrap();
        assert_eq!(nested[0].as_text().unwrap().as_ptr(), text.as_text().unwrap().as_ptr());
        let plain = Value::list([text]);
        let (Value::List(a), Value::List(b)) = (&plain, detached(&plain)) else { panic!("lists") };
        assert!(Arc::ptr_eq(a, &b));
    }
}
