//! The router of one deployment: carries out what its [`Pool`] decides. One per deployment for the life of the
//! process, so that counts, health and the queue outlive every change of the routes.
//!
//! Its lock is held for a few hundred nanoseconds and never across an await.

mod permit;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use millstream_pipelines::FullName;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot};

pub(crate) use self::permit::Permit;
use super::latency::Latencies;
use super::outcomes::CallCounts;
use super::place::{Arrival, StandIns};
use super::pool::{
    Admission, Eligibility, Grant, Key, Member, Pool, QueueClass, Requested, RoutingRequest, Shed, Ticket,
};
use super::router;
use super::settings::{DeploymentSettings, Lengths};
use super::target::{NewRoute, NewTarget, Target};
use crate::metrics::CallMeter;
use crate::model::{Outcome, TrafficShare};
use crate::random;

/// Requests of one deployment at this ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    /// Sent to replicas, not yet answered.
    pub ongoing: u64,
    /// Waiting here.
    pub queued: u64,
    /// All that ever came.
    pub arrived: u64,
}

/// See the module.
pub(crate) struct Deployment {
    name: FullName,
    meter: CallMeter,
    shared: Mutex<Shared>,
    /// Told when a queue starts to form.
    queue_formed: Arc<Notify>,
    me: Weak<Self>,
}

struct Shared {
    pool: Pool,
    settings: DeploymentSettings,
    targets: Vec<Arc<Target>>,
    /// The routed revisions of its pipeline and their shares, the one that serves first.
    routed: SmallVec<[TrafficShare; 2]>,
    waiters: HashMap<Ticket, oneshot::Sender<Result<Permit, Shed>>>,
    next_key: Key,
    /// All calls on the way, those to replicas that have left the routes included.
    ongoing: u64,
    /// All calls that ever came.
    arrived: u64,
    wake_at: Option<Instant>,
    /// What the head has not been told yet.
    counts: CallCounts,
    latencies: Latencies,
    rng: SmallRng,
}

impl Shared {
    /// How long a replica is waited for that says nothing, as far as that can be told from the other calls.
    fn patience(&self) -> Option<Duration> {
        self.latencies.patience().filter(|_| self.settings.lengths == Lengths::Alike)
    }
}

impl Deployment {
    /// A deployment without replicas.
    pub(crate) fn new(name: FullName, queue_formed: Arc<Notify>) -> Arc<Self> {
        let settings = DeploymentSettings::UNKNOWN;
        let shared = Shared {
            pool: Pool::new(settings.limits.clone()),
            settings,
            targets: Vec::new(),
            routed: SmallVec::new(),
            waiters: HashMap::new(),
            next_key: 0,
            ongoing: 0,
            arrived: 0,
            wake_at: None,
            counts: CallCounts::default(),
            latencies: Latencies::NONE,
            rng: random::small_rng(),
        };
        let meter = CallMeter::of(&name);
        Arc::new_cyclic(|me| Self { name, meter, shared: Mutex::new(shared), queue_formed, me: me.clone() })
    }

    /// Its full name.
    pub(crate) fn name(&self) -> &FullName {
        &self.name
    }

    /// Counts its calls.
    pub(crate) fn meter(&self) -> &CallMeter {
        &self.meter
    }

    /// Whether a call that has started may be run again elsewhere.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.shared.lock().settings.idempotent
    }

    /// How many calls its replicas take at a time.
    pub(crate) fn places(&self) -> usize {
        let shared = self.shared.lock();
        let max_ongoing = usize::try_from(shared.settings.limits.max_ongoing).unwrap_or(usize::MAX);
        shared.targets.len().saturating_mul(max_ongoing)
    }

    /// Its requests at this ingress.
    pub(crate) fn load(&self) -> Load {
        let shared = self.shared.lock();
        Load { ongoing: shared.ongoing, queued: shared.pool.num_queued() as u64, arrived: shared.arrived }
    }

    /// How calls ended since this was last asked.
    pub(crate) fn take_counts(&self) -> CallCounts {
        std::mem::take(&mut self.shared.lock().counts)
    }

    /// How many replicas it has.
    pub(crate) fn num_replicas(&self) -> usize {
        self.shared.lock().targets.len()
    }

    /// Whether a call that comes now will find a replica, as far as is known.
    pub(crate) fn can_answer(&self) -> bool {
        let shared = self.shared.lock();
        !shared.targets.is_empty()
            || (shared.settings.starts_on_demand && shared.pool.cannot_start().is_none())
    }

    /// Which replicas a call that avoids some may go to.
    pub(crate) fn eligibility(&self, call: RoutingRequest<'_>) -> Eligibility {
        self.shared.lock().pool.eligibility(call)
    }

    /// The routed revision whose replicas a call of another pipeline with this draw is for; `None` without any.
    pub(crate) fn drawn_revision(&self, draw: u16) -> Option<u64> {
        let routed = &self.shared.lock().routed;
        let index = router::drawn(routed.iter().map(|share| share.permille), draw).unwrap_or(0);
        routed.get(index).map(|share| share.revision)
    }

    /// The routed revisions of its pipeline.
    pub(crate) fn routed_revisions(&self) -> SmallVec<[u64; 2]> {
        self.shared.lock().routed.iter().map(|share| share.revision).collect()
    }

    /// Whether a replica surely is of that revision: it was started for it, or serves it and no other. One that serves
    /// others too may be lent by them.
    pub(crate) fn is_of(&self, key: Key, revision: u64) -> bool {
        let shared = self.shared.lock();
        let started = |target: &Arc<Target>| target.key == key && target.revision == revision;
        shared.targets.iter().any(started) || shared.pool.serves_only(key, revision)
    }

    /// Puts settings and replicas of a new route table in force: when this returns, no call is bound to a replica
    /// that it does not name.
    pub(crate) fn update(&self, route: NewRoute<'_>) {
        let NewRoute { settings, replicas, start_failure, shares, num_ingresses } = route;
        let mut shared = self.shared.lock();
        shared.pool.set_num_ingresses(num_ingresses);
        if let Some(settings) = settings {
            shared.pool.set_limits(settings.limits.clone());
            shared.settings = settings;
        }
        shared.routed = shares.into();
        let old = std::mem::take(&mut shared.targets);
        let mut members = Vec::with_capacity(replicas.len());
        for replica in replicas {
            let (serves, answers) = (replica.serves.clone(), replica.answers.clone());
            let same = |target: &&Arc<Target>| target.id == replica.id && target.address == replica.address;
            let target = old.iter().find(same).cloned().unwrap_or_else(|| {
                let key = shared.next_key;
                shared.next_key += 1;
                let NewTarget { id, address, locality, revision, client, .. } = replica;
                Arc::new(Target { key, id, address, locality, revision, client })
            });
            members.push(Member { key: target.key, locality: target.locality, serves, answers });
            shared.targets.push(target);
        }
        let (Shared { pool, rng, .. }, now) = (&mut *shared, millstream_clock::now());
        let grants = pool.set_replicas(members, shares, now, rng);
        let in_vain = pool.set_start_failure(start_failure);
        self.deliver(&mut shared, grants, now);
        in_vain.into_iter().for_each(|(ticket, shed)| self.evict(&mut shared, ticket, shed));
    }

    /// Waits for a place in a replica as the call asks for.
    ///
    /// # Errors
    /// [`Shed`] when the queue is full, or the request would come too late.
    pub(crate) async fn acquire(&self, call: RoutingRequest<'_>, arrival: Arrival) -> Result<Permit, Shed> {
        let now = millstream_clock::now();
        let (ticket, receiver) = {
            let mut shared = self.shared.lock();
            shared.arrived += u64::from(arrival == Arrival::First);
            let Shared { pool, rng, .. } = &mut *shared;
            let Requested { admission, grants, evicted } = pool.request(call, now, rng);
            if !grants.is_empty() {
                self.deliver(&mut shared, grants, now);
            }
            match admission {
                Admission::Send(key) => {
                    let permit = self.permit(&mut shared, key, now);
                    drop(shared);
                    self.meter.waited(Duration::ZERO);
                    return Ok(permit);
                }
                Admission::Shed(shed) => {
                    shared.counts.shed += 1;
                    self.meter.shed();
                    return Err(shed);
                }
                Admission::Wait(ticket) => {
                    let (sender, receiver) = oneshot::channel();
                    shared.waiters.insert(ticket, sender);
                    if let Some((last, shed)) = evicted {
                        self.evict(&mut shared, last, shed);
                    }
                    self.schedule_wake(&mut shared);
                    if shared.pool.num_queued() == 1 {
                        self.queue_formed.notify_one();
                    }
                    (ticket, receiver)
                }
            }
        };
        let mut waiting = Waiting { deployment: self, ticket, receiver };
        let place = (&mut waiting.receiver).await;
        self.meter.waited(millstream_clock::now().saturating_duration_since(now));
        place.expect("a waiter's sender is dropped only by sending or by the waiter itself")
    }

    /// What a new request is told whose call would be turned away now, which counts as turned away.
    pub(crate) fn turns_away(&self, claim: QueueClass) -> Option<Shed> {
        let mut shared = self.shared.lock();
        let Shared { pool, rng, .. } = &mut *shared;
        let shed = pool.turns_away(claim, rng)?;
        shared.arrived += 1;
        shared.counts.shed += 1;
        self.meter.shed();
        Some(shed)
    }

    /// A place in a replica if there is one at once and nobody waits for it; for calls that can do without.
    pub(crate) fn try_acquire(&self, call: RoutingRequest<'_>) -> Option<Permit> {
        let now = millstream_clock::now();
        let mut shared = self.shared.lock();
        let Shared { pool, rng, .. } = &mut *shared;
        let key = pool.try_request(call, now, rng)?;
        Some(self.permit(&mut shared, key, now))
    }

    /// How long so many percent of its recent calls took at most, from their place in a replica to their end; `None`
    /// while too few have ended.
    pub(crate) fn latency(&self, percent: u8) -> Option<Duration> {
        self.shared.lock().latencies.quantile(percent)
    }

    /// Turns a request away that waited.
    fn evict(&self, shared: &mut Shared, ticket: Ticket, shed: Shed) {
        shared.counts.shed += 1;
        self.meter.shed();
        if let Some(sender) = shared.waiters.remove(&ticket) {
            let _ = sender.send(Err(shed));
        }
    }

    /// Makes the permit of a place that the pool has booked.
    fn permit(&self, shared: &mut Shared, key: Key, now: Instant) -> Permit {
        shared.ongoing += 1;
        let target = shared.targets.iter().find(|target| target.key == key).cloned();
        let deployment =
            self.me.upgrade().expect("a deployment lives in an Arc, and somebody calls through it");
        let target = target.expect("the pool and the targets are changed together, under one lock");
        // With one replica there is nowhere else to go.
        let has_others = shared.settings.idempotent && shared.targets.len() > 1;
        let stand_ins =
            if has_others { StandIns::Exist { patience: shared.patience() } } else { StandIns::None };
        Permit { deployment, target, since: now, stand_ins, open: true }
    }

    fn deliver(&self, shared: &mut Shared, grants: Vec<Grant>, now: Instant) {
        for grant in grants {
            let sender =
                shared.waiters.remove(&grant.ticket).expect("who gives up takes its ticket out of the pool");
            let permit = self.permit(shared, grant.key, now);
            let sent = sender.send(Ok(permit));
            debug_assert!(sent.is_ok(), "a waiter leaves only under the lock");
            // Were it not so, dropping the permit here would wait for the lock that we hold.
            std::mem::forget(sent);
        }
        self.schedule_wake(shared);
    }

    /// Some waits end by the passing of time alone.
    fn schedule_wake(&self, shared: &mut Shared) {
        let Some(at) = shared.pool.next_wake() else { return };
        if shared.wake_at.is_some_and(|planned| planned <= at) {
            return;
        }
        // Without a runtime the process is going down, and nobody waits any more.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        shared.wake_at = Some(at);
        let me = self.me.clone();
        runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            if let Some(me) = me.upgrade() {
                me.wake(at);
            }
        });
    }

    fn wake(&self, at: Instant) {
        let mut shared = self.shared.lock();
        if shared.wake_at == Some(at) {
            shared.wake_at = None;
        }
        let Shared { pool, rng, .. } = &mut *shared;
        let now = millstream_clock::now().max(at);
        let grants = pool.pump(now, rng);
        self.deliver(&mut shared, grants, now);
    }

    /// Takes a place back; returns what that means for its replica, and the time that it was held.
    fn release(&self, target: &Target, outcome: Outcome, since: Instant) -> (Outcome, Duration) {
        let (key, now) = (target.key, millstream_clock::now());
        let took = now.saturating_duration_since(since);
        let mut shared = self.shared.lock();
        // A caller that has waited for very long before it leaves tells something of the replica.
        let is_late =
            outcome == Outcome::Abandoned && shared.patience().is_some_and(|patience| took > patience);
        let outcome = if is_late { Outcome::Silent } else { outcome };
        shared.ongoing -= 1;
        shared.counts.count(target.revision, outcome);
        if outcome == Outcome::Answered {
            shared.latencies.record(took);
        }
        let Shared { pool, rng, .. } = &mut *shared;
        let grants = pool.finish(key, outcome, now, rng);
        if !grants.is_empty() || pool.num_queued() > 0 {
            self.deliver(&mut shared, grants, now);
        }
        (outcome, took)
    }
}

/// A request in the queue; leaves it when dropped.
struct Waiting<'a> {
    deployment: &'a Deployment,
    ticket: Ticket,
    receiver: oneshot::Receiver<Result<Permit, Shed>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut shared = self.deployment.shared.lock();
        shared.pool.give_up(self.ticket);
        shared.waiters.remove(&self.ticket);
        // A permit that was sent and not taken is dropped with the receiver, after the lock.
    }
}
