//! Looks after kept answers while this ingress lives: tells how many bytes they take, and frees what is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::table::Routes;
use crate::metrics;

/// How often their size is told. A gauge that nobody sets for ten seconds leaves.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
/// What is over is freed every so many times; until then it is only never used.
const TELLS_PER_SWEEP: u32 = 10;

/// See the module. Never returns.
pub(crate) async fn tend_caches(routes: Arc<Routes>) {
    let mut told = 0;
    loop {
        tokio::time::sleep(TELL_INTERVAL).await;
        told += 1;
        let sweeps = told % TELLS_PER_SWEEP == 0;
        let Some(table) = routes.current().clone() else { continue };
        for (name, route) in &table.by_name {
            let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
            for pipeline in &route.variants {
                for cache in pipeline.caches.iter() {
                    if sweeps {
                        cache.sweep(
                            millstream_clock::now(),
                            &pipeline.targets[cache.target()].routed_revisions(),
                        );
                    }
                    *bytes.entry(cache.stage()).or_default() += cache.bytes();
                }
            }
            bytes.into_iter().for_each(|(stage, bytes)| metrics::cache_bytes(name.as_str(), stage, bytes));
        }
    }
}
