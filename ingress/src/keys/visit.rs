//! A request of a key, from its arrival to its end: what it holds of its key's limits, and what it is charged.

use std::sync::{Arc, OnceLock};

use millstream_pipelines::Plan;
use millstream_proto::Value;
use millstream_proto::usage::UsageCounts;

use super::limits::Refusal;
use super::tokens::Reserved;
use super::{Allowance, Key, TokenAllowance};
use crate::metrics::KeyResult;
use crate::model::Failure;

/// Bytes of a body that count as a token, about what texts have.
const BYTES_PER_TOKEN: u64 = 4;
/// What an answer is expected to be where the request does not say how long it may get: the default of generators.
const DEFAULT_NEW_TOKENS: u64 = 256;
/// Longest answer that is reckoned with.
const MAX_NEW_TOKENS: u64 = 1_000_000;

/// What a request is expected to need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Tokens of the prompt.
    pub(crate) input: u64,
    /// Tokens of the answer.
    pub(crate) output: u64,
    /// Whether the answer comes in parts, which are counted.
    pub(crate) streams: Streams,
}

/// Whether an answer comes in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// It does.
    Yes,
    /// It comes as a whole.
    No,
}

/// How a request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Tokens that replicas have told: those of prompts, those of answers.
    pub(crate) told: [u64; 2],
    /// Whether all of them have told.
    pub(crate) work: Work,
    /// Whether it came in.
    pub(crate) entry: Entry,
}

/// Whether a replica worked for a request and was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// None was.
    Complete,
    /// One was, and could not tell what it has done.
    CutOff,
}

/// Whether a request was turned away before it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It came in.
    Admitted,
    /// It was turned away.
    Refused,
}

impl Estimate {
    /// Of a request with a body of so many bytes and these fields.
    pub(crate) fn of(num_bytes: usize, plan: &Plan, fields: &Value, streams: Streams) -> Self {
        let num_stages = plan.num_generating_stages() as u64;
        let asked =
            fields.get("max_tokens").and_then(Value::as_int).and_then(|asked| u64::try_from(asked).ok());
        let each = asked.unwrap_or(DEFAULT_NEW_TOKENS).min(MAX_NEW_TOKENS);
        let input = (num_bytes as u64).div_ceil(BYTES_PER_TOKEN);
        Self { input, output: num_stages.saturating_mul(each), streams }
    }

    fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// What a request has used. Where a replica was cut off, what it would have told is not known: the prompt counts as it was
    /// estimated, and of the answer the parts that came or, if it was to come as a whole, what was estimated.
    fn settled(&self, ending: &Ending, num_parts: u64) -> [u64; 2] {
        let [input, output] = ending.told;
        if ending.work == Work::Complete {
            return [input, output];
        }
        let unknown = match self.streams {
            Streams::Yes => num_parts,
            Streams::No => self.output,
        };
        [input.max(self.input), output.max(unknown)]
    }
}

/// See the module. What it holds is given back at its end, or when it is dropped.
pub(crate) struct Visit {
    key: Arc<Key>,
    /// Whether it counts among those under way.
    is_admitted: bool,
    reserved: OnceLock<(Estimate, Reserved)>,
    /// Parts of the answer that have come.
    pub(crate) num_parts: u64,
    has_ended: bool,
}

/// What a request has called, as far as is known, and how much.
#[derive(Clone, Copy)]
struct Counted<'a> {
    model: Option<&'a Arc<str>>,
    counts: UsageCounts,
}

impl Visit {
    /// A request comes, and may come in or not.
    pub(crate) fn enter(key: &Arc<Key>) -> (Self, Result<(), Failure>) {
        let admitted = key.account.state.lock().usage.admit(key.limits, millstream_clock::now());
        let is_admitted = admitted.is_ok();
        if is_admitted {
            key.account.meter.count(KeyResult::Admitted);
        }
        let visit =
            Self { key: key.clone(), is_admitted, reserved: OnceLock::new(), num_parts: 0, has_ended: false };
        (visit, admitted.map_err(|refusal| key.refused(refusal)))
    }

    /// It is expected to need that.
    ///
    /// # Errors
    /// What to tell the client when its key has not so many tokens left.
    pub(crate) fn reserve(&self, estimate: Estimate) -> Result<(), Failure> {
        let limits = self.key.limits.tokens;
        // A request reserves once.
        if self.reserved.get().is_some() {
            return Ok(());
        }
        let reserved = if limits.are_none() {
            Reserved::default()
        } else {
            let now = millstream_clock::now();
            let reserved = self.key.account.state.lock().usage.tokens.reserve(limits, estimate.total(), now);
            reserved.map_err(|short| self.key.refused(Refusal::Tokens(short)))?
        };
        let _ = self.reserved.set((estimate, reserved));
        Ok(())
    }

    /// What its key may still do, where it has a rate.
    pub(crate) fn allowance(&self) -> Option<Allowance> {
        self.key.allowance()
    }

    /// How many tokens its key may still use, where it has a limit of them.
    pub(crate) fn token_allowance(&self) -> Option<TokenAllowance> {
        self.key.token_allowance()
    }

    /// It has ended; it called that, as far as is known.
    pub(crate) fn end(mut self, model: Option<&Arc<str>>, ending: &Ending) {
        let [input_tokens, output_tokens] = match self.reserved.get() {
            Some((estimate, _)) => estimate.settled(ending, self.num_parts),
            None => ending.told,
        };
        let refused = u64::from(ending.entry == Entry::Refused);
        let counts = UsageCounts { requests: 1, refused, input_tokens, output_tokens };
        self.give_back(input_tokens.saturating_add(output_tokens), Some(Counted { model, counts }));
    }

    fn give_back(&mut self, used: u64, counted: Option<Counted<'_>>) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let Key { account, limits, .. } = &*self.key;
        let mut state = account.state.lock();
        if self.is_admitted {
            state.usage.ended();
        }
        if let Some((_, reserved)) = self.reserved.get() {
            state.usage.tokens.settle(limits.tokens, *reserved, used, millstream_clock::now());
        }
        if let Some(Counted { model, counts }) = counted {
            let is_first = state.spent.is_empty();
            state.spent.add(model, &counts);
            if is_first {
                account.book.note(account);
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.give_back(0, None);
    }
}

#[cfg(test)]
mod tests {
    use millstream_pipelines::Name;
    use millstream_proto::v1;
    use millstream_values::Value;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::keys::{Book, Keys};

    fn key(book: &Arc<Book>) -> Arc<Key> {
        let key = v1::ApiKey {
            name: "a".to_owned(),
            sha256: Sha256::digest("a").to_vec().into(),
            tenant: 1,
            concurrency: 1,
            tokens_per_minute: 1_000,
            ..Default::default()
        };
        let table = v1::RouteTable { keys: vec![key], num_ingresses: 1, ..Default::default() };
        Keys::of(&table, None, book).find(b"a").unwrap().clone()
    }

    fn remaining(key: &Key) -> u64 {
        key.token_allowance().unwrap().remaining
    }

    const DONE: Ending = Ending { told: [30, 5], work: Work::Complete, entry: Entry::Admitted };
    const REFUSED: Ending = Ending { told: [0, 0], work: Work::Complete, entry: Entry::Refused };

    /// What a request is charged: the tokens of its key do not come back while the test runs, but for a few.
    fn charged(key: &Arc<Key>, streams: Streams, num_parts: u64, ending: Option<Ending>) -> u64 {
        let before = remaining(key);
        let (mut visit, admitted) = Visit::enter(key);
        admitted.unwrap();
        visit.reserve(Estimate { input: 100, output: 200, streams }).unwrap();
        assert!((290..=300).contains(&(before - remaining(key))));
        visit.num_parts = num_parts;
        match ending {
            Some(ending) => visit.end(Some(&"rag".into()), &ending),
            None => drop(visit),
        }
        before.saturating_sub(remaining(key))
    }

    #[test]
    fn a_request_is_charged_for_what_it_has_used_whichever_way_it_ends() {
        let book = Arc::<Book>::default();
        let key = key(&book);
        let cut = Some(Ending { told: [0, 0], work: Work::CutOff, entry: Entry::Admitted });
        let table = [
            (Streams::No, 0, Some(DONE), 35, "as replicas tell"),
            (Streams::Yes, 7, cut, 107, "left in the middle of a stream"),
            (Streams::No, 0, cut, 300, "left before a whole answer"),
            (Streams::No, 0, None, 0, "it has run nowhere"),
        ];
        for (streams, num_parts, ending, expected, what) in table {
            let charged = charged(&key, streams, num_parts, ending);
            assert!((expected.max(10) - 10..=expected).contains(&charged), "{what}: {charged} of {expected}");
        }
        let batch = book.batch(7).unwrap();
        assert_eq!(batch.rows.len(), 1);
        let row = &batch.rows[0];
        assert_eq!((row.hour, row.key.as_str(), row.model.as_str(), row.requests), (7, "a", "rag", 3));
        assert_eq!((row.input_tokens, row.output_tokens), (230, 212));
    }

    #[test]
    fn who_is_turned_away_is_counted_and_holds_nothing() {
        let book = Arc::<Book>::default();
        let key = key(&book);
        let (first, admitted) = Visit::enter(&key);
        admitted.unwrap();
        first.reserve(Estimate { input: 500, output: 0, streams: Streams::No }).unwrap();
        let (second, refused) = Visit::enter(&key);
        assert!(refused.unwrap_err().message.contains("concurrency"));
        second.end(None, &REFUSED);
        first.end(None, &DONE);
        let (third, admitted) = Visit::enter(&key);
        admitted.unwrap();
        let over = third.reserve(Estimate { input: 2_000, output: 0, streams: Streams::No }).unwrap_err();
        assert!(over.message.contains("key `a` is over its limit of tokens a minute"), "{}", over.message);
        third.end(None, &REFUSED);
        assert!((965..=975).contains(&remaining(&key)));
        assert!(Visit::enter(&key).1.is_ok(), "no place is held");
        let rows = book.batch(1).unwrap().rows;
        assert_eq!((rows.len(), rows[0].requests, rows[0].refused), (1, 3, 2));
    }

    #[test]
    fn an_estimate_is_the_body_and_the_answer_that_is_asked_for() {
        let source = "name = \"p\"\n[deployments.g]\nengine = \"echo\"\ntask = \"generate\"\n[deployments.e]\nengine = \"echo\"\n";
        let plan = Plan::compile("p.toml", source).unwrap();
        let of = |name: &str, max_tokens: Option<i64>| {
            let spec = &plan.deployments()[&name.parse::<Name>().unwrap()];
            let plan = plan.of_deployment(spec);
            let fields = Value::map(max_tokens.map(|tokens| ("max_tokens", Value::Int(tokens))));
            let Estimate { input, output, .. } = Estimate::of(10, &plan, &fields, Streams::No);
            (input, output)
        };
        assert_eq!(of("g", None), (3, 256));
        assert_eq!(of("g", Some(20)), (3, 20));
        assert_eq!(of("g", Some(-1)), (3, 256));
        assert_eq!(of("g", Some(i64::MAX)), (3, MAX_NEW_TOKENS));
        assert_eq!(of("e", Some(20)), (3, 0));
    }
}
