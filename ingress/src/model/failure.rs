//! Why a request ended without a response, for whoever answers it.

use std::sync::Arc;

use millstream_proto::{ErrorClass, ReplicaId};

/// Why a request ended without a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The class, which becomes the status.
    pub class: ErrorClass,
    /// For the client.
    pub message: String,
    /// When to come back, if that is known.
    pub retry_after_s: Option<u32>,
    /// Why it was turned away, if it was.
    pub refused: Option<Refused>,
    /// Where it failed, if that was at a stage.
    pub origin: Option<Origin>,
}

/// Why a request was turned away before it ran, for clients and gateways that treat the reasons differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As much waits or is under way as may.
    Saturated,
    /// It waited where as much waits as may, and one of a higher priority took its place.
    Displaced,
    /// Its deadline would pass while it waits.
    Late,
    /// There is no replica, and waiting for one is in vain.
    NoReplica,
    /// Its key is at one of its limits.
    Quota,
    /// The process is about to end.
    ShuttingDown,
}

impl Refused {
    /// As a header says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Saturated => "saturated",
            Self::Displaced => "displaced",
            Self::Late => "late",
            Self::NoReplica => "no-replica",
            Self::Quota => "quota",
            Self::ShuttingDown => "shutting-down",
        }
    }
}

/// Where a request failed, for whoever operates the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The stage.
    pub stage: Arc<str>,
    /// The replica that its call went to last.
    pub replica: Option<ReplicaId>,
}

impl Failure {
    /// Of a request that is nowhere in its pipeline.
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after_s: None, refused: None, origin: None }
    }
}
