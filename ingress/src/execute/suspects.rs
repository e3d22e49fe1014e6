//! Calls that may have crashed a replica: they run alone the next time, so that they take no others with them, and who does it again
//! is refused for some time. Without this a single request that crashes its engine would be carried by retries from replica to replica.
//!
//! A call is known by a keyed hash of its inputs; nothing of it is kept. While no replica crashes, this costs a look at a counter.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream_proto::{CallError, ErrorClass};
use parking_lot::Mutex;
use rand::Rng as _;

use crate::cache::fingerprint::{Fingerprint, Secret, Subject};
use crate::random;

/// How long a call is remembered after its last crash.
const MEMORY: Duration = Duration::from_secs(600);
/// Most calls remembered; beyond that the oldest is forgotten.
const MAX_KNOWN: usize = 1024;
/// Crashes that convict.
const CONVICTING: u32 = 2;

/// See the module.
pub(crate) struct Suspects {
    secret: Secret,
    num_known: AtomicUsize,
    known: Mutex<HashMap<Fingerprint, Record>>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    num_crashes: u32,
    last: Instant,
}

/// What is known of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Clean,
    /// A replica has crashed while it worked on it: it runs alone.
    Suspect(Fingerprint),
    /// It has crashed replicas by itself.
    Convicted,
}

impl Default for Suspects {
    fn default() -> Self {
        let secret = Secret::new(random::rng().random());
        Self { secret, num_known: AtomicUsize::new(0), known: Mutex::default() }
    }
}

impl Suspects {
    /// What is known of a call.
    pub(super) fn verdict(&self, call: Subject<'_>, now: impl FnOnce() -> Instant) -> Verdict {
        if self.num_known.load(Ordering::Relaxed) == 0 {
            return Verdict::Clean;
        }
        let fingerprint = self.secret.fingerprint(call);
        let mut known = self.known.lock();
        let verdict = match known.get(&fingerprint) {
            None => Verdict::Clean,
            Some(record) if now().saturating_duration_since(record.last) >= MEMORY => {
                known.remove(&fingerprint);
                Verdict::Clean
            }
            Some(record) if record.num_crashes >= CONVICTING => Verdict::Convicted,
            Some(_) => Verdict::Suspect(fingerprint),
        };
        self.num_known.store(known.len(), Ordering::Relaxed);
        verdict
    }

    /// A replica has crashed while it worked on this call.
    pub(super) fn crashed(&self, call: Subject<'_>, now: Instant) {
        let fingerprint = self.secret.fingerprint(call);
        let mut known = self.known.lock();
        known.retain(|_, record| now.saturating_duration_since(record.last) < MEMORY);
        if known.len() >= MAX_KNOWN
            && let Some(oldest) = known.iter().min_by_key(|(_, record)| record.last).map(|(it, _)| *it)
        {
            known.remove(&oldest);
        }
        let record = known.entry(fingerprint).or_insert(Record { num_crashes: 0, last: now });
        record.num_crashes += 1;
        record.last = now;
        self.num_known.store(known.len(), Ordering::Relaxed);
    }

    /// A suspect was answered: it was another call's doing.
    pub(super) fn acquit(&self, suspect: Fingerprint) {
        let mut known = self.known.lock();
        known.remove(&suspect);
        self.num_known.store(known.len(), Ordering::Relaxed);
    }
}

/// What a convicted call is answered with.
pub(super) fn refusal() -> CallError {
    let minutes = MEMORY.as_secs() / 60;
    let text = format!("the model has crashed twice on this input; it is refused for {minutes} minutes");
    CallError::not_started(ErrorClass::Invalid, text)
}

#[cfg(test)]
mod tests {
    use millstream_proto::Value;

    use super::*;

    #[test]
    fn the_second_crash_convicts_for_some_time_and_an_answer_acquits() {
        let (suspects, start) = (Suspects::default(), millstream_clock::now());
        let deployment = "p/d".parse().unwrap();
        let inputs = ["poison", "mate", "stranger"].map(Value::from);
        let [poison, mate, stranger] = [0, 1, 2].map(|at| Subject {
            deployment: &deployment,
            revision: 1,
            tenant: None,
            inputs: &inputs[at],
        });
        assert_eq!(suspects.verdict(poison, || start), Verdict::Clean);
        suspects.crashed(poison, start);
        suspects.crashed(mate, start);
        let Verdict::Suspect(innocent) = suspects.verdict(mate, || start) else { panic!("a suspect") };
        suspects.acquit(innocent);
        assert!(matches!(suspects.verdict(poison, || start), Verdict::Suspect(_)));
        suspects.crashed(poison, start);
        assert_eq!(suspects.verdict(poison, || start), Verdict::Convicted);
        assert_eq!(suspects.verdict(mate, || start), Verdict::Clean);
        assert_eq!(suspects.verdict(stranger, || start), Verdict::Clean);
        assert_eq!(suspects.verdict(Subject { revision: 2, ..poison }, || start), Verdict::Clean);
        assert_eq!(suspects.verdict(poison, || start + MEMORY), Verdict::Clean);
        assert_eq!(suspects.num_known.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (suspects, start) = (Suspects::default(), millstream_clock::now());
        let deployment = "p/d".parse().unwrap();
        let inputs: Vec<_> = (0..2_000).map(Value::Int).collect();
        let of =
            |at: usize| Subject { deployment: &deployment, revision: 1, tenant: None, inputs: &inputs[at] };
        (0..2_000).for_each(|at| suspects.crashed(of(at), start + Duration::from_millis(at as u64)));
        assert_eq!(suspects.known.lock().len(), MAX_KNOWN);
        assert_eq!(suspects.verdict(of(0), || start), Verdict::Clean);
        assert!(matches!(suspects.verdict(of(1_999), || start), Verdict::Suspect(_)));
    }
}
