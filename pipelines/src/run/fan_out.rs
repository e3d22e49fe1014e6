//! The calls of one `for_each`: so many at a time, made one by one as others end, and answers within a bound in bytes.

use std::sync::Arc;

use millstream_values::Value;

use super::size;

/// Calls at a time where the file says nothing.
const DEFAULT_WINDOW: usize = 16;

/// See the module.
pub(super) struct FanOut {
    elements: Arc<[Value]>,
    /// The first element that no call was made for.
    next: usize,
    answers: Vec<Value>,
    num_missing: usize,
    /// Calls that may be made before one ends.
    num_free: usize,
    /// What the answers to come may take.
    bytes_left: usize,
}

impl FanOut {
    /// Over at least one element. `places` is how many calls the deployment takes at a time.
    pub(super) fn new(elements: Arc<[Value]>, max_parallel: Option<u32>, places: usize) -> Self {
        let num_missing = elements.len();
        let asked = max_parallel.map(|max| usize::try_from(max).unwrap_or(usize::MAX));
        let window = asked.unwrap_or(DEFAULT_WINDOW.min(places)).max(1);
        Self {
            elements,
            next: 0,
            answers: vec![Value::None; num_missing],
            num_missing,
            num_free: window,
            bytes_left: size::MAX_BYTES,
        }
    }

    /// The next element to call for, with its index; `None` while as many calls as may are under way, and at the end.
    pub(super) fn take(&mut self) -> Option<(usize, Value)> {
        if self.num_free == 0 {
            return None;
        }
        let at = self.next;
        let element = self.elements.get(at)?.clone();
        self.next += 1;
        self.num_free -= 1;
        Some((at, element))
    }

    /// An element's call has this answer.
    ///
    /// # Errors
    /// When all answers together are too large.
    pub(super) fn answer(&mut self, at: usize, value: Value) -> Result<(), String> {
        self.num_free += 1;
        self.num_missing -= 1;
        size::charge(&value, &mut self.bytes_left)
            .map_err(|message| format!("answers of `for_each`: {message}"))?;
        self.answers[at] = value;
        Ok(())
    }

    /// All answers in order, once there are all.
    pub(super) fn finish(&mut self) -> Option<Value> {
        (self.num_missing == 0).then(|| Value::List(std::mem::take(&mut self.answers).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(num_elements: i64, max_parallel: Option<u32>, places: usize) -> FanOut {
        FanOut::new((0..num_elements).map(Value::Int).collect(), max_parallel, places)
    }

    fn take_all(fan_out: &mut FanOut) -> Vec<usize> {
        std::iter::from_fn(|| fan_out.take()).map(|(at, _)| at).collect()
    }

    #[test]
    fn so_many_calls_at_a_time() {
        for (max_parallel, places, expected) in [
            (None, 4, 4),
            (None, 64, 16),
            (None, 0, 1),
            (Some(2), 64, 2),
            (Some(90), 4, 90),
            (Some(90), 999, 90),
        ] {
            assert_eq!(
                take_all(&mut over(100, max_parallel, places)).len(),
                expected,
                "{max_parallel:?} {places}"
            );
        }
    }

    #[test]
    fn the_next_goes_when_one_ends_and_answers_are_in_order() {
        let mut fan_out = over(3, Some(2), 64);
        assert_eq!(take_all(&mut fan_out), [0, 1]);
        fan_out.answer(1, Value::from("b")).unwrap();
        assert_eq!(take_all(&mut fan_out), [2]);
        fan_out.answer(2, Value::from("c")).unwrap();
        assert_eq!((take_all(&mut fan_out).len(), fan_out.finish()), (0, None));
        fan_out.answer(0, Value::from("a")).unwrap();
        assert_eq!(fan_out.finish(), Some(Value::list(["a", "b", "c"].map(Value::from))));
    }

    #[test]
    fn the_answers_have_a_bound_together() {
        let mut fan_out = over(300, Some(300), 64);
        let mebibyte = Value::from("x".repeat(1 << 20));
        let refused =
            take_all(&mut fan_out).into_iter().find_map(|at| fan_out.answer(at, mebibyte.clone()).err());
        assert!(refused.unwrap().contains("256 MiB"));
    }
}
