//! What the worker's actor is told. Those that it starts tell it things too, and know no more of it than this.

use std::time::Duration;

use millstream_proto::v1;
use ractor::RpcReplyPort;

use crate::lifecycle::Event;

/// What a worker is told.
pub(crate) enum WorkerMsg {
    /// By the head link (orders), by replicas (progress), by its own timers (retries). Twice is harmless.
    Event(Event),
    /// By the head link, when it dials: answered by the link's `Inventory` with the same number, before any later
    /// change is told.
    Inventory(u64),
    /// By its own timer: start the head link again.
    RestartLink,
    /// By its own timer, each second: set the gauges.
    Measure,
    /// By [`Worker::drain`](crate::Worker::drain): stop all replicas, then the link; answered when both are gone.
    Leave {
        /// How long calls may take to finish.
        drain: Duration,
        /// Answered once.
        done: RpcReplyPort<()>,
    },
    /// By tests and people: every replica as the head sees it.
    #[cfg_attr(not(test), expect(dead_code, reason = "for debug endpoints to come"))]
    Inspect(RpcReplyPort<Vec<v1::ReplicaReport>>),
}
