//! A head. Real: all that it decides (`observe`, `step`, `carry_out`, `publish`, what a deploy does). Modelled: what its
//! actors and servers do around that: a look after each event and at each tick, sessions, whom a command is sent to, the
//! feed of tables, the term and the settings it starts from.
//!
//! A head that has been replaced goes on until it learns of it: that stands for a leader paused past its lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_head::desired::Desired;
use millstream_head::reconcile::observe::{Effect, Event, Registration, admit, observe};
use millstream_head::reconcile::{Command, SessionId, State, routes, step};
use millstream_pipelines::FullName;
use millstream_proto::{IngressId, NodeId, ReplicaId};

use crate::Mutation;
use crate::checks::{Rule, named};
use crate::clock::{Process, Timer};
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
                self.look(cx);
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
                    let report = self.mutate(report, cx);
                    self.observe(Event::ReplicaChanged(node, session, report), cx);
                }
            }
            Message::Hello(id) => self.hello(conn, from, id, cx),
            Message::Ack(version) => {
                if let Some(stream) = self.ingress_streams.get(&conn) {
                    self.observe(Event::Acked(stream.id.clone(), stream.session, version), cx);
                }
            }
            _ => {}
        }
    }

    fn mutate(
        &self,
        mut report: millstream_head::reconcile::observe::Report,
        cx: &Cx,
    ) -> millstream_head::reconcile::observe::Report {
        use millstream_proto::status::ReplicaState;
        if cx.mutation == Mutation::HeadTakesStartingForReady && report.state == ReplicaState::Starting {
            report.state = ReplicaState::Ready;
        }
        report
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
        if !matches!(event, Event::Heartbeat(..)) {
            cx.note(|| format!("head {} observes {}", self.state.epoch, brief(&event)));
        }
        let now = self.clock(cx);
        if observe(&mut self.state, &self.desired, event, now) == Effect::Structure {
            cx.checks.books(&self.state);
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

    fn look(&mut self, cx: &mut Cx) {
        let now = self.clock(cx);
        self.count_look(cx);
        let decided = step(&self.desired, &self.state, &cx.timing, now);
        for command in &decided.commands {
            self.check(command, now, cx);
            self.state.carry_out(command, now);
            self.send(command, cx);
        }
        if !decided.commands.is_empty() {
            cx.checks.books(&self.state);
            self.queue_look(cx);
        }
        self.state.pending = decided.pending;
        if let Some(table) = routes::publish(&mut self.state, &self.desired, &cx.timing, now) {
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
        self.feed(cx);
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
        let housekeeping = matches!(command, Command::ForgetNode { .. } | Command::ForgetIngress { .. });
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
            _ => return,
        };
        if let Some((_, conn)) = self.nodes.get(node) {
            cx.send((*conn, End::Accepter), Message::Command(epoch, message));
        }
    }

    /// A replica may be told to stop only when no ingress of this head sends to it, or had time to learn that.
    fn check(&mut self, command: &Command, now: Duration, cx: &mut Cx) {
        match command {
            Command::Retire { replica, .. } => {
                self.retired.insert(replica.clone(), now);
                if cx.mutation == Mutation::HeadStopsAtOnce {
                    self.check_stop(replica, now, cx);
                }
            }
            Command::GiveUp { node } => {
                // Should it come back, all is decided afresh.
                let node = self.state.nodes.get(node);
                for replica in node.into_iter().flat_map(|node| node.replicas.keys()) {
                    self.stopped.remove(replica);
                }
            }
            Command::Stop { replica, .. } => {
                self.stopped.insert(replica.clone());
                self.check_stop(replica, now, cx);
            }
            _ => {}
        }
    }

    fn check_stop(&self, replica: &ReplicaId, now: Duration, cx: &mut Cx) {
        let bound = cx.timing.ack_timeout;
        // A worker refuses what a head says that has been replaced. One for which nothing is desired waits for nobody.
        if self.state.epoch < cx.store.epoch || self.desired.pipelines.is_empty() {
            return;
        }
        // One that this head did not take out of the routes was told to stop by the head before.
        let Some(&retired) = self.retired.get(replica) else { return };
        if now.saturating_sub(retired) >= bound {
            return;
        }
        for ingress in cx.checks.ingresses() {
            let open = self.ingress_streams.values().any(|stream| stream.process == ingress);
            // One that has not said a word to this head may still dial: the bound runs from the head's start.
            let heard = self.heard.get(&ingress).copied().unwrap_or_default();
            let gone = !open && now.saturating_sub(heard) >= bound;
            if !gone && cx.checks.may_send(ingress, replica) {
                let detail = format!("{replica} is told to stop while {ingress:?} may send to it");
                cx.checks.fail(Rule::StopsAfterRoutes, detail);
            }
        }
    }

    /// How many replicas each deployment of a newest revision is to have.
    pub(crate) fn asked(&self) -> BTreeMap<FullName, usize> {
        let mut asked = BTreeMap::new();
        for (pipeline, there) in &self.desired.pipelines {
            // What never worked is nothing to protect.
            if !self.state.serving.get(pipeline).is_some_and(|serving| serving.complete) {
                continue;
            }
            let compiled = there.newest().and_then(|newest| newest.compiled.as_ref().ok());
            for (deployment, spec) in compiled.into_iter().flat_map(|compiled| &compiled.deployments) {
                let name = FullName { pipeline: pipeline.clone(), deployment: deployment.clone() };
                let bounds = &spec.autoscaling;
                let target = self.state.targets.get(&name).copied().unwrap_or(bounds.min_replicas);
                let target = target.clamp(bounds.min_replicas, bounds.max_replicas);
                asked.insert(name, usize::try_from(target).unwrap_or(usize::MAX));
            }
        }
        asked
    }

    /// The replicas that its table names, by deployment.
    pub(crate) fn named(&self) -> BTreeMap<FullName, Vec<ReplicaId>> {
        let mut all = BTreeMap::new();
        for pipeline in self.state.routes.pipelines.iter() {
            for route in &pipeline.deployments {
                let deployment = route.deployment.clone();
                let name = FullName { pipeline: pipeline.name.clone(), deployment };
                all.insert(name, route.replicas.iter().map(|replica| replica.replica.clone()).collect());
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
        other => format!("{other:?}"),
    }
}
