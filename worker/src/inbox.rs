//! Calls that wait for an engine's thread, and which of them it takes next: the urgent first, equals first come first,
//! as many as the engine has room for. What is past its deadline or cancelled leaves on the way.
//!
//! How calls run together is the engine's affair (see `millstream-batching`), which takes in all that comes; an engine
//! whose sequences occupy memory, such as a generator, takes as many as it has room for.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use millstream_engine::{Call, Priority, Progress};
use millstream_pipelines::Batch;
use millstream_values::{CallError, ErrorClass};

use crate::client::not_serving;
use crate::slots::Slots;
use crate::table::InboxMessage;

/// How long a call that has a place is awaited when the replica ends; it is on its way from another thread.
const LAST_CALL_GRACE: Duration = Duration::from_millis(100);

/// A waiting call, as far as choosing looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    deadline: Option<Instant>,
    is_cancelled: bool,
}

/// What becomes of a waiting call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Goes into the engine.
    Run,
    /// Stays in the queue.
    Wait,
    /// Leaves the queue: its deadline has passed.
    Expired,
    /// Leaves the queue: nobody waits for its answer.
    Cancelled,
}

/// Decides the fate of each waiting call, in their order. Nobody overtakes: once the room is used up all wait.
fn fates(queue: impl IntoIterator<Item = Waiting>, mut room: usize, now: Instant) -> Vec<Fate> {
    let mut fate = |call: Waiting| {
        if call.is_cancelled {
            Fate::Cancelled
        } else if call.deadline.is_some_and(|deadline| deadline <= now) {
            Fate::Expired
        } else if room > 0 {
            room -= 1;
            Fate::Run
        } else {
            Fate::Wait
        }
    };
    queue.into_iter().map(&mut fate).collect()
}

/// Calls that wait for the engine.
pub(crate) struct Inbox {
    receiver: Receiver<InboxMessage>,
    /// In the order in which they go.
    waiting: VecDeque<(Priority, Call)>,
    /// New batch settings, not yet taken.
    batch: Option<Batch>,
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Possibly calls or settings; the engine goes on.
    News,
    /// The replica ends.
    Stop,
}

impl Inbox {
    /// Takes what is sent to the other end.
    pub(crate) fn new(receiver: Receiver<InboxMessage>) -> Self {
        Self { receiver, waiting: VecDeque::new(), batch: None }
    }

    /// Takes in what is there; waits for it only while engine and queue have nothing to do, and for company only as long
    /// as the engine asked for.
    pub(crate) fn receive(&mut self, progress: Progress, now: Instant) -> Received {
        let first = match progress {
            _ if !self.waiting.is_empty() => None,
            Progress::Busy { .. } => None,
            Progress::Idle => match self.receiver.recv() {
                Ok(feed) => Some(feed),
                Err(_) => return Received::Stop,
            },
            Progress::Waiting { until } => {
                match self.receiver.recv_timeout(until.saturating_duration_since(now)) {
                    Ok(feed) => Some(feed),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Received::Stop,
                }
            }
        };
        if let Some(feed) = first
            && self.take_in(feed) == Received::Stop
        {
            return Received::Stop;
        }
        while let Ok(feed) = self.receiver.try_recv() {
            if self.take_in(feed) == Received::Stop {
                return Received::Stop;
            }
        }
        Received::News
    }

    fn take_in(&mut self, feed: InboxMessage) -> Received {
        match feed {
            InboxMessage::Call(call) => {
                let place = self.waiting.partition_point(|(priority, _)| *priority <= call.priority);
                self.waiting.insert(place, (call.priority, call));
            }
            InboxMessage::Batch(batch) => self.batch = Some(batch),
            InboxMessage::Stop => return Received::Stop,
        }
        Received::News
    }

    /// Settings that came since they were last asked for.
    pub(crate) fn new_batch(&mut self) -> Option<Batch> {
        self.batch.take()
    }

    /// Takes out the next calls; ends what has expired, drops what nobody waits for.
    pub(crate) fn take(&mut self, room: usize, now: Instant) -> Vec<Call> {
        let look = |(_, call): &(Priority, Call)| Waiting {
            deadline: call.deadline,
            is_cancelled: call.is_cancelled(),
        };
        let fates = fates(self.waiting.iter().map(look), room, now);
        let mut taken = Vec::new();
        for (fate, (priority, call)) in fates.into_iter().zip(std::mem::take(&mut self.waiting)) {
            match fate {
                Fate::Run => taken.push(call),
                Fate::Wait => self.waiting.push_back((priority, call)),
                Fate::Cancelled => drop(call),
                Fate::Expired => {
                    let text = "the deadline passed while the call waited for the model";
                    call.reply.finish(Err(CallError::not_started(ErrorClass::DeadlineExceeded, text)));
                }
            }
        }
        taken
    }

    /// Ends the queue of a replica whose slots are closed: what no engine has seen may go elsewhere.
    pub(crate) fn give_back(&mut self, slots: &Slots) {
        let refuse = |call: Call| call.reply.finish(Err(not_serving()));
        self.waiting.drain(..).for_each(|(_, call)| refuse(call));
        // A call that took a slot before they closed may still be on its way here.
        loop {
            let wait = if slots.ongoing() > 0 { LAST_CALL_GRACE } else { Duration::ZERO };
            match self.receiver.recv_timeout(wait) {
                Ok(InboxMessage::Call(call)) => refuse(call),
                Ok(InboxMessage::Batch(_) | InboxMessage::Stop) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_room_goes_to_the_first_that_are_wanted() {
        use Fate::{Cancelled, Expired, Run, Wait};
        let now = crate::clock::now();
        let call = Waiting { deadline: None, is_cancelled: false };
        let late = Waiting { deadline: Some(now), ..call };
        let timely = Waiting { deadline: Some(now + Duration::from_millis(1)), ..call };
        let left = Waiting { is_cancelled: true, ..call };
        let cases = [
            (vec![], 8, vec![]),
            (vec![call, call], 8, vec![Run, Run]),
            (vec![call, call, call], 2, vec![Run, Run, Wait]),
            // what leaves needs no room
            (vec![late, timely, left, call], 2, vec![Expired, Run, Cancelled, Run]),
            (vec![call, late], 0, vec![Wait, Expired]),
        ];
        for (queue, room, expected) in cases {
            assert_eq!(fates(queue.clone(), room, now), expected, "{queue:?} {room:?}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_of_the_live_calls_runs(cancelled in prop::collection::vec(any::<bool>(), 0..20), room in 0_usize..9) {
            let queue: Vec<_> =
                cancelled.iter().map(|&is_cancelled| Waiting { is_cancelled, deadline: None }).collect();
            let mut fates = fates(queue, room, crate::clock::now());
            let num_live = cancelled.iter().filter(|&&cancelled| !cancelled).count();
            prop_assert_eq!(fates.iter().filter(|fate| **fate == Fate::Run).count(), num_live.min(room));
            fates.retain(|fate| *fate != Fate::Cancelled);
            prop_assert!(fates.is_sorted_by_key(|fate| *fate == Fate::Wait));
        }
    }
}
