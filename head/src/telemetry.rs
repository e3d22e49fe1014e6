//! Once a second: the cluster's numbers become gauges and the newest second of the history.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::present::series::{self, Rates};
use tokio::time::MissedTickBehavior;

use crate::metrics;
use crate::shared::Shared;

/// A second of the history.
const STEP: Duration = Duration::from_secs(1);

/// Observes until the head closes.
pub(crate) async fn observe(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(STEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut rates = Rates::default();
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            _ = tick.tick() => {}
        }
        // A reconciler that is being restarted has nothing to tell.
        if let Ok(shown) = shared.snapshot().await {
            let numbers = shown.snapshot().numbers();
            metrics::set(&numbers);
            let now = shared.clock.now();
            let rates = rates.observe(now, series::totals(&numbers));
            shared.history.rings.lock().observe(now.as_secs(), series::samples(&numbers).chain(rates));
        }
    }
}
