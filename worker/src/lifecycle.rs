//! The life of every replica on this node: from what the head orders and what happens to replicas, to what is to be
//! done. Pure: the worker's actor carries out the actions and turns their outcomes into events.
//!
//! Each start of a replica has a number of its own, its incarnation, so that a late word of an earlier one is known
//! as such.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_engine::LoadedModel;
use millstream_proto::ReplicaId;
use millstream_proto::status::ReplicaState;
use rand::Rng;

use crate::order::{Order, Report};
use crate::restart::RestartPolicy;

/// Which start of a replica; never used twice in a worker's life.
pub type Incarnation = u64;

/// All replicas of this node.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    policy: RestartPolicy,
    replicas: BTreeMap<ReplicaId, Replica>,
    last_incarnation: Incarnation,
    leaving: bool,
}

#[derive(Debug, Clone)]
struct Replica {
    report: Report,
    incarnation: Incarnation,
    failures: u32,
    ready_since: Option<Instant>,
}

/// What happened or is asked for.
#[derive(Debug, Clone)]
pub enum Event {
    /// The head wants this replica here. One that exists goes on, with the order's settings.
    Start(Arc<Order>),
    /// The head no longer wants this replica.
    Stop {
        /// Which.
        id: ReplicaId,
        /// How long it may finish its calls.
        drain: Duration,
    },
    /// The worker leaves: no replica is wanted any more, none is started.
    StopAll {
        /// How long they may finish their calls.
        drain: Duration,
    },
    /// A starting replica says what it is doing.
    Doing(ReplicaId, Incarnation, String),
    /// A starting replica's model cannot be loaded, and trying again will not help as long as its files are what they are.
    Unloadable(ReplicaId, Incarnation),
    /// A replica is warm and takes calls.
    Ready {
        /// Which.
        id: ReplicaId,
        /// Which start of it.
        incarnation: Incarnation,
        /// What it has loaded.
        model: LoadedModel,
    },
    /// A replica's actor has ended: as it was told to, or of the given failure.
    Ended(ReplicaId, Incarnation, Option<String>),
    /// The wait after a failure is over.
    RetryDue(ReplicaId, Incarnation),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Spawn a replica's actor.
    Spawn(Arc<Order>, Incarnation),
    /// Give a running replica's actor new settings.
    Apply(Arc<Order>, Incarnation),
    /// Tell a replica's actor to finish its calls and end.
    Drain {
        /// Which.
        id: ReplicaId,
        /// Which start of it.
        incarnation: Incarnation,
        /// How long it may take.
        timeout: Duration,
    },
    /// Send [`Event::RetryDue`] after the delay.
    Retry {
        /// Which.
        id: ReplicaId,
        /// The start that failed.
        incarnation: Incarnation,
        /// How long to wait.
        delay: Duration,
    },
    /// Tell the head how a replica is.
    Report(Report),
    /// Tell the head that there is no such replica.
    ReportUnknown(ReplicaId),
}

impl Lifecycle {
    /// Decides what follows from an event.
    pub fn decide(&mut self, event: Event, now: Instant, rng: &mut impl Rng) -> Vec<Action> {
        match event {
            Event::Start(order) => self.start(order),
            Event::Stop { id, drain } => self.stop(&id, drain),
            Event::StopAll { drain } => {
                self.leaving = true;
                let ids: Vec<_> = self.replicas.keys().cloned().collect();
                ids.iter().flat_map(|id| self.stop(id, drain)).collect()
            }
            Event::Doing(id, incarnation, doing) => self.update(&id, incarnation, |replica| {
                let news = replica.report.state == ReplicaState::Starting && replica.report.doing != doing;
                if news {
                    replica.report.doing = doing;
                }
                news
            }),
            Event::Unloadable(id, incarnation) => self.update(&id, incarnation, |replica| {
                replica.report.is_unloadable = true;
                // Its end follows, and tells why.
                false
            }),
            Event::Ready { id, incarnation, model } => self.update(&id, incarnation, |replica| {
                let news = replica.report.state == ReplicaState::Starting;
                if news {
                    replica.report.is_unloadable = false;
                    replica.ready_since = Some(now);
                    replica.report.state = ReplicaState::Ready;
                    replica.report.doing.clear();
                    replica.report.model = model;
                }
                news
            }),
            Event::Ended(id, incarnation, failure) => self.ended(&id, incarnation, failure, now, rng),
            Event::RetryDue(id, incarnation) => self.retry(&id, incarnation),
        }
    }

    /// Every replica as it is now, by id.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.replicas.values().map(|replica| &replica.report)
    }

    /// How many replicas of the same deployment and revision as `order` there are, itself and failed ones included.
    pub fn num_like(&self, order: &Order) -> usize {
        fn key(it: &Order) -> (&str, &str, u64) {
            (&it.pipeline, &it.deployment, it.revision)
        }
        self.reports().filter(|it| key(&it.order) == key(order)).count()
    }

    /// How many replicas there are, failed ones included.
    pub fn num_replicas(&self) -> usize {
        self.replicas.len()
    }

    fn start(&mut self, order: Arc<Order>) -> Vec<Action> {
        if let Some(replica) = self.replicas.get_mut(&order.id) {
            let changed = replica.report.order != order;
            replica.report.order = order.clone();
            let report = Action::Report(replica.report.clone());
            return if changed {
                vec![Action::Apply(order, replica.incarnation), report]
            } else {
                vec![report]
            };
        }
        if self.leaving {
            return vec![Action::ReportUnknown(order.id.clone())];
        }
        let report = Report {
            order: order.clone(),
            state: ReplicaState::Starting,
            doing: "starting".to_owned(),
            error: String::new(),
            restarts: 0,
            is_unloadable: false,
            model: LoadedModel::default(),
        };
        let incarnation = self.next_incarnation();
        let replica = Replica { report: report.clone(), incarnation, failures: 0, ready_since: None };
        self.replicas.insert(order.id.clone(), replica);
        vec![Action::Report(report), Action::Spawn(order, incarnation)]
    }

    fn stop(&mut self, id: &ReplicaId, drain: Duration) -> Vec<Action> {
        let Some(replica) = self.replicas.get_mut(id) else {
            return vec![Action::ReportUnknown(id.clone())];
        };
        match replica.report.state {
            ReplicaState::Starting | ReplicaState::Ready => {
                replica.report.state = ReplicaState::Draining;
                replica.report.doing.clear();
                let report = Action::Report(replica.report.clone());
                vec![
                    report,
                    Action::Drain { id: id.clone(), incarnation: replica.incarnation, timeout: drain },
                ]
            }
            ReplicaState::Draining => vec![Action::Report(replica.report.clone())],
            ReplicaState::Failed | ReplicaState::Stopped => self.forget(id),
        }
    }

    fn ended(
        &mut self,
        id: &ReplicaId,
        incarnation: Incarnation,
        failure: Option<String>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Vec<Action> {
        let policy = self.policy;
        let Some(replica) = self.current(id, incarnation) else { return Vec::new() };
        if replica.report.state == ReplicaState::Draining {
            return self.forget(id);
        }
        let ready_for = replica.ready_since.take().map(|since| now.saturating_duration_since(since));
        let restart = policy.after_failure(replica.failures, ready_for, rng);
        replica.failures = restart.failures;
        replica.report.state = ReplicaState::Failed;
        replica.report.doing.clear();
        replica.report.error =
            failure.unwrap_or_else(|| "the replica ended without being asked to".to_owned());
        replica.report.model = LoadedModel::default();
        let report = Action::Report(replica.report.clone());
        let delay = if replica.report.is_unloadable { policy.backoff.max } else { restart.delay };
        vec![report, Action::Retry { id: id.clone(), incarnation, delay }]
    }

    fn retry(&mut self, id: &ReplicaId, incarnation: Incarnation) -> Vec<Action> {
        let next = self.next_incarnation();
        let Some(replica) = self.current(id, incarnation) else { return Vec::new() };
        if replica.report.state != ReplicaState::Failed {
            return Vec::new();
        }
        replica.incarnation = next;
        replica.report.state = ReplicaState::Starting;
        replica.report.doing = "starting again".to_owned();
        replica.report.error.clear();
        replica.report.restarts += 1;
        let report = replica.report.clone();
        let order = report.order.clone();
        vec![Action::Report(report), Action::Spawn(order, next)]
    }

    fn update(
        &mut self,
        id: &ReplicaId,
        incarnation: Incarnation,
        change: impl FnOnce(&mut Replica) -> bool,
    ) -> Vec<Action> {
        let Some(replica) = self.current(id, incarnation) else { return Vec::new() };
        if change(replica) { vec![Action::Report(replica.report.clone())] } else { Vec::new() }
    }

    fn current(&mut self, id: &ReplicaId, incarnation: Incarnation) -> Option<&mut Replica> {
        self.replicas.get_mut(id).filter(|replica| replica.incarnation == incarnation)
    }

    fn forget(&mut self, id: &ReplicaId) -> Vec<Action> {
        let Some(replica) = self.replicas.remove(id) else { return Vec::new() };
        let report = Report {
            state: ReplicaState::Stopped,
            doing: String::new(),
            model: LoadedModel::default(),
            ..replica.report
        };
        vec![Action::Report(report)]
    }

    fn next_incarnation(&mut self) -> Incarnation {
        self.last_incarnation += 1;
        self.last_incarnation
    }
}

#[cfg(test)]
mod tests;
