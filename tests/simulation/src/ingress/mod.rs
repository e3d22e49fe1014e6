//! An ingress. Real: the pool of each deployment (admission, queue, choice, ejection), which revision a request runs on,
//! what is sent again, waits between rounds, the budget's rule, which ends of calls count. Modelled: the route watch (dial,
//! hello, tables in force, then confirmed, reports), streams to workers, and a request that calls the deployments of its
//! revision one after the other. Copies for shadows are not sent.

mod deployment;
mod report;
mod request;

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::desired::Revision;
use millstream_core::model::RouteTable;
use millstream_ingress::decisions::{Outcomes, TrafficShare};
use millstream_pipelines::{DeploymentSpec, FullName, Name, Task};
use millstream_proto::IngressId;
use rand::Rng;

use self::deployment::Deployment;
use self::report::Loads;
use self::request::{CallUnderWay, Request};
use crate::Mutation;
use crate::client::Outcome;
use crate::clock::{Host, Process, Timer};
use crate::cx::Cx;
use crate::message::{ConnId, End, Message};
use crate::pipelines::is_sound;

/// As in the ingress's route watch.
const FIRST_REDIAL: Duration = Duration::from_millis(50);
const MAX_REDIAL: Duration = Duration::from_secs(2);

/// A deployment at this ingress, for as long as something refers to it; never used twice.
pub(crate) type Instance = u64;

/// What requests of a pipeline run on.
#[derive(Debug, Default)]
struct Route {
    /// The revisions and their shares of the requests, the one that serves first.
    shares: Vec<TrafficShare>,
    /// What requests on each of them call, in order, and for which task.
    targets: Vec<Vec<(Instance, Task)>>,
    /// Whether it is sound.
    sound: Vec<bool>,
}

/// The stream to a worker.
#[derive(Debug, Default)]
struct Link {
    conn: Option<ConnId>,
    redial: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ingress {
    pub(crate) process: Process,
    epoch: u64,
    head: Option<ConnId>,
    head_session: u64,
    head_redial: Duration,
    deployments: BTreeMap<Instance, Deployment>,
    by_name: BTreeMap<FullName, Instance>,
    routes: BTreeMap<Name, Route>,
    /// How requests ended, by pipeline and revision, as far as the head has not been told.
    endings: BTreeMap<(Name, u64), Outcomes>,
    /// What the head was told last in this session.
    reported: Loads,
    last_instance: Instance,
    links: BTreeMap<usize, Link>,
    requests: BTreeMap<u64, Request>,
    calls: BTreeMap<u64, CallUnderWay>,
    /// Retries under way, and requests that wait for a place among them.
    retrying: u32,
    wait_for_retry: Vec<u64>,
}

fn compiled_specs(revision: &Revision) -> impl Iterator<Item = &DeploymentSpec> {
    revision.compiled.iter().flat_map(|compiled| compiled.deployments.values()).map(AsRef::as_ref)
}

impl Ingress {
    pub(crate) fn start(process: Process, cx: &mut Cx) -> Self {
        cx.checks.in_force(process, &RouteTable::default());
        cx.timer(process, Duration::ZERO, Timer::DialHead(0));
        Self {
            process,
            epoch: 0,
            head: None,
            head_session: 0,
            head_redial: FIRST_REDIAL,
            deployments: BTreeMap::new(),
            by_name: BTreeMap::new(),
            routes: BTreeMap::new(),
            endings: BTreeMap::new(),
            reported: Loads::default(),
            last_instance: 0,
            links: BTreeMap::new(),
            requests: BTreeMap::new(),
            calls: BTreeMap::new(),
            retrying: 0,
            wait_for_retry: Vec::new(),
        }
    }

    pub(crate) fn timer(&mut self, timer: Timer, cx: &mut Cx) {
        match timer {
            Timer::DialHead(session) if session == self.head_session => self.dial_head(cx),
            Timer::ReportLoad(session) if session == self.head_session => self.report_load(cx),
            Timer::ApplyLate(table) => self.apply(&table, cx),
            Timer::DialWorker(worker) => self.dial_worker(worker, cx),
            Timer::Wake(instance) => self.wake(instance, cx),
            Timer::AskAgain(request) => self.ask_again(request, cx),
            Timer::Deadline(request) => self.time_is_over(request, cx),
            _ => {}
        }
    }

    pub(crate) fn receive(&mut self, conn: ConnId, message: Message, cx: &mut Cx) {
        match message {
            Message::Table(epoch, table) if self.head == Some(conn) => self.table(conn, epoch, table, cx),
            Message::Reply(call, result) => self.replied(call, result, cx),
            _ => {}
        }
    }

    pub(crate) fn closed(&mut self, conn: ConnId, cx: &mut Cx) {
        if self.head == Some(conn) {
            self.head_lost(cx);
            return;
        }
        let worker = self.links.iter().find(|(_, link)| link.conn == Some(conn)).map(|(worker, _)| *worker);
        if let Some(worker) = worker {
            self.worker_lost(worker, cx);
        }
    }

    /// The process ends: every client that waits sees its connection break.
    pub(crate) fn die(&mut self, cx: &mut Cx) {
        for request in std::mem::take(&mut self.requests).into_keys() {
            cx.client.answer(request, &Outcome::Unreachable, &mut cx.checks);
        }
        cx.checks.ingress_gone(self.process);
    }

    fn dial_head(&mut self, cx: &mut Cx) {
        self.head_session += 1;
        let head = cx.directory();
        self.head = cx.net.dial(self.process, head, cx.agenda.now());
        match self.head {
            Some(conn) => {
                let id = IngressId::new(format!("{:?}", self.process));
                cx.send((conn, End::Dialler), Message::Hello(id));
                self.reported = Loads::default();
                cx.timer(self.process, Duration::ZERO, Timer::ReportLoad(self.head_session));
            }
            None => self.head_lost(cx),
        }
    }

    fn head_lost(&mut self, cx: &mut Cx) {
        self.head = None;
        let wait = self.head_redial.mul_f64(cx.rng.random_range(0.5..1.0));
        self.head_redial = (self.head_redial * 2).min(MAX_REDIAL);
        cx.timer(self.process, wait, Timer::DialHead(self.head_session));
    }

    fn table(&mut self, conn: ConnId, epoch: u64, table: RouteTable, cx: &mut Cx) {
        if epoch < self.epoch {
            cx.note(|| format!("{:?} ignores a table of term {epoch}", self.process));
            return;
        }
        self.epoch = epoch;
        self.head_redial = FIRST_REDIAL;
        let version = table.version;
        if cx.mutation == Mutation::IngressConfirmsFirst {
            cx.checks.confirmed(self.process, &table);
            let wait = cx.between(10, 500);
            cx.timer(self.process, wait, Timer::ApplyLate(Box::new(table)));
        } else {
            self.apply(&table, cx);
            cx.checks.confirmed(self.process, &table);
        }
        cx.note(|| format!("{:?} confirms {version}", self.process));
        cx.send((conn, End::Dialler), Message::Ack(version));
    }

    /// Puts a table in force: from here on no call is bound to a replica that it does not name.
    fn apply(&mut self, table: &RouteTable, cx: &mut Cx) {
        cx.checks.in_force(self.process, table);
        let old = std::mem::take(&mut self.by_name);
        self.routes.clear();
        for pipeline in table.pipelines.iter() {
            let variants = &pipeline.variants;
            let revisions = variants.iter().map(|variant| (variant.revision.stored.number, variant.permille));
            let shares: Vec<_> =
                revisions.map(|(revision, permille)| TrafficShare { revision, permille }).collect();
            for route in &pipeline.deployments {
                let deployment = route.deployment.clone();
                let name = FullName { pipeline: pipeline.name.clone(), deployment };
                let instance = old.get(&name).copied().unwrap_or_else(|| self.fresh());
                self.by_name.insert(name, instance);
                let spec = variants.iter().find_map(|variant| variant.revision.spec(&route.deployment));
                let spec = spec.map(|spec| DeploymentSpec::clone(spec));
                let num_ingresses = table.num_ingresses;
                self.update(instance, spec.as_ref(), (&route.replicas, &shares, num_ingresses), cx);
            }
            let mut route = Route::default();
            for (variant, share) in variants.iter().zip(shares) {
                let compiled = variant.revision.compiled.iter();
                let deployments = compiled.flat_map(|compiled| compiled.deployments.iter());
                let full = |deployment: &Name| FullName {
                    pipeline: pipeline.name.clone(),
                    deployment: deployment.clone(),
                };
                route.shares.push(share);
                let targets =
                    deployments.filter_map(|(name, spec)| Some((*self.by_name.get(&full(name))?, spec.task)));
                route.targets.push(targets.collect());
                let mut specs = compiled_specs(&variant.revision);
                route.sound.push(specs.all(is_sound));
            }
            if cx.mutation == Mutation::IngressLosesRoutes && variants.len() > 1 {
                continue;
            }
            self.routes.insert(pipeline.name.clone(), route);
        }
        for (name, instance) in old {
            if !self.by_name.contains_key(&name) {
                self.update(instance, None, (&[], &[], table.num_ingresses), cx);
            }
        }
    }

    fn fresh(&mut self) -> Instance {
        self.last_instance += 1;
        self.deployments.insert(self.last_instance, Deployment::new());
        self.last_instance
    }

    fn dial_worker(&mut self, worker: usize, cx: &mut Cx) {
        let conn = cx.net.dial(self.process, Host::Worker(worker), cx.agenda.now());
        let link = self.links.entry(worker).or_default();
        if link.conn.is_some() {
            return;
        }
        link.conn = conn;
        match conn {
            Some(_) => link.redial = FIRST_REDIAL,
            None => {
                link.redial = (link.redial * 2).clamp(FIRST_REDIAL, MAX_REDIAL);
                let wait = link.redial;
                cx.timer(self.process, wait, Timer::DialWorker(worker));
            }
        }
    }

    /// The way to a worker; the first call opens it.
    fn way_to(&mut self, worker: usize, cx: &mut Cx) -> Option<ConnId> {
        if !self.links.contains_key(&worker) {
            self.dial_worker(worker, cx);
        }
        self.links.get(&worker)?.conn
    }

    fn worker_lost(&mut self, worker: usize, cx: &mut Cx) {
        let Some(link) = self.links.get_mut(&worker) else { return };
        let Some(conn) = link.conn.take() else { return };
        link.redial = FIRST_REDIAL;
        cx.timer(self.process, FIRST_REDIAL, Timer::DialWorker(worker));
        let lost: Vec<_> =
            self.calls.iter().filter(|(_, call)| call.conn == conn).map(|(id, _)| *id).collect();
        for call in lost {
            self.replied(call, Err(request::broken()), cx);
        }
    }
}
