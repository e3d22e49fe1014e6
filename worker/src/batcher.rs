//! Which waiting calls go into the next batch: a pure function of the queue, the room and the time.
//!
//! First come, first served, bounded by the number of inputs; what is past its deadline or cancelled leaves before
//! the batch is formed. It never waits: a call that finds the engine idle runs at once.

use std::time::Instant;

use millstream_pipelines::Task;
use millstream_values::Value;

/// A waiting call, as far as batching looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Inputs that it brings, at least 1.
    pub(crate) num_inputs: usize,
    /// Work past this instant is in vain.
    pub(crate) deadline: Option<Instant>,
    /// Whether the caller has left.
    pub(crate) cancelled: bool,
}

/// What bounds the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// The engine is idle: so many inputs, though the first call always goes, however many it brings.
    Inputs(usize),
    /// The engine is busy with sequences: so many more calls.
    Calls(usize),
}

/// What becomes of a waiting call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Goes into the batch.
    Run,
    /// Stays in the queue.
    Wait,
    /// Leaves the queue: its deadline has passed.
    Expired,
    /// Leaves the queue: nobody waits for its answer.
    Cancelled,
}

/// Decides the fate of each waiting call, oldest first. Nobody overtakes: after the first that does not fit all wait.
pub(crate) fn next(queue: impl IntoIterator<Item = Waiting>, room: Room, now: Instant) -> Vec<Fate> {
    let mut used = 0;
    let mut full = room == Room::Calls(0);
    let mut fate = |call: Waiting| {
        if call.cancelled {
            return Fate::Cancelled;
        }
        if call.deadline.is_some_and(|deadline| deadline <= now) {
            return Fate::Expired;
        }
        let (cost, most) = match room {
            Room::Inputs(most) => (call.num_inputs, most),
            Room::Calls(most) => (1, most),
        };
        full = full || (used > 0 && used + cost > most);
        if full {
            return Fate::Wait;
        }
        used += cost;
        Fate::Run
    };
    queue.into_iter().map(&mut fate).collect()
}

/// How many inputs a call brings to a batch: its texts, its documents, the rows of its first tensor, else one.
pub(crate) fn num_inputs(task: Task, inputs: &Value) -> usize {
    let count = match task {
        Task::Embed | Task::Classify => inputs.get("texts").and_then(Value::as_list).map(<[Value]>::len),
        Task::Rerank => inputs.get("documents").and_then(Value::as_list).map(<[Value]>::len),
        Task::Tensor => inputs
            .as_map()
            .and_then(|map| map.values().find_map(Value::as_tensor))
            .and_then(|tensor| tensor.shape().first().copied()),
        Task::Generate | Task::Custom => None,
    };
    count.unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millstream_values::Tensor;
    use proptest::prelude::*;

    use super::*;

    fn call(num_inputs: usize) -> Waiting {
        Waiting { num_inputs, deadline: None, cancelled: false }
    }

    #[test]
    fn batches_by_cases() {
        use Fate::{Cancelled, Expired, Run, Wait};
        let now = crate::clock::now();
        let late = Waiting { deadline: Some(now), ..call(1) };
        let timely = Waiting { deadline: Some(now + Duration::from_millis(1)), ..call(1) };
        let left = Waiting { cancelled: true, ..call(1) };
        let cases = [
            (vec![], Room::Inputs(8), vec![]),
            (vec![call(1), call(1)], Room::Inputs(8), vec![Run, Run]),
            (vec![call(5), call(3), call(1)], Room::Inputs(8), vec![Run, Run, Wait]),
            // nobody overtakes, though the third would fit
            (vec![call(5), call(4), call(1)], Room::Inputs(8), vec![Run, Wait, Wait]),
            // a call larger than a batch goes alone
            (vec![call(20), call(1)], Room::Inputs(8), vec![Run, Wait]),
            (vec![call(1), call(20)], Room::Inputs(8), vec![Run, Wait]),
            (vec![late, timely, left, call(1)], Room::Inputs(8), vec![Expired, Run, Cancelled, Run]),
            // what leaves needs no room
            (vec![call(8), late, left], Room::Inputs(8), vec![Run, Expired, Cancelled]),
            (vec![call(20), call(1), call(1)], Room::Calls(2), vec![Run, Run, Wait]),
            (vec![call(1), late], Room::Calls(0), vec![Wait, Expired]),
        ];
        for (queue, room, expected) in cases {
            assert_eq!(next(queue.clone(), room, now), expected, "{queue:?} {room:?}");
        }
    }

    proptest! {
        #[test]
        fn a_batch_is_a_prefix_of_the_live_calls_within_its_bound(
            sizes in prop::collection::vec((1_usize..10, any::<bool>()), 0..20), most in 1_usize..16
        ) {
            let queue: Vec<_> =
                sizes.iter().map(|&(size, cancelled)| Waiting { cancelled, ..call(size) }).collect();
            let fates = next(queue.clone(), Room::Inputs(most), crate::clock::now());
            prop_assert_eq!(fates.len(), queue.len());
            let run: Vec<usize> = (0..queue.len()).filter(|&i| fates[i] == Fate::Run).collect();
            let total: usize = run.iter().map(|&i| queue[i].num_inputs).sum();
            prop_assert!(total <= most || run.len() == 1);
            // A live call is never left waiting while nothing runs.
            prop_assert!(!run.is_empty() || queue.iter().all(|call| call.cancelled));
            let live: Vec<Fate> = fates.into_iter().filter(|fate| *fate != Fate::Cancelled).collect();
            prop_assert!(live.is_sorted_by_key(|fate| *fate == Fate::Wait));
        }
    }

    #[test]
    fn inputs_are_counted_by_task() {
        let texts = Value::map([("texts", Value::list([Value::from("a"), Value::from("b")]))]);
        let documents =
            Value::map([("query", Value::from("q")), ("documents", Value::list([Value::from("a")]))]);
        let tensor = Tensor::from_f32([3, 2], &[0.0; 6]).unwrap();
        let tensors = Value::map([("features", Value::from(tensor))]);
        let cases = [
            (Task::Embed, &texts, 2),
            (Task::Classify, &texts, 2),
            (Task::Rerank, &documents, 1),
            (Task::Tensor, &tensors, 3),
            (Task::Generate, &texts, 1),
            (Task::Custom, &tensors, 1),
            (Task::Embed, &documents, 1),
        ];
        for (task, inputs, expected) in cases {
            assert_eq!(num_inputs(task, inputs), expected, "{task:?}");
        }
    }
}
