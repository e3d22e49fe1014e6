//! What API keys have used, in memory and in the store. A batch of an ingress is stored in one commit together with its number, and
//! the ingress is answered then: whatever is lost on the way is sent again, and counted once. The store has one key for each hour
//! and API key, `usage/HOUR/KEY`, and one for each ingress, `usage_seen/INGRESS`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::usage::{Batch, Change, Expired, HOUR_MS, HourKey, KeyHour, Ledger, Row, Seen};
use millstream_proto::usage::{UsageBy, UsageCounts, UsageReport};
use millstream_proto::{IngressId, v1};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::store::{Error, Expected, Fenced, Listing, Store as _, Write};

/// Keys of what was used: `usage/HOUR/KEY`.
const USAGE: &str = "usage/";
/// Keys of the last batches: `usage_seen/INGRESS`.
const SEEN: &str = "usage_seen/";
/// Most rows of a batch: each may write a key of the store, and a commit has a bound.
const MAX_BATCH_ROWS: usize = 100;
/// Most keys that are deleted in a commit.
const MAX_DELETES: usize = 100;
/// Batches that wait to be stored; those beyond are dropped, and come again.
const MAX_WAITING: usize = 256;
/// How often is looked for what is too old.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct UsageLog {
    ledger: Mutex<Ledger>,
    sender: mpsc::Sender<Waiting>,
    /// Taken by whoever stores.
    receiver: Mutex<Option<mpsc::Receiver<Waiting>>>,
}

/// A batch that waits, and where its number goes once it is stored.
struct Waiting {
    batch: Batch,
    stored: Arc<watch::Sender<u64>>,
}

/// What stands at [`SEEN`].
#[derive(Serialize, Deserialize)]
struct StoredSeen {
    sequence: u64,
    hour: u64,
}

impl UsageLog {
    /// What the store has.
    pub(crate) async fn load(store: &Fenced) -> Result<Self, Error> {
        let ledger = Mutex::new(read(&store.list(&[USAGE, SEEN]).await?));
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        Ok(Self { ledger, sender, receiver: Mutex::new(Some(receiver)) })
    }

    /// Takes a batch of an ingress; its number goes to `stored` when it is.
    pub(crate) fn take(&self, from: &IngressId, batch: v1::UsageBatch, stored: &Arc<watch::Sender<u64>>) {
        let v1::UsageBatch { sequence, rows } = batch;
        if rows.len() > MAX_BATCH_ROWS {
            tracing::warn!(ingress_id = %from, num_rows = rows.len(), "a report of what keys used is too long, it is not counted");
            return;
        }
        let rows = rows.into_iter().filter_map(row).collect();
        let batch = Batch { from: from.clone(), sequence, rows };
        // One that finds no room comes again.
        let _ = self.sender.try_send(Waiting { batch, stored: stored.clone() });
    }

    /// What was used since then, in milliseconds since the Unix epoch.
    pub(crate) fn report(&self, by: UsageBy, since_ms: u64) -> UsageReport {
        self.ledger.lock().report(by, since_ms)
    }

    /// Stores batches until `closing`.
    pub(crate) async fn keep(&self, store: &Fenced, closing: CancellationToken) {
        let Some(mut waiting) = self.receiver.lock().take() else { return };
        let mut tidy = tokio::time::interval(TIDY_INTERVAL);
        loop {
            let done = tokio::select! {
                () = closing.cancelled() => return,
                Some(Waiting { batch, stored }) = waiting.recv() => {
                    let done = self.store(store, &batch).await;
                    if done.is_ok() {
                        stored.send_replace(batch.sequence);
                    }
                    done
                }
                _ = tidy.tick() => self.tidy(store).await,
            };
            match done {
                Ok(()) => {}
                // Whether it was stored is read before anything else is.
                Err(Error::Unknown(error)) => {
                    tracing::debug!(error, "whether usage was stored is not known");
                    self.read_again(store, &closing).await;
                }
                Err(error) => tracing::debug!(%error, "usage is not stored yet"),
            }
        }
    }

    async fn store(&self, store: &Fenced, batch: &Batch) -> Result<(), Error> {
        let change = self.ledger.lock().plan(batch, clock::unix_ms() / HOUR_MS);
        let Some(change) = change else { return Ok(()) };
        store.commit(writes(&change).into()).await?;
        self.ledger.lock().apply(change);
        Ok(())
    }

    /// Deletes what is too old.
    async fn tidy(&self, store: &Fenced) -> Result<(), Error> {
        let Expired { entries, ingresses } = self.ledger.lock().expired(clock::unix_ms() / HOUR_MS);
        let entries = entries
            .chunks(MAX_DELETES)
            .map(|entries| Expired { entries: entries.to_vec(), ..Expired::default() });
        let ingresses = ingresses
            .chunks(MAX_DELETES)
            .map(|ids| Expired { ingresses: ids.to_vec(), ..Expired::default() });
        for expired in entries.chain(ingresses) {
            let keys = expired.entries.iter().map(key_of).chain(expired.ingresses.iter().map(seen_key));
            let deletes: Vec<_> = keys.map(|key| Write::delete(key, Expected::Any)).collect();
            store.commit(deletes.into()).await?;
            self.ledger.lock().forget(&expired);
        }
        Ok(())
    }

    async fn read_again(&self, store: &Fenced, closing: &CancellationToken) {
        loop {
            match store.list(&[USAGE, SEEN]).await {
                Ok(listing) => {
                    *self.ledger.lock() = read(&listing);
                    return;
                }
                Err(error) => tracing::debug!(%error, "usage cannot be read yet"),
            }
            tokio::select! {
                () = closing.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }
}

/// What came from an ingress; nothing where its names are none.
fn row(row: v1::KeyUsage) -> Option<Row> {
    let v1::KeyUsage { hour, key, model, requests, refused, input_tokens, output_tokens } = row;
    let is_name = |text: &str| {
        text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.starts_with('/')
    };
    let is_key = is_name(&key) && !key.is_empty() && !key.contains('/');
    let counts = UsageCounts { requests, refused, input_tokens, output_tokens };
    (is_key && is_name(&model)).then(|| Row { hour, key: key.into(), model: model.into(), counts })
}

fn key_of((hour, key): &HourKey) -> String {
    format!("{USAGE}{hour:010}/{key}")
}

fn seen_key(ingress: &IngressId) -> String {
    format!("{SEEN}{ingress}")
}

fn writes(change: &Change) -> Vec<Write> {
    let entries =
        change.entries.iter().map(|(at, entry)| Write::put(key_of(at), Expected::Any, value_of(entry)));
    let Seen { sequence, hour } = change.seen;
    let seen = serde_json::to_vec(&StoredSeen { sequence, hour }).unwrap_or_default();
    entries.chain([Write::put(seen_key(&change.from), Expected::Any, seen)]).collect()
}

/// `{"rag": [requests, refused, input tokens, output tokens]}`.
fn value_of(entry: &KeyHour) -> Vec<u8> {
    let rows: BTreeMap<&str, [u64; 4]> = entry
        .iter()
        .map(|(model, counts)| {
            let UsageCounts { requests, refused, input_tokens, output_tokens } = *counts;
            (&**model, [requests, refused, input_tokens, output_tokens])
        })
        .collect();
    serde_json::to_vec(&rows).unwrap_or_default()
}

/// What cannot be read is left out: it is told, and no head refuses to lead for it.
fn read(listing: &Listing) -> Ledger {
    let mut ledger = Ledger::default();
    // The names of keys and models come again in each hour.
    let mut names: BTreeMap<String, Arc<str>> = BTreeMap::new();
    let mut shared = |name: &str| match names.get(name) {
        Some(known) => known.clone(),
        None => names.entry(name.to_owned()).or_insert_with(|| name.into()).clone(),
    };
    for (rest, entry) in listing.under(USAGE) {
        let at = rest.split_once('/').and_then(|(hour, key)| Some((hour.parse().ok()?, key)));
        let rows = serde_json::from_slice::<BTreeMap<String, [u64; 4]>>(&entry.value);
        let (Some((hour, key)), Ok(rows)) = (at, rows) else {
            tracing::warn!(key = entry.key, "what a key has used is not understood, it is left out");
            continue;
        };
        let row = |(model, [requests, refused, input_tokens, output_tokens]): (String, [u64; 4])| {
            (shared(&model), UsageCounts { requests, refused, input_tokens, output_tokens })
        };
        let rows: KeyHour = rows.into_iter().map(row).collect();
        ledger.put((hour, shared(key)), rows);
    }
    for (id, entry) in listing.under(SEEN) {
        if let Ok(StoredSeen { sequence, hour }) = serde_json::from_slice(&entry.value) {
            ledger.put_seen(IngressId::new(id), Seen { sequence, hour });
        }
    }
    ledger
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leadership::election::testing::lead;
    use crate::store::Store;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::faulty::{Fault, Faulty};

    async fn open() -> (Arc<Faulty>, Fenced, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let faulty = Arc::new(Faulty::new(Arc::new(EmbeddedStore::open(dir.path()).unwrap())));
        let store: Arc<dyn Store> = faulty.clone();
        (faulty, lead(&store).await, dir)
    }

    fn hour() -> u64 {
        clock::unix_ms() / HOUR_MS
    }

    fn batch(sequence: u64, hour: u64, key: &str) -> v1::UsageBatch {
        let row = v1::KeyUsage {
            hour,
            key: key.to_owned(),
            model: "rag".to_owned(),
            requests: 2,
            refused: 1,
            input_tokens: 30,
            output_tokens: 4,
        };
        v1::UsageBatch { sequence, rows: vec![row] }
    }

    fn requests(log: &UsageLog) -> u64 {
        let report = log.report("key".parse().unwrap(), 0);
        report.rows.iter().map(|row| row.counts.requests).sum()
    }

    async fn taken(log: &UsageLog, store: &Fenced, batch: v1::UsageBatch) -> Result<(), Error> {
        let stored = Arc::new(watch::Sender::new(0));
        log.take(&IngressId::new("i"), batch, &stored);
        let waiting = log.receiver.lock().as_mut().unwrap().try_recv().ok();
        match waiting {
            Some(waiting) => log.store(store, &waiting.batch).await,
            None => Ok(()),
        }
    }

    #[tokio::test]
    async fn what_was_stored_is_there_for_the_next_head_and_counts_once() {
        let (faulty, store, _dir) = open().await;
        let log = UsageLog::load(&store).await.unwrap();
        taken(&log, &store, batch(1, hour(), "a")).await.unwrap();
        taken(&log, &store, batch(1, hour(), "a")).await.unwrap();
        faulty.break_commits([Fault::Lost]);
        assert!(taken(&log, &store, batch(2, hour(), "a")).await.is_err());
        assert_eq!(requests(&log), 2, "what is not stored is not shown");
        faulty.break_commits([Fault::Written]);
        assert!(taken(&log, &store, batch(2, hour(), "a")).await.is_err());
        log.read_again(&store, &CancellationToken::new()).await;
        taken(&log, &store, batch(2, hour(), "a")).await.unwrap();
        assert_eq!(requests(&log), 4, "the commit whose outcome was not known was made");
        let next = UsageLog::load(&store).await.unwrap();
        assert_eq!(*next.ledger.lock(), *log.ledger.lock());
        taken(&next, &store, batch(2, hour(), "a")).await.unwrap();
        assert_eq!(requests(&next), 4, "nor does the next head count it again");
    }

    #[tokio::test]
    async fn what_is_old_leaves_the_store_and_what_is_not_understood_is_left_out() {
        let (_, store, _dir) = open().await;
        for (key, value) in
            [("usage/x/a", "{}"), ("usage/0000000001/a", "?"), ("usage/0000000002/a", r#"{"m":[1,0,0,0]}"#)]
        {
            store.commit(Write::put(key, Expected::Any, value).into()).await.unwrap();
        }
        let log = UsageLog::load(&store).await.unwrap();
        assert_eq!(requests(&log), 1);
        log.tidy(&store).await.unwrap();
        assert_eq!(requests(&log), 0);
        let left: Vec<_> =
            store.list(&[USAGE]).await.unwrap().entries.into_iter().map(|entry| entry.key).collect();
        assert_eq!(left, ["usage/0000000001/a", "usage/x/a"]);
    }

    #[tokio::test]
    async fn nonsense_is_not_counted() {
        let (_, store, _dir) = open().await;
        let log = UsageLog::load(&store).await.unwrap();
        for (sequence, bad) in (1..).zip(["", "a/b", "a b", "a\n", &"a".repeat(200)]) {
            taken(&log, &store, batch(sequence, hour(), bad)).await.unwrap();
        }
        let long = v1::UsageBatch { sequence: 9, rows: vec![batch(1, hour(), "a").rows[0].clone(); 101] };
        taken(&log, &store, long).await.unwrap();
        assert_eq!(requests(&log), 0);
    }
}
