//! Calls that wait for an engine's lanes, and which of them one takes next: the urgent first, equals first come first,
//! as many as the engine has room for. Whoever leaves takes its call out at once, inputs and all, so that the queue never holds more
//! than the replica's slots allow, however long a step takes.
//!
//! How calls run together is the engine's affair (see `millstream-batching`). Here only one thing is: a call that is to run alone
//! waits until no lane has anything else, and nobody joins it.

use std::collections::BTreeMap;
use std::time::Instant;

use millstream_engine::{Call, Priority, Progress};
use millstream_pipelines::Batch;
use millstream_values::{CallError, ErrorClass};
use parking_lot::{Condvar, Mutex};

/// Where a call stands.
pub(crate) type Place = (Priority, u64);

/// See the module.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<Place, Call>,
    num_ever: u64,
    /// New batch settings, not yet taken.
    batch: Option<Batch>,
    /// Whether a lane is to look again though nothing came.
    woken: bool,
    /// The lanes that have work, or are about to look for some.
    busy: Vec<bool>,
    /// The lane that was given a call that runs alone, until it is through with it.
    lone: Option<usize>,
    is_closed: bool,
}

impl State {
    /// Whether a lane can take the first call.
    fn has_for(&self, lane: usize) -> bool {
        let Some((_, first)) = self.waiting.first_key_value() else { return false };
        self.lone.is_none() && (!first.alone || self.others_are_idle(lane))
    }

    fn others_are_idle(&self, lane: usize) -> bool {
        self.busy.iter().enumerate().all(|(other, busy)| other == lane || !busy)
    }

    fn set_busy(&mut self, lane: usize, busy: bool) {
        if self.busy.len() <= lane {
            self.busy.resize(lane + 1, false);
        }
        self.busy[lane] = busy;
    }
}

/// What a lane is woken for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Possibly calls or settings; the engine goes on.
    News,
    /// The replica ends.
    Stop,
}

impl Queue {
    /// Adds a call; returns its place, or the call where the replica takes none any more.
    pub(crate) fn push(&self, call: Call) -> Result<Place, Box<Call>> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Box::new(call));
        }
        let place = (call.priority, state.num_ever);
        state.num_ever += 1;
        state.waiting.insert(place, call);
        drop(state);
        self.changed.notify_one();
        Ok(place)
    }

    /// Takes out a call whose caller has left; `false` where the engine has it.
    pub(crate) fn remove(&self, place: Place) -> bool {
        let left = self.state.lock().waiting.remove(&place);
        left.is_some()
    }

    /// Gives the engine these batch settings before its next step.
    pub(crate) fn set_batch(&self, batch: Batch) {
        self.state.lock().batch = Some(batch);
        self.changed.notify_one();
    }

    /// Has a lane look again: a caller has read on or left, or another lane leaves work to it.
    pub(crate) fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_one();
    }

    /// Takes nothing any more, and ends each lane after its step. Returns what waits.
    pub(crate) fn close(&self) -> Vec<Call> {
        let mut state = self.state.lock();
        state.is_closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        waiting.into_values().collect()
    }

    /// Waits for news only while lane and queue have nothing to do, and for company only as long as the engine asked for. Calls are no
    /// news to an engine that has no room for them.
    pub(crate) fn receive(&self, lane: usize, progress: Progress, room: usize) -> Received {
        let mut state = self.state.lock();
        if progress == Progress::Idle {
            state.set_busy(lane, false);
            if state.lone == Some(lane) {
                state.lone = None;
            }
            // One of the others may wait for this lane to be through.
            if !state.waiting.is_empty() {
                self.changed.notify_all();
            }
        }
        let is_quiet = |state: &mut State| {
            !(state.is_closed || state.woken || state.batch.is_some() || (room > 0 && state.has_for(lane)))
        };
        match progress {
            Progress::Busy => {}
            Progress::Idle => {
                self.changed.wait_while(&mut state, is_quiet);
                state.woken = false;
            }
            Progress::Waiting { until } => {
                let _ = self.changed.wait_while_until(&mut state, is_quiet, until);
                state.woken = false;
            }
        }
        state.set_busy(lane, true);
        if state.is_closed { Received::Stop } else { Received::News }
    }

    /// Settings that came since they were last asked for.
    pub(crate) fn new_batch(&self) -> Option<Batch> {
        self.state.lock().batch.take()
    }

    /// Takes out the next calls, as many as there is room for; ends what has expired, and drops what nobody waits for.
    pub(crate) fn take(&self, lane: usize, progress: Progress, room: usize, now: Instant) -> Vec<Call> {
        let mut state = self.state.lock();
        let is_idle = progress == Progress::Idle && state.others_are_idle(lane);
        let mut room = if state.lone.is_some() { 0 } else { room };
        let (mut taken, mut expired) = (Vec::new(), Vec::new());
        while room > 0
            && let Some(first) = state.waiting.first_entry()
        {
            let call = first.get();
            if call.is_cancelled() || call.deadline.is_some_and(|deadline| deadline <= now) {
                expired.push(first.remove());
            } else if !call.alone {
                room -= 1;
                taken.push(first.remove());
            } else {
                // It runs when all others are through, and they begin when it is.
                room = 0;
                if is_idle && taken.is_empty() {
                    taken.push(first.remove());
                    state.lone = Some(lane);
                }
            }
        }
        drop(state);
        for call in expired {
            let text = "the deadline passed while the call waited for the model";
            call.reply.finish(Err(CallError::not_started(ErrorClass::DeadlineExceeded, text)));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millstream_calls::call::{Parts, PendingCall, channel};
    use millstream_values::Value;
    use proptest::prelude::*;

    use super::*;

    fn call(text: &str, change: impl FnOnce(&mut Call)) -> (Call, PendingCall) {
        let (reply, pending) = channel(Parts::Unwanted);
        let mut call = Call::new(Value::from(text), reply, millstream_clock::now());
        change(&mut call);
        (call, pending)
    }

    /// A queue with these calls, and their callers.
    fn queue_of(calls: Vec<(Call, PendingCall)>) -> (Queue, Vec<PendingCall>) {
        let queue = Queue::default();
        let push = |(call, pending)| {
            queue.push(call).unwrap();
            pending
        };
        let pending = calls.into_iter().map(push).collect();
        (queue, pending)
    }

    fn taken(queue: &Queue, progress: Progress, room: usize) -> Vec<String> {
        let calls = queue.take(0, progress, room, millstream_clock::now());
        calls.iter().map(|call| call.inputs.as_text().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_urgent_go_first_then_the_first_that_came() {
        let (queue, _pending) = queue_of(vec![
            call("a", |_| ()),
            call("b", |call| call.priority = Priority::Low),
            call("c", |call| call.priority = Priority::High),
            call("d", |_| ()),
        ]);
        assert_eq!(taken(&queue, Progress::Idle, 2), ["c", "a"]);
        assert_eq!(taken(&queue, Progress::Busy, 0), [""; 0]);
        assert_eq!(taken(&queue, Progress::Busy, 9), ["d", "b"]);
    }

    #[test]
    fn what_is_late_or_left_needs_no_room() {
        let (queue, mut pending) = queue_of(vec![
            call("late", |call| call.deadline = Some(call.arrived)),
            call("left", |_| ()),
            call("next", |call| call.deadline = Some(call.arrived + Duration::from_secs(60))),
        ]);
        drop(pending.remove(1));
        assert_eq!(taken(&queue, Progress::Idle, 1), ["next"]);
    }

    #[test]
    fn a_lone_call_has_the_engine_for_itself() {
        let (queue, _pending) =
            queue_of(vec![call("a", |_| ()), call("lone", |call| call.alone = true), call("b", |_| ())]);
        assert_eq!(taken(&queue, Progress::Idle, 9), ["a"]);
        assert_eq!(taken(&queue, Progress::Busy, 9), [""; 0]);
        assert_eq!(taken(&queue, Progress::Idle, 9), ["lone"]);
        assert_eq!(taken(&queue, Progress::Busy, 9), [""; 0]);
        queue.receive(0, Progress::Idle, 1);
        assert_eq!(taken(&queue, Progress::Idle, 9), ["b"]);
    }

    #[test]
    fn a_lone_call_waits_for_the_other_lanes_and_they_for_it() {
        let (queue, _pending) =
            queue_of(vec![call("a", |_| ()), call("lone", |call| call.alone = true), call("b", |_| ())]);
        let take = |lane| {
            let calls = queue.take(lane, Progress::Idle, 1, millstream_clock::now());
            calls.iter().map(|call| call.inputs.as_text().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let receive = |lane| assert_eq!(queue.receive(lane, Progress::Idle, 1), Received::News);
        receive(0);
        assert_eq!(take(0), ["a"]);
        assert_eq!(take(1), [""; 0], "the first lane has something else");
        receive(0);
        assert_eq!(take(0), ["lone"]);
        assert_eq!(take(1), [""; 0], "nobody joins it");
        receive(0);
        assert_eq!((take(1), take(0)), (vec!["b".to_owned()], vec![]));
    }

    #[test]
    fn a_closed_queue_gives_back_what_waits_and_takes_nothing() {
        let (queue, _pending) = queue_of(vec![call("a", |_| ()), call("b", |_| ())]);
        assert_eq!(queue.close().len(), 2);
        assert!(queue.push(call("c", |_| ()).0).is_err());
        assert_eq!(queue.receive(0, Progress::Idle, 1), Received::Stop);
    }

    #[test]
    fn a_full_engine_that_waits_is_not_woken_by_calls_that_it_has_no_room_for() {
        let (queue, _pending) = queue_of(vec![call("a", |_| ())]);
        let until = millstream_clock::now() + Duration::from_millis(5);
        assert_eq!(queue.receive(0, Progress::Waiting { until }, 1), Received::News);
        assert!(millstream_clock::now() < until, "there is room");
        assert_eq!(queue.receive(0, Progress::Waiting { until }, 0), Received::News);
        assert!(millstream_clock::now() >= until);
    }

    #[test]
    fn an_idle_engine_waits_for_news_and_a_waiting_one_for_its_time() {
        let queue = Queue::default();
        let until = millstream_clock::now() + Duration::from_millis(5);
        assert_eq!(queue.receive(0, Progress::Waiting { until }, 1), Received::News);
        assert!(millstream_clock::now() >= until);
        for news in [|queue: &Queue| queue.wake(), |queue: &Queue| queue.set_batch(Batch::default())] {
            std::thread::scope(|scope| {
                let engine = scope.spawn(|| queue.receive(0, Progress::Idle, 1));
                news(&queue);
                assert_eq!(engine.join().unwrap(), Received::News);
            });
        }
    }

    proptest! {
        #[test]
        fn calls_that_leave_take_nothing_with_them_and_leave_nothing_behind(
            leaves in prop::collection::vec(any::<bool>(), 0..20), room in 0_usize..9,
        ) {
            let queue = Queue::default();
            let mut staying = Vec::new();
            for (number, leaves) in leaves.iter().enumerate() {
                let (call, pending) = call(&number.to_string(), |_| ());
                let place = queue.push(call).unwrap();
                if *leaves {
                    queue.remove(place);
                } else {
                    staying.push((number.to_string(), pending));
                }
            }
            prop_assert_eq!(queue.state.lock().waiting.len(), staying.len());
            let expected: Vec<_> = staying.iter().map(|(name, _)| name.clone()).take(room).collect();
            prop_assert_eq!(taken(&queue, Progress::Idle, room), expected);
        }
    }
}
