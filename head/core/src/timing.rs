//! Every interval of the head in one place, so that tests run with short ones and nothing changes under `cfg(test)`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rollout;

/// Intervals and bounds of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How often a worker says that it lives. Default 1 s.
    pub heartbeat: Duration,
    /// Missed heartbeats after which a node's replicas leave the routes. Default 3.
    pub max_missed_heartbeats: u32,
    /// Silence after which a node's replicas are placed elsewhere. Default 15 s.
    pub replace_after: Duration,
    /// Silence after which a lost node is no longer shown. Default 1 h.
    pub forget_after: Duration,
    /// How long a head that comes back waits for workers to report before it places anything; longer than
    /// workers and ingresses wait between two attempts to dial. Default 4 s.
    pub settle: Duration,
    /// How long a replica that leaves waits for ingresses to confirm that they no longer send to it. Default 5 s.
    pub ack_timeout: Duration,
    /// Shortest time between two messages of a status watch. Default 100 ms.
    pub status_interval: Duration,
    /// Intervals of rollouts.
    pub rollout: rollout::Timing,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            max_missed_heartbeats: 3,
            replace_after: Duration::from_secs(15),
            forget_after: Duration::from_secs(3600),
            settle: Duration::from_secs(4),
            ack_timeout: Duration::from_secs(5),
            status_interval: Duration::from_millis(100),
            rollout: rollout::Timing::default(),
        }
    }
}

impl Timing {
    /// Silence after which a node gets no traffic.
    #[must_use]
    pub fn silent_after(&self) -> Duration {
        self.heartbeat * self.max_missed_heartbeats
    }
}
