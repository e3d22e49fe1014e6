//! What must always hold. Each check looks at the truth (what workers run, what ingresses have in force), which no
//! single part of the cluster sees. The first violation ends a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::time::Duration;

use millstream_core::model::{RouteTable, State, TableVersion};
use millstream_core::scheduler::WHOLE_DEVICE;
use millstream_pipelines::{FullName, Name, Task};
use millstream_proto::{NodeId, ReplicaId};
use millstream_worker::decisions::Order;

use crate::clock::Process;

/// A rule of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// What runs on a node fits on it.
    NodeNotOverbooked,
    /// What the head has booked on a node fits on it.
    BooksNotOverbooked,
    /// Ready replicas, old ones included, stay as many as were asked for, faults apart.
    EnoughServe,
    /// Each term is above all terms before it, and tables only get newer.
    EpochsGrow,
    /// A worker obeys no term older than one that it has obeyed.
    NoOlderTermObeyed,
    /// Every request is answered exactly once.
    AnsweredOnce,
    /// Without faults no request fails; after them none does any more.
    NoneFails,
    /// A call goes to no replica that cannot answer it, as its settings have another task.
    AbleAreAsked,
    /// An ingress that has confirmed a table sends to no replica that it does not name.
    RoutesKept,
    /// A replica is told to stop only when no ingress sends to it, or had time to learn that.
    StopsAfterRoutes,
    /// The parts of the requests that a pipeline's revisions get are all of them.
    WholeOfRequests,
    /// A revision that was convicted gets no requests, once the one before it serves.
    ConvictedNotRouted,
    /// A canary that has begun to fail all calls is convicted, however long it was good before.
    TurnedBadIsConvicted,
    /// Nothing is placed on a node that is cordoned or drained.
    CordonedGetNothing,
    /// While a head asks to be woken later, a look at everything would decide nothing.
    NothingOverlooked,
    /// A table names no replica that its head has told to stop.
    StoppedNotNamed,
    /// Once faults end, the cluster becomes what is desired, and rests.
    Converges,
    /// The code under test panicked.
    NoPanic,
}

/// What was not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What was seen.
    pub detail: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.detail)
    }
}

/// What a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) cpu_milli: u64,
    pub(crate) num_gpus: u32,
}

/// An ingress, as the rules see it.
#[derive(Debug, Default)]
struct IngressView {
    /// Version and replicas of the last table that it confirmed.
    confirmed: (TableVersion, BTreeSet<ReplicaId>),
    /// The pipelines of that table.
    pipelines: BTreeSet<Name>,
    /// Version and replicas of the table in force.
    in_force: (TableVersion, BTreeSet<ReplicaId>),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    violation: Option<Violation>,
    last_epoch: u64,
    /// Highest term that each node's disk has seen obeyed.
    obeyed: BTreeMap<NodeId, u64>,
    ingresses: BTreeMap<Process, IngressView>,
    /// What each replica that ever ran does.
    tasks: BTreeMap<ReplicaId, Task>,
    /// Replicas that are ready at a worker that runs.
    ready: BTreeMap<Process, BTreeSet<ReplicaId>>,
    /// As many as once served and are still asked for.
    floors: BTreeMap<FullName, usize>,
    /// Until when fewer may serve, whatever once did.
    excused_until: Duration,
    /// Whether the count of those that serve may have changed.
    pub(crate) dirty: bool,
}

impl Checks {
    pub(crate) fn violated(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(crate) fn fail(&mut self, rule: Rule, detail: String) {
        self.violation.get_or_insert(Violation { rule, detail });
    }

    /// A head begins a term.
    pub(crate) fn term_begins(&mut self, epoch: u64) {
        if epoch <= self.last_epoch {
            self.fail(Rule::EpochsGrow, format!("term {epoch} begins after term {}", self.last_epoch));
        }
        self.last_epoch = epoch;
    }

    /// A worker obeys an order of a term.
    pub(crate) fn obeyed(&mut self, node: &NodeId, epoch: u64) {
        let highest = self.obeyed.entry(node.clone()).or_default();
        if epoch < *highest {
            let detail = format!("node {node} obeyed term {epoch} after term {highest}");
            self.fail(Rule::NoOlderTermObeyed, detail);
        } else {
            *highest = epoch;
        }
    }

    /// What a worker runs has changed.
    pub(crate) fn worker_runs<'a>(
        &mut self,
        (process, node): (Process, &NodeId),
        capacity: Capacity,
        orders: impl Iterator<Item = &'a Order>,
        ready: BTreeSet<ReplicaId>,
    ) {
        let mut cpu_milli = 0;
        let mut devices = BTreeMap::<u32, u32>::new();
        for order in orders {
            self.tasks.insert(order.id.clone(), order.spec.task);
            cpu_milli += order.spec.demand.cpu_milli;
            for share in &order.gpus {
                *devices.entry(share.index).or_default() += share.milli;
            }
        }
        self.fits(Rule::NodeNotOverbooked, node, capacity, (cpu_milli, devices));
        self.ready.insert(process, ready);
        self.dirty = true;
    }

    fn fits(&mut self, rule: Rule, node: &NodeId, has: Capacity, (cpu, devices): (u64, BTreeMap<u32, u32>)) {
        if cpu > has.cpu_milli {
            self.fail(rule, format!("{cpu} of {} milli-cores of node {node}", has.cpu_milli));
        }
        for (index, milli) in devices {
            if milli > WHOLE_DEVICE || index >= has.num_gpus {
                self.fail(rule, format!("{milli} thousandths of device {index} of node {node}"));
            }
        }
    }

    /// A request of a revision is sent to a replica, for a task.
    pub(crate) fn asks(&mut self, replica: &ReplicaId, task: Task, revision: impl Display) {
        let theirs = self.tasks.get(replica).copied();
        if theirs.is_some_and(|theirs| theirs != task) {
            let detail = format!("{replica} ({theirs:?}) is asked for {task:?} of {revision}");
            self.fail(Rule::AbleAreAsked, detail);
        }
    }

    /// A worker ends or pauses: nothing of it serves.
    pub(crate) fn worker_serves_not(&mut self, process: Process) {
        self.ready.remove(&process);
        self.dirty = true;
    }

    /// A head has booked.
    pub(crate) fn books(&mut self, state: &State) {
        for (id, node) in &state.nodes {
            let mut cpu = 0;
            let mut devices = BTreeMap::<u32, u32>::new();
            for replica in node.replicas.values() {
                cpu += replica.booking.cpu_milli;
                for share in &replica.gpus {
                    *devices.entry(share.index).or_default() += share.milli;
                }
            }
            let num_gpus = u32::try_from(node.resources.gpus.len()).unwrap_or(u32::MAX);
            let capacity = Capacity { cpu_milli: node.resources.cpu_milli, num_gpus };
            self.fits(Rule::BooksNotOverbooked, id, capacity, (cpu, devices));
        }
    }

    /// Something that takes replicas away happens, until then: what served before may be fewer for a while.
    pub(crate) fn disturbed(&mut self, until: Duration) {
        self.floors.clear();
        self.excused_until = self.excused_until.max(until);
    }

    /// Compares who serves with what is asked for; `asked` by deployment, `named` by the leader's table.
    pub(crate) fn serving(
        &mut self,
        asked: &BTreeMap<FullName, usize>,
        named: &BTreeMap<FullName, Vec<ReplicaId>>,
        now: Duration,
    ) {
        if now < self.excused_until {
            return;
        }
        self.floors.retain(|deployment, _| asked.contains_key(deployment));
        for (deployment, &asked) in asked {
            let serves = |replica: &&ReplicaId| self.ready.values().any(|ready| ready.contains(*replica));
            let count = named.get(deployment).map_or(0, |named| named.iter().filter(serves).count());
            let floor = self.floors.entry(deployment.clone()).or_default();
            *floor = (*floor).min(asked);
            if count >= asked {
                *floor = asked;
            } else if count < *floor {
                let detail = format!("{count} of {deployment} serve, {floor} did and are asked for");
                self.fail(Rule::EnoughServe, detail);
                return;
            }
        }
    }

    /// An ingress begins to put a table in force.
    pub(crate) fn in_force(&mut self, ingress: Process, table: &RouteTable) {
        self.ingresses.entry(ingress).or_default().in_force = (table.version, named(table));
    }

    /// An ingress confirms a table.
    pub(crate) fn confirmed(&mut self, ingress: Process, table: &RouteTable) {
        let view = self.ingresses.entry(ingress).or_default();
        let before = view.confirmed.0;
        view.confirmed = (table.version, named(table));
        view.pipelines = table.pipelines.iter().map(|route| route.name.clone()).collect();
        if table.version < before {
            let detail = format!("{ingress:?} confirms table {} after {before}", table.version);
            self.fail(Rule::EpochsGrow, detail);
        }
    }

    /// An ingress sends a call to a replica.
    pub(crate) fn sends(&mut self, ingress: Process, replica: &ReplicaId) {
        let Some(view) = self.ingresses.get(&ingress) else { return };
        // Requests that waited are bound while a table comes in force, before it is confirmed.
        let newer = view.in_force.0 > view.confirmed.0;
        let (version, named) = if newer { &view.in_force } else { &view.confirmed };
        if *version > TableVersion::default() && !named.contains(replica) {
            let detail = format!("{ingress:?} sends to {replica}, which its table {version} does not name");
            self.fail(Rule::RoutesKept, detail);
        }
    }

    /// Whether every ingress that runs has confirmed a table with that pipeline.
    pub(crate) fn all_know(&self, pipeline: &Name) -> bool {
        !self.ingresses.is_empty() && self.ingresses.values().all(|view| view.pipelines.contains(pipeline))
    }

    /// Whether an ingress has a table in force that names the replica.
    pub(crate) fn may_send(&self, ingress: Process, replica: &ReplicaId) -> bool {
        self.ingresses.get(&ingress).is_some_and(|view| view.in_force.1.contains(replica))
    }

    /// An ingress's process is gone.
    pub(crate) fn ingress_gone(&mut self, ingress: Process) {
        self.ingresses.remove(&ingress);
    }

    /// The ingresses that run.
    pub(crate) fn ingresses(&self) -> Vec<Process> {
        self.ingresses.keys().copied().collect()
    }

    /// The table that every ingress has confirmed; `None` while they differ.
    pub(crate) fn all_confirmed(&self, version: TableVersion) -> bool {
        self.ingresses.values().all(|view| view.confirmed.0 == version)
    }
}

/// Replicas that a table names.
pub(crate) fn named(table: &RouteTable) -> BTreeSet<ReplicaId> {
    let deployments = table.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    deployments.flat_map(|route| &route.replicas).map(|replica| replica.replica.clone()).collect()
}

/// A time, short.
pub(crate) fn shown(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
