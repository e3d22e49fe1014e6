//! The virtual clock: what happens next, in an order that the seed alone decides.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_proto::ReplicaId;
use millstream_worker::decisions::Incarnation;

use crate::message::{ConnId, End, Message};

/// A place where processes run, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Head(usize),
    Worker(usize),
    Ingress(usize),
}

/// One process of a host; a restarted one is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) host: Host,
    pub(crate) start: u32,
}

/// What happens at an instant.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message reaches an end of a connection.
    Deliver { conn: ConnId, to: End, message: Box<Message> },
    /// An end of a connection learns that it is over.
    Closed { conn: ConnId, to: End },
    /// A process's own timer.
    Timer(Process, Timer),
    /// The script's next operation or fault.
    Operate(usize),
    /// A process is started again.
    Boot(Host),
    /// A client sends a request.
    Request,
    /// The store takes how a rollout ended, as a head that still leads has said.
    Conclude(Process, Box<millstream_core::rollout::Change>),
    /// A head learns what the store has taken.
    Concluded(Process, std::sync::Arc<millstream_core::desired::Desired>),
    /// After the faults: does the cluster rest where it should?
    Inspect,
}

/// What a process has asked its clock for.
#[derive(Debug)]
pub(crate) enum Timer {
    /// Head: it runs.
    Presence,
    /// Head: the reconciler is to be woken, by the alarm of that number.
    Alarm(u64),
    /// Head: it has learned that it leads no more.
    StepDown,
    /// Worker: dial the head, in this session's place.
    Dial(u64),
    /// Worker: the head has not answered the registration.
    RegisterTimeout(u64),
    /// Worker: say that it lives.
    Heartbeat(u64),
    /// Worker: a replica has loaded, or failed to.
    Loaded(ReplicaId, Incarnation),
    /// Worker: the wait after a failure is over.
    Retry(ReplicaId, Incarnation),
    /// Worker: the time to drain is over.
    DrainOver(ReplicaId, Incarnation),
    /// Worker: a replica's engine is gone, of the given failure.
    Ended(ReplicaId, Incarnation, Option<String>),
    /// Worker: a call has run.
    CallDone(u64),
    /// Ingress: dial the head.
    DialHead(u64),
    /// Ingress: tell the head what there is, in this session.
    ReportLoad(u64),
    /// Ingress: put a table in force that was confirmed already (only ever by mutation).
    ApplyLate(Box<millstream_core::model::RouteTable>),
    /// Ingress: dial a worker again.
    DialWorker(usize),
    /// Ingress: time alone may bind a waiting request.
    Wake(u64),
    /// Ingress: ask the replicas again.
    AskAgain(u64),
    /// Ingress: a request's time is over.
    Deadline(u64),
}

/// All that is to happen.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    now: Duration,
    last: u64,
    queue: BTreeMap<(Duration, u64), Event>,
}

impl Agenda {
    /// The virtual time.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// Adds an event; those of one instant happen in the order in which they were added.
    pub(crate) fn at(&mut self, when: Duration, event: Event) {
        self.last += 1;
        self.queue.insert((when.max(self.now), self.last), event);
    }

    /// Adds an event after a while.
    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Goes to the next event.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((when, _), event) = self.queue.pop_first()?;
        self.now = when;
        Some(event)
    }
}
