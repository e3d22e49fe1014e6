//! A head. Real: all that it decides, which is the [`Reconciler`] of production with its own wake-ups, and what a deploy or
//! the end of a rollout does. Modelled: what its actors and servers do around that: sessions, whom a command is sent to, the
//! feed of tables, the term and the settings it starts from, how long the store takes, when it notices that it was away.
//!
//! A head that has been replaced goes on until it learns of it: that stands for a leader paused past its lease.

mod brief;
mod mutations;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::desired::{Desired, Revision};
use millstream_core::model::{
    Command, Observation, Registration, RouteTable, SessionId, State, TableVersion,
};
use millstream_core::reconcile::{Effect, Event, Reconciler, Start};
use millstream_core::rollout::{Change, ChangeKind};
use millstream_pipelines::FullName;
use millstream_proto::{IngressId, NodeId, ReplicaId};
use rand::Rng;

use self::brief::{brief, brief_command};
use crate::Mutation;
use crate::checks::{Rule, named};
use crate::clock::{Event as Happening, Process, Timer};
use crate::cx::Cx;
use crate::message::{self, ConnId, End, Message};

/// Looks at one instant; more means that decisions go in a circle.
const MAX_LOOKS_AT_ONCE: u32 = 60;
/// How often it notes that it runs, and a gap in which it did not. As in production.
const PRESENCE: Duration = Duration::from_millis(250);
const MIN_ABSENCE: Duration = Duration::from_secs(1);

/// A stream of an ingress.
#[derive(Debug)]
struct IngressStream {
    id: IngressId,
    session: SessionId,
    process: Process,
    sent: TableVersion,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) process: Process,
    pub(crate) reconciler: Reconciler,
    /// When its own clock began, and by how much it has jumped.
    started_at: Duration,
    pub(crate) skew: Duration,
    nodes: BTreeMap<NodeId, (SessionId, ConnId)>,
    node_streams: BTreeMap<ConnId, (NodeId, SessionId)>,
    ingress_streams: BTreeMap<ConnId, IngressStream>,
    last_session: u64,
    /// When it is woken, and when it last noted that it runs; on its own clock.
    alarm: Option<Duration>,
    last_alarm: u64,
    num_checks: u64,
    alive_at: Duration,
    looks: (Duration, u32),
    watched: Watched,
    /// When it last decided something that is more than house-keeping.
    pub(crate) last_command: Duration,
}

/// What the rules need to remember of a head.
#[derive(Debug, Default)]
struct Watched {
    /// When each replica was taken out of the routes, on this head's clock.
    retired: BTreeMap<ReplicaId, Duration>,
    /// Replicas that were told to stop, and where.
    stopped: BTreeMap<ReplicaId, NodeId>,
    /// When each ingress's stream was last there.
    heard: BTreeMap<Process, Duration>,
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
        let waits = inherits;
        let settle_until = if waits { cx.timing.settle } else { Duration::ZERO };
        let began_at = Duration::ZERO;
        let start = Start { epoch, settle_until, began_at, members: cx.store.members.clone() };
        cx.note(|| format!("head {process:?} begins term {epoch}"));
        cx.timer(process, PRESENCE, Timer::Presence);
        let mut head = Self {
            process,
            reconciler: Reconciler::new(start, desired, cx.timing.clone()),
            started_at: cx.now(),
            skew: Duration::ZERO,
            nodes: BTreeMap::new(),
            node_streams: BTreeMap::new(),
            ingress_streams: BTreeMap::new(),
            last_session: 0,
            alarm: None,
            last_alarm: 0,
            num_checks: 0,
            alive_at: Duration::ZERO,
            looks: (Duration::ZERO, 0),
            watched: Watched::default(),
            last_command: cx.now(),
        };
        head.set_alarm(cx);
        head
    }

    pub(crate) fn state(&self) -> &State {
        self.reconciler.state()
    }

    pub(crate) fn desired(&self) -> &Desired {
        self.reconciler.desired()
    }

    /// Its own clock.
    pub(crate) fn clock(&self, cx: &Cx) -> Duration {
        cx.now().saturating_sub(self.started_at) + self.skew
    }

    pub(crate) fn timer(&mut self, timer: &Timer, cx: &mut Cx) {
        match timer {
            Timer::Presence => {
                cx.timer(self.process, PRESENCE, Timer::Presence);
                self.note_presence(cx);
                // Its clock may have jumped over the alarm.
                self.set_alarm(cx);
                self.check_wakes(cx);
            }
            Timer::Alarm(number) if *number == self.last_alarm => {
                self.alarm = None;
                self.count_look(cx);
                self.feed_event(Event::Wake, cx);
            }
            _ => {}
        }
    }

    /// Notes that it runs, and tells the reconciler of a gap in which it did not.
    fn note_presence(&mut self, cx: &mut Cx) {
        let now = self.clock(cx);
        let gap = now.saturating_sub(self.alive_at);
        self.alive_at = now;
        if gap >= MIN_ABSENCE {
            cx.note(|| format!("head {} was away for {gap:?}", self.reconciler.state().epoch));
            self.reconciler.handle(Event::Absent(gap), now);
        }
    }

    /// Gives the reconciler an event, and carries out what follows.
    fn feed_event(&mut self, event: Event, cx: &mut Cx) {
        self.note_presence(cx);
        let now = self.clock(cx);
        let before = Arc::clone(&self.state().routes.pipelines);
        let is_wake = event == Event::Wake;
        let mut effects = self.reconciler.handle(event, now);
        if is_wake {
            self.mutate_table(&mut effects, now, cx);
        }
        let mut decided = false;
        for effect in effects {
            match effect {
                Effect::Record(..) => {}
                Effect::Command(command) => {
                    decided = true;
                    self.check(&command, now, cx);
                    self.excuse(&command, &before, cx);
                    self.send(&command, cx);
                }
                Effect::Publish(table) => self.published(&table, cx),
            }
        }
        if is_wake {
            self.check_table(&before, cx);
            self.feed(cx);
        }
        if decided {
            cx.checks.books(self.reconciler.state());
        }
        self.set_alarm(cx);
    }

    /// Asks to be woken when the reconciler wants to be.
    fn set_alarm(&mut self, cx: &mut Cx) {
        let Some(at) = self.reconciler.next_wake() else { return };
        if self.alarm.is_none_or(|alarm| alarm > at) {
            self.alarm = Some(at);
            // A busy head is late.
            let late = if cx.rng.random_range(0..16) == 0 { cx.between(1, 300) } else { Duration::ZERO };
            let wait = at.saturating_sub(self.clock(cx)) + late;
            self.last_alarm += 1;
            cx.timer(self.process, wait, Timer::Alarm(self.last_alarm));
        }
    }

    pub(crate) fn receive(&mut self, conn: ConnId, from: Process, message: Message, cx: &mut Cx) {
        match message {
            Message::Register(registration, obeyed) => self.register(conn, registration, obeyed, cx),
            Message::Heartbeat(ongoing) => {
                if let Some((node, session)) = self.node_streams.get(&conn).cloned() {
                    self.observe(Observation::Heartbeat(node, session, ongoing), cx);
                }
            }
            Message::Replica(report) => {
                if let Some((node, session)) = self.node_streams.get(&conn).cloned() {
                    let report = self.mutate(report, cx);
                    self.observe(Observation::ReplicaChanged(node, session, report), cx);
                }
            }
            Message::Hello(id) => self.hello(conn, from, id, cx),
            Message::Load(loads, counted) => {
                if let Some(stream) = self.ingress_streams.get(&conn) {
                    let (id, session, counted) =
                        (stream.id.clone(), stream.session, mutations::counted(counted, cx));
                    if !counted.is_empty() {
                        self.observe(Observation::Counted(id.clone(), session, counted), cx);
                    }
                    self.observe(Observation::Loaded(id, session, loads), cx);
                }
            }
            Message::Ack(version) => {
                if let Some(stream) = self.ingress_streams.get(&conn) {
                    self.observe(Observation::Acked(stream.id.clone(), stream.session, version), cx);
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
            assert!(cx.mutation != Mutation::HeadPanics, "a mutation");
            self.observe(Observation::NodeLeft(node, session), cx);
        }
        if let Some(stream) = self.ingress_streams.remove(&conn) {
            self.watched.heard.insert(stream.process, self.clock(cx));
            self.observe(Observation::IngressLeft(stream.id, stream.session), cx);
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
        cx.note(|| format!("{} dials head {}, has obeyed {obeyed}", registration.id, self.state().epoch));
        if self.reconciler.admit(&registration, now).is_err() {
            cx.note(|| format!("head {} refuses {}", self.state().epoch, registration.id));
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
        let registered = Message::Command(self.state().epoch, message::Command::Registered);
        cx.send((conn, End::Accepter), registered);
        self.observe(Observation::NodeJoined(session, registration), cx);
    }

    fn hello(&mut self, conn: ConnId, process: Process, id: IngressId, cx: &mut Cx) {
        let session = self.session();
        let stream = IngressStream { id: id.clone(), session, process, sent: TableVersion::default() };
        self.ingress_streams.insert(conn, stream);
        let (name, entrance) = (id.to_string(), String::new().into());
        self.observe(Observation::IngressJoined { id, session, name, entrance, pid: 1 }, cx);
        self.feed(cx);
    }

    fn observe(&mut self, observation: Observation, cx: &mut Cx) {
        if !matches!(observation, Observation::Heartbeat(..) | Observation::Loaded(..)) {
            cx.note(|| format!("head {} observes {}", self.state().epoch, brief(&observation)));
        }
        let may_book = matches!(observation, Observation::NodeJoined(..) | Observation::ReplicaChanged(..));
        self.feed_event(observation.into(), cx);
        if may_book {
            cx.checks.books(self.reconciler.state());
        }
    }

    /// The store has taken a change.
    pub(crate) fn change_desired(&mut self, desired: &Arc<Desired>, cx: &mut Cx) {
        if desired.generation > self.desired().generation {
            self.feed_event(Event::Desired(mutations::desired(desired, cx)), cx);
            cx.checks.dirty = true;
        }
    }

    fn published(&mut self, table: &RouteTable, cx: &mut Cx) {
        cx.note(|| format!("head {} publishes {}: {:?}", self.state().epoch, table.version, named(table)));
        let stopped = &self.watched.stopped;
        let again = named(table).into_iter().find(|replica| stopped.contains_key(replica));
        if let Some(replica) = again {
            cx.checks.fail(Rule::StoppedNotNamed, format!("{replica} in table {}", table.version));
        }
        self.last_command = cx.now();
        cx.checks.dirty = true;
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
        // A head that has just begun has no table: its version is the first in the order.
        let routes = &self.reconciler.state().routes;
        let (version, epoch) = (routes.version, self.reconciler.state().epoch);
        for (conn, stream) in &mut self.ingress_streams {
            if version > stream.sent {
                stream.sent = version;
                let table = Message::Table(epoch, routes.clone());
                cx.send((*conn, End::Accepter), table);
            }
        }
    }

    fn send(&mut self, command: &Command, cx: &mut Cx) {
        cx.note(|| format!("head {} decides {}", self.state().epoch, brief_command(command)));
        let over = |change: &Change| change.kind == ChangeKind::End;
        let housekeeping = match command {
            Command::ForgetNode { .. } | Command::ForgetIngress { .. } => true,
            Command::Rollout(change) => over(change),
            _ => false,
        };
        if !housekeeping {
            self.last_command = cx.now();
        }
        let epoch = self.state().epoch;
        let (node, message) = match command {
            Command::Start(order) | Command::Update(order) => {
                if cx.mutation == Mutation::HeadBooksSharesTwice {
                    let node = self.reconciler.state_mut().nodes.get_mut(&order.node);
                    if let Some(replica) = node.and_then(|node| node.edit().replicas.get_mut(&order.replica))
                    {
                        replica.gpus.clear();
                    }
                }
                (&order.node, message::Command::Start(Box::new(order.clone())))
            }
            Command::Stop { .. } if cx.mutation == Mutation::HeadForgetsToStop => return,
            Command::Stop { node, replica, drain, .. } => {
                (node, message::Command::Stop(replica.clone(), *drain))
            }
            Command::Retire { node, replica, .. } if cx.mutation == Mutation::HeadStopsAtOnce => {
                (node, message::Command::Stop(replica.clone(), Duration::from_secs(5)))
            }
            Command::ReplaceNode { node } => {
                if let Some((_, conn)) = self.nodes.remove(node) {
                    self.node_streams.remove(&conn);
                    cx.close(conn, End::Accepter);
                }
                return;
            }
            Command::ForgetNode { node } => {
                cx.store.members.remove(node);
                self.reconciler.handle(Event::MemberForgotten(node.clone()), self.clock(cx));
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
        for (pipeline, there) in &self.desired().pipelines {
            // What never worked is nothing to protect.
            let Some(serving) = self.state().serving.get(pipeline).filter(|serving| serving.complete) else {
                continue;
            };
            let ended = self.state().conclusions.get(pipeline).filter(|ended| ended.revision == there.wanted);
            let back = ended.and_then(|ended| Some(ended.back.as_ref()?.0)).unwrap_or(there.wanted);
            let numbers = [serving.revision, there.wanted, back];
            let revisions: Vec<_> = numbers.iter().filter_map(|number| there.revisions.get(number)).collect();
            let compiled = revisions.first().and_then(|serving| serving.compiled.as_ref().ok());
            for deployment in compiled.into_iter().flat_map(|compiled| compiled.deployments.keys()) {
                let name = FullName { pipeline: pipeline.clone(), deployment: deployment.clone() };
                let target = |revision: &&Arc<Revision>| {
                    let bounds = &revision.spec(deployment)?.autoscaling;
                    let target = self.state().targets.get(&name).copied().unwrap_or(bounds.min_replicas);
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
        for pipeline in self.state().routes.pipelines.iter() {
            for route in &pipeline.deployments {
                let deployment = route.deployment.clone();
                let name = FullName { pipeline: pipeline.name.clone(), deployment };
                let serving = pipeline.variants.first().map_or(0, |variant| variant.revision.stored.number);
                let replicas = route.replicas.iter();
                let has = |list: &[u64]| list.is_empty() || list.contains(&serving);
                let replicas = replicas.filter(|replica| has(&replica.serves) && has(&replica.answers));
                all.insert(name, replicas.map(|replica| replica.replica.clone()).collect());
            }
        }
        all
    }
}
