//! One start of one replica, from loading to its end. It owns the engine thread and the replica's place in the table;
//! what a failure means is decided by the worker that supervises it.
//!
//! ```text
//! Worker              restarted by   the process manager
//! ├─ HeadLink                        Worker, backoff with jitter, for ever
//! └─ Replica (one each)              Worker, RestartPolicy, as a new actor; its neighbours never notice
//!    └─ EngineThread                 not restarted: its end is the end of this actor
//! ```

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine_thread::{self, EngineEvent, Job};
use crate::lifecycle::{Event, Incarnation};
use crate::messages::WorkerMsg;
use crate::node::Node;
use crate::order::Order;
use crate::resources;
use crate::slots::Slots;
use crate::table::{Handle, InboxMessage, Runner};

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
    /// Whom to tell.
    pub(crate) worker: ActorRef<WorkerMsg>,
}

/// What a replica is told.
pub(crate) enum ReplicaMsg {
    /// By itself, first and once: start the engine thread.
    Load,
    /// By the engine thread, or by a call in which a concurrent engine panicked (then possibly more than once).
    Engine(EngineEvent),
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
    slots: Arc<Slots>,
    stop: CancellationToken,
    handle: Option<Arc<Handle>>,
    start_timer: Option<JoinHandle<()>>,
}

impl ReplicaState {
    /// Takes the replica out of the table and ends the engine; what it works on is given up.
    fn end_engine(&self) {
        self.slots.close();
        self.stop.cancel();
        let Some(handle) = &self.handle else { return };
        self.args.node.table.remove(&self.args.order.id, handle);
        if let Runner::Thread(queue) = &handle.runner {
            let _ = queue.send(InboxMessage::Stop);
        }
    }

    /// Gives the engine's thread the batch settings; one that still loads gets them when it is ready.
    fn set_batch(&self) {
        if let Some(Runner::Thread(queue)) = self.handle.as_deref().map(|handle| &handle.runner) {
            let _ = queue.send(InboxMessage::Batch(self.args.order.spec.batch.clone()));
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
        let slots = Slots::new(args.order.spec.limits.max_ongoing_requests);
        let timeout = args.order.spec.limits.start_timeout;
        let start_timer = Some(cast_after(&myself, timeout, ReplicaMsg::StartTimedOut));
        myself.cast(ReplicaMsg::Load)?;
        let stop = CancellationToken::new();
        Ok(ReplicaState { args, phase: Phase::Starting, slots, stop, handle: None, start_timer })
    }

    async fn handle(
        &self,
        myself: ActorRef<ReplicaMsg>,
        message: ReplicaMsg,
        state: &mut ReplicaState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ReplicaMsg::Load => load(&myself, state)?,
            ReplicaMsg::Engine(event) => engine_event(&myself, event, state)?,
            ReplicaMsg::StartTimedOut if state.phase == Phase::Starting => {
                state.end_engine();
                let limits = &state.args.order.spec.limits;
                let deployment = state.args.order.deployment.clone();
                return Err(Failure::StartTimeout(limits.start_timeout, deployment).into());
            }
            ReplicaMsg::StartTimedOut => {}
            ReplicaMsg::Apply(order) => {
                state.slots.set_max(order.spec.limits.max_ongoing_requests);
                state.args.order = order;
                state.set_batch();
            }
            ReplicaMsg::Drain(timeout) => drain(&myself, timeout, state),
            ReplicaMsg::Drained => end(&myself, state),
            ReplicaMsg::GraceOver => myself.stop(Some("the engine did not end in time".to_owned())),
            ReplicaMsg::Inspect(reply) => {
                let _ = reply.send(Snapshot { phase: state.phase, ongoing: state.slots.ongoing() });
            }
        }
        Ok(())
    }
}

fn load(myself: &ActorRef<ReplicaMsg>, state: &ReplicaState) -> Result<(), Failure> {
    let args = &state.args;
    let cpu_milli = args.order.spec.demand.cpu_milli;
    let job = Job {
        order: args.order.clone(),
        engines: args.node.engines.clone(),
        model_dirs: args.node.model_dirs.clone(),
        num_threads: resources::num_threads(cpu_milli, args.node.num_cores, args.num_like),
        slots: state.slots.clone(),
        stop: state.stop.clone(),
        tell: {
            let myself = myself.clone();
            // An actor that is gone has given the engine up; what the thread says no longer matters.
            Arc::new(move |event| drop(myself.cast(ReplicaMsg::Engine(event))))
        },
    };
    engine_thread::spawn(job).map_err(Failure::Thread)
}

fn engine_event(
    myself: &ActorRef<ReplicaMsg>,
    event: EngineEvent,
    state: &mut ReplicaState,
) -> Result<(), Failure> {
    let (id, incarnation) = (state.args.order.id.clone(), state.args.incarnation);
    match (event, state.phase) {
        (EngineEvent::Doing(doing), _) => state.tell(Event::Doing(id, incarnation, doing)),
        (EngineEvent::Ready { handle, memory_bytes }, Phase::Starting) => {
            state.args.node.table.insert(&id, &handle);
            state.handle = Some(handle);
            state.set_batch();
            state.phase = Phase::Ready;
            state.tell(Event::Ready { id, incarnation, memory_bytes });
        }
        (EngineEvent::Ready { .. }, _) => {}
        (EngineEvent::Ended(_), Phase::Draining | Phase::Stopping) => {
            state.end_engine();
            myself.stop(None);
        }
        (EngineEvent::Ended(failure), Phase::Starting | Phase::Ready) => {
            state.end_engine();
            return Err(failure.map_or(Failure::EngineGone, Failure::Engine));
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
            state.slots.close();
            let (slots, myself) = (state.slots.clone(), myself.clone());
            tokio::spawn(async move {
                let _ = tokio::time::timeout(timeout, slots.closed_and_empty()).await;
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
    match state.handle.as_deref().map(|handle| &handle.runner) {
        Some(Runner::Thread(_)) => drop(cast_after(myself, STOP_GRACE, ReplicaMsg::GraceOver)),
        Some(Runner::Tasks(_)) | None => myself.stop(None),
    }
}

fn cast_after(myself: &ActorRef<ReplicaMsg>, delay: Duration, message: ReplicaMsg) -> JoinHandle<()> {
    let myself = myself.clone();
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        drop(myself.cast(message));
    })
}
