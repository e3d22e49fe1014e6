//! A head. Real: all that it decides (`observe`, `scale`, `step`, `carry_out`, `publish`, when time alone asks for a look, what
//! a deploy or the end of a rollout does). Modelled: what its actors and servers do around that: a look after each event,
//! sessions, whom a command is sent to, the feed of tables, the term and the settings it starts from, how long the store takes.
//!
//! A head that has been replaced goes on until it learns of it: that stands for a leader paused past its lease.

mod mutations;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::desired::{Desired, Revision};
use millstream_core::reconcile::observe::{Effect, Event, Registration, admit, observe};
use millstream_core::reconcile::{Command, SessionId, State, scale, step, wake};
use millstream_core::rollout::{Change, ChangeKind};
use millstream_pipelines::FullName;
use millstream_proto::{IngressId, NodeId, ReplicaId};
use rand::Rng;

use crate::Mutation;
use crate::checks::{Rule, named};
use crate::clock::{Event as Happening, Process, Timer};
use crate::cx::Cx;
use crate::network::{self, ConnId, End, Message};

/// Looks at one instant; more means that decisions go in a circle.
const MAX_LOOKS_AT_ONCE: u32 = 60;

/// A stream of an ingress.
#[derive(Debug)]
struct IngressStream {
    id: IngressId,
    session: SessionId,
    process: Process,
    sent: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) process: Process,
    pub(crate) state: State,
    pub(crate) desired: Arc<Desired>,
    /// When its own clock began, and by how much it has jumped.
    started_at: Duration,
    pub(crate) skew: Duration,
    nodes: BTreeMap<NodeId, (SessionId, ConnId)>,
    node_streams: BTreeMap<ConnId, (NodeId, SessionId)>,
    ingress_streams: BTreeMap<ConnId, IngressStream>,
    last_session: u64,
    look_queued: bool,
    looks: (Duration, u32),
    /// When the last look was, and when the passing of time alone asks for the next one; on its own clock.
    looked_at: Duration,
    look_at: Duration,
    /// When each replica was taken out of the routes, on this head's clock.
    retired: BTreeMap<ReplicaId, Duration>,
    stopped: BTreeSet<ReplicaId>,
    /// When each ingress's stream was last there.
    heard: BTreeMap<Process, Duration>,
    /// When it last decided something that is more than house-keeping.
    pub(crate) last_command: Duration,
}

impl Head {
    /// Begins a term.
    pub(crate) fn start(process: Process, cx: &mut Cx) -> Self {
        let inherits = cx.store.epoch > 0;
        if cx.mutation != Mutation::HeadKeepsItsTerm || !inherits {
            cx.store.epoch += 1;
        }
        let epoch = cx.store.epoch;
        cx.checks.term_begins(epoch);
        let desired = Arc::clone(&cx.store.desired);
        let waits = inherits && !desired.pipelines.is_empty();
        let settle = if waits { cx.timing.settle } else { Duration::ZERO };
        let awaited = cx.store.members.clone();
        let state = State { awaited, ..State::new(epoch, settle) };
        cx.note(|| format!("head {process:?} begins term {epoch}"));
        cx.timer(process, Duration::ZERO, Timer::Look);
        let tick = cx.timing.tick;
        cx.timer(process, tick, Timer::Tick);
        Self {
            process,
            state,
            desired,
            started_at: cx.now(),
            skew: Duration::ZERO,
            nodes: BTreeMap::new(),
            node_streams: BTreeMap::new(),
            ingress_streams: BTreeMap::new(),
            last_session: 0,
            look_queued: true,
            looks: (Duration::ZERO, 0),
            looked_at: Duration::ZERO,
            look_at: Duration::ZERO,
            retired: BTreeMap::new(),
            stopped: BTreeSet::new(),
            heard: BTreeMap::new(),
            last_command: cx.now(),
        }
    }

    /// Its own clock.
    pub(crate) fn clock(&self, cx: &Cx) -> Duration {
        cx.now().saturating_sub(self.started_at) + self.skew
    }

    pub(crate) fn timer(&mut self, timer: &Timer, cx: &mut Cx) {
        match timer {
            Timer::Tick => {
                let tick = cx.timing.tick;
                cx.timer(self.process, tick, Timer::Tick);
                self.tick(cx);
            }
            Timer::Look => {
                self.look_queued = false;
                self.look(cx);
            }
            _ => {}
        }
    }

    pub(crate) fn receive(&mut self, conn: ConnId, from: Process, message: Message, cx: &mut Cx) {
        match message {
            Message::Register(registration, obeyed) => self.register(conn, registration, obeyed, cx),
            Message::Heartbeat(ongoing) => {
                if let Some((node, session)) = self.node_streams.get(&conn).cloned() {
                    self.observe(Event::Heartbeat(node, session, ongoing), cx);
                }
            }
            Message::Replica(report) => {
                if let Some((node, session)) = self.node_streams.get(&conn).cloned() {
                    let report = Self::mutate(report, cx);
                    self.observe(Event::ReplicaChanged(node, session, report), cx);
                }
            }
            Message::Hello(id) => self.hello(conn, from, id, cx),
            Message::Load(loads, counted) => {
                if let Some(stream) = self.ingress_streams.get(&conn) {
                    let (id, session) = (stream.id.clone(), stream.session);
                    if !counted.is_empty() {
                        self.observe(Event::Counted(id.clone(), session, counted), cx);
                    }
                    self.observe(Event::Loaded(id, session, loads), cx);
                }
            }
            Message::Ack(version) => {
                if let Some(stream) = self.ingress_streams.get(&conn) {
                    self.observe(Event::Acked(stream.id.clone(), stream.session, version), cx);
                }
            }
            _ => {}
        }
    }

    /// A stream is over.
    pub(crate) fn closed(&mut self, conn: ConnId, cx: &mut Cx) {
        if let Some((node, session)) = self.node_streams.remove(&conn) {
            if self.nodes.get(&node).is_some_and(|(current, _)| *current == session) {
                self.nodes.remove(&node);
            }
            self.observe(Event::NodeLeft(node, session), cx);
        }
        if let Some(stream) = self.ingress_streams.remove(&conn) {
            self.heard.insert(stream.process, self.clock(cx));
            self.observe(Event::IngressLeft(stream.id, stream.session), cx);
        }
    }

    fn session(&mut self) -> SessionId {
        self.last_session += 1;
        SessionId(self.last_session)
    }

    fn register(&mut self, conn: ConnId, registration: Registration, obeyed: u64, cx: &mut Cx) {
        let now = self.clock(cx);
        // In production the only head of a store would go above a later term that a worker has obeyed. One that has been
        // replaced may not, and does not look: its orders are the worker's to refuse.
        cx.note(|| format!("{} dials head {}, has obeyed {obeyed}", registration.id, self.state.epoch));
        if admit(&self.state, &registration, &cx.timing, now).is_err() {
            cx.note(|| format!("head {} refuses {}", self.state.epoch, registration.id));
            cx.close(conn, End::Accepter);
            return;
        }
        cx.store.members.insert(registration.id.clone());
        let session = self.session();
        let node = registration.id.clone();
        if let Some((_, old)) = self.nodes.insert(node.clone(), (session, conn)) {
            cx.close(old, End::Accepter);
            self.node_streams.remove(&old);
        }
        self.node_streams.insert(conn, (node, session));
        let registered = Message::Command(self.state.epoch, network::Command::Registered);
        cx.send((conn, End::Accepter), registered);
        self.observe(Event::NodeJoined(session, registration), cx);
    }

    fn hello(&mut self, conn: ConnId, process: Process, id: IngressId, cx: &mut Cx) {
        let session = self.session();
        let stream = IngressStream { id: id.clone(), session, process, sent: 0 };
        self.ingress_streams.insert(conn, stream);
        let (name, address) = (id.to_string(), String::new());
        self.observe(Event::IngressJoined { id, session, name, address, pid: 1 }, cx);
        self.feed(cx);
    }

    fn observe(&mut self, event: Event, cx: &mut Cx) {
        if !matches!(event, Event::Heartbeat(..) | Event::Loaded(..)) {
            cx.note(|| format!("head {} observes {}", self.state.epoch, brief(&event)));
        }
        let now = self.clock(cx);
        let revives = wake::revives(&self.state, &cx.timing, &event, now);
        let effect = observe(&mut self.state, &self.desired, event, now);
        if revives || effect == Effect::Structure {
            cx.checks.books(&self.state);
            self.queue_look(cx);
        }
    }

    /// The store has taken a change. Two may arrive in another order than they were stored in.
    pub(crate) fn change_desired(&mut self, desired: &Arc<Desired>, cx: &mut Cx) {
        if desired.generation > self.desired.generation {
            let now = self.clock(cx);
            let commands = scale::rebound(&mut self.state, &self.desired, desired);
            self.desired = Arc::clone(desired);
            scale::forget_unwanted(&mut self.state, &self.desired);
            self.carry_out(&commands, now, cx);
            cx.checks.dirty = true;
            self.queue_look(cx);
        }
    }

    /// Something changed: look at it.
    pub(crate) fn queue_look(&mut self, cx: &mut Cx) {
        if !self.look_queued {
            self.look_queued = true;
            cx.timer(self.process, Duration::ZERO, Timer::Look);
        }
    }

    /// Looks only when a time that was known beforehand has come.
    fn tick(&mut self, cx: &mut Cx) {
        let now = self.clock(cx);
        if self.look_at <= now {
            // Heartbeats may have moved it meanwhile.
            self.look_at = wake::next_look(&self.state, &self.desired, &cx.timing, self.looked_at);
        }
        if self.look_at <= now {
            self.look(cx);
        } else if self.state.next_scale().is_some_and(|at| at <= now) {
            let commands = scale::scale(&mut self.state, &self.desired, now);
            self.carry_out(&commands, now, cx);
            if !commands.is_empty() {
                self.look(cx);
            }
        }
    }

    fn carry_out(&mut self, commands: &[Command], now: Duration, cx: &mut Cx) {
        for command in commands {
            self.check(command, now, cx);
            self.excuse(command, cx);
            self.state.carry_out(command, now);
            self.send(command, cx);
        }
    }

    fn look(&mut self, cx: &mut Cx) {
        let now = self.clock(cx);
        self.count_look(cx);
        let scaled = scale::scale(&mut self.state, &self.desired, now);
        self.carry_out(&scaled, now, cx);
        let decided = step(&self.desired, &self.state, &cx.timing, now);
        self.carry_out(&decided.commands, now, cx);
        if !decided.commands.is_empty() {
            cx.checks.books(&self.state);
            self.queue_look(cx);
        }
        self.state.pending = decided.pending;
        self.state.unplaced = decided.unplaced;
        self.state.take_census(decided.census, now);
        self.publish(now, cx);
        self.looked_at = now;
        self.look_at = wake::next_look(&self.state, &self.desired, &cx.timing, now);
        self.feed(cx);
    }

    fn publish(&mut self, now: Duration, cx: &mut Cx) {
        let before = Arc::clone(&self.state.routes.pipelines);
        let published = self.next_table(now, cx);
        self.check_table(&before, cx);
        if let Some(table) = published {
            cx.note(|| {
                format!("head {} publishes {:x}: {:?}", self.state.epoch, table.version, named(&table))
            });
            let again = named(&table).intersection(&self.stopped).next().cloned();
            if let Some(replica) = again {
                cx.checks.fail(Rule::StoppedNotNamed, format!("{replica} in table {:x}", table.version));
            }
            self.last_command = cx.now();
            cx.checks.dirty = true;
        }
    }

    fn count_look(&mut self, cx: &mut Cx) {
        let (at, count) = self.looks;
        self.looks = if at == cx.now() { (at, count + 1) } else { (cx.now(), 0) };
        if self.looks.1 > MAX_LOOKS_AT_ONCE {
            cx.checks.fail(Rule::Converges, "a head decides in a circle".into());
        }
    }

    /// Sends each ingress the newest table, once.
    fn feed(&mut self, cx: &mut Cx) {
        // A head that has just begun has no table; version 0 stands for that.
        let version = self.state.routes.version;
        for (conn, stream) in &mut self.ingress_streams {
            if version > stream.sent {
                stream.sent = version;
                let table = Message::Table(self.state.epoch, self.state.routes.clone());
                cx.send((*conn, End::Accepter), table);
            }
        }
    }

    fn send(&mut self, command: &Command, cx: &mut Cx) {
        cx.note(|| format!("head {} decides {}", self.state.epoch, brief_command(command)));
        let over = |change: &Change| change.kind == ChangeKind::End;
        let housekeeping = match command {
            Command::ForgetNode { .. } | Command::ForgetIngress { .. } => true,
            Command::Rollout(change) => over(change),
            _ => false,
        };
        if !housekeeping {
            self.last_command = cx.now();
        }
        let epoch = self.state.epoch;
        let (node, message) = match command {
            Command::Start(order) | Command::Update(order) => {
                if cx.mutation == Mutation::HeadBooksSharesTwice {
                    let node = self.state.nodes.get_mut(&order.node);
                    if let Some(replica) = node.and_then(|node| node.replicas.get_mut(&order.replica)) {
                        replica.gpus.clear();
                    }
                }
                (&order.node, network::Command::Start(Box::new(order.clone())))
            }
            Command::Stop { .. } if cx.mutation == Mutation::HeadForgetsToStop => return,
            Command::Stop { node, replica, drain, .. } => {
                (node, network::Command::Stop(replica.clone(), *drain))
            }
            Command::Retire { node, replica, .. } if cx.mutation == Mutation::HeadStopsAtOnce => {
                (node, network::Command::Stop(replica.clone(), Duration::from_secs(5)))
            }
            Command::GiveUp { node } => {
                if let Some((_, conn)) = self.nodes.remove(node) {
                    self.node_streams.remove(&conn);
                    cx.close(conn, End::Accepter);
                }
                return;
            }
            Command::ForgetNode { node } => {
                cx.store.members.remove(node);
                return;
            }
            Command::Rollout(change) => {
                if matches!(change.kind, ChangeKind::Complete | ChangeKind::RollBack { .. }) {
                    self.conclude(change, cx);
                }
                return;
            }
            _ => return,
        };
        if let Some((_, conn)) = self.nodes.get(node) {
            cx.send((*conn, End::Accepter), Message::Command(epoch, message));
        }
    }

    /// The store is told how a rollout ended: it takes a while, and sometimes it is lost.
    fn conclude(&self, change: &Change, cx: &mut Cx) {
        if cx.rng.random_range(0..8) == 0 {
            cx.note(|| format!("the store does not take {change:?}"));
            return;
        }
        let slow = cx.rng.random_range(0..6) == 0;
        let wait = cx.between(1, if slow { 4_000 } else { 100 });
        cx.agenda.after(wait, Happening::Conclude(self.process, Box::new(change.clone())));
    }

    /// How many replicas each deployment of what serves is to have, by what serves, what is wanted, and what it went back to.
    pub(crate) fn asked(&self) -> BTreeMap<FullName, usize> {
        let mut asked = BTreeMap::new();
        for (pipeline, there) in &self.desired.pipelines {
            // What never worked is nothing to protect.
            let Some(serving) = self.state.serving.get(pipeline).filter(|serving| serving.complete) else {
                continue;
            };
            let told = self.state.conclusions.get(pipeline).filter(|told| told.revision == there.wanted);
            let back = told.and_then(|told| Some(told.back.as_ref()?.0)).unwrap_or(there.wanted);
            let numbers = [serving.revision, there.wanted, back];
            let revisions: Vec<_> = numbers.iter().filter_map(|number| there.revisions.get(number)).collect();
            let compiled = revisions.first().and_then(|serving| serving.compiled.as_ref().ok());
            for deployment in compiled.into_iter().flat_map(|compiled| compiled.deployments.keys()) {
                let name = FullName { pipeline: pipeline.clone(), deployment: deployment.clone() };
                let target = |revision: &&Arc<Revision>| {
                    let bounds = &revision.spec(deployment)?.autoscaling;
                    let target = self.state.targets.get(&name).copied().unwrap_or(bounds.min_replicas);
                    Some(target.clamp(bounds.min_replicas, bounds.max_replicas))
                };
                let targets: Option<Vec<u32>> = revisions.iter().map(target).collect();
                let target = targets.and_then(|targets| targets.into_iter().min()).unwrap_or(0);
                asked.insert(name, usize::try_from(target).unwrap_or(usize::MAX));
            }
        }
        asked
    }

    /// The replicas that its table names for the revision that serves, by deployment; those that help out included.
    pub(crate) fn named(&self) -> BTreeMap<FullName, Vec<ReplicaId>> {
        let mut all = BTreeMap::new();
        for pipeline in self.state.routes.pipelines.iter() {
            for route in &pipeline.deployments {
                let deployment = route.deployment.clone();
                let name = FullName { pipeline: pipeline.name.clone(), deployment };
                let serving = pipeline.variants.first().map_or(0, |variant| variant.revision.stored.number);
                let replicas = route.replicas.iter();
                let replicas =
                    replicas.filter(|replica| replica.serves.is_empty() || replica.serves.contains(&serving));
                all.insert(name, replicas.map(|replica| replica.replica.clone()).collect());
            }
        }
        all
    }
}

fn brief(event: &Event) -> String {
    match event {
        Event::NodeJoined(session, registration) => {
            let replicas = registration.replicas.iter().map(|it| format!("{} {:?}", it.id, it.state));
            format!("{} joins ({session:?}) with {:?}", registration.id, replicas.collect::<Vec<_>>())
        }
        Event::ReplicaChanged(node, _, report) => {
            format!("{} on {node} is {:?}, restarts {}", report.id, report.state, report.restarts)
        }
        Event::Counted(_, _, counted) => {
            let tallies = counted.iter().map(|((pipeline, revision), tally)| {
                let of = |outcomes: &millstream_core::rollout::Outcomes| {
                    format!("{}/{}", outcomes.failed, outcomes.total())
                };
                let calls: Vec<_> = tally.deployments.values().map(of).collect();
                format!("{pipeline}@{revision} {} {}", of(&tally.requests), calls.join(" "))
            });
            format!("failures {}", tallies.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn brief_command(command: &Command) -> String {
    match command {
        Command::Start(order) => {
            format!(
                "start {} of revision {} on {}, {:?}",
                order.replica, order.revision, order.node, order.gpus
            )
        }
        Command::Update(order) => format!("update {} to revision {}", order.replica, order.revision),
        Command::Scale(scale) => {
            format!("scale {} from {} to {}, {:?}", scale.deployment, scale.from, scale.to, scale.rule)
        }
        other => format!("{other:?}"),
    }
}
