//! Looks after kept answers while this ingress lives: shares its memory among them, reports how many bytes they take, and frees
//! what is over. Reports as well whether the head is heard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::pipeline::Pipeline;
use super::table::{RouteTable, Routes};
use crate::cache::StageCache;
use crate::metrics;

/// How often their size is reported. A gauge that nobody sets for ten seconds leaves.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// What is over is freed every so many times; until then it is only never used.
const REPORTS_PER_SWEEP: u32 = 10;

/// See the module. `max_bytes`: what all caches of this ingress take together. Never returns.
pub(crate) async fn tend_caches(routes: Arc<Routes>, max_bytes: u64) {
    for round in 1_u32.. {
        tokio::time::sleep(REPORT_INTERVAL).await;
        metrics::hears_head(u8::from(routes.hears_head()));
        let Some(table) = routes.current().clone() else { continue };
        let asked = caches_of(&table).map(|(_, cache)| cache.max_bytes()).fold(0, u64::saturating_add);
        let mut bytes: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (pipeline, cache) in caches_of(&table) {
            cache.resize(share(cache.max_bytes(), asked, max_bytes));
            if round.is_multiple_of(REPORTS_PER_SWEEP) {
                let routed = pipeline.targets[cache.target()].routed_revisions();
                cache.sweep(millstream_clock::now(), &routed);
            }
            *bytes.entry((pipeline.plan.name().as_str(), cache.stage())).or_default() += cache.bytes();
        }
        bytes.into_iter().for_each(|((name, stage), bytes)| metrics::cache_bytes(name, stage, bytes));
    }
}

/// The caches of all revisions that are routed to.
fn caches_of(table: &RouteTable) -> impl Iterator<Item = (&Pipeline, &StageCache)> {
    let pipelines = table.by_name.values().flat_map(|route| &route.variants);
    pipelines.flat_map(|pipeline| pipeline.caches.iter().map(|cache| (&**pipeline, cache)))
}

/// The bytes of a cache whose stage wants `wanted`, where all stages want `asked` and there are `max`: what it wants, or its part.
fn share(wanted: u64, asked: u64, max: u64) -> u64 {
    if asked <= max {
        return wanted;
    }
    let share = u128::from(wanted) * u128::from(max) / u128::from(asked);
    u64::try_from(share).unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn all_get_what_they_want_or_an_equal_part_of_it() {
        assert_eq!(share(64, 100, 100), 64);
        assert_eq!([share(64, 128, 100), share(32, 128, 100)], [50, 25]);
        assert_eq!(share(1 << 40, u64::MAX, 1 << 30), 64);
    }
}
