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
    /// Where it failed, if that was at a stage.
    pub origin: Option<Origin>,
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
        Self { class, message: message.into(), retry_after_s: None, origin: None }
    }
}
