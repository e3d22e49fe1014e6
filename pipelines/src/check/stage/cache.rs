//! `cache` of a stage: a table, or its `ttl` alone.

use std::time::Duration;

use super::target::Target;
use crate::check::stage::Deployments;
use crate::fault::FaultSink;
use crate::raw::{RawValue, Reader};
use crate::spec::{Cache, CacheScope};

/// Bytes of kept answers unless the file says otherwise.
const DEFAULT_MAX_BYTES: u64 = 64 << 20;
const MAX_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 40;
const TTLS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30 * 86_400);
const SCOPES: [(&str, CacheScope); 2] = [("key", CacheScope::Key), ("all", CacheScope::All)];

/// Reads `cache`, which only a stage that calls a deployment may have.
pub(super) fn cache(
    table: &mut Reader<'_>,
    target: &Target,
    deployments: &Deployments,
    faults: &mut FaultSink<'_>,
) -> Option<Cache> {
    let (name, raw) = table.raw("cache")?;
    if let Target::Own(full) = target
        && deployments.specs.get(&full.deployment).is_some_and(|spec| !spec.limits.idempotent)
    {
        let message = format!(
            "{} is given, but deployment `{}` is not idempotent",
            table.label("cache"),
            full.deployment
        );
        let help = "remove the key, or the `idempotent = false` of the deployment if equal calls may share an answer";
        faults.push(name.span.clone(), message, help);
    }
    if matches!(raw.value, RawValue::Text(_)) {
        let ttl = table.duration("cache", TTLS, faults)?;
        return Some(Cache { ttl, max_bytes: DEFAULT_MAX_BYTES, scope: CacheScope::default() });
    }
    if raw.as_table().is_none() {
        table.wrong_kind("cache", raw, "a table or a duration such as `\"10m\"`", faults);
        return None;
    }
    let mut keys = table.table("cache", faults)?;
    if keys.raw("ttl").is_none() {
        let help = "say how long an answer may be used again: `cache = { ttl = \"10m\" }`";
        faults.push(keys.span(), format!("{} is missing", keys.label("ttl")), help);
    }
    let ttl = keys.duration("ttl", TTLS, faults);
    let max_bytes = keys.bytes("max", MAX_BYTES, faults).unwrap_or(DEFAULT_MAX_BYTES);
    let scope = keys.word("scope", &SCOPES, faults).unwrap_or_default();
    keys.finish(faults);
    Some(Cache { ttl: ttl?, max_bytes, scope })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    fn caches_of(deployment: &str, stage: &str) -> Result<Vec<(String, Cache)>, Vec<String>> {
        let text = format!(
            "name = \"p\"\nroute = \"/p\"\n[deployments.a]\nengine = \"echo\"\n{deployment}\n\
             [stages.plain]\nuse = \"a\"\n[stages.x]\n{stage}\n[response]\nx = \"x\"\nplain = \"plain\"\n"
        );
        match Plan::compile("p.toml", &text) {
            Ok(plan) => {
                let caches = plan.caches().iter();
                Ok(caches.map(|cached| (cached.stage.to_string(), cached.cache)).collect())
            }
            Err(faults) => Err(faults.faults.into_iter().map(|fault| fault.message).collect()),
        }
    }

    #[test]
    fn a_ttl_is_enough_and_answers_stay_with_their_key_unless_said() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (settings, ttl, max_bytes, scope) in [
            ("cache = \"10m\"", minutes(10), 64 << 20, CacheScope::Key),
            ("cache = { ttl = \"1h\" }", minutes(60), 64 << 20, CacheScope::Key),
            ("cache = { ttl = \"5m\", max = \"256MiB\" }", minutes(5), 256 << 20, CacheScope::Key),
            ("cache = { ttl = \"5m\", scope = \"key\" }", minutes(5), 64 << 20, CacheScope::Key),
            ("cache = { ttl = \"5m\", scope = \"all\" }", minutes(5), 64 << 20, CacheScope::All),
        ] {
            let caches = caches_of("", &format!("use = \"a\"\n{settings}")).unwrap();
            assert_eq!(caches, [("x".to_owned(), Cache { ttl, max_bytes, scope })], "{settings}");
        }
        assert_eq!(caches_of("", "use = \"a\"").unwrap(), [], "none unless asked for");
        let foreign = caches_of("", "use = \"other/model\"\ncache = \"1s\"").unwrap();
        assert_eq!(foreign.len(), 1, "of another pipeline's deployment nothing is known here");
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for (deployment, stage, expected) in [
            ("", "use = \"op:merge\"\ncache = \"1s\"", "an operator runs at once and in place"),
            ("idempotent = false", "use = \"a\"\ncache = \"1s\"", "deployment `a` is not idempotent"),
            ("", "use = \"a\"\ncache = { max = \"1MiB\" }", "`cache.ttl` is missing"),
            ("", "use = \"a\"\ncache = { ttl = \"1s\", max = \"1KiB\" }", "`cache.max` is `1KiB`"),
            ("", "use = \"a\"\ncache = { ttl = \"1s\", scope = \"al\" }", "`cache.scope` is `al`"),
            ("", "use = \"a\"\ncache = { ttl = \"1s\", size = 1 }", "has a key `cache.size`"),
            ("", "use = \"a\"\ncache = \"0s\"", "`cache` is `0s`"),
            ("", "use = \"a\"\ncache = true", "a table or a duration"),
        ] {
            let faults = caches_of(deployment, stage).unwrap_err();
            assert!(faults.len() == 1 && faults[0].contains(expected), "{stage}: {faults:?}");
        }
    }
}
