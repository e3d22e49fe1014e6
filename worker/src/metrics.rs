//! What a worker counts: names, meanings, labels. Gauges are set each second from its replicas and held nowhere, so that
//! what has gone is no longer set, and leaves the recorder when it has been idle for a while.

use std::collections::BTreeMap;

use ::metrics::{Histogram, counter, gauge, histogram};
use millstream_proto::metric::{Definition, INPUTS, Kind};

const ONGOING: Definition = Definition {
    name: "millstream_replica_ongoing_requests",
    kind: Kind::Gauge,
    help: "Calls that this worker's replicas have, those in their batch queues included.",
    labels: &["deployment"],
};
const MODEL_MEMORY: Definition = Definition {
    name: "millstream_model_memory_bytes",
    kind: Kind::Gauge,
    help: "Memory that the models of this worker's replicas hold, as far as their engines know.",
    labels: &["deployment"],
};
const RESTARTS: Definition = Definition {
    name: "millstream_replica_restarts_total",
    kind: Kind::Counter,
    help: "Replicas of this worker that were started again after a failure.",
    labels: &["deployment"],
};
const BATCH_SIZE: Definition = Definition {
    name: "millstream_batch_size",
    kind: Kind::Histogram(INPUTS),
    help: "Inputs (texts, documents, rows) that went into the engine together; of a generator, sequences that a step advanced.",
    labels: &["deployment"],
};

/// Everything that a worker counts.
pub const ALL: &[Definition] = &[ONGOING, MODEL_MEMORY, RESTARTS, BATCH_SIZE];

/// A deployment's replicas on this worker, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DeploymentNumbers {
    /// Calls that they have.
    pub(crate) ongoing: u64,
    /// What their models hold.
    pub(crate) memory_bytes: u64,
}

/// Sets every gauge of the worker; by full name.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(crate) fn set(numbers: &BTreeMap<String, DeploymentNumbers>) {
    for (deployment, numbers) in numbers {
        gauge!(ONGOING.name, "deployment" => deployment.clone()).set(numbers.ongoing as f64);
        // Engines that do not know say nothing.
        if numbers.memory_bytes > 0 {
            gauge!(MODEL_MEMORY.name, "deployment" => deployment.clone()).set(numbers.memory_bytes as f64);
        }
    }
}

/// A replica is started again.
pub(crate) fn restarted(deployment: String) {
    counter!(RESTARTS.name, "deployment" => deployment).increment(1);
}

/// Counts the sizes of a replica's batches.
pub(crate) fn batch_sizes(deployment: String) -> Histogram {
    histogram!(BATCH_SIZE.name, "deployment" => deployment)
}
