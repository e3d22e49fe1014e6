//! The place where the two ends of a call meet: its outcome, set once by whoever comes first, and whether its caller has left.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};

use millstream_values::{CallError, Value};
use parking_lot::Mutex;

/// How a call ended.
pub(crate) type Outcome = Result<Value, CallError>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct OutcomeCell(Mutex<State>);

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
        let mut state = self.0.lock();
        let State::Open(waker) = &mut *state else { return };
        let waker = waker.take();
        *state = State::Set(outcome);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the outcome once it is there.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        ready!(self.poll_ended(cx));
        match std::mem::replace(&mut *self.0.lock(), State::Over) {
            State::Set(outcome) => Poll::Ready(Some(outcome)),
            State::Open(_) | State::Over => Poll::Ready(None),
        }
    }

    /// Waits for the outcome and leaves it there.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.0.lock() {
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
        matches!(*self.0.lock(), State::Set(_))
    }

    /// Whether there is no outcome, and somebody to wait for it.
    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.0.lock(), State::Open(_))
    }

    /// The caller leaves.
    pub(crate) fn leave(&self) {
        let left = std::mem::replace(&mut *self.0.lock(), State::Over);
        drop(left);
    }

    /// Whether the caller has left.
    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.0.lock(), State::Over)
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
