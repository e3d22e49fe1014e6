//! The last events, in memory and in the store, both bounded. Written in batches, off the path of decisions: an event that
//! the store has not taken when the process dies is lost, the decision is not.
//!
//! When there are too many, those leave first that are about whom most are about: one noisy deployment does not push out
//! what is known of all others. The store has one key for each event, `events/TERM/SEQUENCE`, so that it keeps the same
//! ones and no two heads write the same key.

mod ring;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::present::explain::Subject;
use millstream_pipelines::FullName;
use millstream_proto::event::{Decision, Event};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::store::{Error, Fenced, Listing, Store};
use crate::{clock, metrics};
use ring::Ring;

/// How often what is new is stored.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Flushes between two events about one deployment's shed requests.
const FLUSHES_PER_SHED_EVENT: u32 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    ring: Mutex<Ring>,
    /// Requests turned away since the last event about it.
    shed: Mutex<BTreeMap<FullName, u64>>,
    /// Held while a batch is on its way to the store: whoever returns from a flush knows that what it noted is stored.
    saving: tokio::sync::Mutex<()>,
}

impl EventLog {
    /// What the keys of all events begin with.
    pub(crate) const PREFIX: &str = ring::PREFIX;

    /// The events of a store that nobody writes.
    pub(crate) fn of(listing: &Listing) -> Self {
        Self { ring: Mutex::new(Ring::read(listing, 0)), ..Self::default() }
    }

    /// The events that the store has. New ones are stored under `epoch`, a term of this head alone.
    pub(crate) async fn load(store: &Fenced, epoch: u64) -> Result<Self, Error> {
        let listing = store.list(&[ring::PREFIX]).await?;
        Ok(Self { ring: Mutex::new(Ring::read(&listing, epoch)), ..Self::default() })
    }

    /// Notes a decision.
    pub(crate) fn note(&self, subject: Subject, decision: Decision) {
        if let Subject::Pipeline(pipeline) = &subject {
            metrics::count_rollout(pipeline, &decision);
        }
        self.ring.lock().note(subject, decision, clock::unix_ms());
    }

    /// Notes that requests were turned away; told every few seconds as one event.
    pub(crate) fn note_shed(&self, deployment: FullName, requests: u64) {
        *self.shed.lock().entry(deployment).or_default() += requests;
    }

    /// The events about `target` (see [`Event::concerns`]) since then, the oldest first.
    pub(crate) fn about(&self, target: &str, since_ms: u64) -> Vec<Arc<Event>> {
        let ring = self.ring.lock();
        let wanted = |event: &&Arc<Event>| event.at_ms >= since_ms && event.concerns(target);
        ring.events().filter(wanted).cloned().collect()
    }

    /// The events after the one with that number, the oldest first.
    pub(crate) fn after(&self, sequence: u64) -> Vec<Arc<Event>> {
        let ring = self.ring.lock();
        ring.events().filter(|event| event.sequence > sequence).cloned().collect()
    }

    /// The number of the newest event; 0 without any.
    pub(crate) fn newest(&self) -> u64 {
        self.ring.lock().events().map(|event| event.sequence).max().unwrap_or(0)
    }

    fn tell_shed(&self) {
        let shed = std::mem::take(&mut *self.shed.lock());
        let over = FLUSH_INTERVAL * FLUSHES_PER_SHED_EVENT;
        let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
        for (deployment, requests) in shed {
            self.note(Subject::Deployment(deployment), Decision::Shed { requests, over_ms });
        }
    }

    /// Stores what is new, unless the store does not take it.
    pub(crate) async fn flush(&self, store: &Fenced) {
        let _saving = self.saving.lock().await;
        loop {
            let Some(batch) = self.ring.lock().next_batch() else { return };
            if let Err(error) = store.commit(batch.writes.clone().into()).await {
                tracing::debug!(%error, "events are not stored yet");
                return;
            }
            self.ring.lock().saved(&batch);
        }
    }

    /// Stores events until `closing`.
    pub(crate) async fn keep(&self, store: &Fenced, closing: CancellationToken) {
        let mut flushes: u32 = 0;
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                () = tokio::time::sleep(FLUSH_INTERVAL) => {}
            }
            flushes = flushes.wrapping_add(1);
            if flushes.is_multiple_of(FLUSHES_PER_SHED_EVENT) {
                self.tell_shed();
            }
            self.flush(store).await;
        }
        self.flush(store).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leadership::election::testing::lead;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::{Expected, Write};
    use ring::MAX_EVENTS;

    async fn open() -> (Arc<Faulty>, Fenced, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let faulty = Arc::new(Faulty::new(Arc::new(EmbeddedStore::open(dir.path()).unwrap())));
        let store: Arc<dyn Store> = faulty.clone();
        (faulty, lead(&store).await, dir)
    }

    fn pipeline(name: &str) -> Subject {
        Subject::Pipeline(name.parse().unwrap())
    }

    fn deploy(log: &EventLog, name: &str, revision: u64) {
        log.note(pipeline(name), Decision::Deployed { revision });
    }

    async fn stored(store: &Fenced) -> Listing {
        store.list(&[ring::PREFIX]).await.unwrap()
    }

    #[tokio::test]
    async fn events_survive_a_restart_and_stay_bounded() {
        let (_, store, _dir) = open().await;
        let log = EventLog::load(&store, 1).await.unwrap();
        for revision in 1..=5_000 {
            deploy(&log, "p", revision);
            if revision % 300 == 0 {
                log.flush(&store).await;
            }
        }
        log.flush(&store).await;
        let known = log.about("", 0);
        assert!((MAX_EVENTS * 9 / 10..=MAX_EVENTS).contains(&known.len()), "{}", known.len());
        assert_eq!(stored(&store).await.entries.len(), known.len(), "the store keeps the same ones");
        let log = EventLog::load(&store, 2).await.unwrap();
        assert_eq!(log.about("p/model", 0), known);
        assert_eq!(known.last().unwrap().sequence, 5_000);
        log.note(Subject::Cluster, Decision::Alarm { raised: true });
        assert_eq!(log.about("q", 0).last().unwrap().sequence, 5_001, "numbers go on");
        log.flush(&store).await;
        let listing = stored(&store).await;
        let newest = &listing.entries.last().unwrap().key;
        assert_eq!(newest, &format!("events/{:020}/{:020}", 2, 5_001), "each term has its own keys");
    }

    #[tokio::test]
    async fn a_noisy_deployment_does_not_push_out_what_is_known_of_others() {
        let (_, store, _dir) = open().await;
        let log = EventLog::load(&store, 1).await.unwrap();
        for revision in 1..=3 {
            deploy(&log, "quiet", revision);
        }
        for revision in 1..=10_000 {
            deploy(&log, "noisy", revision);
            if revision <= 500 {
                deploy(&log, "busy", revision);
            }
        }
        log.flush(&store).await;
        for log in [&log, &EventLog::load(&store, 2).await.unwrap()] {
            let counts = ["quiet", "busy", "noisy"].map(|name| log.about(name, 0).len());
            assert_eq!(counts[..2], [3, 500], "{counts:?}");
            assert!(counts[2] > MAX_EVENTS / 2, "{counts:?}");
        }
    }

    #[tokio::test]
    async fn an_event_that_would_not_fit_into_the_store_is_shortened() {
        let (_, store, _dir) = open().await;
        let log = EventLog::load(&store, 1).await.unwrap();
        let reasons = (0..40_000).map(|n| format!("node-{n}: {}", "no room ".repeat(20))).collect();
        log.note(pipeline("p"), Decision::Pending { reasons });
        let reason = "ü".repeat(2_000_000);
        log.note(pipeline("p"), Decision::RolledBack { revision: 2, to: 1, reason });
        (0..300).for_each(|n| deploy(&log, "p", n));
        log.flush(&store).await;
        let events = EventLog::load(&store, 2).await.unwrap().about("p", 0);
        assert_eq!(events.len(), 302);
        let Decision::Pending { reasons } = &events[0].decision else { panic!("{:?}", events[0]) };
        assert!(reasons.len() < 100 && reasons.last().unwrap().contains("more"), "{:?}", reasons.last());
        assert!(stored(&store).await.entries.iter().all(|entry| entry.value.len() < 20_000));
    }

    #[tokio::test]
    async fn what_the_store_did_not_take_or_may_have_taken_is_stored_again() {
        let (faulty, store, _dir) = open().await;
        let log = EventLog::load(&store, 1).await.unwrap();
        deploy(&log, "p", 1);
        for fault in [Fault::Lost, Fault::Written] {
            faulty.break_commits([fault]);
            log.flush(&store).await;
            deploy(&log, "p", 2);
        }
        log.flush(&store).await;
        assert_eq!(EventLog::load(&store, 2).await.unwrap().about("p", 0), log.about("p", 0));
    }

    #[tokio::test]
    async fn events_of_an_earlier_version_are_read_and_moved() {
        let (_, store, _dir) = open().await;
        let old = r#"[{"sequence":7,"at_ms":5,"pipeline":"p","kind":"deployed","revision":1},
            {"sequence":8,"at_ms":6,"pipeline":"p","kind":"deleted"}]"#;
        for (key, value) in [("events/00000000000000000007", old), ("events/00000000000000000009", "?")] {
            store.commit(Write::put(key, Expected::Any, value).into()).await.unwrap();
        }
        let log = EventLog::load(&store, 3).await.unwrap();
        assert_eq!(log.about("p", 0).len(), 2);
        log.flush(&store).await;
        let keys: Vec<_> = stored(&store).await.entries.into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys, [7, 8].map(|sequence| format!("events/{:020}/{sequence:020}", 3)));
        assert_eq!(EventLog::load(&store, 4).await.unwrap().about("p", 0), log.about("p", 0));
    }

    #[test]
    fn shed_requests_are_told_together() {
        let log = EventLog::default();
        for requests in [3, 4] {
            log.note_shed("p/model".parse().unwrap(), requests);
        }
        log.tell_shed();
        log.tell_shed();
        let decisions: Vec<_> = log.about("p", 0).iter().map(|event| event.decision.clone()).collect();
        assert_eq!(decisions, [Decision::Shed { requests: 7, over_ms: 5_000 }]);
    }
}
