//! The place where the two ends of a call meet: its outcome, set once by whoever comes first, and whether its caller has left.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};

use millstream_values::{CallError, Value};
use parking_lot::Mutex;

use crate::timing::Timing;

/// How a call ended.
pub(crate) type Outcome = Result<Value, CallError>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct OutcomeCell(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    state: State,
    /// What the replica says of its time.
    timing: Option<Timing>,
}

#[derive(Debug)]
enum State {
    /// Nothing yet; whom to wake.
    Open(Option<Waker>),
    Set(Outcome),
    /// The caller has it, or has left.
    Over,
}

impl Default for State {
    fn default() -> Self {
        Self::Open(None)
    }
}

impl OutcomeCell {
    /// Sets the outcome, unless there is one or the caller has left.
    pub(crate) fn set(&self, outcome: Outcome) {
        let mut inside = self.0.lock();
        let State::Open(waker) = &mut inside.state else { return };
        let waker = waker.take();
        inside.state = State::Set(outcome);
        drop(inside);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the outcome once it is there.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        ready!(self.poll_ended(cx));
        match std::mem::replace(&mut self.0.lock().state, State::Over) {
            State::Set(outcome) => Poll::Ready(Some(outcome)),
            State::Open(_) | State::Over => Poll::Ready(None),
        }
    }

    /// Waits for the outcome and leaves it there.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0.lock().state {
            State::Open(waker) => {
                match waker {
                    Some(there) => there.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            State::Set(_) | State::Over => Poll::Ready(()),
        }
    }

    /// Whether it has been set and not been taken.
    pub(crate) fn is_set(&self) -> bool {
        matches!(self.0.lock().state, State::Set(_))
    }

    /// Whether there is no outcome, and somebody to wait for it.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.0.lock().state, State::Open(_))
    }

    /// The caller leaves.
    pub(crate) fn leave(&self) {
        let left = std::mem::replace(&mut self.0.lock().state, State::Over);
        drop(left);
    }

    /// Whether the caller has left.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.0.lock().state, State::Over)
    }

    /// Keeps what the replica says of its time until it is asked for.
    pub(crate) fn note_timing(&self, timing: Timing) {
        self.0.lock().timing = Some(timing);
    }

    /// What the replica has said of its time, once.
    pub(crate) fn take_timing(&self) -> Option<Timing> {
        self.0.lock().timing.take()
    }
}

/// Ends a call from outside of the engine that has it: for a replica whose engine does not come back from it.
#[derive(Debug, Clone)]
pub struct Ender(pub(crate) Weak<OutcomeCell>);

impl Ender {
    pub(crate) fn of(cell: &Arc<OutcomeCell>) -> Self {
        Self(Arc::downgrade(cell))
    }

    /// Fails the call, unless it has ended. What its engine still says is dropped.
    pub fn fail(&self, error: CallError) {
        if let Some(cell) = self.0.upgrade() {
            cell.set(Err(error));
        }
    }

    /// Whether neither an end nor a caller is left of the call.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.upgrade().is_none_or(|cell| cell.is_over() || cell.is_set())
    }
}
