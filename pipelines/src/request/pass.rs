//! What the seeds of one pass over a body share: the place where the pass is, and the faults that it has found.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::de::Error;

use super::{MAX_FIELD_FAULTS, MAX_VALUES};
use crate::FieldFault;

/// Where the pass is, and what it has found.
#[derive(Default)]
pub(super) struct State {
    pub(super) path: Vec<Step>,
    pub(super) faults: Vec<FieldFault>,
    /// Values made of the body.
    pub(super) num_values: usize,
    num_dropped: usize,
    num_suggestions: usize,
}

/// One step of a JSON pointer.
pub(super) enum Step {
    Key(Arc<str>),
    Index(usize),
}

/// Suggestions made for one body; comparing names costs time that a caller could ask for without end.
const MAX_SUGGESTIONS: usize = 8;

impl State {
    /// Counts a value that is made.
    ///
    /// # Errors
    /// When there are too many: each takes memory that its few bytes in the body do not tell of.
    pub(super) fn count_value<E: Error>(&mut self) -> Result<(), E> {
        self.num_values += 1;
        if self.num_values > MAX_VALUES {
            return Err(E::custom(format_args!("it has more than {MAX_VALUES} values")));
        }
        Ok(())
    }

    /// Whether a suggestion may be looked for, which counts as made.
    pub(super) fn may_suggest(&mut self) -> bool {
        self.num_suggestions += 1;
        self.num_suggestions <= MAX_SUGGESTIONS
    }

    /// Records a fault at the current place.
    pub(super) fn fault(&mut self, message: impl Into<String>) {
        if self.faults.len() >= MAX_FIELD_FAULTS {
            self.num_dropped += 1;
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => path.extend(["/", &key.replace('~', "~0").replace('/', "~1")]),
                Step::Index(index) => write!(path, "/{index}").expect("writing to a string does not fail"),
            }
        }
        self.faults.push(FieldFault { path, message: message.into() });
    }

    /// All faults, with a last one for those that are not shown.
    pub(super) fn into_faults(mut self) -> Vec<FieldFault> {
        if self.num_dropped > 0 {
            let message = format!("{} more faults are not shown", self.num_dropped);
            self.faults.push(FieldFault { path: String::new(), message });
        }
        self.faults
    }
}

/// The pass's state, shared by the seeds along the way.
pub(super) type Shared<'s> = &'s RefCell<State>;

/// Goes to an item of the list at the current place.
pub(super) fn enter_index(state: Shared<'_>, index: usize) {
    state.borrow_mut().path.push(Step::Index(index));
}

/// Goes back.
pub(super) fn leave(state: Shared<'_>) {
    state.borrow_mut().path.pop();
}
