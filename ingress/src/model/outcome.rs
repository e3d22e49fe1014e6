//! How calls end, as far as their replicas are concerned.

use millstream_proto::{CallError, ErrorClass, Started};

/// How a call ended, as far as its replica is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered; an answer that blames the request is one too.
    Answered,
    /// It could not be reached, or vanished.
    Transport,
    /// It answered that it failed.
    Failed,
    /// It did not answer within the time of a try, or the stage's timeout.
    TimedOut,
    /// It said nothing for longer than its kind takes, and then another answered, or the caller left.
    Silent,
    /// It had no room.
    Full,
    /// The call was given up before there was an outcome.
    Abandoned,
}

impl Outcome {
    /// What a call's end says about its replica.
    #[must_use]
    pub fn of<T>(result: &Result<T, CallError>) -> Self {
        let Err(error) = result else { return Self::Answered };
        match (error.class, error.started) {
            (ErrorClass::Unavailable, _) | (ErrorClass::NotFound, Started::No) => Self::Transport,
            (ErrorClass::Overloaded, Started::No) => Self::Full,
            (ErrorClass::Internal, _) => Self::Failed,
            _ => Self::Answered,
        }
    }
}
