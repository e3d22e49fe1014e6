//! One start of one replica, from loading to its end. It owns the engine's host and the replica's place in the table;
//! what a failure means is decided by the worker that supervises it.
//!
//! ```text
//! Worker              restarted by   the process manager
//! ├─ HeadLink                        Worker, backoff with jitter, for ever
//! └─ Replica (one each)              Worker, RestartPolicy, as a new actor; its neighbours never notice
//!    └─ Host, with its thread        not restarted: its end is the end of this actor
//! ```

use std::sync::Arc;
use std::time::Duration;

use millstream_engine::{LoadArgs, LoadError};
use millstream_replica::{Event as HostEvent, Host, Load, Settings};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::lifecycle::{Event, Incarnation};
use crate::messages::WorkerMsg;
use crate::metrics::ReplicaMeter;
use crate::node::Node;
use crate::order::Order;
use crate::{models, resources};

/// How long an engine that was told to stop may take to give its memory back before the replica counts as gone.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Runs one replica.
pub(crate) struct ReplicaActor;

/// What a replica is started with.
pub(crate) struct ReplicaArgs {
    /// What to run.
    pub(crate) order: Arc<Order>,
    /// Which start of the replica this is.
    pub(crate) incarnation: Incarnation,
    /// What all replicas of the node share.
    pub(crate) node: Arc<Node>,
    /// Replicas of the same deployment and revision on the node, this one included.
    pub(crate) num_like: usize,
    /// Counts what it does.
    pub(crate) meter: Arc<ReplicaMeter>,
    /// Whom to tell.
    pub(crate) worker: ActorRef<WorkerMsg>,
}

/// What a replica is told.
pub(crate) enum ReplicaMsg {
    /// By itself, first and once: start the host, which loads the engine.
    Load,
    /// By the host; its end possibly more than once.
    Host(HostEvent),
    /// By its own timer, once: `start_timeout` is over.
    StartTimedOut,
    /// By the worker: settings that apply in place (batching, limits). Twice is harmless.
    Apply(Arc<Order>),
    /// By the worker: finish the calls for at most so long, then end. Twice is harmless.
    Drain(Duration),
    /// By its own waiting task: all calls are over, or the time is.
    Drained,
    /// By its own timer: the engine did not end in time; go without it.
    GraceOver,
    /// By tests and people: how it is.
    #[expect(dead_code, reason = "for debug endpoints to come")]
    Inspect(RpcReplyPort<Snapshot>),
}

/// How a replica is, for tests and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Snapshot {
    /// Where it is in its life.
    pub(crate) phase: Phase,
    /// Calls under way.
    pub(crate) ongoing: usize,
}

/// Where this start of the replica is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Phase {
    /// The engine loads.
    Starting,
    /// It takes calls.
    Ready,
    /// It finishes its calls.
    Draining,
    /// The engine has been told to end.
    Stopping,
}

/// A replica's state. Dropping it ends everything that belongs to the replica, whatever ended the actor.
pub(crate) struct ReplicaState {
    args: ReplicaArgs,
    phase: Phase,
    /// Whether the model cannot be loaded as long as its files are what they are.
    is_unloadable: bool,
    /// There once the engine loads.
    host: Option<Host>,
    start_timer: Option<JoinHandle<()>>,
}

impl ReplicaState {
    /// Takes the replica out of the table and ends the engine; what it works on is given up.
    fn end_engine(&self) {
        if let Some(host) = &self.host {
            self.args.node.table.remove(&self.args.order.id, host.replica());
            host.stop();
        }
    }

    fn tell(&self, event: Event) {
        // The worker may be gone already; then nobody has to know.
        let _ = self.args.worker.cast(WorkerMsg::Event(event));
    }
}

impl Drop for ReplicaState {
    fn drop(&mut self) {
        self.end_engine();
        if let Some(timer) = &self.start_timer {
            timer.abort();
        }
    }
}

/// Why a replica's actor failed; the text goes to operators.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The engine did not load, or panicked.
    #[error("{0}")]
    Engine(String),
    /// The model cannot be loaded as long as its files are what they are.
    #[error("{0}")]
    Unloadable(String),
    /// The engine stopped by itself.
    #[error("the engine ended without being asked to")]
    EngineGone,
    /// Loading took too long.
    #[error(
        "not ready within `start_timeout` ({0:?}); raise it for `{1}`, or see what the replica was doing in its log"
    )]
    StartTimeout(Duration, String),
    /// The system refused a thread.
    #[error("cannot start the engine's thread: {0}; raise the limit of processes and threads")]
    Thread(std::io::Error),
}

impl Actor for ReplicaActor {
    type Msg = ReplicaMsg;
    type State = ReplicaState;
    type Arguments = ReplicaArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ReplicaMsg>,
        args: ReplicaArgs,
    ) -> Result<ReplicaState, ActorProcessingErr> {
        let timeout = args.order.spec.limits.start_timeout;
        let start_timer = Some(cast_after(&myself, timeout, ReplicaMsg::StartTimedOut));
        myself.cast(ReplicaMsg::Load)?;
        Ok(ReplicaState { args, phase: Phase::Starting, is_unloadable: false, host: None, start_timer })
    }

    async fn handle(
        &self,
        myself: ActorRef<ReplicaMsg>,
        message: ReplicaMsg,
        state: &mut ReplicaState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ReplicaMsg::Load => state.host = Some(load(&myself, &state.args)?),
            ReplicaMsg::Host(event) => host_event(&myself, event, state)?,
            ReplicaMsg::StartTimedOut if state.phase == Phase::Starting => {
                state.end_engine();
                let limits = &state.args.order.spec.limits;
                let deployment = state.args.order.deployment.clone();
                return Err(Failure::StartTimeout(limits.start_timeout, deployment).into());
            }
            ReplicaMsg::StartTimedOut => {}
            ReplicaMsg::Apply(order) => {
                state.host.iter().for_each(|host| host.apply(&settings(&order)));
                state.args.order = order;
            }
            ReplicaMsg::Drain(timeout) => drain(&myself, timeout, state),
            ReplicaMsg::Drained => end(&myself, state),
            ReplicaMsg::GraceOver => myself.stop(Some("the engine did not end in time".to_owned())),
            ReplicaMsg::Inspect(reply) => {
                let _ = reply.send(Snapshot {
                    phase: state.phase,
                    ongoing: state.host.as_ref().map_or(0, |host| host.replica().ongoing()),
                });
            }
        }
        Ok(())
    }
}

fn settings(order: &Order) -> Settings {
    let limits = &order.spec.limits;
    Settings {
        name: order.id.to_string(),
        max_ongoing: limits.max_ongoing_requests,
        batch: order.spec.batch.clone(),
        step_timeout: limits.step_timeout,
    }
}

fn load(myself: &ActorRef<ReplicaMsg>, args: &ReplicaArgs) -> Result<Host, Failure> {
    let (order, node) = (args.order.clone(), args.node.clone());
    let threads = resources::num_threads(order.spec.demand.cpu_milli, node.num_cores, args.num_like);
    let load: Load = Box::new(move |progress| {
        let spec = &order.spec;
        let resolve = |model| models::resolve(model, &node.model_dirs, &order.source_dir);
        let model_dir = spec.model.as_ref().map(resolve).transpose();
        let model_dir = model_dir.map_err(|error| LoadError::Model(error.to_string()))?;
        let args = LoadArgs { spec, model_dir, threads, gpus: &order.gpus, models: &node.models, progress };
        node.engines.choose(&args)?.load(&args)
    });
    let myself = myself.clone();
    // An actor that is gone has given the engine up; what it says no longer matters.
    let tell = move |event| drop(myself.cast(ReplicaMsg::Host(event)));
    Host::start(&settings(&args.order), load, args.meter.clone(), tell).map_err(Failure::Thread)
}

fn host_event(
    myself: &ActorRef<ReplicaMsg>,
    event: HostEvent,
    state: &mut ReplicaState,
) -> Result<(), Failure> {
    let (id, incarnation) = (state.args.order.id.clone(), state.args.incarnation);
    match (event, state.phase) {
        (HostEvent::Doing(doing), _) => state.tell(Event::Doing(id, incarnation, doing)),
        (HostEvent::Unloadable, _) => state.is_unloadable = true,
        (HostEvent::Ready(model), Phase::Starting) => {
            state.host.iter().for_each(|host| state.args.node.table.insert(&id, host.replica()));
            state.phase = Phase::Ready;
            state.tell(Event::Ready { id, incarnation, model });
        }
        (HostEvent::Ready(_), _) => {}
        (HostEvent::Ended(_), Phase::Draining | Phase::Stopping) => {
            state.end_engine();
            myself.stop(None);
        }
        (HostEvent::Ended(failure), Phase::Starting | Phase::Ready) => {
            state.end_engine();
            return Err(match failure {
                None => Failure::EngineGone,
                Some(text) if state.is_unloadable => Failure::Unloadable(text),
                Some(text) => Failure::Engine(text),
            });
        }
    }
    Ok(())
}

/// Refuses new calls from here on and waits, beside the mailbox, for the ongoing ones.
fn drain(myself: &ActorRef<ReplicaMsg>, timeout: Duration, state: &mut ReplicaState) {
    match state.phase {
        Phase::Starting => {
            // No call has been let in. The thread finishes loading and then drops the engine.
            state.phase = Phase::Stopping;
            state.end_engine();
            myself.stop(None);
        }
        Phase::Ready => {
            state.phase = Phase::Draining;
            // It stays in the table, where heartbeats count what it still has.
            let Some(host) = &state.host else { return };
            host.close();
            let (replica, myself) = (host.replica().clone(), myself.clone());
            tokio::spawn(async move {
                let _ = tokio::time::timeout(timeout, replica.drained()).await;
                drop(myself.cast(ReplicaMsg::Drained));
            });
        }
        Phase::Draining | Phase::Stopping => {}
    }
}

/// Ends the engine, and the actor once the engine is gone.
fn end(myself: &ActorRef<ReplicaMsg>, state: &mut ReplicaState) {
    state.phase = Phase::Stopping;
    state.end_engine();
    if state.host.is_some() {
        drop(cast_after(myself, STOP_GRACE, ReplicaMsg::GraceOver));
    } else {
        myself.stop(None);
    }
}

fn cast_after(myself: &ActorRef<ReplicaMsg>, delay: Duration, message: ReplicaMsg) -> JoinHandle<()> {
    let myself = myself.clone();
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        drop(myself.cast(message));
    })
}
