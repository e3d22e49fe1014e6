//! Once a second: the cluster's numbers become gauges and the newest second of the history.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::shared::Shared;
use crate::{metrics, series};

/// A second of the history.
const STEP: Duration = Duration::from_secs(1);

/// Observes until the head closes.
pub(crate) async fn observe(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(STEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            _ = tick.tick() => {}
        }
        // A reconciler that is being restarted has nothing to tell.
        if let Ok(numbers) = shared.ask(ReconcilerMsg::Numbers).await {
            metrics::set(&numbers);
            let second = shared.clock.now().as_secs();
            shared.history.lock().observe(second, series::samples(&numbers));
        }
    }
}
