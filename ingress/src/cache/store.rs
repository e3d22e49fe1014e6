//! Kept answers of one stage: bounded in bytes and in time. Which ones go when it is full is quick_cache's choice
//! (S3-FIFO: those that nobody asked for again go first).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_pipelines::Cache as Settings;
use millstream_proto::Value;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::size::{detached, size};
use crate::cache::fingerprint::Fingerprint;

/// What an answer takes beside its value: its fingerprint and its places in the tables.
const OVERHEAD_BYTES: u64 = 160;
/// Caches from that size on are split, so that their readers do not meet at one lock.
const SPLIT_BYTES: u64 = 64 << 20;
const SHARDS: usize = 8;
/// No answer may push out too many others: at most this part of all bytes. It is less than a shard.
const LARGEST_PART: u64 = 10;
/// What most answers are about, for the memory of what was pushed out lately.
const USUAL_BYTES: u64 = 2048;

/// An answer. Its value is shared with whoever gets it.
#[derive(Clone)]
struct Kept {
    value: Value,
    bytes: u64,
    expires_at: Instant,
    /// The revision that answered.
    revision: u64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Fingerprint, Kept> for ByBytes {
    fn weight(&self, _: &Fingerprint, kept: &Kept) -> u64 {
        kept.bytes
    }
}

/// See the module.
pub(crate) struct Store {
    kept: Cache<Fingerprint, Kept, ByBytes>,
    ttl: Duration,
    /// Bytes that its stage asks for.
    max_bytes: u64,
    /// Bytes that it has.
    capacity: AtomicU64,
}

impl Store {
    /// An empty one.
    pub(crate) fn new(settings: &Settings) -> Self {
        let max = settings.max_bytes;
        let usual = usize::try_from(max / USUAL_BYTES).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            .shards(if max < SPLIT_BYTES { 1 } else { SHARDS })
            .estimated_items_capacity(usual.clamp(32 * SHARDS, 1 << 20))
            .weight_capacity(max)
            .build()
            .expect("all that is needed is set");
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        let kept = Cache::with_options(options, ByBytes, hasher, lifecycle);
        Self { kept, ttl: settings.ttl, max_bytes: max, capacity: AtomicU64::new(max) }
    }

    /// The answer, if it is kept and its time is not over.
    pub(crate) fn get(&self, fingerprint: &Fingerprint, now: Instant) -> Option<Value> {
        let kept = self.kept.get(fingerprint)?;
        if now < kept.expires_at {
            return Some(kept.value);
        }
        self.kept.remove_if(fingerprint, |kept| kept.expires_at <= now);
        None
    }

    /// Keeps an answer from now on, unless it is too large.
    pub(crate) fn put(&self, fingerprint: Fingerprint, value: &Value, revision: u64, now: Instant) {
        let largest_bytes = self.capacity.load(Ordering::Relaxed) / LARGEST_PART;
        let Some(bytes) = size(value, largest_bytes.saturating_sub(OVERHEAD_BYTES)) else { return };
        let (bytes, expires_at) = (bytes + OVERHEAD_BYTES, now + self.ttl);
        self.kept.insert(fingerprint, Kept { value: detached(value), bytes, expires_at, revision });
    }

    /// Frees what is over, and answers of revisions that are not among these. Costs a step for each answer.
    pub(crate) fn sweep(&self, now: Instant, routed: &[u64]) {
        self.kept.retain(|_, kept| now < kept.expires_at && routed.contains(&kept.revision));
    }

    /// Bytes that its stage asks for.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Gives it so many bytes; what no longer fits goes.
    pub(crate) fn resize(&self, bytes: u64) {
        if self.capacity.swap(bytes, Ordering::Relaxed) != bytes {
            self.kept.set_capacity(bytes);
        }
    }

    /// Bytes that all answers take.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept.weight()
    }
}

#[cfg(test)]
mod tests {
    use millstream_pipelines::CacheScope;

    use super::*;
    use crate::cache::fingerprint::{Secret, Subject};

    fn store(max_bytes: u64) -> Store {
        let (ttl, scope) = (Duration::from_secs(10), CacheScope::All);
        Store::new(&Settings { ttl, max_bytes, scope })
    }

    fn fingerprint(number: i64) -> Fingerprint {
        let (deployment, inputs) = ("p/d".parse().unwrap(), Value::Int(number));
        let subject = Subject { deployment: &deployment, revision: 1, tenant: None, inputs: &inputs };
        Secret::new([0; 32]).fingerprint(subject)
    }

    #[test]
    fn an_answer_is_there_until_its_time_is_over() {
        let (store, start) = (store(1 << 20), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let value = Value::from("answer");
        store.put(fingerprint(1), &value, 1, start);
        let found = store.get(&fingerprint(1), at(9)).unwrap();
        assert_eq!(
            found.as_text().unwrap().as_ptr(),
            value.as_text().unwrap().as_ptr(),
            "shared, not copied"
        );
        assert_eq!(store.get(&fingerprint(2), at(9)), None);
        assert!(store.bytes() > 0);
        assert_eq!(store.get(&fingerprint(1), at(10)), None);
        assert_eq!(store.bytes(), 0, "what is over is freed when it is seen");
        store.put(fingerprint(1), &value, 1, at(11));
        assert!(store.get(&fingerprint(1), at(20)).is_some(), "a new answer has its own time");
    }

    #[test]
    fn bytes_are_bounded_and_what_is_asked_for_stays() {
        for max in [64 << 10, 1 << 20, 128 << 20] {
            let (store, now) = (store(max), Instant::now());
            let value = Value::Bytes(vec![0; usize::try_from(max / 100).unwrap()].into());
            for number in 0..1000 {
                store.put(fingerprint(number), &value, 1, now);
                store.get(&fingerprint(0), now);
                assert!(store.bytes() <= max, "{number}");
            }
            assert!(store.bytes() > max / 2, "{max}: {}", store.bytes());
            assert!(store.get(&fingerprint(0), now).is_some(), "asked for all the time");
            assert!(store.get(&fingerprint(500), now).is_none());
            let largest = vec![0; usize::try_from(max / 11).unwrap()];
            store.put(fingerprint(-1), &Value::Bytes(largest.into()), 1, now);
            let too_large = vec![0; usize::try_from(max / 10).unwrap()];
            store.put(fingerprint(-2), &Value::Bytes(too_large.into()), 1, now);
            assert!(store.get(&fingerprint(-1), now).is_some(), "{max}");
            assert!(store.get(&fingerprint(-2), now).is_none(), "{max}");
        }
    }

    #[test]
    fn a_smaller_cache_keeps_less() {
        let (store, now) = (store(1 << 20), Instant::now());
        for number in 0..1000 {
            store.put(fingerprint(number), &Value::Bytes(vec![0; 10_000].into()), 1, now);
        }
        assert!(store.bytes() > 512 << 10);
        store.resize(64 << 10);
        assert!(store.bytes() <= 64 << 10, "{}", store.bytes());
        store.put(fingerprint(-1), &Value::Bytes(vec![0; 10_000].into()), 1, now);
        assert!(store.get(&fingerprint(-1), now).is_none(), "more than its tenth");
    }

    #[test]
    fn a_sweep_frees_what_is_over_and_what_no_revision_gives() {
        let (store, start) = (store(1 << 20), Instant::now());
        let later = start + Duration::from_secs(5);
        store.put(fingerprint(1), &Value::Int(1), 1, start);
        store.put(fingerprint(2), &Value::Int(2), 1, later);
        store.put(fingerprint(3), &Value::Int(3), 2, later);
        store.sweep(start + Duration::from_secs(10), &[1]);
        let there = |number| store.get(&fingerprint(number), later).is_some();
        assert_eq!([there(1), there(2), there(3)], [false, true, false]);
    }
}
