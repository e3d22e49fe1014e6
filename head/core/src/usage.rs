//! What API keys have used, by the hour, as plain functions: what a report of an ingress changes, and what leaves. A batch is
//! planned first, then stored, then applied: what is in memory is what the store has.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_status::IngressId;
use millstream_status::usage::{UsageBy, UsageCounts, UsageReport, UsageRow};

/// Hours that are kept: 31 days.
pub const MAX_HOURS: u64 = 31 * 24;
/// What is accounted to no key or model of its own, as there are too many.
pub const OTHER: &str = "(other)";
/// Milliseconds of an hour.
pub const HOUR_MS: u64 = 3_600_000;

/// Most rows of all hours together; when there are more, the oldest hours leave.
const MAX_ROWS: usize = 200_000;
/// Most keys of an hour.
const MAX_KEYS: usize = 10_000;
/// Most models of a key in an hour.
const MAX_MODELS: usize = 32;
/// Most ingresses whose last batch is known.
const MAX_INGRESSES: usize = 1_000;

/// What one key has used in an hour, by model.
pub type KeyHour = BTreeMap<Arc<str>, UsageCounts>;

/// An hour since the Unix epoch, and a key.
pub type HourKey = (u64, Arc<str>);

/// What one ingress has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Whose it is.
    pub from: IngressId,
    /// Its number; each batch of an ingress has the next one.
    pub sequence: u64,
    /// What was used.
    pub rows: Vec<Row>,
}

/// What one key has used of a model in an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Hours since the Unix epoch, by the clock of the ingress.
    pub hour: u64,
    /// The key's name.
    pub key: Arc<str>,
    /// The pipeline or the deployment; empty where it is not known.
    pub model: Arc<str>,
    /// How much.
    pub counts: UsageCounts,
}

/// What is told apart: an hour's start, a key, a model.
type Told<'a> = (Option<u64>, Option<&'a str>, Option<&'a str>);

/// What has been stored of an ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The number of its last batch.
    pub sequence: u64,
    /// When that came, in hours since the Unix epoch.
    pub hour: u64,
}

/// What a batch changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose batch it is.
    pub from: IngressId,
    /// What is known of it from then on.
    pub seen: Seen,
    /// What the keys have used then.
    pub entries: BTreeMap<HourKey, KeyHour>,
}

/// What leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expired {
    /// Old hours.
    pub entries: Vec<HourKey>,
    /// Ingresses that are gone.
    pub ingresses: Vec<IngressId>,
}

/// What all keys have used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    entries: BTreeMap<HourKey, KeyHour>,
    seen: BTreeMap<IngressId, Seen>,
    num_rows: usize,
}

impl Ledger {
    /// Puts an entry in place, as the store has it.
    pub fn put(&mut self, at: HourKey, entry: KeyHour) {
        self.num_rows += entry.len();
        if let Some(old) = self.entries.insert(at, entry) {
            self.num_rows -= old.len();
        }
    }

    /// What has been stored of an ingress.
    pub fn put_seen(&mut self, ingress: IngressId, seen: Seen) {
        self.seen.insert(ingress, seen);
    }

    /// What a batch changes; `None` where it has been counted before.
    #[must_use]
    pub fn plan(&self, batch: &Batch, now_hour: u64) -> Option<Change> {
        if self.seen.get(&batch.from).is_some_and(|seen| seen.sequence >= batch.sequence) {
            return None;
        }
        let mut entries: BTreeMap<HourKey, KeyHour> = BTreeMap::new();
        for Row { hour, key, model, counts } in &batch.rows {
            // A clock that is wrong makes no hours that are not there.
            let hour = (*hour).clamp(now_hour.saturating_sub(MAX_HOURS - 1), now_hour);
            let known = |at: &HourKey| entries.contains_key(at) || self.entries.contains_key(at);
            let mut at = (hour, key.clone());
            if !known(&at) && self.num_keys(hour) + entries.len() >= MAX_KEYS {
                at.1 = OTHER.into();
            }
            let entry =
                entries.entry(at).or_insert_with_key(|at| self.entries.get(at).cloned().unwrap_or_default());
            let is_full = entry.len() >= MAX_MODELS && !entry.contains_key(model);
            let model = if is_full { OTHER.into() } else { model.clone() };
            entry.entry(model).or_default().add(counts);
        }
        let seen = Seen { sequence: batch.sequence, hour: now_hour };
        Some(Change { from: batch.from.clone(), seen, entries })
    }

    /// Makes a change that was stored.
    pub fn apply(&mut self, change: Change) {
        let Change { from, seen, entries } = change;
        self.put_seen(from, seen);
        entries.into_iter().for_each(|(at, entry)| self.put(at, entry));
    }

    /// What is too old, or too much.
    #[must_use]
    pub fn expired(&self, now_hour: u64) -> Expired {
        let oldest = now_hour.saturating_sub(MAX_HOURS - 1);
        let newest = self.entries.last_key_value().map_or(0, |((hour, _), _)| *hour);
        let mut left = self.num_rows;
        let mut leaving_hour = None;
        let mut entries = Vec::new();
        for (at, entry) in &self.entries {
            let is_surplus = left > MAX_ROWS && at.0 < newest;
            // An hour leaves as a whole: a part of one would look like all of it.
            if at.0 >= oldest && !is_surplus && leaving_hour != Some(at.0) {
                break;
            }
            leaving_hour = Some(at.0);
            left -= entry.len();
            entries.push(at.clone());
        }
        let is_old = |seen: &Seen| seen.hour < oldest;
        let mut by_age: Vec<_> = self.seen.iter().map(|(id, seen)| (seen.hour, id, is_old(seen))).collect();
        by_age.sort_unstable();
        let num_surplus = by_age.len().saturating_sub(MAX_INGRESSES);
        let gone =
            by_age.iter().enumerate().filter(|(index, (_, _, is_old))| *is_old || *index < num_surplus);
        Expired { entries, ingresses: gone.map(|(_, (_, id, _))| (*id).clone()).collect() }
    }

    /// Forgets what the store has no longer.
    pub fn forget(&mut self, expired: &Expired) {
        for at in &expired.entries {
            self.num_rows -= self.entries.remove(at).map_or(0, |entry| entry.len());
        }
        for id in &expired.ingresses {
            self.seen.remove(id);
        }
    }

    /// What was used since the hour of that instant (milliseconds since the Unix epoch), summed up over what is not told apart.
    #[must_use]
    pub fn report(&self, by: UsageBy, since_ms: u64) -> UsageReport {
        let first = since_ms / HOUR_MS;
        let mut sums: BTreeMap<Told<'_>, UsageCounts> = BTreeMap::new();
        for ((hour, key), entry) in self.entries.range((first, Arc::from(""))..) {
            for (model, counts) in entry {
                let told = (by.hour(hour.saturating_mul(HOUR_MS)), by.key(key), by.model(model));
                sums.entry(told).or_default().add(counts);
            }
        }
        let row = |((hour_ms, key, model), counts): (Told<'_>, _)| UsageRow {
            hour_ms,
            key: key.map(str::to_owned),
            model: model.map(str::to_owned),
            counts,
        };
        UsageReport { since_ms: first.saturating_mul(HOUR_MS), rows: sums.into_iter().map(row).collect() }
    }

    fn num_keys(&self, hour: u64) -> usize {
        // Counted only where the hour could be full at all.
        if self.num_rows < MAX_KEYS {
            return 0;
        }
        self.entries.range((hour, Arc::from(""))..(hour.saturating_add(1), Arc::from(""))).count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 490_000;

    fn row(hour: u64, key: &str, model: &str, requests: u64) -> Row {
        let counts =
            UsageCounts { requests, refused: 1, input_tokens: 10 * requests, output_tokens: requests };
        Row { hour, key: key.into(), model: model.into(), counts }
    }

    fn batch(from: &str, sequence: u64, rows: Vec<Row>) -> Batch {
        Batch { from: IngressId::new(from), sequence, rows }
    }

    fn take(ledger: &mut Ledger, batch: &Batch) -> bool {
        let change = ledger.plan(batch, NOW);
        let is_new = change.is_some();
        change.into_iter().for_each(|change| ledger.apply(change));
        is_new
    }

    fn totals(ledger: &Ledger, by: &str) -> Vec<(String, u64)> {
        let report = ledger.report(by.parse().unwrap(), 0);
        let text = |row: &UsageRow| {
            let hour = row.hour_ms.map(|ms| (ms / HOUR_MS).to_string());
            [hour, row.key.clone(), row.model.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        report.rows.iter().map(|row| (text(row), row.counts.requests)).collect()
    }

    #[test]
    fn a_batch_counts_once_and_sums_up_by_what_is_told_apart() {
        let mut ledger = Ledger::default();
        let first = batch("i", 1, vec![row(NOW - 1, "a", "rag", 2), row(NOW, "a", "rag", 3)]);
        assert!(take(&mut ledger, &first));
        assert!(!take(&mut ledger, &first), "sent again as the answer was lost");
        assert!(take(&mut ledger, &batch("j", 1, vec![row(NOW, "b", "rag", 5), row(NOW, "b", "", 1)])));
        assert!(take(&mut ledger, &batch("i", 2, vec![row(NOW, "a", "rag/generator", 7)])));
        let named =
            |list: &[(&str, u64)]| list.iter().map(|&(name, n)| (name.to_owned(), n)).collect::<Vec<_>>();
        assert_eq!(totals(&ledger, "key"), named(&[("a", 12), ("b", 6)]));
        assert_eq!(totals(&ledger, "model"), named(&[("", 1), ("rag", 10), ("rag/generator", 7)]));
        assert_eq!(totals(&ledger, "hour"), named(&[("489999", 2), ("490000", 16)]));
        let since = ledger.report(UsageBy::default(), NOW * HOUR_MS + 5);
        assert_eq!((since.since_ms, since.rows.len()), (NOW * HOUR_MS, 4));
        assert_eq!(since.rows[0].counts, row(NOW, "a", "rag", 3).counts);
    }

    #[test]
    fn hours_that_are_not_there_are_put_where_the_clock_is() {
        let mut ledger = Ledger::default();
        take(&mut ledger, &batch("i", 1, vec![row(0, "a", "m", 1), row(u64::MAX, "a", "m", 2)]));
        let oldest = (NOW - MAX_HOURS + 1).to_string();
        assert_eq!(totals(&ledger, "hour"), [(oldest, 1), (NOW.to_string(), 2)]);
    }

    #[test]
    fn old_hours_and_ingresses_that_are_gone_leave() {
        let mut ledger = Ledger::default();
        take(&mut ledger, &batch("i", 1, vec![row(NOW - 5, "a", "m", 1), row(NOW, "a", "m", 1)]));
        assert_eq!(ledger.expired(NOW), Expired::default());
        let expired = ledger.expired(NOW + MAX_HOURS - 5);
        assert_eq!((expired.entries.len(), expired.entries[0].0, expired.ingresses.len()), (1, NOW - 5, 0));
        let expired = ledger.expired(NOW + MAX_HOURS);
        assert_eq!((expired.entries.len(), expired.ingresses.len()), (2, 1));
        ledger.forget(&expired);
        assert_eq!(ledger, Ledger::default());
        for id in 0..MAX_INGRESSES + 3 {
            take(&mut ledger, &batch(&id.to_string(), 1, vec![row(NOW, "a", "m", 1)]));
        }
        assert_eq!(ledger.expired(NOW).ingresses.len(), 3);
    }

    #[test]
    fn rows_are_bounded() {
        let mut ledger = Ledger::default();
        let models = (0..100).map(|n| row(NOW, "a", &format!("m{n:03}"), 1)).collect();
        take(&mut ledger, &batch("i", 1, models));
        assert_eq!(totals(&ledger, "model").len(), MAX_MODELS + 1);
        assert_eq!(totals(&ledger, "model")[0], (OTHER.to_owned(), 68));
        for (sequence, hour) in (2..).zip(NOW - 25..=NOW) {
            let keys = (0..MAX_KEYS + 10).map(|n| row(hour, &format!("k{n}"), "m", 1)).collect();
            take(&mut ledger, &batch("i", sequence, keys));
        }
        assert!(ledger.num_keys(NOW) <= MAX_KEYS + 1);
        let expired = ledger.expired(NOW);
        let hours: BTreeSet<_> = expired.entries.iter().map(|(hour, _)| *hour).collect();
        assert_eq!(hours, (NOW - 25..NOW - 25 + hours.len() as u64).collect(), "the oldest, as a whole");
        ledger.forget(&expired);
        assert!((MAX_ROWS - MAX_KEYS..=MAX_ROWS).contains(&ledger.num_rows), "{}", ledger.num_rows);
    }

    proptest! {
        /// Whatever is lost or sent again, in whatever order heads take over: each batch counts once.
        #[test]
        fn nothing_is_counted_twice_or_lost(
            batches in prop::collection::vec((0..3_usize, 1_u64..9, 0_u64..4, 0_usize..3), 1..60),
        ) {
            let mut ledger = Ledger::default();
            let (mut sequences, mut expected) = ([0; 3], 0);
            for (ingress, requests, hour, repeats) in batches {
                sequences[ingress] += 1;
                let rows = vec![row(NOW - hour, "k", "m", requests), row(NOW, "k", "n", requests)];
                let batch = batch(&ingress.to_string(), sequences[ingress], rows);
                expected += 2 * requests;
                for _ in 0..=repeats {
                    take(&mut ledger, &batch);
                }
            }
            let total = ledger.report("key".parse().unwrap(), 0).rows[0].counts;
            prop_assert_eq!((total.requests, total.input_tokens), (expected, 10 * expected));
            prop_assert_eq!(ledger.num_rows, ledger.entries.values().map(BTreeMap::len).sum::<usize>());
        }
    }
}
