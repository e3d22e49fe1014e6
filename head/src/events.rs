//! The last events, in memory and in the store, both bounded. Written in batches, off the path of decisions: an event that
//! the store has not taken when the process dies is lost, the decision is not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::present::explain::Subject;
use millstream_pipelines::FullName;
use millstream_proto::event::{Decision, Event};
use parking_lot::Mutex;

use crate::clock;
use crate::shared::Shared;
use crate::store::{Error, Expected, Store, Write};

/// Events kept.
const MAX_EVENTS: usize = 2_000;
/// Events in one key of the store.
const MAX_BATCH: usize = 100;
/// Keys of batches: `events/FIRST_SEQUENCE`.
const PREFIX: &str = "events/";
/// How often what is new is stored.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Flushes between two events about one deployment's shed requests.
const FLUSHES_PER_SHED_EVENT: u32 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    ring: Mutex<Ring>,
    /// Held while a batch is on its way to the store: whoever returns from a flush knows that what it noted is stored.
    saving: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    last: u64,
    /// Events that the store does not have yet.
    unsaved: VecDeque<Arc<Event>>,
    /// Keys in the store and how many events each holds, the oldest first.
    batches: VecDeque<(String, usize)>,
    /// Requests turned away since the last event about it.
    shed: BTreeMap<FullName, u64>,
}

impl Ring {
    fn note(&mut self, subject: Subject, decision: Decision, at_ms: u64) {
        self.last += 1;
        let (pipeline, deployment) = match subject {
            Subject::Cluster => (None, None),
            Subject::Pipeline(name) => (Some(name.to_string()), None),
            Subject::Deployment(name) => (Some(name.pipeline.to_string()), Some(name.deployment.to_string())),
        };
        let event = Arc::new(Event { sequence: self.last, at_ms, pipeline, deployment, decision });
        for events in [&mut self.events, &mut self.unsaved] {
            events.push_back(event.clone());
            if events.len() > MAX_EVENTS {
                events.pop_front();
            }
        }
    }

    /// The next batch for the store, with the keys that it makes superfluous.
    fn next_batch(&mut self) -> Option<(Vec<Arc<Event>>, Vec<Write>)> {
        let count = self.unsaved.len().min(MAX_BATCH);
        let batch: Vec<_> = self.unsaved.drain(..count).collect();
        let key = format!("{PREFIX}{:020}", batch.first()?.sequence);
        let value = serde_json::to_vec(&batch).expect("events have text keys only and no failing serialiser");
        let mut writes = vec![Write::put(key.clone(), Expected::Any, value)];
        self.batches.push_back((key, count));
        let mut kept: usize = self.batches.iter().map(|(_, count)| count).sum();
        while kept > MAX_EVENTS + MAX_BATCH
            && let Some((key, count)) = self.batches.pop_front()
        {
            kept -= count;
            writes.push(Write::delete(key, Expected::Any));
        }
        Some((batch, writes))
    }

    /// The store did not take a batch: it is tried again.
    fn take_back(&mut self, batch: Vec<Arc<Event>>) {
        self.batches.pop_back();
        batch.into_iter().rev().for_each(|event| self.unsaved.push_front(event));
        while self.unsaved.len() > MAX_EVENTS {
            self.unsaved.pop_front();
        }
    }
}

impl EventLog {
    /// The events that the store has.
    pub(crate) async fn load(store: &dyn Store) -> Result<Self, Error> {
        let mut ring = Ring::default();
        for entry in store.list(PREFIX).await?.entries {
            // Another version of the program may have written what this one cannot read: history is not worth failing for.
            let events: Vec<Arc<Event>> = serde_json::from_slice(&entry.value).unwrap_or_default();
            ring.last = ring.last.max(events.last().map_or(0, |event| event.sequence));
            ring.batches.push_back((entry.key, events.len()));
            ring.events.extend(events);
        }
        let surplus = ring.events.len().saturating_sub(MAX_EVENTS);
        ring.events.drain(..surplus);
        Ok(Self { ring: Mutex::new(ring), saving: tokio::sync::Mutex::default() })
    }

    /// Notes a decision.
    pub(crate) fn note(&self, subject: Subject, decision: Decision) {
        self.ring.lock().note(subject, decision, clock::unix_ms());
    }

    /// Notes that requests were turned away; told every few seconds as one event.
    pub(crate) fn note_shed(&self, deployment: FullName, requests: u64) {
        *self.ring.lock().shed.entry(deployment).or_default() += requests;
    }

    /// The events about `target` (see [`Event::concerns`]) since then, the oldest first.
    pub(crate) fn about(&self, target: &str, since_ms: u64) -> Vec<Arc<Event>> {
        let ring = self.ring.lock();
        let wanted = |event: &&Arc<Event>| event.at_ms >= since_ms && event.concerns(target);
        ring.events.iter().filter(wanted).cloned().collect()
    }

    fn tell_shed(&self) {
        let mut ring = self.ring.lock();
        let over = FLUSH_INTERVAL * FLUSHES_PER_SHED_EVENT;
        let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
        for (deployment, requests) in std::mem::take(&mut ring.shed) {
            let decision = Decision::Shed { requests, over_ms };
            ring.note(Subject::Deployment(deployment), decision, clock::unix_ms());
        }
    }

    /// Stores what is new, unless the store does not take it.
    pub(crate) async fn flush(&self, store: &dyn Store) {
        let _saving = self.saving.lock().await;
        loop {
            let Some((batch, writes)) = self.ring.lock().next_batch() else { return };
            if let Err(error) = store.commit(writes).await {
                tracing::debug!(%error, "events are not stored yet");
                self.ring.lock().take_back(batch);
                return;
            }
        }
    }
}

/// Stores events for as long as the head runs.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut flushes: u32 = 0;
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => break,
            () = tokio::time::sleep(FLUSH_INTERVAL) => {}
        }
        flushes = flushes.wrapping_add(1);
        if flushes.is_multiple_of(FLUSHES_PER_SHED_EVENT) {
            shared.events.tell_shed();
        }
        shared.events.flush(&*shared.store).await;
    }
    shared.events.flush(&*shared.store).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;

    #[tokio::test]
    async fn events_survive_a_restart_and_stay_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        let log = EventLog::default();
        for revision in 1..=5_000 {
            log.note(Subject::Pipeline("p".parse().unwrap()), Decision::Deployed { revision });
            if revision % 30 == 0 {
                log.flush(&store).await;
            }
        }
        log.flush(&store).await;
        assert_eq!(log.about("", 0).len(), MAX_EVENTS);
        let stored = store.list(PREFIX).await.unwrap().entries.len();
        assert!(stored <= 1 + (MAX_EVENTS + MAX_BATCH) / 30, "{stored} keys");
        let log = EventLog::load(&store).await.unwrap();
        let events = log.about("p/model", 0);
        assert_eq!(events.len(), MAX_EVENTS);
        assert_eq!(events.last().unwrap().sequence, 5_000);
        log.note(Subject::Cluster, Decision::Alarm { raised: true });
        assert_eq!(log.about("q", 0).last().unwrap().sequence, 5_001, "numbers go on");
    }

    #[test]
    fn shed_requests_are_told_together() {
        let log = EventLog::default();
        for requests in [3, 4] {
            log.note_shed("p/model".parse().unwrap(), requests);
        }
        log.tell_shed();
        log.tell_shed();
        let told: Vec<_> = log.about("p", 0).iter().map(|event| event.decision.clone()).collect();
        assert_eq!(told, [Decision::Shed { requests: 7, over_ms: 5_000 }]);
    }
}
