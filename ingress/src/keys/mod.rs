//! API keys: whose a request is, and whether it may come in now. A route table holds the keys of its version as a
//! snapshot that is looked up by the SHA-256 of what a client shows: no comparison touches the secret itself. What a key
//! has used outlives tables.

pub(crate) mod bucket;
mod limits;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_proto::call::Priority;
use millstream_proto::v1;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use self::bucket::Rate;
use self::limits::{Limits, Refusal, Usage};
use crate::dispatch::QueueClass;
use crate::metrics::{KeyMeter, KeyResult};
use crate::model::{Failure, Refused};

/// Longest text that is looked up; no key is that long.
const MAX_SECRET_BYTES: usize = 256;

/// The keys of one route table.
#[derive(Default)]
pub(crate) struct Keys {
    by_sha256: HashMap<[u8; 32], Arc<Key>>,
}

/// A key as one route table has it.
pub(crate) struct Key {
    name: Arc<str>,
    tenant: u32,
    weight: u32,
    priority: Priority,
    limits: Limits,
    account: Arc<Account>,
}

/// What goes on from table to table.
struct Account {
    usage: Mutex<Usage>,
    meter: KeyMeter,
}

/// A request of a key that was let in; its place is given back when this is dropped.
pub(crate) struct Slot {
    account: Arc<Account>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.account.usage.lock().ended();
    }
}

impl Keys {
    /// Those of a new table, which go on where the old ones are.
    pub(crate) fn of(table: &v1::RouteTable, old: Option<&Self>) -> Self {
        let old: HashMap<_, _> =
            old.into_iter().flat_map(|old| old.by_sha256.values()).map(|key| (key.tenant, key)).collect();
        let keys = table.keys.iter().filter_map(|key| {
            let Ok(sha256) = <[u8; 32]>::try_from(&*key.sha256) else {
                tracing::warn!(key = key.name, "a key's digest is none");
                return None;
            };
            let account = || {
                let usage = Mutex::new(Usage::new(millstream_clock::now()));
                Arc::new(Account { usage, meter: KeyMeter::of(&key.name) })
            };
            let key = Key {
                name: key.name.as_str().into(),
                tenant: key.tenant,
                weight: key.weight,
                priority: key.priority().into(),
                limits: Limits::part_of(key, table.num_ingresses),
                account: old.get(&key.tenant).map_or_else(account, |old| old.account.clone()),
            };
            Some((sha256, Arc::new(key)))
        });
        Self { by_sha256: keys.collect() }
    }

    /// The key of that secret.
    pub(crate) fn find(&self, secret: &[u8]) -> Option<&Arc<Key>> {
        if secret.len() > MAX_SECRET_BYTES {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(secret).into();
        self.by_sha256.get(&digest)
    }
}

/// What a key with a rate may still do at this ingress.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Allowance {
    /// Requests that may come at once, at most.
    pub(crate) limit: f64,
    /// Those that may come now.
    pub(crate) remaining: u64,
    /// When all of them may again.
    pub(crate) reset: Duration,
}

impl Key {
    /// What it may still do; `None` without a rate.
    pub(crate) fn allowance(&self) -> Option<Allowance> {
        let rate = self.limits.rate?;
        let (remaining, reset) = self.account.usage.lock().left(rate, millstream_clock::now());
        Some(Allowance { limit: rate.burst, remaining, reset })
    }

    /// Its name.
    pub(crate) fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// What to tell the client when the key is at one of its limits.
    pub(crate) fn admit(&self) -> Result<Slot, Failure> {
        let refused = self.account.usage.lock().admit(self.limits, millstream_clock::now());
        let (result, message) = match refused {
            Ok(()) => {
                self.account.meter.count(KeyResult::Admitted);
                return Ok(Slot { account: self.account.clone() });
            }
            Err(Refusal::Rate(_)) => {
                let Rate { per_s, burst } = self.limits.rate.unwrap_or(Rate { per_s: 0.0, burst: 0.0 });
                let rate = format!("`{per_s}` a second here, `{burst}` at once");
                (KeyResult::Rate, format!("key `{}` is over its rate of requests: {rate}", self.name))
            }
            Err(Refusal::Concurrency(most)) => {
                let text =
                    format!("key `{}` is at its concurrency limit: `{most}` at a time here", self.name);
                (KeyResult::Concurrency, text)
            }
        };
        self.account.meter.count(result);
        let retry_after_s = refused.err().map(limits::retry_after_s);
        let refused = Some(Refused::Quota);
        let class = millstream_proto::ErrorClass::RateLimited;
        Err(Failure { retry_after_s, refused, ..Failure::new(class, message) })
    }
}

/// What a request may claim where it waits: on its key's account, with the priority it asks for but none above its key's.
pub(crate) fn claim(key: Option<&Key>, asked: Option<Priority>) -> QueueClass {
    match key {
        None => QueueClass { priority: asked.unwrap_or_default(), ..QueueClass::default() },
        Some(&Key { tenant, weight, priority: highest, .. }) => {
            QueueClass { priority: asked.map_or(highest, |asked| asked.max(highest)), tenant, weight }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(keys: Vec<v1::ApiKey>, num_ingresses: u32) -> v1::RouteTable {
        v1::RouteTable { keys, num_ingresses, ..Default::default() }
    }

    fn key(secret: &str, tenant: u32, concurrency: u32, priority: v1::Priority) -> v1::ApiKey {
        v1::ApiKey {
            name: format!("key-{tenant}"),
            sha256: Sha256::digest(secret).to_vec().into(),
            tenant,
            concurrency,
            weight: 3,
            priority: priority.into(),
            ..Default::default()
        }
    }

    #[test]
    fn only_the_secret_finds_its_key() {
        let keys = Keys::of(&table(vec![key("mk_a", 1, 0, v1::Priority::Normal)], 1), None);
        assert_eq!(keys.find(b"mk_a").map(|key| key.tenant), Some(1));
        for wrong in ["", "mk_", "mk_b", "MK_A", &"x".repeat(10_000)] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
        let half = v1::ApiKey { sha256: vec![1; 16].into(), ..Default::default() };
        assert!(Keys::of(&table(vec![half], 1), None).by_sha256.is_empty());
    }

    #[test]
    fn what_is_under_way_is_counted_across_tables() {
        let first = Keys::of(&table(vec![key("a", 1, 2, v1::Priority::Normal)], 1), None);
        let slots: Vec<_> = (0..2).map(|_| first.find(b"a").unwrap().admit().ok().unwrap()).collect();
        let second = Keys::of(&table(vec![key("a", 1, 3, v1::Priority::Normal)], 1), Some(&first));
        let third = second.find(b"a").unwrap().admit().ok().unwrap();
        let refused = second.find(b"a").unwrap().admit().err().unwrap();
        assert_eq!(refused.retry_after_s, Some(1));
        assert!(refused.message.contains("concurrency limit: `3`"), "{}", refused.message);
        drop(slots);
        assert!(second.find(b"a").unwrap().admit().is_ok());
        drop(third);
        // Made anew under the same name it is another key.
        let anew = Keys::of(&table(vec![key("b", 2, 1, v1::Priority::Normal)], 1), Some(&second));
        assert!(anew.find(b"a").is_none() && anew.find(b"b").unwrap().admit().is_ok());
    }

    #[test]
    fn nobody_gets_above_the_priority_of_the_key() {
        use Priority::{High, Low, Normal};
        let highest = |priority: v1::Priority| {
            Keys::of(&table(vec![key("a", 7, 0, priority)], 1), None).find(b"a").cloned()
        };
        let table = [
            (v1::Priority::High, None, High),
            (v1::Priority::High, Some(Low), Low),
            (v1::Priority::Normal, Some(High), Normal),
            (v1::Priority::Low, Some(Normal), Low),
        ];
        for (of_key, asked, priority) in table {
            let expected = QueueClass { priority, tenant: 7, weight: 3 };
            assert_eq!(claim(highest(of_key).as_deref(), asked), expected, "{of_key:?} {asked:?}");
        }
        assert_eq!(claim(None, Some(High)), QueueClass { priority: High, ..QueueClass::default() });
        assert_eq!(claim(None, None), QueueClass::default());
    }
}
