//! The replicas of one deployment and the requests that wait for them, as plain data: which call goes where, who
//! waits, who is turned away. Time and randomness come in as arguments; what to do comes out.
//!
//! Requests are bound to a replica only when it has room (late binding), in the order of the
//! [queue](super::queue). A waiting request that may not go to some replicas (it failed there) lets others pass rather
//! than hold them up. When the queue is full, the last of it is turned away, be it the one that comes or not; calls of requests that
//! have begun are not.

use std::time::{Duration, Instant};

use rand::Rng;
use smallvec::SmallVec;

use super::admission::{self, DrainRate};
use super::ejection::{self, Health, Others};
use super::queue::FairQueue;
pub use super::queue::{QueueClass, Ticket};
use super::router::{self, Candidate};
use crate::model::{Outcome, TrafficShare};

mod replica;
mod request;

use self::replica::{Aim, Group, Replica};
pub use self::replica::{Key, Member};
pub use self::request::{
    Admission, Eligibility, Grant, Requested, RoutingRequest, Shed, ShedReason, Standing, StartFailure,
};

/// How long a replica that said it is full is left alone, unless one of our calls on it ends before.
const FULL_BACKOFF: Duration = Duration::from_millis(20);
/// When a request is to come back that cannot be answered because nothing starts.
const START_RETRY_S: u32 = 10;

/// What a deployment's settings say about admission and choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLimits {
    /// Calls in one replica at a time.
    pub max_ongoing: u32,
    /// Calls that wait; `None` for the default rule.
    pub max_queued: Option<u32>,
    /// Ongoing calls below which a near replica is preferred.
    pub near_room: u32,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq)]
struct Waiting {
    avoid: SmallVec<[Key; 2]>,
    aim: Aim,
    standing: Standing,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    limits: PoolLimits,
    /// Those among which the places in the queue are shared out.
    num_ingresses: u32,
    replicas: Vec<Replica>,
    /// The routed revisions, where replicas serve different ones; else empty, and calls may go anywhere.
    shares: SmallVec<[TrafficShare; 2]>,
    queue: FairQueue<Waiting>,
    drain_rate: DrainRate,
    /// When waiting requests were last tried: what was due by then binds none of them.
    pumped_at: Option<Instant>,
    /// Why there are no replicas and waiting for one is in vain.
    start_failure: Option<StartFailure>,
}

impl Pool {
    /// A pool without replicas.
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            num_ingresses: 1,
            replicas: Vec::new(),
            shares: SmallVec::new(),
            queue: FairQueue::new(),
            drain_rate: DrainRate::UNKNOWN,
            pumped_at: None,
            start_failure: None,
        }
    }

    /// Number of waiting requests.
    pub fn num_queued(&self) -> usize {
        self.queue.len()
    }

    /// Settings apply in place.
    pub fn set_limits(&mut self, limits: PoolLimits) {
        self.limits = limits;
    }

    /// How many ingresses share the places in the queue.
    pub fn set_num_ingresses(&mut self, num_ingresses: u32) {
        self.num_ingresses = num_ingresses;
    }

    /// Says why there are no replicas and waiting for one is in vain, or that this is not so. Returns who waited in vain.
    pub fn set_start_failure(&mut self, failure: Option<StartFailure>) -> Vec<(Ticket, Shed)> {
        self.start_failure = failure;
        let Some(shed) = self.cannot_start() else { return Vec::new() };
        let mut waited = Vec::new();
        while let Some(ticket) = self.queue.last_where(|_| true) {
            self.queue.remove(ticket);
            waited.push((ticket, shed));
        }
        waited
    }

    /// What a request hears while there are no replicas and waiting for one is in vain.
    pub fn cannot_start(&self) -> Option<Shed> {
        let failure = self.start_failure.filter(|_| self.replicas.is_empty())?;
        Some(Shed { retry_after_s: START_RETRY_S, reason: ShedReason::CannotStart(failure) })
    }

    /// Replaces the replicas and the routed revisions. Replicas that stay keep their counts and health.
    pub fn set_replicas(
        &mut self,
        replicas: Vec<Member>,
        shares: &[TrafficShare],
        now: Instant,
        rng: &mut impl Rng,
    ) -> Vec<Grant> {
        let mixed = replicas.windows(2).any(|pair| pair[0].serves != pair[1].serves);
        self.shares = if mixed { shares.into() } else { SmallVec::new() };
        let old = std::mem::take(&mut self.replicas);
        self.replicas = replicas
            .into_iter()
            .map(|Member { key, locality, serves, answers }| {
                match old.iter().find(|replica| replica.key == key) {
                    Some(replica) => Replica { serves, answers, ..replica.clone() },
                    None => {
                        let (ongoing, full_until, health) = (0, None, Health::FRESH);
                        Replica { key, locality, serves, answers, ongoing, full_until, health }
                    }
                }
            })
            .collect();
        self.keep_one_in_rotation();
        self.pump(now, rng)
    }

    /// The last replica that can answer what it can is never ejected, also when the others left the routes.
    fn keep_one_in_rotation(&mut self) {
        let until = |replica: &Replica| match replica.health {
            Health::Out { until, .. } => Some(until),
            Health::In { .. } | Health::Probing { .. } => None,
        };
        loop {
            let alone = |replica: &&Replica| !replica.health.is_in() && !self.has_stand_in(replica);
            let first = self.replicas.iter().filter(alone).min_by_key(|replica| until(replica));
            let Some(key) = first.map(|replica| replica.key) else { return };
            let replica = self.replicas.iter_mut().find(|replica| replica.key == key);
            replica.into_iter().for_each(|replica| replica.health = Health::FRESH);
        }
    }

    /// Whether another replica in rotation can answer whatever this one can.
    fn has_stand_in(&self, replica: &Replica) -> bool {
        let own = if replica.answers.is_empty() { &replica.serves } else { &replica.answers };
        let can = |other: &Replica| own.iter().all(|revision| other.can_answer(Some(*revision)));
        let mut others = self.replicas.iter().filter(|other| other.key != replica.key);
        others.any(|other| other.health.is_in() && can(other))
    }

    /// Which replicas a request that avoids some may go to.
    pub fn eligibility(&self, routing: RoutingRequest<'_>) -> Eligibility {
        let revision = self.aim(routing).revision;
        let mut able = self.replicas.iter().filter(|replica| replica.can_answer(revision)).peekable();
        if able.peek().is_none() {
            Eligibility::Empty
        } else if able.all(|replica| routing.avoid.contains(&replica.key)) {
            Eligibility::AllAvoided
        } else {
            Eligibility::Open
        }
    }

    /// Whether a replica serves this revision and no other.
    pub fn serves_only(&self, key: Key, revision: u64) -> bool {
        self.replicas.iter().any(|replica| replica.key == key && *replica.serves == [revision])
    }

    /// Admits, queues or sheds a request.
    pub fn request(&mut self, routing: RoutingRequest<'_>, now: Instant, rng: &mut impl Rng) -> Requested {
        if let Some(shed) = self.cannot_start() {
            return Requested { admission: Admission::Shed(shed), grants: Vec::new(), evicted: None };
        }
        let aim = self.aim(routing);
        if self.queue.is_empty()
            && let Some(key) = self.pick(routing.avoid, aim, now, rng)
        {
            return Requested { admission: Admission::Send(key), grants: Vec::new(), evicted: None };
        }
        let ticket = self
            .queue
            .push(routing.claim, Waiting { avoid: routing.avoid.into(), aim, standing: routing.standing });
        let mut grants = self.pump(now, rng);
        if let Some(position) = grants.iter().position(|grant| grant.ticket == ticket) {
            let grant = grants.remove(position);
            return Requested { admission: Admission::Send(grant.key), grants, evicted: None };
        }
        let rate_per_s = self.rate_per_s();
        let left = routing.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let ahead = self.queue.num_before(ticket);
        let is_new = routing.standing == Standing::New;
        if is_new && left.is_some_and(|left| !admission::is_in_time(ahead, rate_per_s, left)) {
            self.queue.remove(ticket);
            let admission = Admission::Shed(self.shed(ShedReason::TooLate, rng));
            return Requested { admission, grants, evicted: None };
        }
        let mut evicted = None;
        if self.queue.len() > self.queue_bound()
            && let Some(last) = self.queue.last_where(|waiting| waiting.standing == Standing::New)
        {
            self.queue.remove(last);
            if last == ticket {
                let admission = Admission::Shed(self.shed(ShedReason::Full, rng));
                return Requested { admission, grants, evicted };
            }
            evicted = Some((last, self.shed(ShedReason::Displaced, rng)));
        }
        Requested { admission: Admission::Wait(ticket), grants, evicted }
    }

    fn queue_bound(&self) -> usize {
        let PoolLimits { max_queued, max_ongoing, .. } = self.limits;
        admission::queue_bound(max_queued, self.replicas.len(), max_ongoing, self.num_ingresses)
    }

    /// What a request with this claim would be told, if it were turned away at once because the queue is full. It is asked before
    /// anything is spent on the request; what else it may hear, it hears when it asks for its place.
    pub fn turns_away(&self, claim: QueueClass, rng: &mut impl Rng) -> Option<Shed> {
        if let Some(shed) = self.cannot_start() {
            return Some(shed);
        }
        if self.queue.is_empty() || self.queue.len() < self.queue_bound() {
            return None;
        }
        let last = self.queue.last_where(|waiting| waiting.standing == Standing::New);
        let is_last = last.is_none_or(|last| self.queue.would_be_behind(claim, last));
        is_last.then(|| self.shed(ShedReason::Full, rng))
    }

    /// A place at once, or none: for a request that does not wait, and goes before nobody who does.
    pub fn try_request(
        &mut self,
        routing: RoutingRequest<'_>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<Key> {
        let aim = self.aim(routing);
        if self.queue.is_empty() { self.pick(routing.avoid, aim, now, rng) } else { None }
    }

    /// Answers per second while requests wait; 0 while unknown.
    fn rate_per_s(&self) -> f64 {
        self.drain_rate.per_second(self.replicas.len())
    }

    /// What a request hears that is turned away now.
    fn shed(&self, reason: ShedReason, rng: &mut impl Rng) -> Shed {
        let wait = admission::retry_after_s(self.queue.len(), self.rate_per_s(), rng.random());
        Shed { retry_after_s: wait, reason }
    }

    /// A waiting request was given up.
    pub fn give_up(&mut self, ticket: Ticket) {
        self.queue.remove(ticket);
    }

    /// A call that was sent has ended. Replicas that have left the routes are ignored.
    pub fn finish(&mut self, key: Key, outcome: Outcome, now: Instant, rng: &mut impl Rng) -> Vec<Grant> {
        if self.queue.is_empty() {
            self.drain_rate.pause();
        } else {
            self.drain_rate.observe(self.replicas.len(), now);
        }
        let ended = self.replicas.iter().find(|replica| replica.key == key);
        let others_in = ended.is_some_and(|replica| self.has_stand_in(replica));
        let others = if others_in { Others::InRotation } else { Others::None };
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.key == key) {
            replica.ongoing = replica.ongoing.saturating_sub(1);
            replica.full_until = (outcome == Outcome::Full).then(|| now + FULL_BACKOFF);
            let healthy = replica.health == Health::FRESH && outcome == Outcome::Answered;
            if !healthy {
                replica.health = ejection::step(replica.health, outcome, others, now, rng.random());
            }
        }
        if self.queue.is_empty() { Vec::new() } else { self.pump(now, rng) }
    }

    /// Binds as many waiting requests as there is room for.
    pub fn pump(&mut self, now: Instant, rng: &mut impl Rng) -> Vec<Grant> {
        self.pumped_at = Some(now);
        let mut grants = Vec::new();
        let mut behind = None;
        let all_answer_all = self.replicas.iter().all(|replica| replica.answers.is_empty());
        while let Some((place, Waiting { avoid, aim, .. })) = self.queue.next(behind) {
            let (avoid, aim) = (avoid.clone(), *aim);
            let anywhere = avoid.is_empty() && aim.group.is_none() && all_answer_all;
            if let Some(key) = self.pick(&avoid, aim, now, rng) {
                self.queue.serve(place.ticket());
                grants.push(Grant { ticket: place.ticket(), key });
            } else if anywhere || !self.replicas.iter().any(|replica| self.can_take(replica, now)) {
                break;
            }
            behind = Some(place);
        }
        grants
    }

    /// When the passing of time alone may bind a waiting request: a full replica is asked again, or an ejected one
    /// is probed. `None` while nobody waits, and for what is due already: a replica that was due when requests were last
    /// tried is one that they avoid.
    pub fn next_wake(&self) -> Option<Instant> {
        if self.queue.is_empty() {
            return None;
        }
        let wakes = self.replicas.iter().filter(|replica| replica.ongoing < self.limits.max_ongoing);
        wakes
            .filter_map(|replica| match replica.health {
                Health::Out { until, .. } => Some(until),
                Health::In { .. } | Health::Probing { .. } => replica.full_until,
            })
            .filter(|due| self.pumped_at.is_none_or(|pumped_at| *due > pumped_at))
            .min()
    }

    /// Whether a replica could take one more call now, the probe of an ejected one included.
    fn can_take(&self, replica: &Replica, now: Instant) -> bool {
        let room =
            replica.ongoing < self.limits.max_ongoing && replica.full_until.is_none_or(|until| until <= now);
        let open = match replica.health {
            Health::In { .. } => true,
            Health::Out { until, .. } => until <= now,
            Health::Probing { .. } => false,
        };
        room && open
    }

    /// Where a call is to go.
    fn aim(&self, routing: RoutingRequest<'_>) -> Aim {
        if self.shares.is_empty() {
            return Aim { revision: routing.revision, group: None };
        }
        let drawn = || router::drawn(self.shares.iter().map(|share| share.permille), routing.draw);
        let revision = routing.revision.or_else(|| drawn().map(|index| self.shares[index].revision));
        Aim { revision, group: revision.and_then(|revision| self.group(revision, routing.draw)) }
    }

    /// Which replicas a call of a revision's request should get one of.
    fn group(&self, revision: u64, draw: u16) -> Option<Group> {
        let serving = self.replicas.iter().filter(|replica| replica.serves.contains(&revision)).count();
        // Older replicas help the revision that serves, not one that is on trial.
        let is_serving = self.shares.first().is_some_and(|share| share.revision == revision);
        let helps = |replica: &&Replica| replica.serves.is_empty() && replica.can_answer(Some(revision));
        let helpers = self.replicas.iter().filter(|replica| is_serving && helps(replica));
        let helping = helpers.count();
        let share = usize::from(draw) * (serving + helping) < serving * 1000;
        (serving > 0).then_some(if share { Group::Serving(revision) } else { Group::Helping })
    }

    /// Chooses a replica and books a place in it. The group binds while one of its replicas is in rotation.
    fn pick(&mut self, avoid: &[Key], aim: Aim, now: Instant, rng: &mut impl Rng) -> Option<Key> {
        let able = |replica: &Replica| replica.can_answer(aim.revision) && !avoid.contains(&replica.key);
        let group = aim.group.filter(|&group| {
            let open = |replica: &Replica| replica.health.is_in() && able(replica);
            self.replicas.iter().any(|replica| replica.is_in(group) && open(replica))
        });
        let able: SmallVec<[usize; 8]> = (0..self.replicas.len())
            .filter(|&index| {
                let replica = &self.replicas[index];
                let wanted = group.is_none_or(|group| replica.is_in(group));
                wanted && able(replica) && self.can_take(replica, now)
            })
            .collect();
        // A probe that is due goes first, or an ejected replica would never come back under light load.
        let probe = able.iter().copied().find(|&index| !self.replicas[index].health.is_in());
        let chosen = match probe {
            Some(index) => index,
            None => {
                let candidates: SmallVec<[Candidate; 8]> =
                    able.iter().map(|&index| self.replicas[index].candidate()).collect();
                able[router::choose(&candidates, self.limits.near_room, rng)?]
            }
        };
        let replica = &mut self.replicas[chosen];
        if let Health::Out { backoff, .. } = replica.health {
            replica.health = Health::Probing { backoff };
        }
        replica.ongoing += 1;
        debug_assert!(replica.ongoing <= self.limits.max_ongoing, "a replica never gets more than it takes");
        Some(replica.key)
    }
}

#[cfg(test)]
mod tests;
