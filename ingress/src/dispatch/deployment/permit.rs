//! What a call holds while it is in a replica.

use std::sync::Arc;
use std::time::Instant;

use super::Deployment;
use crate::dispatch::place::StandIns;
use crate::dispatch::target::Target;
use crate::model::Outcome;

/// A place in a replica. Dropped without an outcome it counts as abandoned.
pub(crate) struct Permit {
    pub(super) deployment: Arc<Deployment>,
    pub(super) target: Arc<Target>,
    /// When the place was taken.
    pub(super) since: Instant,
    pub(super) stand_ins: StandIns,
    /// Whether it is still to be given back.
    pub(super) open: bool,
}

impl Permit {
    /// The replica.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Gives the place back.
    pub(crate) fn finish(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    /// Whether a call that hangs here may go elsewhere.
    pub(crate) fn stand_ins(&self) -> StandIns {
        self.stand_ins
    }

    fn end(&mut self, outcome: Outcome) {
        self.open = false;
        let (outcome, took) = self.deployment.release(&self.target, outcome, self.since);
        self.deployment.meter.ended(outcome, took);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.open {
            self.end(Outcome::Abandoned);
        }
    }
}
