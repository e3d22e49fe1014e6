//! Responses that may be asked for again, or gone on from: in the memory of this ingress, within bounds of bytes and age, each for the
//! key that asked for it alone. The oldest go first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::metrics::Gauge;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::items::Item;
use crate::model::Tenant;

/// What an entry takes beside its contents, in bytes.
const ENTRY_BYTES: usize = 512;
/// What an item takes beside its text, in bytes. Items that several entries share are counted for each.
const ITEM_BYTES: usize = 128;
/// A response that takes more than one part in so many of the store is not kept.
const MAX_PART: usize = 4;
/// How often what is too old is dropped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct ResponseStore {
    max_bytes: usize,
    max_age: Duration,
    entries: Mutex<Entries>,
    /// Told what they take.
    gauge: Gauge,
}

/// A response.
pub(crate) struct Kept {
    /// Its document.
    pub(crate) document: Bytes,
    /// What it follows on: its input, and before it the conversation that it goes on from.
    pub(crate) items: Vec<Arc<Item>>,
    /// What it says; `None` where it has not come to an end.
    pub(crate) answer: Option<Arc<Item>>,
}

impl Kept {
    /// What it takes.
    pub(super) fn num_bytes(&self) -> usize {
        let items = self.items.iter().chain(&self.answer);
        self.document.len() + items.map(|item| item.text.len() + ITEM_BYTES).sum::<usize>()
    }
}

/// The work on a response that is made later.
pub(super) struct Work {
    /// Ends when this is dropped.
    pub(super) task: AbortOnDropHandle<()>,
    /// The document of a response that was cancelled.
    pub(super) cancelled: Bytes,
}

/// What a cancel has found.
pub(crate) enum Cancelled {
    /// The response as it is now.
    Is(Arc<Kept>),
    /// One whose client waited for it.
    WasNotLater,
}

/// Whose response, and which.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ResponseKey {
    pub(crate) owner: Tenant,
    pub(crate) id: Arc<str>,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<ResponseKey, Entry>,
    /// The numbers of entries grow, so that the first is the oldest.
    by_number: BTreeMap<u64, ResponseKey>,
    last: u64,
    num_bytes: usize,
}

struct Entry {
    kept: Arc<Kept>,
    number: u64,
    since: Instant,
    until: Instant,
    num_bytes: usize,
    later: Later,
}

/// Whether a response is made later.
enum Later {
    No,
    /// It is being made.
    Runs(Work),
    /// It was.
    Ended,
}

impl Entries {
    /// Puts an entry in, in place of the one with its key; what had to go for it is given back.
    fn insert(&mut self, key: ResponseKey, mut entry: Entry, max_bytes: usize) -> Vec<Entry> {
        let before = self.remove(&key);
        if entry.num_bytes > max_bytes {
            return before.into_iter().chain([entry]).collect();
        }
        let mut gone = self.make_room(entry.num_bytes, max_bytes, entry.since);
        gone.extend(before);
        self.last += 1;
        entry.number = self.last;
        self.by_number.insert(self.last, key.clone());
        self.num_bytes += entry.num_bytes;
        self.by_key.insert(key, entry);
        gone
    }

    fn remove(&mut self, key: &ResponseKey) -> Option<Entry> {
        let entry = self.by_key.remove(key)?;
        self.by_number.remove(&entry.number);
        self.num_bytes -= entry.num_bytes;
        Some(entry)
    }

    /// Takes out the oldest until `wanted` bytes fit into `max_bytes`, and all that are too old.
    fn make_room(&mut self, wanted: usize, max_bytes: usize, now: Instant) -> Vec<Entry> {
        let mut gone = Vec::new();
        while let Some((_, key)) = self.by_number.first_key_value() {
            let is_over = self.by_key.get(key).is_none_or(|entry| entry.until <= now);
            if !is_over && self.num_bytes + wanted <= max_bytes {
                break;
            }
            let key = key.clone();
            match self.remove(&key) {
                Some(entry) => gone.push(entry),
                None => drop(self.by_number.pop_first()),
            }
        }
        gone
    }
}

impl ResponseStore {
    /// An empty one.
    pub(crate) fn new(max_bytes: usize, max_age: Duration) -> Self {
        Self { max_bytes, max_age, entries: Mutex::default(), gauge: crate::metrics::response_store_bytes() }
    }

    /// Tells what the entries take; under their lock, so that the last word is the last state.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn tell(&self, entries: &Entries) {
        self.gauge.set(entries.num_bytes as f64);
    }

    /// Whether a response of that size is kept.
    pub(super) fn fits(&self, num_bytes: usize) -> bool {
        num_bytes + ENTRY_BYTES <= self.max_bytes / MAX_PART
    }

    /// Keeps a response, with the work on it where it is made later.
    pub(super) fn put(&self, key: ResponseKey, kept: Kept, work: Option<Work>) {
        let entry = self.entry(kept, work.map_or(Later::No, Later::Runs));
        let mut entries = self.entries.lock();
        let gone = entries.insert(key, entry, self.max_bytes);
        self.tell(&entries);
        drop(entries);
        // Work is stopped, and memory freed, without the lock.
        drop(gone);
    }

    /// A response that was made later is here. It is kept unless it was deleted or cancelled meanwhile.
    pub(super) fn finish(&self, key: &ResponseKey, kept: Kept) {
        let entry = self.entry(kept, Later::Ended);
        let mut entries = self.entries.lock();
        let is_awaited = |entry: &Entry| matches!(entry.later, Later::Runs(_));
        if entries.by_key.get(key).is_some_and(is_awaited) {
            let gone = entries.insert(key.clone(), entry, self.max_bytes);
            self.tell(&entries);
            drop(entries);
            drop(gone);
        }
    }

    fn entry(&self, kept: Kept, later: Later) -> Entry {
        let work_bytes = if let Later::Runs(work) = &later { work.cancelled.len() } else { 0 };
        let num_bytes = kept.num_bytes() + work_bytes + ENTRY_BYTES;
        let since = millstream_clock::now();
        Entry { kept: Arc::new(kept), number: 0, since, until: since + self.max_age, num_bytes, later }
    }

    /// A response.
    pub(crate) fn get(&self, key: &ResponseKey) -> Option<Arc<Kept>> {
        let now = millstream_clock::now();
        let entries = self.entries.lock();
        entries.by_key.get(key).filter(|entry| entry.until > now).map(|entry| entry.kept.clone())
    }

    /// Deletes a response, and stops the work on it; says whether there was one.
    pub(crate) fn delete(&self, key: &ResponseKey) -> bool {
        let mut entries = self.entries.lock();
        let gone = entries.remove(key);
        self.tell(&entries);
        drop(entries);
        gone.is_some()
    }

    /// Stops the work on a response; `None` where there is no such response.
    pub(crate) fn cancel(&self, key: &ResponseKey) -> Option<Cancelled> {
        let mut entries = self.entries.lock();
        let entry = entries.by_key.get_mut(key)?;
        let work = match std::mem::replace(&mut entry.later, Later::Ended) {
            Later::No => {
                entry.later = Later::No;
                return Some(Cancelled::WasNotLater);
            }
            Later::Runs(work) => {
                let items = entry.kept.items.clone();
                entry.kept = Arc::new(Kept { document: work.cancelled.clone(), items, answer: None });
                Some(work)
            }
            Later::Ended => None,
        };
        let kept = entry.kept.clone();
        drop(entries);
        drop(work.map(|work| work.task));
        Some(Cancelled::Is(kept))
    }

    /// Drops what is too old, for ever.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let mut entries = self.entries.lock();
            let gone = entries.make_room(0, self.max_bytes, millstream_clock::now());
            self.tell(&entries);
            drop(entries);
            drop(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::openai::responses::items::Item;

    fn key(owner: u32, id: &str) -> ResponseKey {
        ResponseKey { owner: Tenant(owner), id: id.into() }
    }

    fn kept(num_bytes: usize) -> Kept {
        Kept { document: vec![b' '; num_bytes].into(), items: Vec::new(), answer: None }
    }

    #[test]
    fn a_response_is_for_its_key_alone() {
        let store = ResponseStore::new(1 << 20, Duration::from_secs(60));
        store.put(key(1, "a"), kept(10), None);
        assert!(store.get(&key(1, "a")).is_some());
        assert!(store.get(&key(2, "a")).is_none() && !store.delete(&key(2, "a")));
        assert!(store.cancel(&key(2, "a")).is_none());
        assert!(matches!(store.cancel(&key(1, "a")), Some(Cancelled::WasNotLater)));
        assert!(store.delete(&key(1, "a")) && store.get(&key(1, "a")).is_none());
        assert_eq!(store.entries.lock().num_bytes, 0);
    }

    #[test]
    fn the_oldest_make_room_and_no_book_grows() {
        let store = ResponseStore::new(100_000, Duration::from_secs(60));
        for number in 0..5_000 {
            store.put(key(number % 3, &format!("r{number}")), kept(1_000 + number as usize % 7), None);
            if number % 2 == 0 {
                store.delete(&key(number % 3, &format!("r{number}")));
            }
        }
        let entries = store.entries.lock();
        let sum: usize = entries.by_key.values().map(|entry| entry.num_bytes).sum();
        assert_eq!(sum, entries.num_bytes);
        assert!(sum <= 100_000 && sum > 90_000, "{sum}");
        assert_eq!(entries.by_key.len(), entries.by_number.len());
        assert!(entries.by_key.contains_key(&key(4_999 % 3, "r4999")));
    }

    #[test]
    fn texts_count_and_what_is_too_large_does_not_fit() {
        let store = ResponseStore::new(100_000, Duration::from_secs(60));
        let item = Arc::new(Item::new("user", "x".repeat(1000)));
        let with = Kept { items: vec![item.clone(), item], ..kept(10) };
        assert_eq!(with.num_bytes(), 10 + 2 * (1000 + ITEM_BYTES));
        assert!(store.fits(20_000) && !store.fits(25_000));
    }

    #[test]
    fn what_is_too_old_is_gone() {
        let store = ResponseStore::new(100_000, Duration::ZERO);
        store.put(key(1, "a"), kept(10), None);
        assert!(store.get(&key(1, "a")).is_none());
        let gone = store.entries.lock().make_room(0, 100_000, millstream_clock::now());
        assert_eq!((gone.len(), store.entries.lock().num_bytes), (1, 0));
    }

    #[tokio::test]
    async fn a_cancel_stops_the_work_and_keeps_its_document() {
        let store = ResponseStore::new(100_000, Duration::from_secs(60));
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        }));
        store.put(key(1, "a"), kept(10), Some(Work { task, cancelled: Bytes::from_static(b"cancelled") }));
        for _ in 0..2 {
            let Some(Cancelled::Is(kept)) = store.cancel(&key(1, "a")) else { panic!("it is there") };
            assert_eq!(&kept.document[..], b"cancelled");
        }
        assert!(receiver.await.is_err(), "the work was dropped");
        store.finish(&key(1, "a"), kept(5));
        assert_eq!(&store.get(&key(1, "a")).unwrap().document[..], b"cancelled", "it stays cancelled");
    }
}
