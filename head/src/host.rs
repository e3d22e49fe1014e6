//! What the parts of one head's process share, whether or not it leads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::Timing;
use millstream_core::model::SessionId;
use millstream_core::present::series::History;
use millstream_core::present::stages::StageCalls;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, unix_ms};
use crate::presence::Presence;
use crate::targets::Targets;
use crate::traces::TraceRing;

/// See the module.
pub(crate) struct Host {
    /// Name of this head.
    pub(crate) name: String,
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    /// Whether this process runs.
    pub(crate) presence: Presence,
    /// Set once somebody asks the cluster to stop.
    pub(crate) stop: watch::Sender<Option<Duration>>,
    /// Ends everything when the head closes.
    pub(crate) closing: CancellationToken,
    pub(crate) history: Recorded,
    /// Locked for microseconds, never across an await.
    pub(crate) traces: Mutex<TraceRing>,
    /// The same.
    pub(crate) stages: Mutex<StageCalls>,
    /// Where processes have their metrics.
    pub(crate) targets: Targets,
    last_session: AtomicU64,
}

/// The last hour of the cluster's numbers as this process saw it, and when its clock began.
pub(crate) struct Recorded {
    /// Locked for microseconds, never across an await.
    pub(crate) rings: Mutex<History>,
    /// Milliseconds since the Unix epoch.
    pub(crate) started_unix_ms: u64,
}

impl Host {
    /// A process that begins now.
    pub(crate) fn start(name: String, timing: Timing) -> Self {
        Self {
            name,
            timing,
            clock: Clock::start(),
            presence: Presence::default(),
            stop: watch::Sender::new(None),
            closing: CancellationToken::new(),
            history: Recorded { rings: Mutex::default(), started_unix_ms: unix_ms() },
            traces: Mutex::default(),
            stages: Mutex::default(),
            targets: Targets::default(),
            last_session: AtomicU64::new(0),
        }
    }

    /// An id for a stream.
    pub(crate) fn next_session(&self) -> SessionId {
        SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
