//! A worker. Real: the life of its replicas, when they start again, the fence between terms, waits between dials.
//! Modelled: the link to the head (one session at a time, registration with all that runs, heartbeats), replicas (load,
//! answer, drain, end) and what survives on the node's disk.

mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::Backoff;
use millstream_core::model::{Device, Resources};
use millstream_core::model::{Registration, Report};
use millstream_core::scheduler::Share;
use millstream_pipelines::FullName;
use millstream_proto::status::ReplicaState;
use millstream_proto::{NodeId, ReplicaId};
use millstream_worker::decisions::{self as real, EpochGate, Lifecycle, Verdict};

use self::replicas::Running;
use crate::Mutation;
use crate::checks::Capacity;
use crate::clock::{Process, Timer};
use crate::cx::Cx;
use crate::message::{Command, ConnId, End, Message};

/// As in the worker's link to the head.
const DIAL_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(3) };
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a node keeps while its worker does not run.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) epoch: u64,
    pub(crate) capacity: Capacity,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) process: Process,
    pub(crate) disk: Disk,
    pub(crate) lifecycle: Lifecycle,
    gate: EpochGate,
    running: BTreeMap<ReplicaId, Running>,
    /// Calls under way: where the answer goes, and who runs it.
    calls: BTreeMap<u64, (ConnId, ReplicaId)>,
    session: u64,
    conn: Option<ConnId>,
    registered: bool,
    failures: u32,
    leaving: bool,
}

impl Worker {
    pub(crate) fn start(process: Process, disk: Disk, cx: &mut Cx) -> Self {
        cx.timer(process, Duration::ZERO, Timer::Dial(0));
        Self {
            process,
            gate: EpochGate::new(disk.epoch),
            disk,
            lifecycle: Lifecycle::default(),
            running: BTreeMap::new(),
            calls: BTreeMap::new(),
            session: 0,
            conn: None,
            registered: false,
            failures: 0,
            leaving: false,
        }
    }

    pub(crate) fn timer(&mut self, timer: Timer, cx: &mut Cx) {
        match timer {
            Timer::Dial(session) if session == self.session => self.dial(cx),
            Timer::RegisterTimeout(session) if session == self.session && !self.registered => {
                self.hang_up(cx)
            }
            Timer::Heartbeat(session) if session == self.session => self.heartbeat(cx),
            Timer::Loaded(id, incarnation) => self.loaded(&id, incarnation, cx),
            Timer::Retry(id, incarnation) => self.react(real::Event::RetryDue(id, incarnation), cx),
            Timer::DrainOver(id, incarnation) => self.drain_over(&id, incarnation, cx),
            Timer::Ended(id, incarnation, failure) => self.ended(id, incarnation, failure, cx),
            Timer::CallDone(call) => self.call_done(call, cx),
            _ => {}
        }
    }

    pub(crate) fn receive(&mut self, conn: ConnId, message: Message, cx: &mut Cx) {
        match message {
            Message::Command(epoch, command) if self.conn == Some(conn) => self.obey(epoch, command, cx),
            Message::Call { call, replica } => self.call(conn, call, replica, cx),
            Message::Cancel(call) => self.give_up_call(call, cx),
            _ => {}
        }
    }

    /// A connection is over: the head's, or an ingress's, whose calls nobody waits for.
    pub(crate) fn closed(&mut self, conn: ConnId, cx: &mut Cx) {
        if self.conn == Some(conn) {
            self.session_over(cx);
            return;
        }
        let of_conn = self.calls.iter().filter(|(_, (there, _))| *there == conn);
        for call in of_conn.map(|(call, _)| *call).collect::<Vec<_>>() {
            self.give_up_call(call, cx);
        }
    }

    fn dial(&mut self, cx: &mut Cx) {
        self.session += 1;
        self.registered = false;
        let head = cx.directory();
        self.conn = cx.net.dial(self.process, head, cx.agenda.now());
        let Some(conn) = self.conn else {
            self.session_over(cx);
            return;
        };
        let registration = self.registration();
        let obeyed = self.gate.highest();
        cx.send((conn, End::Dialler), Message::Register(registration, obeyed));
        cx.timer(self.process, REGISTER_TIMEOUT, Timer::RegisterTimeout(self.session));
    }

    fn hang_up(&mut self, cx: &mut Cx) {
        if let Some(conn) = self.conn {
            cx.close(conn, End::Dialler);
            self.session_over(cx);
        }
    }

    fn session_over(&mut self, cx: &mut Cx) {
        self.conn = None;
        self.registered = false;
        self.failures = self.failures.saturating_add(1);
        let delay = DIAL_BACKOFF.delay(self.failures, &mut cx.rng);
        cx.timer(self.process, delay, Timer::Dial(self.session));
    }

    fn registration(&self) -> Registration {
        let gpu = |index| Device { index, model: "T4".into(), memory_bytes: 16 << 30 };
        Registration {
            id: self.disk.node.clone(),
            name: self.disk.name.clone(),
            address: self.disk.name.clone(),
            pid: self.process.start,
            version: String::new(),
            labels: BTreeMap::new(),
            resources: Resources {
                cpu_milli: self.disk.capacity.cpu_milli,
                memory_bytes: 64 << 30,
                gpus: (0..self.disk.capacity.num_gpus).map(gpu).collect(),
            },
            replicas: self.lifecycle.reports().map(report).collect(),
        }
    }

    fn heartbeat(&mut self, cx: &mut Cx) {
        let Some(conn) = self.conn else { return };
        let ongoing = self.running.iter().map(|(id, it)| (id.clone(), it.num_calls()));
        cx.send((conn, End::Dialler), Message::Heartbeat(ongoing.collect()));
        // One that was paused serves again.
        self.show(cx);
        let heartbeat = cx.timing.heartbeat;
        cx.timer(self.process, heartbeat, Timer::Heartbeat(self.session));
    }

    fn obey(&mut self, epoch: u64, command: Command, cx: &mut Cx) {
        let verdict = self.gate.admit(epoch);
        self.disk.epoch = self.gate.highest();
        if verdict == Verdict::Older && cx.mutation != Mutation::WorkerObeysOlderTerms {
            cx.note(|| format!("{} refuses term {epoch}", self.disk.node));
            if matches!(command, Command::Registered) {
                self.hang_up(cx);
            }
            return;
        }
        cx.checks.obeyed(&self.disk.node, epoch);
        match command {
            Command::Registered => {
                self.registered = true;
                self.failures = 0;
                let heartbeat = cx.timing.heartbeat;
                cx.timer(self.process, heartbeat, Timer::Heartbeat(self.session));
            }
            Command::Start(order) => {
                let order = Arc::new(real::Order {
                    id: order.replica.clone(),
                    pipeline: order.deployment.pipeline.to_string(),
                    deployment: order.deployment.deployment.to_string(),
                    revision: order.revision,
                    spec: (*order.spec).clone(),
                    source_dir: order.source_dir.clone().into(),
                    gpus: order
                        .gpus
                        .iter()
                        .map(|share| real::GpuShare { index: share.index, milli: share.milli })
                        .collect(),
                });
                self.react(real::Event::Start(order), cx);
            }
            Command::Stop(id, drain) => self.react(real::Event::Stop { id, drain }, cx),
        }
    }

    /// The worker is asked to end: it drains, then its process is over.
    pub(crate) fn leave(&mut self, drain: Duration, cx: &mut Cx) {
        self.leaving = true;
        self.react(real::Event::StopAll { drain }, cx);
    }

    /// Whether a worker that leaves has no replica left.
    pub(crate) fn has_left(&self) -> bool {
        self.leaving && self.lifecycle.num_replicas() == 0
    }

    /// Decides and carries out, until nothing more follows.
    fn react(&mut self, event: real::Event, cx: &mut Cx) {
        let now = cx.instant();
        for action in self.lifecycle.decide(event, now, &mut cx.rng) {
            self.carry_out(action, cx);
        }
        self.show(cx);
    }

    /// Tells the checks what runs here.
    pub(crate) fn show(&self, cx: &mut Cx) {
        let ready = self.lifecycle.reports().filter(|report| report.state == ReplicaState::Ready);
        let ready: BTreeSet<_> = ready.map(|report| report.order.id.clone()).collect();
        let orders = self.lifecycle.reports().map(|report| &*report.order);
        cx.checks.worker_runs((self.process, &self.disk.node), self.disk.capacity, orders, ready);
    }

    fn carry_out(&mut self, action: real::Action, cx: &mut Cx) {
        match action {
            real::Action::Spawn(order, incarnation) => self.spawn(&order, incarnation, cx),
            real::Action::Apply(order, incarnation) => self.apply(&order, incarnation),
            real::Action::Drain { id, incarnation, timeout } => self.drain(&id, incarnation, timeout, cx),
            real::Action::Retry { id, incarnation, delay } => {
                cx.timer(self.process, delay, Timer::Retry(id, incarnation));
            }
            real::Action::Report(it) => self.tell(report(&it), cx),
            real::Action::ReportUnknown(id) => self.tell(unknown(id), cx),
        }
    }

    fn tell(&self, report: Report, cx: &mut Cx) {
        if let Some(conn) = self.conn {
            cx.send((conn, End::Dialler), Message::Replica(report));
        }
    }
}

/// A report as it arrives at the head.
fn report(report: &real::Report) -> Report {
    let order = &report.order;
    let name = |text: &str| text.parse().expect("it was a name when the head sent it");
    Report {
        id: order.id.clone(),
        deployment: FullName { pipeline: name(&order.pipeline), deployment: name(&order.deployment) },
        revision: order.revision,
        state: report.state,
        doing: report.doing.clone(),
        error: report.error.clone(),
        pid: 1,
        restarts: report.restarts,
        is_unloadable: report.is_unloadable,
        gpus: order.gpus.iter().map(|gpu| Share { index: gpu.index, milli: gpu.milli }).collect(),
        signature: report.model.signature.clone(),
    }
}

/// The report of a replica that is not here, as it arrives at the head.
fn unknown(id: ReplicaId) -> Report {
    Report {
        id,
        deployment: "unknown/unknown".parse().expect("that is a full name"),
        revision: 0,
        state: ReplicaState::Stopped,
        doing: String::new(),
        error: String::new(),
        pid: 1,
        restarts: 0,
        is_unloadable: false,
        gpus: Vec::new(),
        signature: None,
    }
}
