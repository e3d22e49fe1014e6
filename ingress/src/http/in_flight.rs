//! A request on its connection.

use std::sync::Arc;

use parking_lot::Mutex;

use super::activity::Activity;
use crate::clock;

/// A request on its connection, from its header block to the end of its answer.
pub(crate) struct InFlight {
    activity: Arc<Mutex<Activity>>,
}

impl InFlight {
    pub(super) fn start(activity: Arc<Mutex<Activity>>) -> Self {
        activity.lock().request_started();
        Self { activity }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.lock().request_ended(clock::now());
    }
}
