//! The simulation: events in order of time, and between them nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use millstream_core::autoscaler::{Load, RESOLUTION, Scaler, initial};
use millstream_pipelines::Autoscaling;

use super::fleet::{Fleet, ReplicaNumber};
use super::service::Job;
use super::{Outcome, Policy, Settings, queue_bound};

/// Something that happens; those of one time in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A replica is ready.
    Ready(ReplicaNumber),
    /// A replica has answered a request.
    Answered(ReplicaNumber),
    /// The request of that index comes.
    Arrives(usize),
    /// Time to report and to decide.
    Tick,
}

/// The only reporter.
const INGRESS: u8 = 0;

struct Simulation<'a> {
    settings: &'a Settings,
    autoscaling: Autoscaling,
    jobs: &'a [Job],
    events: BinaryHeap<Reverse<(Duration, Event)>>,
    now: Duration,
    fleet: Fleet,
    scaler: Scaler<u8>,
    queue: VecDeque<usize>,
    ongoing: u64,
    arrived: u64,
    next_report: Duration,
    reported: Load,
    /// When the next tick is; others that are still in the queue were overtaken.
    next_tick: Option<Duration>,
    waits: Vec<Duration>,
    shed: u64,
    scale_events: u64,
    unanswered: usize,
}

/// Replays `jobs`, which are in order of arrival, until the last one is answered. Deterministic.
#[must_use]
pub fn run(jobs: &[Job], settings: &Settings) -> Outcome {
    let autoscaling = settings.policy.settings(&settings.autoscaling);
    let replicas = initial(&autoscaling);
    let mut simulation = Simulation {
        settings,
        jobs,
        events: BinaryHeap::new(),
        now: Duration::ZERO,
        fleet: Fleet::ready(replicas, settings.max_ongoing.max(1)),
        scaler: Scaler::new(replicas),
        queue: VecDeque::new(),
        ongoing: 0,
        arrived: 0,
        next_report: Duration::ZERO,
        reported: Load::default(),
        next_tick: None,
        waits: Vec::with_capacity(jobs.len()),
        shed: 0,
        scale_events: 0,
        unanswered: jobs.len(),
        autoscaling,
    };
    if let Some(first) = jobs.first() {
        simulation.events.push(Reverse((first.at, Event::Arrives(0))));
    }
    simulation.run()
}

impl Simulation<'_> {
    fn run(mut self) -> Outcome {
        while self.unanswered > 0
            && let Some(Reverse((at, event))) = self.events.pop()
        {
            self.now = at;
            match event {
                Event::Ready(replica) => {
                    self.fleet.set_ready(replica);
                    self.scaler.wake_at = Some(at);
                    self.bind();
                }
                Event::Answered(replica) => {
                    self.fleet.free_slot(replica, at);
                    self.ongoing -= 1;
                    self.unanswered -= 1;
                    self.bind();
                }
                Event::Arrives(index) => self.arrive(index),
                Event::Tick if self.next_tick == Some(at) => {
                    self.next_tick = None;
                    self.tick();
                }
                Event::Tick => {}
            }
            self.tick_later();
        }
        self.outcome()
    }

    fn arrive(&mut self, index: usize) {
        if let Some(next) = self.jobs.get(index + 1) {
            self.events.push(Reverse((next.at.max(self.now), Event::Arrives(index + 1))));
        }
        self.arrived += 1;
        if self.queue.is_empty() {
            self.queue.push_back(index);
            self.bind();
            if !self.queue.is_empty() {
                self.queue_formed();
            }
        } else if self.queue.len() >= queue_bound(self.fleet.num_ready(), self.settings.max_ongoing) {
            self.shed += 1;
            self.unanswered -= 1;
        } else {
            self.queue.push_back(index);
        }
    }

    /// Requests are bound to replicas only when there is room.
    fn bind(&mut self) {
        while let Some(&index) = self.queue.front() {
            let Some(replica) = self.fleet.take_slot() else { return };
            self.queue.pop_front();
            self.ongoing += 1;
            let Job { at, service } = self.jobs[index];
            self.waits.push(self.now - at);
            self.events.push(Reverse((self.now + service, Event::Answered(replica))));
        }
    }

    /// Told at once, as an ingress does; acted upon at once only where there is no replica at all.
    fn queue_formed(&mut self) {
        let from_zero = self.scaler.scaling.target == 0;
        if from_zero || self.settings.policy == Policy::Ours {
            self.report();
        }
        if from_zero {
            self.decide();
        }
    }

    fn load(&self) -> Load {
        Load { ongoing: self.ongoing, queued: self.queue.len() as u64, arrived: self.arrived }
    }

    fn report(&mut self) {
        let load = self.load();
        let look_back = self.autoscaling.look_back;
        if load != Load::default() || self.reported != Load::default() {
            self.scaler.record(&INGRESS, load, look_back, self.now);
        }
        self.reported = Load { arrived: 0, ..load };
        self.arrived = 0;
    }

    fn tick(&mut self) {
        if self.now >= self.next_report {
            self.report();
            self.next_report = self.now + self.settings.policy.report_interval();
        }
        if self.scaler.wake_at.is_some_and(|at| at <= self.now) {
            self.decide();
        }
    }

    /// Ticks come while anything is to be reported or decided, on a grid as clocks have it.
    fn tick_later(&mut self) {
        let busy = self.load() != Load::default() || self.reported != Load::default();
        let report = busy.then(|| self.next_report.max(self.now));
        let Some(at) = [report, self.scaler.wake_at].into_iter().flatten().min() else { return };
        let at = at.max(self.now + Duration::from_nanos(1));
        let grid = at.as_nanos().div_ceil(RESOLUTION.as_nanos()) * RESOLUTION.as_nanos();
        let at = Duration::from_nanos(u64::try_from(grid).unwrap_or(u64::MAX));
        if self.next_tick.is_none_or(|next| at < next) {
            self.next_tick = Some(at);
            self.events.push(Reverse((at, Event::Tick)));
        }
    }

    fn decide(&mut self) {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let replicas = (count(self.fleet.num_ready()), count(self.fleet.num_starting()));
        let before = self.scaler.scaling.target;
        let decision = self.scaler.decide(&self.autoscaling, replicas, Duration::ZERO, self.now);
        if decision.rule.is_none() {
            return;
        }
        self.scale_events += 1;
        let target = decision.scaling.target;
        if target > before {
            let ready_at = self.now + self.settings.start_time;
            for replica in self.fleet.grow(target - before, self.now) {
                self.events.push(Reverse((ready_at, Event::Ready(replica))));
            }
        } else {
            self.fleet.shrink(before - target, self.now);
        }
    }

    fn outcome(mut self) -> Outcome {
        self.waits.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (self.waits.len() * percent).div_ceil(100).max(1) - 1;
            self.waits.get(rank).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
        };
        Outcome {
            replica_seconds: self.fleet.spent(self.now).as_secs_f64(),
            wait_p50_ms: percentile(50),
            wait_p95_ms: percentile(95),
            wait_p99_ms: percentile(99),
            shed: self.shed,
            scale_events: self.scale_events,
            requests: self.jobs.len() as u64,
            max_replicas_used: u32::try_from(self.fleet.most()).unwrap_or(u32::MAX),
            duration_seconds: self.now.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests;
