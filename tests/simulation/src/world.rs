//! The cluster: hosts with the processes that run on them, and the loop that brings each event to whom it concerns.

use std::time::Duration;

use millstream_core::Timing;
use millstream_proto::NodeId;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::checks::{Rule, Violation};
use crate::client::{Outcome, Strictness};
use crate::clock::{Event, Host, Process, Timer};
use crate::cx::Cx;
use crate::head::Head;
use crate::ingress::Ingress;
use crate::message::{ConnId, End, Message};
use crate::network::Network;
use crate::pipelines::Draft;
use crate::scenario::{Room, Scenario, Weather};
use crate::worker::{Disk, Worker};
use crate::{Mutation, Trace};

/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Events of a run, far beyond what any takes.
const MAX_EVENTS: u64 = 300_000;
/// How long after its deadline an answer may still come: its ingress may have been paused.
const ANSWER_SLACK: Duration = Duration::from_secs(60);

/// A host with what runs on it.
pub(crate) struct Slot<P> {
    pub(crate) running: Option<P>,
    pub(crate) start: u32,
    pub(crate) paused_until: Duration,
}

impl<P> Slot<P> {
    fn new() -> Self {
        Self { running: None, start: 0, paused_until: Duration::ZERO }
    }

    /// The next process of this host.
    fn next(&mut self, host: Host) -> Process {
        self.start += 1;
        self.paused_until = Duration::ZERO;
        Process { host, start: self.start }
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) cx: Cx,
    pub(crate) scenario: Scenario,
    pub(crate) heads: Vec<Slot<Head>>,
    pub(crate) workers: Vec<Slot<Worker>>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) ingresses: Vec<Slot<Ingress>>,
    pub(crate) drafts: Vec<Draft>,
    /// Nodes that do not come back.
    pub(crate) dead: Vec<usize>,
    /// Set once the script is over.
    pub(crate) healed_at: Option<Duration>,
    /// Since when everything is as it should be.
    pub(crate) rests_since: Option<Duration>,
    /// Whether only the head could have ended that.
    pub(crate) was_firm: bool,
    pub(crate) done: bool,
}

impl World {
    pub(crate) fn new(scenario: Scenario, mutation: Mutation, trace: Trace) -> Self {
        let mut rng = SmallRng::seed_from_u64(scenario.seed ^ 0x5eed);
        let timing = Timing::default();
        let gpu_pipelines = rng.random_range(0..=scenario.num_pipelines);
        let shares = if scenario.room == Room::Tight { [400, 600] } else { [125, 250] };
        let drafts = (0..scenario.num_pipelines)
            .map(|index| {
                Draft::new(index, (index < gpu_pipelines).then_some(shares), scenario.scaling, &mut rng)
            })
            .collect();
        let mut cx = Cx::new(rng, Network::new(scenario.latency), timing, mutation, trace);
        cx.failures.permille = scenario.failing_calls;
        if scenario.weather == Weather::Calm && scenario.room == Room::Enough {
            cx.client.strictness = Strictness::Strict;
        }
        let disk = |(index, capacity): (usize, &_)| Disk {
            node: NodeId::new(format!("n{index}")),
            name: format!("node-{index}"),
            epoch: 0,
            capacity: *capacity,
        };
        let disks = scenario.nodes.iter().enumerate().map(disk).collect();
        let mut world = Self {
            heads: (0..2).map(|_| Slot::new()).collect(),
            workers: scenario.nodes.iter().map(|_| Slot::new()).collect(),
            disks,
            ingresses: (0..scenario.num_ingresses).map(|_| Slot::new()).collect(),
            drafts,
            dead: Vec::new(),
            healed_at: None,
            rests_since: None,
            was_firm: false,
            done: false,
            cx,
            scenario,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.boot(Host::Head(0));
        for index in 0..self.workers.len() {
            self.boot(Host::Worker(index));
        }
        for index in 0..self.ingresses.len() {
            self.boot(Host::Ingress(index));
        }
        for (index, (at, _)) in self.scenario.script.iter().enumerate() {
            self.cx.agenda.at(*at, Event::Operate(index));
        }
        self.cx.agenda.at(Duration::from_millis(500), Event::Request);
        self.cx.agenda.at(self.scenario.ends_at, Event::Inspect);
    }

    /// Starts a process where none runs.
    pub(crate) fn boot(&mut self, host: Host) {
        let cx = &mut self.cx;
        match host {
            Host::Head(index) if self.heads[index].running.is_none() => {
                let process = self.heads[index].next(host);
                cx.net.started(process);
                self.heads[index].running = Some(Head::start(process, cx));
            }
            Host::Worker(index) if self.workers[index].running.is_none() => {
                let process = self.workers[index].next(host);
                cx.net.started(process);
                self.workers[index].running = Some(Worker::start(process, self.disks[index].clone(), cx));
            }
            Host::Ingress(index) if self.ingresses[index].running.is_none() => {
                let process = self.ingresses[index].next(host);
                cx.net.started(process);
                self.ingresses[index].running = Some(Ingress::start(process, cx));
            }
            _ => return,
        }
        cx.note(|| format!("{host:?} starts"));
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        let mut num_events = 0;
        while !self.done {
            num_events += 1;
            if num_events > MAX_EVENTS {
                self.restless("events follow events without end");
            }
            let Some(event) = self.cx.agenda.next() else { break };
            self.happen(event);
            if self.cx.checks.dirty {
                self.cx.checks.dirty = false;
                self.check_serving();
            }
            if let Some(violation) = self.cx.checks.violated() {
                return Err(violation.clone());
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Timer(process, timer) => self.timer(process, timer),
            Event::Deliver { conn, to, message } => {
                if let Some(process) = self.cx.net.receiver(conn, to) {
                    if let Some(until) = self.paused(process.host) {
                        self.cx.agenda.at(until, Event::Deliver { conn, to, message });
                    } else {
                        self.deliver(conn, to, process, *message);
                    }
                }
            }
            Event::Closed { conn, to } => {
                if let Some(process) = self.cx.net.open_end(conn, to) {
                    if let Some(until) = self.paused(process.host) {
                        self.cx.agenda.at(until, Event::Closed { conn, to });
                    } else {
                        self.cx.close(conn, to);
                        self.closed(conn, process);
                    }
                }
            }
            Event::Operate(index) => self.operate(index),
            Event::Boot(host) => self.boot(host),
            Event::Conclude(process, change) => self.conclude(process, *change),
            Event::Concluded(process, desired) => self.concluded(process, desired),
            Event::Request => self.send_request(),
            Event::Inspect => self.inspect(),
        }
    }

    /// Whether what runs on a host is paused.
    pub(crate) fn is_paused(&self, host: Host) -> bool {
        self.paused(host).is_some()
    }

    /// Until when what runs on a host is paused.
    pub(crate) fn paused(&self, host: Host) -> Option<Duration> {
        let until = match host {
            Host::Head(index) => self.heads[index].paused_until,
            Host::Worker(index) => self.workers[index].paused_until,
            Host::Ingress(index) => self.ingresses[index].paused_until,
        };
        (until > self.cx.now()).then_some(until)
    }

    fn timer(&mut self, process: Process, timer: Timer) {
        if let Some(until) = self.paused(process.host) {
            self.cx.agenda.at(until, Event::Timer(process, timer));
            return;
        }
        let cx = &mut self.cx;
        match process.host {
            Host::Head(index) => {
                if matches!(timer, Timer::StepDown) {
                    self.step_down(process);
                } else if let Some(head) = current(&mut self.heads[index], process) {
                    head.timer(&timer, cx);
                }
            }
            Host::Worker(index) => {
                if let Some(worker) = current(&mut self.workers[index], process) {
                    worker.timer(timer, cx);
                    self.disks[index].epoch = worker.disk.epoch;
                }
                self.bury_left(index);
            }
            Host::Ingress(index) => {
                if let Some(ingress) = current(&mut self.ingresses[index], process) {
                    ingress.timer(timer, cx);
                }
            }
        }
    }

    fn deliver(&mut self, conn: ConnId, to: End, process: Process, message: Message) {
        let from = self.cx.net.open_end(conn, to.other()).unwrap_or(process);
        let cx = &mut self.cx;
        match process.host {
            Host::Head(index) => {
                if let Some(head) = current(&mut self.heads[index], process) {
                    head.receive(conn, from, message, cx);
                }
            }
            Host::Worker(index) => {
                if let Some(worker) = current(&mut self.workers[index], process) {
                    worker.receive(conn, message, cx);
                    self.disks[index].epoch = worker.disk.epoch;
                }
                self.bury_left(index);
            }
            Host::Ingress(index) => {
                if let Some(ingress) = current(&mut self.ingresses[index], process) {
                    ingress.receive(conn, message, cx);
                }
            }
        }
    }

    fn closed(&mut self, conn: ConnId, process: Process) {
        let cx = &mut self.cx;
        match process.host {
            Host::Head(index) => {
                if let Some(head) = current(&mut self.heads[index], process) {
                    head.closed(conn, cx);
                }
            }
            Host::Worker(index) => {
                if let Some(worker) = current(&mut self.workers[index], process) {
                    worker.closed(conn, cx);
                }
            }
            Host::Ingress(index) => {
                if let Some(ingress) = current(&mut self.ingresses[index], process) {
                    ingress.closed(conn, cx);
                }
            }
        }
    }

    /// The head whose term is the newest.
    pub(crate) fn leader(&self) -> Option<&Head> {
        self.heads[self.cx.leader].running.as_ref()
    }

    /// Compares who serves with what is asked for.
    fn check_serving(&mut self) {
        let leader = self.heads[self.cx.leader].running.as_ref();
        let Some(head) = leader.filter(|head| head.state().settling.is_over) else { return };
        let now = self.cx.now();
        self.cx.checks.serving(&head.asked(), &head.named(), now);
    }

    /// A client sends a request to one of the ingresses.
    fn send_request(&mut self) {
        let cx = &mut self.cx;
        let index = cx.rng.random_range(0..self.ingresses.len());
        let draft = cx.rng.random_range(0..self.drafts.len());
        let (least, most) = self.scenario.request_gap_ms;
        let wait = cx.between(least, most);
        cx.agenda.after(wait, Event::Request);
        let name = self.drafts[draft].name();
        let due = cx.now() + DEADLINE + ANSWER_SLACK;
        if cx.checks.all_know(&name) && cx.store.desired.pipelines.contains_key(&name) {
            cx.client.served.insert(name.clone());
        }
        let slot = &mut self.ingresses[index];
        let paused = slot.paused_until > cx.now();
        let request = cx.client.send(due, &name);
        match &mut slot.running {
            Some(_) if paused => {
                cx.client.answer(request, &Outcome::Shed, &mut cx.checks);
            }
            Some(ingress) => ingress.request(request, &name, DEADLINE, cx),
            None => cx.client.answer(request, &Outcome::Unreachable, &mut cx.checks),
        }
    }

    /// Every request that is due has its answer.
    pub(crate) fn check_answers(&mut self, now: Duration) {
        let Cx { client, checks, .. } = &mut self.cx;
        client.check_all_answered(now, checks);
    }

    /// Something is wrong with where the cluster came to rest.
    pub(crate) fn restless(&mut self, why: &str) {
        let since = self.healed_at.map(crate::checks::shown).unwrap_or_default();
        self.cx.checks.fail(Rule::Converges, format!("still, since the faults ended at {since}: {why}"));
    }
}

/// The process, if it is the one that runs there.
pub(crate) fn current<P: HasProcess>(slot: &mut Slot<P>, process: Process) -> Option<&mut P> {
    slot.running.as_mut().filter(|running| running.process() == process)
}

/// What runs on a host.
pub(crate) trait HasProcess {
    fn process(&self) -> Process;
}

impl HasProcess for Head {
    fn process(&self) -> Process {
        self.process
    }
}

impl HasProcess for Worker {
    fn process(&self) -> Process {
        self.process
    }
}

impl HasProcess for Ingress {
    fn process(&self) -> Process {
        self.process
    }
}
