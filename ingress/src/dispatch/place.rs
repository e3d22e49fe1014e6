//! What a call says when it asks for a place in a replica, and what it hears with it.

use std::time::Duration;

/// Whether a call asks for a place for the first time; only then it is load of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It does.
    First,
    /// It is sent again.
    Again,
}

/// Whether a call that hangs in its replica may go to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StandIns {
    /// It may not, or there is no other.
    None,
    /// It may.
    Exist {
        /// How long the replica is waited for, as far as other calls tell.
        patience: Option<Duration>,
    },
}
