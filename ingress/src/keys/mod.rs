//! API keys: whose a request is, and whether it may come in now. A route table holds the keys of its version as a
//! snapshot that is looked up by the SHA-256 of what a client shows: no comparison touches the secret itself. What a key
//! has used outlives tables.

pub(crate) mod book;
pub(crate) mod bucket;
mod limits;
mod tokens;
pub(crate) mod visit;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_proto::call::Priority;
use millstream_proto::key::matches;
use millstream_proto::v1;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

pub(crate) use self::book::Book;
use self::book::Spent;
use self::bucket::Rate;
use self::limits::{Limits, Refusal, Usage};
pub(crate) use self::tokens::TokenAllowance;
pub(crate) use self::visit::{Estimate, Visit};
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
    /// What it may call; empty: everything.
    models: Box<[String]>,
    account: Arc<Account>,
}

/// What goes on from table to table.
struct Account {
    name: Arc<str>,
    state: Mutex<State>,
    meter: KeyMeter,
    book: Arc<Book>,
}

/// What a key has used.
struct State {
    /// Of its limits.
    usage: Usage,
    /// Since the book was read last.
    spent: Spent,
}

impl Keys {
    /// Those of a new table, which go on where the old ones are. What they use goes into the book.
    pub(crate) fn of(table: &v1::RouteTable, old: Option<&Self>, book: &Arc<Book>) -> Self {
        let old: HashMap<_, _> =
            old.into_iter().flat_map(|old| old.by_sha256.values()).map(|key| (key.tenant, key)).collect();
        let keys = table.keys.iter().filter_map(|key| {
            let Ok(sha256) = <[u8; 32]>::try_from(&*key.sha256) else {
                tracing::warn!(key = key.name, "a key's digest is none");
                return None;
            };
            let account = || Arc::new(Account::new(&key.name, book.clone()));
            let key = Key {
                name: key.name.as_str().into(),
                tenant: key.tenant,
                weight: key.weight,
                priority: key.priority().into(),
                limits: Limits::part_of(key, table.num_ingresses),
                models: key.models.clone().into(),
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

impl Account {
    fn new(name: &str, book: Arc<Book>) -> Self {
        let usage = Usage::new(millstream_clock::now());
        let state = Mutex::new(State { usage, spent: Spent::default() });
        Self { name: name.into(), state, meter: KeyMeter::of(name), book }
    }
}

impl Key {
    /// What it may still do; `None` without a rate.
    fn allowance(&self) -> Option<Allowance> {
        let rate = self.limits.rate?;
        let (remaining, reset) = self.account.state.lock().usage.left(rate, millstream_clock::now());
        Some(Allowance { limit: rate.burst, remaining, reset })
    }

    /// How many tokens of models it may still use; `None` without a limit of them.
    fn token_allowance(&self) -> Option<TokenAllowance> {
        if self.limits.tokens.are_none() {
            return None;
        }
        self.account.state.lock().usage.tokens.left(self.limits.tokens, millstream_clock::now())
    }

    /// Its name.
    pub(crate) fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// Whether it may call the pipeline or the deployment of that name.
    pub(crate) fn may_call(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| matches(pattern, model))
    }

    /// What to tell the client of a request that is turned away; counts it.
    fn refused(&self, refusal: Refusal) -> Failure {
        let name = &self.name;
        let (result, message) = match refusal {
            Refusal::Rate(_) => {
                let Rate { per_s, burst } = self.limits.rate.unwrap_or(Rate { per_s: 0.0, burst: 0.0 });
                let rate = format!("`{per_s}` a second here, `{burst}` at once");
                (KeyResult::Rate, format!("key `{name}` is over its rate of requests: {rate}"))
            }
            Refusal::Concurrency(most) => {
                let text = format!("key `{name}` is at its concurrency limit: `{most}` at a time here");
                (KeyResult::Concurrency, text)
            }
            Refusal::Tokens(short) => {
                let text = format!(
                    "key `{name}` is over its limit of tokens a {}: what is left here does not cover the request",
                    short.window
                );
                (KeyResult::Tokens, text)
            }
        };
        self.account.meter.count(result);
        let retry_after_s = Some(limits::retry_after_s(refusal));
        let refused = Some(Refused::Quota);
        let class = millstream_proto::ErrorClass::RateLimited;
        Failure { retry_after_s, refused, ..Failure::new(class, message) }
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

    fn keys(keys: Vec<v1::ApiKey>, old: Option<&Keys>) -> Keys {
        let table = v1::RouteTable { keys, num_ingresses: 1, ..Default::default() };
        Keys::of(&table, old, &Arc::default())
    }

    fn enter(keys: &Keys, secret: &str) -> Result<Visit, Failure> {
        let (visit, admitted) = Visit::enter(keys.find(secret.as_bytes()).unwrap());
        admitted.map(|()| visit)
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
        let keys = super::tests::keys(vec![key("mk_a", 1, 0, v1::Priority::Normal)], None);
        assert_eq!(keys.find(b"mk_a").map(|key| key.tenant), Some(1));
        for wrong in ["", "mk_", "mk_b", "MK_A", &"x".repeat(10_000)] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
        let half = v1::ApiKey { sha256: vec![1; 16].into(), ..Default::default() };
        assert!(super::tests::keys(vec![half], None).by_sha256.is_empty());
    }

    #[test]
    fn what_is_under_way_is_counted_across_tables() {
        let first = keys(vec![key("a", 1, 2, v1::Priority::Normal)], None);
        let visits: Vec<_> = (0..2).map(|_| enter(&first, "a").ok().unwrap()).collect();
        let second = keys(vec![key("a", 1, 3, v1::Priority::Normal)], Some(&first));
        let third = enter(&second, "a").ok().unwrap();
        let refused = enter(&second, "a").err().unwrap();
        assert_eq!(refused.retry_after_s, Some(1));
        assert!(refused.message.contains("concurrency limit: `3`"), "{}", refused.message);
        drop(visits);
        assert!(enter(&second, "a").is_ok());
        drop(third);
        // Made anew under the same name it is another key.
        let anew = keys(vec![key("b", 2, 1, v1::Priority::Normal)], Some(&second));
        assert!(anew.find(b"a").is_none() && enter(&anew, "b").is_ok());
    }

    #[test]
    fn a_key_calls_what_its_patterns_stand_for() {
        let models = |models: &[&str]| v1::ApiKey {
            models: models.iter().map(|&name| name.to_owned()).collect(),
            ..key("a", 1, 0, v1::Priority::Normal)
        };
        let may_call =
            |patterns: &[&str], model| keys(vec![models(patterns)], None).find(b"a").unwrap().may_call(model);
        assert!(may_call(&[], "rag"));
        assert!(may_call(&["chat", "rag/*"], "rag/generator"));
        assert!(!may_call(&["chat", "rag/*"], "rag"));
    }

    #[test]
    fn nobody_gets_above_the_priority_of_the_key() {
        use Priority::{High, Low, Normal};
        let highest = |priority: v1::Priority| keys(vec![key("a", 7, 0, priority)], None).find(b"a").cloned();
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
