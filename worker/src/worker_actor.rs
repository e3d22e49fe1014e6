//! The root of this worker's actors: carries out what [`lifecycle`](crate::lifecycle) decides, supervises the
//! replicas and the link to the head.
//!
//! ```text
//! Worker              restarted by   the process manager
//! ├─ HeadLink                        Worker, backoff with jitter, for ever
//! └─ Replica (one each)              Worker, RestartPolicy; its neighbours never notice
//!    └─ EngineThread                 not restarted: its end is the end of the replica
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::Backoff;
use millstream_proto::ReplicaId;
use millstream_proto::status::ReplicaState;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use crate::head_link::{HeadLink, HeadLinkArgs, HeadLinkMsg};
use crate::lifecycle::{Action, Event, Incarnation, Lifecycle};
use crate::messages::WorkerMsg;
use crate::metrics::{self, DeploymentNumbers, ReplicaMeter};
use crate::node::Node;
use crate::order::{self, Order, Report};
use crate::random;
use crate::replica_actor::{self, ReplicaActor, ReplicaArgs, ReplicaMsg};

/// Delays before a head link that died is started again.
const LINK_BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(5) };

/// How often the gauges are set.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// Supervises a node's replicas.
pub(crate) struct WorkerActor;

/// What a worker's actor is started with.
pub(crate) struct WorkerArgs {
    /// What the replicas share.
    pub(crate) node: Arc<Node>,
    /// How the head is reached; `None` in tests without one.
    pub(crate) link: Option<HeadLinkArgs>,
}

/// A replica that runs.
struct Running {
    incarnation: Incarnation,
    actor: ActorRef<ReplicaMsg>,
    meter: Arc<ReplicaMeter>,
}

/// A worker's state.
pub(crate) struct WorkerState {
    node: Arc<Node>,
    lifecycle: Lifecycle,
    running: BTreeMap<ReplicaId, Running>,
    by_actor: BTreeMap<ActorId, (ReplicaId, Incarnation)>,
    link_args: Option<HeadLinkArgs>,
    link: Option<ActorRef<HeadLinkMsg>>,
    link_failures: u32,
    leavers: Vec<RpcReplyPort<()>>,
}

impl Actor for WorkerActor {
    type Msg = WorkerMsg;
    type State = WorkerState;
    type Arguments = WorkerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<WorkerMsg>,
        args: WorkerArgs,
    ) -> Result<WorkerState, ActorProcessingErr> {
        myself.cast(WorkerMsg::RestartLink)?;
        myself.send_interval(MEASURE_INTERVAL, || WorkerMsg::Measure);
        Ok(WorkerState {
            node: args.node,
            lifecycle: Lifecycle::default(),
            running: BTreeMap::new(),
            by_actor: BTreeMap::new(),
            link_args: args.link,
            link: None,
            link_failures: 0,
            leavers: Vec::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<WorkerMsg>,
        message: WorkerMsg,
        state: &mut WorkerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WorkerMsg::Event(event) => state.react(&myself, event).await,
            WorkerMsg::Inventory(session) => {
                let replicas = state.lifecycle.reports().map(Into::into).collect();
                state.tell_head(HeadLinkMsg::Inventory { session, replicas });
            }
            WorkerMsg::RestartLink => state.start_link(&myself).await,
            WorkerMsg::Measure => metrics::set(&state.numbers()),
            WorkerMsg::Leave { drain, done } => {
                state.leavers.push(done);
                state.react(&myself, Event::StopAll { drain }).await;
            }
            WorkerMsg::Inspect(reply) => {
                let _ = reply.send(state.lifecycle.reports().map(Into::into).collect());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<WorkerMsg>,
        event: SupervisionEvent,
        state: &mut WorkerState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(child, _, _) => state.child_ended(&myself, &child, None).await,
            SupervisionEvent::ActorFailed(child, error) => {
                // It is said here and not by a message of the child's own, which its end would overtake.
                if let Some(replica_actor::Failure::Unloadable(_)) = error.downcast_ref() {
                    state.child_is_unloadable(&myself, &child).await;
                }
                state.child_ended(&myself, &child, Some(error.to_string())).await;
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl WorkerState {
    /// Its replicas in numbers, by deployment.
    fn numbers(&self) -> BTreeMap<String, DeploymentNumbers> {
        let ongoing: BTreeMap<_, _> = self.node.table.ongoing().into_iter().collect();
        let mut numbers: BTreeMap<String, DeploymentNumbers> = BTreeMap::new();
        for report in self.lifecycle.reports() {
            let of_deployment = numbers.entry(report.order.full_name()).or_default();
            of_deployment.ongoing += ongoing.get(&report.order.id).map_or(0, |count| *count as u64);
            of_deployment.memory_bytes += report.model.memory_bytes;
            let running = self.running.get(&report.order.id);
            let load = running.and_then(|running| running.meter.load());
            load.into_iter().for_each(|load| of_deployment.add(load));
        }
        numbers
    }

    /// Decides and carries out, until nothing more follows.
    async fn react(&mut self, myself: &ActorRef<WorkerMsg>, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let again = matches!(event, Event::RetryDue(..));
            let actions = self.lifecycle.decide(event, millstream_clock::now(), &mut random::rng());
            for action in actions {
                if let (true, Action::Spawn(order, _)) = (again, &action) {
                    metrics::restarted(order.full_name());
                }
                events.extend(self.carry_out(myself, action).await);
            }
        }
        self.leave_when_empty();
    }

    /// Once asked to leave and without replicas: the link says goodbye, then whoever asked is told.
    fn leave_when_empty(&mut self) {
        if self.leavers.is_empty() || self.lifecycle.num_replicas() > 0 {
            return;
        }
        if self.link.as_ref().is_some_and(|link| link.cast(HeadLinkMsg::Leave).is_ok()) {
            return;
        }
        for done in self.leavers.drain(..) {
            let _ = done.send(());
        }
    }

    /// Does it; returns an event when the outcome is known at once.
    async fn carry_out(&mut self, myself: &ActorRef<WorkerMsg>, action: Action) -> Option<Event> {
        match action {
            Action::Spawn(order, incarnation) => return self.spawn(myself, order, incarnation).await,
            Action::Apply(order, incarnation) => {
                let id = order.id.clone();
                self.tell_replica(&id, incarnation, ReplicaMsg::Apply(order));
            }
            Action::Drain { id, incarnation, timeout } => {
                self.tell_replica(&id, incarnation, ReplicaMsg::Drain(timeout));
            }
            Action::Retry { id, incarnation, delay } => {
                let myself = myself.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = myself.cast(WorkerMsg::Event(Event::RetryDue(id, incarnation)));
                });
            }
            Action::Report(report) => {
                log(&report);
                self.tell_head(HeadLinkMsg::Changed((&report).into()));
            }
            Action::ReportUnknown(id) => self.tell_head(HeadLinkMsg::Changed(order::unknown(&id))),
        }
        None
    }

    fn tell_replica(&self, id: &ReplicaId, incarnation: Incarnation, message: ReplicaMsg) {
        // An actor that has just ended is found by its supervision event.
        if let Some(running) = self.running.get(id).filter(|running| running.incarnation == incarnation) {
            let _ = running.actor.cast(message);
        }
    }

    async fn spawn(
        &mut self,
        myself: &ActorRef<WorkerMsg>,
        order: Arc<Order>,
        incarnation: Incarnation,
    ) -> Option<Event> {
        let id = order.id.clone();
        // Names are registered for the whole process, which may hold several workers.
        let name = format!("replica-{}-{id}-{incarnation}", self.node.id);
        let num_like = self.lifecycle.num_like(&order);
        let meter = Arc::new(ReplicaMeter::of(&order.full_name(), order.spec.task));
        let (node, worker) = (self.node.clone(), myself.clone());
        let args = ReplicaArgs { order, incarnation, node, num_like, meter: meter.clone(), worker };
        match ReplicaActor::spawn_linked(Some(name), ReplicaActor, args, myself.get_cell()).await {
            Ok((actor, _)) => {
                self.by_actor.insert(actor.get_id(), (id.clone(), incarnation));
                self.running.insert(id, Running { incarnation, actor, meter });
                None
            }
            Err(error) => Some(Event::Ended(id, incarnation, Some(error.to_string()))),
        }
    }

    async fn child_is_unloadable(&mut self, myself: &ActorRef<WorkerMsg>, child: &ActorCell) {
        if let Some((id, incarnation)) = self.by_actor.get(&child.get_id()).cloned() {
            self.react(myself, Event::Unloadable(id, incarnation)).await;
        }
    }

    async fn child_ended(
        &mut self,
        myself: &ActorRef<WorkerMsg>,
        child: &ActorCell,
        failure: Option<String>,
    ) {
        let Some((id, incarnation)) = self.by_actor.remove(&child.get_id()) else {
            self.link_ended(myself, child, failure);
            return;
        };
        if self.running.get(&id).is_some_and(|running| running.incarnation == incarnation) {
            self.running.remove(&id);
        }
        self.react(myself, Event::Ended(id, incarnation, failure)).await;
    }

    async fn start_link(&mut self, myself: &ActorRef<WorkerMsg>) {
        let Some(args) = self.link_args.clone() else { return };
        let name = format!("head-link-{}-{}", self.node.id, self.link_failures);
        let args = (args, myself.clone());
        match HeadLink::spawn_linked(Some(name), HeadLink, args, myself.get_cell()).await {
            Ok((link, _)) => self.link = Some(link),
            Err(error) => self.restart_link(myself, &error.to_string()),
        }
    }

    fn link_ended(&mut self, myself: &ActorRef<WorkerMsg>, child: &ActorCell, failure: Option<String>) {
        let ours = self.link.as_ref().is_some_and(|link| link.get_id() == child.get_id());
        if ours {
            self.link = None;
            // One that ended without a failure was told to: the worker leaves.
            match failure {
                Some(failure) if self.leavers.is_empty() => self.restart_link(myself, &failure),
                Some(_) | None => self.leave_when_empty(),
            }
        }
    }

    fn restart_link(&mut self, myself: &ActorRef<WorkerMsg>, failure: &str) {
        tracing::error!(error = failure, "the link to the head died and is started again");
        self.link_failures += 1;
        let delay = LINK_BACKOFF.delay(self.link_failures, &mut random::rng());
        drop(myself.send_after(delay, || WorkerMsg::RestartLink));
    }

    fn tell_head(&self, message: HeadLinkMsg) {
        // Without a link nothing is lost: the next registration carries everything.
        if let Some(link) = &self.link {
            let _ = link.cast(message);
        }
    }
}

fn log(report: &Report) {
    let (order, restarts) = (&report.order, report.restarts);
    let (replica_id, deployment, pipeline) = (order.id.as_str(), &*order.deployment, &*order.pipeline);
    match report.state {
        ReplicaState::Failed => {
            let error = &*report.error;
            tracing::warn!(replica_id, pipeline, deployment, restarts, error, "replica failed");
        }
        ReplicaState::Starting => {
            let doing = &*report.doing;
            tracing::info!(replica_id, pipeline, deployment, restarts, doing, "replica starting");
        }
        ReplicaState::Ready => tracing::info!(replica_id, pipeline, deployment, restarts, "replica ready"),
        ReplicaState::Draining => tracing::info!(replica_id, pipeline, deployment, "replica draining"),
        ReplicaState::Stopped => tracing::info!(replica_id, pipeline, deployment, "replica stopped"),
    }
}

#[cfg(test)]
mod tests;
