//! What is asked of a pool, and what it says.

use std::time::Instant;

use millstream_pipelines::FullName;
use millstream_proto::ErrorClass;

use super::replica::Key;
use crate::dispatch::queue::{QueueClass, Ticket};
use crate::model::Refused;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Send it to this replica now.
    Send(Key),
    /// It waits; a [`Grant`] with this ticket will name its replica.
    Wait(Ticket),
    /// It is turned away.
    Shed(Shed),
}

/// A request that is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shed {
    /// When to come back.
    pub retry_after_s: u32,
    /// Why.
    pub reason: ShedReason,
}

impl Shed {
    /// Whose fault it is.
    pub(crate) fn class(&self) -> ErrorClass {
        match self.reason {
            ShedReason::Full | ShedReason::Displaced | ShedReason::TooLate => ErrorClass::Overloaded,
            ShedReason::CannotStart(_) => ErrorClass::Unavailable,
        }
    }

    /// Why, for clients.
    pub(crate) fn refused(&self) -> Refused {
        match self.reason {
            ShedReason::Full => Refused::Saturated,
            ShedReason::Displaced => Refused::Displaced,
            ShedReason::TooLate => Refused::Late,
            ShedReason::CannotStart(_) => Refused::NoReplica,
        }
    }

    /// What it is told of the deployment with this name.
    pub(crate) fn message(&self, name: &FullName) -> String {
        match self.reason {
            ShedReason::Full => format!("the queue of `{name}` is full"),
            ShedReason::Displaced => {
                format!("the queue of `{name}` is full, and one that goes first took the place of this one")
            }
            ShedReason::TooLate => {
                format!("so many requests wait for `{name}` that this one's deadline would pass")
            }
            ShedReason::CannotStart(StartFailure::Replicas) => {
                format!("`{name}` cannot start: its replicas fail each time; `cluster status` says why")
            }
            ShedReason::CannotStart(StartFailure::Mismatch) => {
                format!(
                    "`{name}` does not serve: its pipeline does not fit its models; `cluster status` says why"
                )
            }
        }
    }
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedReason {
    /// The queue is full.
    Full,
    /// It waited, and the queue is full: one that goes before it took its place.
    Displaced,
    /// So many are before it that its deadline would pass.
    TooLate,
    /// There is no replica, and waiting for one is in vain.
    CannotStart(StartFailure),
}

/// Why a deployment has no replica and gets none by waiting, as the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// Its replicas fail each time they start.
    Replicas,
    /// Its pipeline does not fit the models that have been loaded.
    Mismatch,
}

/// What a request leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// What becomes of it.
    pub admission: Admission,
    /// Requests that waited before and go now.
    pub grants: Vec<Grant>,
    /// A request that waited and is turned away in its place.
    pub evicted: Option<(Ticket, Shed)>,
}

/// A waiting request that is bound to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Who waited.
    pub ticket: Ticket,
    /// Where it goes.
    pub key: Key,
}

/// What a call asks of the replica that it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutingRequest<'a> {
    /// Replicas that it must not go to.
    pub avoid: &'a [Key],
    /// The revision that its request runs on; `None` for a request of another pipeline.
    pub revision: Option<u64>,
    /// The request's draw in thousandths: of the replicas of two revisions, all its calls go to those of one.
    pub draw: u16,
    /// What it may claim of the queue.
    pub claim: QueueClass,
    /// When a place is of no use any more.
    pub deadline: Option<Instant>,
    /// Whether it may be turned away.
    pub standing: Standing,
}

/// Whether a call may be turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been done for its request yet.
    New,
    /// Its request has had a place before: what was done for it would be in vain, so its calls wait.
    Admitted,
}

impl<'a> RoutingRequest<'a> {
    /// Any replica but these.
    #[cfg(test)]
    pub(crate) fn avoiding(avoid: &'a [Key]) -> Self {
        Self {
            avoid,
            revision: None,
            draw: 0,
            claim: QueueClass::default(),
            deadline: None,
            standing: Standing::New,
        }
    }
}

/// Which replicas a request may still go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligibility {
    /// There are no replicas at all.
    Empty,
    /// At least one is not avoided.
    Open,
    /// There are some, and the request avoids them all.
    AllAvoided,
}
