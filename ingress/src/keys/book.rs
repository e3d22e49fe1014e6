//! What keys have used and the head has not stored yet. An account tells that it has something once, until the book is read, so that
//! requests share no lock beyond that of their key. What is read goes to the head in numbered batches, one at a time: a batch is the
//! same each time it is sent, and gone once the head says that it is stored.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use millstream_proto::usage::UsageCounts;
use millstream_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Account;

/// What is accounted to no name of its own, as there are too many.
const OTHER: &str = "(other)";
/// Most models of a key until the book is read.
const MAX_MODELS: usize = 64;
/// Most rows that wait for the head: days of some keys.
const MAX_ROWS: usize = 20_000;
/// Most rows of a batch, as the head takes it.
const MAX_BATCH_ROWS: usize = 100;
/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;

/// The present hour since the Unix epoch.
pub(crate) fn hour() -> u64 {
    millstream_clock::unix_ms() / HOUR_MS
}

/// What one key has used, by model, since it was read last.
#[derive(Debug, Default)]
pub(super) struct Spent(Vec<(Arc<str>, UsageCounts)>);

impl Spent {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, model: Option<&Arc<str>>, counts: &UsageCounts) {
        let name = model.map_or("", |model| &**model);
        let is_full = self.0.len() >= MAX_MODELS;
        let found = self.0.iter().position(|(known, _)| **known == *name || (is_full && &**known == OTHER));
        let place = found.unwrap_or_else(|| {
            let name = if is_full { OTHER.into() } else { model.cloned().unwrap_or_default() };
            self.0.push((name, UsageCounts::default()));
            self.0.len() - 1
        });
        self.0[place].1.add(counts);
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Book {
    /// Accounts that have something to tell.
    noted: Mutex<Vec<Arc<Account>>>,
    outbox: Mutex<Outbox>,
    /// Told when a batch is to go out at once.
    wanted: Notify,
    /// Told when all is stored.
    emptied: Notify,
}

impl Book {
    /// An account has something to tell.
    pub(super) fn note(&self, account: &Arc<Account>) {
        self.noted.lock().push(account.clone());
    }

    /// The batch that is under way or, where none is, the next one. What is read now was used in that hour.
    pub(crate) fn batch(&self, hour: u64) -> Option<v1::UsageBatch> {
        let noted = std::mem::take(&mut *self.noted.lock());
        let mut outbox = self.outbox.lock();
        for account in noted {
            let Spent(spent) = std::mem::take(&mut account.state.lock().spent);
            for (model, counts) in spent {
                outbox.add((hour, account.name.clone(), model), &counts);
            }
        }
        outbox.batch()
    }

    /// The head has stored the batch of that number.
    pub(crate) fn stored(&self, sequence: u64) {
        let mut outbox = self.outbox.lock();
        outbox.stored(sequence);
        match outbox.is_empty() {
            true => self.emptied.notify_waiters(),
            false => self.wanted.notify_one(),
        }
    }

    /// Told when a batch is to go out before its time.
    pub(crate) fn wanted(&self) -> &Notify {
        &self.wanted
    }

    /// Sends what there is, and waits until it is stored.
    pub(crate) async fn flush(&self) {
        let mut emptied = pin!(self.emptied.notified());
        // Listen before looking, so that nothing that is stored in between is missed.
        emptied.as_mut().enable();
        if self.batch(hour()).is_some() {
            self.wanted.notify_one();
            emptied.await;
        }
    }
}

/// An hour, a key and a model.
type RowKey = (u64, Arc<str>, Arc<str>);

/// What waits for the head, as plain functions.
#[derive(Debug, Default)]
struct Outbox {
    rows: BTreeMap<RowKey, UsageCounts>,
    under_way: Option<v1::UsageBatch>,
    last_sequence: u64,
}

impl Outbox {
    fn add(&mut self, at: RowKey, counts: &UsageCounts) {
        // The head is away for days. What was used is still counted, if not whose it was.
        let is_full = self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&at);
        let at = if is_full { (0, OTHER.into(), OTHER.into()) } else { at };
        self.rows.entry(at).or_default().add(counts);
    }

    fn batch(&mut self) -> Option<v1::UsageBatch> {
        if self.under_way.is_none() && !self.rows.is_empty() {
            let mut rows = Vec::new();
            while rows.len() < MAX_BATCH_ROWS
                && let Some(((hour, key, model), counts)) = self.rows.pop_first()
            {
                let UsageCounts { requests, refused, input_tokens, output_tokens } = counts;
                let (key, model) = (key.to_string(), model.to_string());
                rows.push(v1::KeyUsage { hour, key, model, requests, refused, input_tokens, output_tokens });
            }
            self.last_sequence += 1;
            self.under_way = Some(v1::UsageBatch { sequence: self.last_sequence, rows });
        }
        self.under_way.clone()
    }

    fn stored(&mut self, sequence: u64) {
        self.under_way.take_if(|batch| batch.sequence == sequence);
    }

    fn is_empty(&self) -> bool {
        self.under_way.is_none() && self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: UsageCounts = UsageCounts { requests: 1, refused: 0, input_tokens: 2, output_tokens: 3 };

    fn requests(batch: &v1::UsageBatch) -> u64 {
        batch.rows.iter().map(|row| row.requests).sum()
    }

    #[test]
    fn a_batch_stays_as_it_is_until_it_is_stored() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.batch(), None);
        let at = || (5, "a".into(), "m".into());
        outbox.add(at(), &ONE);
        let first = outbox.batch().unwrap();
        outbox.add(at(), &ONE);
        assert_eq!(outbox.batch().as_ref(), Some(&first), "sent again, to whichever head");
        outbox.stored(7);
        assert_eq!(outbox.batch().as_ref(), Some(&first));
        outbox.stored(first.sequence);
        let second = outbox.batch().unwrap();
        assert_eq!((first.sequence, second.sequence), (1, 2));
        assert_eq!((requests(&first), requests(&second)), (1, 1));
        outbox.stored(2);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_nothing_is_lost() {
        let mut outbox = Outbox::default();
        for n in 0..MAX_ROWS + 500 {
            outbox.add((5, format!("k{n}").into(), "m".into()), &ONE);
        }
        assert_eq!(outbox.rows.len(), MAX_ROWS + 1);
        let mut total = 0;
        while let Some(batch) = outbox.batch() {
            assert!(batch.rows.len() <= MAX_BATCH_ROWS);
            total += requests(&batch);
            outbox.stored(batch.sequence);
        }
        assert_eq!(total, MAX_ROWS as u64 + 500);
        let mut spent = Spent::default();
        spent.add(None, &ONE);
        for n in 0..200 {
            spent.add(Some(&format!("m{n}").into()), &ONE);
        }
        assert_eq!((spent.0.len(), &*spent.0[0].0), (MAX_MODELS + 1, ""));
        assert_eq!(spent.0.iter().map(|(_, counts)| counts.requests).sum::<u64>(), 201);
        assert_eq!(spent.0.last().map(|(name, _)| &**name), Some(OTHER));
    }
}
