//! Replicas and the calls that they run: the model of what replica actors and slots do.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_pipelines::Name;
use millstream_proto::{CallError, ErrorClass, ReplicaId};
use millstream_worker::decisions::{self as real, Incarnation};
use rand::Rng;

use super::Worker;
use crate::clock::Timer;
use crate::cx::Cx;
use crate::message::{ConnId, End, Message};
use crate::pipelines::never_starts;

/// Where a start of a replica is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    Draining,
    Stopping,
}

/// One start of a replica.
#[derive(Debug)]
pub(super) struct Running {
    incarnation: Incarnation,
    phase: Phase,
    calls: BTreeSet<u64>,
    max_calls: usize,
    run_time: Duration,
    never_starts: bool,
    /// Part of its calls that fail.
    fail_ratio: f64,
    revision: (Name, u64),
}

impl Running {
    /// Calls under way.
    pub(super) fn num_calls(&self) -> u64 {
        self.calls.len() as u64
    }
}

/// The answer of a replica that is not there, drains or has just ended.
fn not_serving() -> CallError {
    CallError::not_started(ErrorClass::Unavailable, "the replica takes no calls")
}

impl Worker {
    pub(super) fn spawn(&mut self, order: &real::Order, incarnation: Incarnation, cx: &mut Cx) {
        let spec = &order.spec;
        let running = Running {
            incarnation,
            phase: Phase::Starting,
            calls: BTreeSet::new(),
            max_calls: usize::try_from(spec.limits.max_ongoing_requests).unwrap_or(usize::MAX),
            run_time: spec.echo().map_or(Duration::ZERO, |echo| echo.delay),
            never_starts: never_starts(spec),
            fail_ratio: spec.echo().map_or(0.0, |echo| echo.fail_ratio),
            revision: (order.pipeline.parse().expect("heads order valid names only"), order.revision),
        };
        self.running.insert(order.id.clone(), running);
        let load = cx.between(50, 3_000);
        cx.timer(self.process, load, Timer::Loaded(order.id.clone(), incarnation));
    }

    pub(super) fn apply(&mut self, order: &real::Order, incarnation: Incarnation) {
        if let Some(running) = self.current(&order.id, incarnation) {
            running.max_calls = usize::try_from(order.spec.limits.max_ongoing_requests).unwrap_or(usize::MAX);
        }
    }

    fn current(&mut self, id: &ReplicaId, incarnation: Incarnation) -> Option<&mut Running> {
        self.running.get_mut(id).filter(|running| running.incarnation == incarnation)
    }

    pub(super) fn loaded(&mut self, id: &ReplicaId, incarnation: Incarnation, cx: &mut Cx) {
        let Some(running) = self.current(id, incarnation).filter(|it| it.phase == Phase::Starting) else {
            return;
        };
        if running.never_starts {
            self.ended(id.clone(), incarnation, Some("it does not load".into()), cx);
        } else {
            running.phase = Phase::Ready;
            self.react(
                real::Event::Ready { id: id.clone(), incarnation, model: real::LoadedModel::default() },
                cx,
            );
        }
    }

    pub(super) fn drain(&mut self, id: &ReplicaId, incarnation: Incarnation, timeout: Duration, cx: &mut Cx) {
        let process = self.process;
        // A start that has failed already ends by itself.
        let Some(running) = self.current(id, incarnation) else { return };
        match running.phase {
            Phase::Starting => self.end_soon(id, incarnation, cx),
            Phase::Ready => {
                running.phase = Phase::Draining;
                if running.calls.is_empty() {
                    self.end_soon(id, incarnation, cx);
                } else {
                    cx.timer(process, timeout, Timer::DrainOver(id.clone(), incarnation));
                }
            }
            Phase::Draining | Phase::Stopping => {}
        }
    }

    /// The engine is told to end, and does in a moment.
    fn end_soon(&mut self, id: &ReplicaId, incarnation: Incarnation, cx: &mut Cx) {
        let process = self.process;
        if let Some(running) = self.current(id, incarnation) {
            running.phase = Phase::Stopping;
            let wait = cx.between(1, 40);
            cx.timer(process, wait, Timer::Ended(id.clone(), incarnation, None));
        }
    }

    pub(super) fn drain_over(&mut self, id: &ReplicaId, incarnation: Incarnation, cx: &mut Cx) {
        if self.current(id, incarnation).is_some_and(|running| running.phase == Phase::Draining) {
            self.vanish(id, cx);
            self.end_soon(id, incarnation, cx);
        }
    }

    /// All calls of a replica end with it.
    fn vanish(&mut self, id: &ReplicaId, cx: &mut Cx) {
        let Some(running) = self.running.get_mut(id) else { return };
        for call in std::mem::take(&mut running.calls) {
            let Some((conn, _)) = self.calls.remove(&call) else { continue };
            let error = CallError::started(ErrorClass::Unavailable, "the replica ended");
            cx.send((conn, End::Accepter), Message::Reply(call, Err(error)));
        }
    }

    pub(super) fn ended(
        &mut self,
        id: ReplicaId,
        incarnation: Incarnation,
        failure: Option<String>,
        cx: &mut Cx,
    ) {
        if self.current(&id, incarnation).is_some() {
            self.vanish(&id, cx);
            self.running.remove(&id);
            self.react(real::Event::Ended(id, incarnation, failure), cx);
        }
    }

    /// Kills one of the replicas that run, if there is one.
    pub(crate) fn crash(&mut self, pick: usize, cx: &mut Cx) {
        let count = self.running.len().max(1);
        let Some((id, running)) = self.running.iter().nth(pick % count) else { return };
        let (id, incarnation) = (id.clone(), running.incarnation);
        cx.note(|| format!("{id} crashes"));
        self.ended(id, incarnation, Some("crashed".into()), cx);
    }

    pub(super) fn call(&mut self, conn: ConnId, call: u64, replica: ReplicaId, cx: &mut Cx) {
        let refused = match self.running.get_mut(&replica) {
            Some(running) if running.phase != Phase::Ready => Some(not_serving()),
            Some(running) if running.calls.len() >= running.max_calls => Some(CallError::not_started(
                ErrorClass::Overloaded,
                "the replica has as many calls as it may",
            )),
            Some(running) => {
                running.calls.insert(call);
                let time = running.run_time.mul_f64(0.5 + cx.rng.random::<f64>());
                self.calls.insert(call, (conn, replica));
                cx.timer(self.process, time, Timer::CallDone(call));
                None
            }
            None => Some(not_serving()),
        };
        if let Some(error) = refused {
            cx.send((conn, End::Accepter), Message::Reply(call, Err(error)));
        }
    }

    pub(super) fn call_done(&mut self, call: u64, cx: &mut Cx) {
        let Some((conn, replica)) = self.calls.remove(&call) else { return };
        let running = self.running.get(&replica);
        let ratio = running.map_or(0.0, |running| running.fail_ratio);
        let has_turned =
            running.is_some_and(|running| cx.failures.turned_bad.contains_key(&running.revision));
        let bad = has_turned || ratio > 0.0 && cx.rng.random::<f64>() < ratio;
        let fails = bad || cx.failures.permille > 0 && cx.rng.random_range(0..1000) < cx.failures.permille;
        let result =
            if fails { Err(CallError::started(ErrorClass::Internal, "the engine failed")) } else { Ok(()) };
        cx.send((conn, End::Accepter), Message::Reply(call, result));
        self.release(&replica, call, cx);
    }

    /// Nobody waits for a call any more.
    pub(super) fn give_up_call(&mut self, call: u64, cx: &mut Cx) {
        if let Some((_, replica)) = self.calls.remove(&call) {
            self.release(&replica, call, cx);
        }
    }

    fn release(&mut self, replica: &ReplicaId, call: u64, cx: &mut Cx) {
        let Some(running) = self.running.get_mut(replica) else { return };
        running.calls.remove(&call);
        if running.phase == Phase::Draining && running.calls.is_empty() {
            let incarnation = running.incarnation;
            self.end_soon(replica, incarnation, cx);
        }
    }
}
