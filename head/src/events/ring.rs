//! Which events are kept, and what of them the store does not have yet: plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::present::explain::Subject;
use millstream_proto::event::{Decision, Event};

use crate::store::{Entry, Expected, Listing, Write};

/// Events kept.
pub(super) const MAX_EVENTS: usize = 2_000;
/// How many are kept when there were too many.
const KEPT_EVENTS: usize = MAX_EVENTS * 9 / 10;
/// Writes of one batch, and bytes of its events: well within the store's limits.
const MAX_BATCH: usize = 100;
const MAX_BATCH_BYTES: usize = 500_000;
/// Keys of events: `events/TERM/SEQUENCE`.
pub(super) const PREFIX: &str = "events/";
/// Reasons told in one event; there is one for each node.
const MAX_REASONS: usize = 10;
/// Characters of one text in an event.
const MAX_TEXT: usize = 300;

/// An event, and where the store has it.
#[derive(Debug)]
struct Kept {
    event: Arc<Event>,
    key: String,
}

/// The last events.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The term under which new events are stored.
    epoch: u64,
    /// The last sequence number.
    last: u64,
    /// By sequence number.
    events: BTreeMap<u64, Kept>,
    /// Those that the store does not have yet.
    unsaved: BTreeSet<u64>,
    /// The last sequence number that the store was asked to take: of those above it, it has none.
    tried: u64,
    /// Keys that the store need not have any more.
    superfluous: BTreeSet<String>,
}

/// What the store is told at a time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    saved: Vec<u64>,
    superfluous: Vec<String>,
}

impl Ring {
    /// The events that the store has.
    pub(super) fn read(listing: &Listing, epoch: u64) -> Self {
        let mut ring = Self { epoch, ..Self::default() };
        for entry in &listing.entries {
            ring.read_entry(entry);
        }
        ring.trim();
        ring
    }

    fn read_entry(&mut self, entry: &Entry) {
        if let Ok(event) = serde_json::from_slice::<Arc<Event>>(&entry.value) {
            self.last = self.last.max(event.sequence);
            let key = entry.key.clone();
            if let Some(twice) = self.events.insert(event.sequence, Kept { event, key }) {
                self.superfluous.insert(twice.key);
            }
            return;
        }
        // Earlier versions stored several under one key. What cannot be read is not worth failing for: it is history.
        let events: Vec<Arc<Event>> = serde_json::from_slice(&entry.value).unwrap_or_default();
        events.into_iter().for_each(|event| self.add(event));
        self.superfluous.insert(entry.key.clone());
    }

    pub(super) fn note(&mut self, subject: Subject, decision: Decision, at_ms: u64) {
        let (pipeline, deployment) = match subject {
            Subject::Cluster => (None, None),
            Subject::Pipeline(name) => (Some(name.to_string()), None),
            Subject::Deployment(name) => (Some(name.pipeline.to_string()), Some(name.deployment.to_string())),
        };
        let (sequence, decision) = (self.last + 1, shortened(decision));
        self.add(Arc::new(Event { sequence, at_ms, pipeline, deployment, decision }));
        if self.events.len() > MAX_EVENTS {
            self.trim();
        }
    }

    /// Adds an event that is to be stored.
    fn add(&mut self, event: Arc<Event>) {
        let sequence = event.sequence;
        let key = format!("{PREFIX}{:020}/{sequence:020}", self.epoch);
        self.last = self.last.max(sequence);
        self.unsaved.insert(sequence);
        self.events.insert(sequence, Kept { event, key });
    }

    /// The events, the oldest first.
    pub(super) fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.events.values().map(|kept| &kept.event)
    }

    /// Drops events beyond the bound: the oldest of those subjects that have more than an equal part.
    fn trim(&mut self) {
        if self.events.len() <= MAX_EVENTS {
            return;
        }
        let mut by_subject: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (sequence, kept) in &self.events {
            by_subject.entry(kept.event.subject()).or_default().push(*sequence);
        }
        let part = largest_part(by_subject.values().map(Vec::len).collect(), KEPT_EVENTS).max(1);
        for sequences in by_subject.into_values() {
            let surplus = sequences.len().saturating_sub(part);
            for sequence in &sequences[..surplus] {
                self.drop(*sequence);
            }
        }
        // More subjects than there is room for.
        while self.events.len() > KEPT_EVENTS
            && let Some(oldest) = self.events.keys().next().copied()
        {
            self.drop(oldest);
        }
    }

    fn drop(&mut self, sequence: u64) {
        let Some(kept) = self.events.remove(&sequence) else { return };
        // An attempt to store it may have been more successful than it seemed.
        if !self.unsaved.remove(&sequence) || sequence <= self.tried {
            self.superfluous.insert(kept.key);
        }
    }

    /// The next batch for the store, the same again until [`Ring::saved`] says that the store has it.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        for sequence in &self.unsaved {
            let Some(kept) = self.events.get(sequence) else { continue };
            let json =
                serde_json::to_vec(&kept.event).expect("events have text keys and no failing serialiser");
            bytes += json.len();
            if batch.saved.len() == MAX_BATCH || bytes > MAX_BATCH_BYTES && !batch.saved.is_empty() {
                break;
            }
            batch.writes.push(Write::put(kept.key.clone(), Expected::Any, json));
            batch.saved.push(*sequence);
            self.tried = self.tried.max(*sequence);
        }
        batch.superfluous = self.superfluous.iter().take(MAX_BATCH - batch.saved.len()).cloned().collect();
        batch.writes.extend(batch.superfluous.iter().map(|key| Write::delete(key.clone(), Expected::Any)));
        (!batch.writes.is_empty()).then_some(batch)
    }

    /// The store has this batch.
    pub(super) fn saved(&mut self, batch: &Batch) {
        for sequence in &batch.saved {
            self.unsaved.remove(sequence);
        }
        for key in &batch.superfluous {
            self.superfluous.remove(key);
        }
    }
}

/// The largest part that each may have of `total`, when some want less: parts of these sizes, cut to it, fit.
fn largest_part(mut sizes: Vec<usize>, total: usize) -> usize {
    sizes.sort_unstable();
    let mut left = total;
    for (index, size) in sizes.iter().enumerate() {
        let equal = left / (sizes.len() - index);
        if *size > equal {
            return equal;
        }
        left -= size;
    }
    usize::MAX
}

/// Keeps texts within bounds, some of which come from the network: no one reads more.
fn shortened(mut decision: Decision) -> Decision {
    match &mut decision {
        Decision::Pending { reasons } => {
            let more = reasons.len().saturating_sub(MAX_REASONS);
            reasons.truncate(MAX_REASONS);
            reasons.iter_mut().for_each(cut);
            if more > 0 {
                reasons.push(format!("and {more} more"));
            }
        }
        Decision::RolledBack { reason, .. } => cut(reason),
        Decision::Retired { node, reason, .. } => {
            cut(node);
            cut(reason);
        }
        Decision::Placed { node, .. } | Decision::Evicted { node, .. } => cut(node),
        _ => {}
    }
    decision
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_wants_little_has_it_and_the_others_share_the_rest() {
        for (sizes, total, part) in [
            (vec![5_000], 1_800, 1_800),
            (vec![3, 500, 10_000], 1_800, 1_297),
            (vec![1_000, 1_000, 1_000], 1_800, 600),
            (vec![10, 20], 1_800, usize::MAX),
            (vec![1; 3_000], 1_800, 0),
        ] {
            assert_eq!(largest_part(sizes.clone(), total), part, "{sizes:?}");
        }
    }

    #[test]
    fn of_more_subjects_than_there_is_room_for_the_newest_stay() {
        let mut ring = Ring::default();
        for n in 0..5_000 {
            let subject = Subject::Pipeline(format!("p{n}").parse().unwrap());
            ring.note(subject, Decision::Deployed { revision: n }, n);
        }
        let kept: Vec<_> = ring.events().map(|event| event.sequence).collect();
        assert!((KEPT_EVENTS..=MAX_EVENTS).contains(&kept.len()), "{}", kept.len());
        assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]) && kept.last() == Some(&5_000));
        assert_eq!(ring.superfluous.len(), 0, "the store never had those that left");
    }
}
