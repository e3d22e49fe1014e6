//! Once a second: the cluster's numbers become gauges and the newest second of the history.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::present::series::{self, Rates};
use tokio::time::MissedTickBehavior;

use crate::host::Host;
use crate::leadership::Leadership;
use crate::metrics::{self, Leads};

/// A second of the history.
const STEP: Duration = Duration::from_secs(1);

/// Observes until the head closes.
pub(crate) async fn observe(host: Arc<Host>, leadership: Leadership) {
    let mut tick = tokio::time::interval(STEP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut rates = Rates::default();
    loop {
        tokio::select! {
            () = host.closing.cancelled() => return,
            _ = tick.tick() => {}
        }
        // Who does not lead has nothing to tell, nor has a reconciler that has just died.
        let term = leadership.term();
        metrics::leads(if term.is_ok() { Leads::Yes } else { Leads::No });
        let Ok(term) = term else { continue };
        if let Ok(shown) = term.snapshot().await {
            let numbers = shown.snapshot().numbers();
            metrics::set(&numbers);
            let now = host.clock.now();
            let rates = rates.observe(now, series::totals(&numbers));
            host.history.rings.lock().observe(now.as_secs(), series::samples(&numbers).chain(rates));
        }
    }
}
