//! The control plane as one object without I/O: events go in, effects come out, and it says when time alone will matter.
//!
//! ```text
//! handle(event, now) ──▶ effects          what to send, publish, store and tell
//! next_wake()        ──▶ an instant       handle(Event::Wake) then, unless something else happens before
//! ```
//!
//! Events are only folded into the state; decisions are made at the next [`Event::Wake`], which is due at once when
//! something changed. So a burst of events is decided upon once. The head's actor, the simulated cluster, the dry run and
//! the tests are shells around this object, after the way that quinn-proto drives a connection.

use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{FullName, Name};
use millstream_status::NodeId;
use millstream_status::event::Decision;

use super::decide::{self, Decided};
use super::observe::{JoinError, admit, observe};
use super::pass::Pass;
use super::routes;
use super::scale;
use super::scope::{Change, Dirty, Places, Scope};
use super::timer::Timer;
use super::view;
use crate::Timing;
use crate::desired::Desired;
use crate::model::{
    AbsentMember, Command, Observation, Pending, Registration, RouteTable, State, TableVersion, Unplaced,
};
use crate::present::explain::{self, Subject};
use crate::present::snapshot::{Snapshot, Version};

/// Outcomes of requests are judged that often while a new revision takes over, not with each report of each ingress.
const JUDGE_INTERVAL: Duration = Duration::from_millis(250);

/// Something that happened to the control plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker or an ingress said something, or its stream began or ended.
    Observed(Observation),
    /// People ask for something else now. An older state than the one that is known is ignored.
    Desired(Arc<Desired>),
    /// The process did not run for that long; what others said meanwhile is only on its way.
    Absent(Duration),
    /// The store has forgotten a member.
    MemberForgotten(NodeId),
    /// Somebody says that a node is gone for good: what it had is placed elsewhere at once.
    NodeRemoved(NodeId),
    /// The cluster is being shut down, or the process is about to end: nothing is decided any more.
    Stopping,
    /// The time that [`Reconciler::next_wake`] gave has come.
    Wake,
}

impl Event {
    /// Its kind, as it stands in labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Observed(_) => "observed",
            Self::Desired(_) => "desired",
            Self::Absent(_) => "absent",
            Self::MemberForgotten(_) => "member_forgotten",
            Self::NodeRemoved(_) => "node_removed",
            Self::Stopping => "stopping",
            Self::Wake => "wake",
        }
    }
}

impl From<Observation> for Event {
    fn from(observation: Observation) -> Self {
        Self::Observed(observation)
    }
}

/// Something to be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// To be told to people (`cluster explain`).
    Record(Subject, Decision),
    /// Decided, and booked already: to be sent to whom it concerns.
    Command(Command),
    /// A new route table for all ingresses.
    Publish(RouteTable),
}

/// How a term begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The term's number.
    pub epoch: u64,
    /// Until when to wait for workers to report what runs; zero when nothing may run.
    pub settle_until: Duration,
    /// When it begins.
    pub began_at: Duration,
    /// The nodes that the store knows as members. Once all are back nothing is waited for.
    pub members: std::collections::BTreeSet<NodeId>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Reconciler {
    pub(crate) state: State,
    pub(crate) desired: Arc<Desired>,
    pub(crate) timing: Timing,
    due: Due,
    places: Places,
    version: u64,
}

/// When to look next.
#[derive(Debug, Clone)]
struct Due {
    /// What changed that decisions depend on.
    changed: Dirty,
    /// When a rule may come to another result by the passing of time alone.
    rules: Option<Duration>,
    /// When a node may be found silent. Heartbeats move it, so that it may turn out to be too early.
    silence: Option<Duration>,
    /// When outcomes are judged that have come since the last pass.
    outcomes: Option<Duration>,
    /// When the last pass was.
    last_pass: Duration,
    /// The lowest version of the route table that replicas on their way out wait to be confirmed.
    awaited_version: Option<TableVersion>,
}

impl Reconciler {
    /// The reconciler of a term that begins.
    #[must_use]
    pub fn new(start: Start, desired: Arc<Desired>, timing: Timing) -> Self {
        let absent = AbsentMember { forget_at: start.began_at + timing.forget_after, asked_at: None };
        let mut state = State::new(start.epoch, start.settle_until);
        state.absent_members = start.members.iter().map(|id| (id.clone(), absent)).collect();
        state.settling.awaited = start.members;
        let due = Due {
            changed: Dirty::All,
            rules: None,
            silence: None,
            outcomes: None,
            last_pass: Duration::ZERO,
            awaited_version: None,
        };
        Self { state, desired, timing, due, places: Places::default(), version: 0 }
    }

    /// What is observed.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// For simulations that put faults into it on purpose. It does not notice what is done to it.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// What a pass over everything would find at an instant at which none is due: nothing, unless a rule forgot to ask to be
    /// woken, or a change to say whom it concerns. For tests and simulations.
    #[must_use]
    pub fn overlooked(&self, now: Duration) -> Vec<Effect> {
        let (mut copy, mut effects) = (self.clone(), Vec::new());
        if self.due.outcomes.is_some() {
            // They wait for their time on purpose.
            return effects;
        }
        copy.due.changed = Dirty::All;
        copy.reconcile(now, &mut effects);
        effects
    }

    /// A new table of the state as it is, if it differs: for simulations that put faults into it.
    pub fn publish_again(&mut self, now: Duration) -> Option<RouteTable> {
        routes::publish(&mut self.state, &self.desired, &self.timing, &Timer::at(now), &Scope::All)
    }

    /// For tests that change the state by hand: what they did is looked at.
    #[cfg(test)]
    pub(super) fn look_again(&mut self) {
        self.due.changed = Dirty::All;
    }

    /// What people ask for, as far as it is known here.
    #[must_use]
    pub fn desired(&self) -> &Arc<Desired> {
        &self.desired
    }

    /// The intervals that it decides by.
    #[must_use]
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The epoch, and a number within it that grows whenever something changed that a [`Snapshot`] shows, the passing of time
    /// apart.
    #[must_use]
    pub fn version(&self) -> Version {
        Version { epoch: self.state.epoch, number: self.version }
    }

    /// The cluster as it is now, for whoever shows it. Nodes are shared with the reconciler until they change.
    #[must_use]
    pub fn snapshot(&self, now: Duration) -> Snapshot {
        Snapshot {
            state: self.state.shown(),
            desired: Arc::clone(&self.desired),
            timing: self.timing.clone(),
            taken_at: now,
            version: self.version(),
        }
    }

    /// When [`Event::Wake`] is due, if nothing happens before: zero for at once, `None` when only news can change anything.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        let Due { ref changed, rules, silence, outcomes, .. } = self.due;
        if !changed.is_nothing() {
            return Some(Duration::ZERO);
        }
        let scale = self.state.next_scale().filter(|_| self.decides());
        [rules, silence, outcomes, scale].into_iter().flatten().min()
    }

    /// Whether a worker may join: no other live node has its name, and no other live process its id.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn admit(&self, registration: &Registration, now: Duration) -> Result<(), JoinError> {
        admit(&self.state, registration, &self.timing, now)
    }

    /// Takes an event; returns what is to be done outside. `now` is when it happened: for a message, when it arrived.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Observed(observation) => self.observe(observation, now),
            Event::Desired(desired) => return self.take_desired(desired, now),
            Event::Absent(gap) => self.state.was_absent(gap, now),
            Event::MemberForgotten(node) => drop(self.state.absent_members.remove(&node)),
            Event::NodeRemoved(node) => return self.remove_node(node, now),
            Event::Stopping => self.state.stopping = true,
            Event::Wake => return self.wake(now),
        }
        Vec::new()
    }

    fn decides(&self) -> bool {
        self.state.settling.is_over && !self.state.stopping
    }

    fn observe(&mut self, observation: Observation, now: Duration) {
        // What arrived before the last pass may be heard after it.
        let heard = now.max(self.due.last_pass);
        let revives = view::revives(&self.state, &self.timing, &observation, heard);
        if revives {
            self.due.changed = Dirty::All;
        }
        match observe(&mut self.state, &self.desired, observation, now) {
            Change::Structure => {
                self.places.forget();
                self.due.changed = Dirty::All;
            }
            Change::Pipeline(name) => self.due.changed.add(self.concerns(name)),
            Change::Outcomes => {
                self.due.outcomes = self.due.outcomes.or(Some(self.due.last_pass + JUDGE_INTERVAL));
            }
            Change::Confirmed => {
                if self.due.awaited_version.is_some_and(|version| self.state.is_confirmed(version)) {
                    self.due.changed = Dirty::All;
                }
            }
            Change::Numbers => {}
            Change::Nothing => return,
        }
        self.version += 1;
    }

    /// Whom it concerns that something happened in a pipeline: room that it may have freed is everybody's.
    fn concerns(&self, pipeline: Name) -> Dirty {
        if self.state.pending.is_empty() { pipeline.into() } else { Dirty::All }
    }

    /// The same again is not news.
    fn take_desired(&mut self, desired: Arc<Desired>, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if desired.generation > self.desired.generation {
            let commands = scale::rebound(&mut self.state, &self.desired, &desired);
            self.desired = desired;
            scale::forget_unwanted(&mut self.state, &self.desired);
            self.book(commands, now, &mut effects);
            self.due.changed = Dirty::All;
        }
        effects
    }

    fn wake(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.is_due(now) {
            if self.decides() {
                self.scale(now, &mut effects);
            }
            if effects.is_empty() {
                return effects;
            }
        }
        self.reconcile(now, &mut effects);
        effects
    }

    /// Whether there is more to look at than targets.
    fn is_due(&mut self, now: Duration) -> bool {
        let has_come = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if has_come(self.due.rules) {
            self.due.changed = Dirty::All;
        }
        if has_come(self.due.outcomes) {
            let on_trial = self.state.rollouts.keys().cloned().collect();
            self.due.changed.add(Dirty::Pipelines(on_trial));
        }
        if has_come(self.due.silence) {
            // Heartbeats may have moved it meanwhile.
            self.due.silence = view::next_silence(&self.state, &self.timing, self.due.last_pass);
            if has_come(self.due.silence) {
                self.due.changed = Dirty::All;
            }
        }
        !self.due.changed.is_nothing()
    }

    /// Compares what is desired with what runs, and decides.
    fn reconcile(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.version += 1;
        self.scale(now, effects);
        let changed = std::mem::replace(&mut self.due.changed, Dirty::NOTHING);
        // Before a head has settled, all of it waits for the same reports.
        let changed = if self.state.settling.is_over { changed } else { Dirty::All };
        let scope = self.places.scope(&changed, &self.state);
        self.state.check_signatures(&self.desired, &scope);
        let timer = Timer::at(now);
        let Self { state, desired, timing, .. } = &*self;
        let decided = decide::decide(Pass { desired, state, timing, timer: &timer, scope: &scope });
        let Decided { commands, pending, unplaced, counts } = decided;
        self.book(commands, now, effects);
        if !self.state.stopping {
            self.note_pending(&scope, pending, unplaced, effects);
            self.state.take_counts(&scope, counts, now);
        }
        let table = routes::publish(&mut self.state, &self.desired, &self.timing, &timer, &scope);
        effects.extend(table.map(Effect::Publish));
        // Rules of what was not looked at still ask for what they asked for before.
        let before = self.due.rules.filter(|_| !scope.is_all());
        self.due.rules = before.into_iter().chain(timer.next()).min();
        self.due.silence = view::next_silence(&self.state, &self.timing, now);
        // A pass over other pipelines has judged nothing.
        let has_judged = self.state.rollouts.keys().all(|name| scope.contains(name));
        self.due.outcomes = self.due.outcomes.filter(|_| !has_judged);
        self.due.last_pass = now;
        self.due.awaited_version = self.state.awaited_version();
    }

    /// Notes which wanted replicas have no place, and tells people of those that are new or no longer so.
    fn note_pending(
        &mut self,
        scope: &Scope,
        pending: Pending,
        unplaced: Unplaced,
        effects: &mut Vec<Effect>,
    ) {
        let is_old = |name: &FullName| scope.contains(&name.pipeline);
        let before = self.state.pending.extract_if(.., |name, _| is_old(name)).collect();
        let events = explain::pending_events(&before, &pending, |name| self.desired.wants(name));
        effects.extend(events.into_iter().map(|(subject, decision)| Effect::Record(subject, decision)));
        self.state.pending.extend(pending);
        self.state.unplaced.retain(|name, _| !is_old(name));
        self.state.unplaced.extend(unplaced);
    }

    fn scale(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let commands = scale::scale(&mut self.state, &self.desired, now);
        self.book(commands, now, effects);
    }

    pub(super) fn book(&mut self, commands: Vec<Command>, now: Duration, effects: &mut Vec<Effect>) {
        for command in commands {
            let event = explain::event_of(&command, &self.state);
            effects.extend(event.map(|(subject, decision)| Effect::Record(subject, decision)));
            self.due.changed.add(Dirty::of(&command, &self.state));
            self.state.book(&command, now);
            if let Command::Start(order) = &command {
                self.places.add(&order.deployment.pipeline, (order.node.clone(), order.replica.clone()));
            }
            effects.push(Effect::Command(command));
        }
    }
}
