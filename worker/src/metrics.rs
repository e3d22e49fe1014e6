//! What a worker counts: names, meanings, labels. Gauges are set each second from its replicas and held nowhere, so that
//! what has gone is no longer set, and leaves the recorder when it has been idle for a while.

mod generation;

use std::collections::BTreeMap;

use ::metrics::{Histogram, counter, gauge, histogram};
use millstream_engine::SequenceLoad;
use millstream_proto::metric::{Definition, INPUTS, Kind};

pub use self::generation::ALL as TOKENS;
pub(crate) use self::generation::ReplicaMeter;

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

/// Everything that a worker counts beside [tokens](TOKENS).
pub const ALL: &[Definition] = &[ONGOING, MODEL_MEMORY, RESTARTS, BATCH_SIZE];

/// A deployment's replicas on this worker, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DeploymentNumbers {
    /// Calls that they have.
    pub(crate) ongoing: u64,
    /// What their models hold.
    pub(crate) memory_bytes: u64,
    /// What the sequences of a generator's replicas hold.
    pub(crate) sequences: Option<SequenceLoad>,
}

impl DeploymentNumbers {
    /// One more of its replicas has such sequences under way.
    pub(crate) fn add(&mut self, load: SequenceLoad) {
        let sum = self.sequences.get_or_insert_default();
        sum.sequences += load.sequences;
        sum.cached_tokens += load.cached_tokens;
        sum.max_cached_tokens = sum.max_cached_tokens.saturating_add(load.max_cached_tokens);
    }
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
        if let Some(load) = numbers.sequences {
            generation::set(deployment, load, numbers.ongoing);
        }
    }
}

/// A replica is started again.
pub(crate) fn restarted(deployment: String) {
    counter!(RESTARTS.name, "deployment" => deployment).increment(1);
}

/// Counts the sizes of a replica's batches.
fn batch_sizes(deployment: String) -> Histogram {
    histogram!(BATCH_SIZE.name, "deployment" => deployment)
}
