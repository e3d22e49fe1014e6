//! The link to the head: dials it for ever, tells it what runs here, and hands its orders to the worker. It fences off
//! heads of an older term and of other clusters, and follows the word of a head that does not lead. Replicas do not depend on it: they run on while the head is away.
//!
//! ```text
//! Worker              restarted by   the process manager
//! ├─ HeadLink                        Worker, backoff with jitter, for ever
//! └─ Replica (one each)              Worker, RestartPolicy; its neighbours never notice
//! ```
//!
//! Each attempt to reach the head is a session with a number of its own: dial, ask the worker for its inventory,
//! register with it, then pass changes on. What a session that is over still says is known by its number.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Backoff, Heads};
use millstream_proto::v1::head_message::Body;
use millstream_proto::{ReplicaId, v1};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::epoch::Verdict;
use crate::last_orders::{HEAD_WAIT, HeadPlace, LastOrders};
use crate::lifecycle::Event;
use crate::messages::WorkerMsg;
use crate::order::{self, Order};
use crate::random;
use crate::remembered::Remembered;
use crate::session::{self, End, NodeFacts, Session};
use crate::table::ReplicaTable;

/// Delays between attempts to reach the head: short, as a head that returns needs its workers.
const DIAL_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(3) };
/// Messages that may wait for a slow head; beyond it the session is given up and everything is told again.
const MAX_UNSENT: usize = 1024;

/// Dials the head.
pub(crate) struct HeadLink;

/// What a link is started with.
#[derive(Clone)]
pub(crate) struct HeadLinkArgs {
    /// Whom to dial.
    pub(crate) heads: Heads,
    /// Who this node is and what it has.
    pub(crate) facts: Arc<NodeFacts>,
    /// Where the heads are.
    pub(crate) place: HeadPlace,
    /// Where the epoch, the cluster's id and the last orders are kept.
    pub(crate) data_dir: PathBuf,
    /// Ongoing calls, for heartbeats.
    pub(crate) table: Arc<ReplicaTable>,
    /// Where a head's wish that this worker ends goes.
    pub(crate) asked_to_stop: watch::Sender<Option<Duration>>,
    /// Told once a head has accepted the node.
    pub(crate) registered: watch::Sender<bool>,
    /// Cancelled when the worker leaves.
    pub(crate) leave: CancellationToken,
}

/// What a link is told.
pub(crate) enum HeadLinkMsg {
    /// By its own timer: try to reach the head.
    Dial,
    /// By its own timer: if no head has been heard by now, run the last orders.
    RunLastOrders,
    /// By the worker, as answer to [`WorkerMsg::Inventory`]: everything that runs here.
    Inventory {
        /// The session that asked.
        session: u64,
        /// A report for each replica.
        replicas: Vec<v1::ReplicaReport>,
    },
    /// By the worker: how a replica is by now. The latest one counts.
    Changed(v1::ReplicaReport),
    /// By the worker, when its last replica is gone: say goodbye and end. Twice is harmless.
    Leave,
    /// By the session's task: what the head says.
    FromHead(u64, Box<v1::HeadMessage>),
    /// By the session's task, once, last: why it is over.
    Ended(u64, End),
    /// By tests and people: how it is.
    #[expect(dead_code, reason = "for debug endpoints to come")]
    Inspect(RpcReplyPort<Snapshot>),
}

/// How the link is, for tests and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Snapshot {
    /// Number of the session that is or was tried last.
    pub(crate) session: u64,
    /// Attempts that failed since the last registration.
    pub(crate) failures: u32,
    /// Highest epoch obeyed.
    pub(crate) epoch: u64,
}

/// A link's state.
pub(crate) struct HeadLinkState {
    args: HeadLinkArgs,
    worker: ActorRef<WorkerMsg>,
    /// What outlives this process.
    remembered: Remembered,
    heads: Heads,
    /// Number of the newest session.
    session: u64,
    /// Attempts that failed since the last registration.
    failures: u32,
    /// Why the last session was over, so that people are told once and not at every attempt.
    last_end: Option<End>,
    /// The way to the head, while a session is open.
    open: Option<Open>,
}

struct Open {
    /// `None` once the last word has been said.
    outbound: Option<mpsc::Sender<v1::NodeMessage>>,
    /// Cancelled when something could not be said.
    unheard: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Open {
    /// Says something. Where too much waits already it is not said, and the session ends: the next one tells everything.
    fn send(&self, body: v1::node_message::Body) {
        let Some(outbound) = &self.outbound else { return };
        if let Err(TrySendError::Full(_)) = outbound.try_send(v1::NodeMessage { body: Some(body) }) {
            self.unheard.cancel();
        }
    }
}

impl Actor for HeadLink {
    type Msg = HeadLinkMsg;
    type State = HeadLinkState;
    type Arguments = (HeadLinkArgs, ActorRef<WorkerMsg>);

    async fn pre_start(
        &self,
        myself: ActorRef<HeadLinkMsg>,
        (args, worker): (HeadLinkArgs, ActorRef<WorkerMsg>),
    ) -> Result<HeadLinkState, ActorProcessingErr> {
        let remembered = Remembered::load(&args.place, args.data_dir.clone())?;
        let heads = args.heads.clone();
        drop(myself.send_after(HEAD_WAIT, || HeadLinkMsg::RunLastOrders));
        myself.cast(HeadLinkMsg::Dial)?;
        Ok(HeadLinkState {
            args,
            worker,
            remembered,
            heads,
            session: 0,
            failures: 0,
            last_end: None,
            open: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<HeadLinkMsg>,
        message: HeadLinkMsg,
        state: &mut HeadLinkState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HeadLinkMsg::Dial => state.dial(),
            HeadLinkMsg::RunLastOrders => state.run_last_orders(&myself),
            HeadLinkMsg::Inventory { session, replicas } if session == state.session => {
                state.open(&myself, replicas);
            }
            HeadLinkMsg::Leave => state.leave(&myself),
            HeadLinkMsg::Changed(report) => state.send(v1::node_message::Body::Replica(report)),
            HeadLinkMsg::FromHead(session, message) if session == state.session => {
                state.obey(&myself, *message).await;
            }
            HeadLinkMsg::Ended(session, end) if session == state.session => state.ended(&myself, end),
            // Late words of a session that is over.
            HeadLinkMsg::Inventory { .. } | HeadLinkMsg::FromHead(..) | HeadLinkMsg::Ended(..) => {}
            HeadLinkMsg::Inspect(reply) => {
                let (session, failures, epoch) = (state.session, state.failures, state.remembered.epoch());
                let _ = reply.send(Snapshot { session, failures, epoch });
            }
        }
        Ok(())
    }
}

impl HeadLinkState {
    /// Begins a session by asking what there is to register.
    fn dial(&mut self) {
        if self.args.leave.is_cancelled() {
            return;
        }
        self.session += 1;
        // The worker outlives its children; without it this actor ends too.
        let _ = self.worker.cast(WorkerMsg::Inventory(self.session));
    }

    fn run_last_orders(&mut self, myself: &ActorRef<HeadLinkMsg>) {
        if self.args.leave.is_cancelled() {
            return;
        }
        if matches!(self.last_end, Some(End::Rejected(_))) {
            // A head is there, and says what is wrong. It may be gone later.
            drop(myself.send_after(HEAD_WAIT, || HeadLinkMsg::RunLastOrders));
            return;
        }
        let orders = self.remembered.take_up_orders();
        let is_any = !orders.is_empty();
        orders.into_iter().for_each(|order| self.tell_worker(Event::Start(Arc::new(order))));
        if is_any && self.open.is_some() {
            // What is under way would register without them, and the head would order others.
            self.dial();
        }
    }

    fn open(&mut self, myself: &ActorRef<HeadLinkMsg>, replicas: Vec<v1::ReplicaReport>) {
        self.remembered.registers(&replicas);
        let (outbound, unsent) = mpsc::channel(MAX_UNSENT);
        let unheard = CancellationToken::new();
        let number = self.session;
        let tell = myself.clone();
        let facts = &self.args.facts;
        let session = Session {
            head: self.heads.current().to_owned(),
            facts: facts.clone(),
            register: facts.register(replicas, self.remembered.epoch(), self.remembered.cluster_id()),
            outbound: outbound.clone(),
            unsent,
            table: self.args.table.clone(),
            leave: self.args.leave.clone(),
            unheard: unheard.clone(),
            on_message: Box::new(move |message| {
                drop(tell.cast(HeadLinkMsg::FromHead(number, Box::new(message))));
            }),
        };
        let tell = myself.clone();
        let task = tokio::spawn(async move {
            let end = session::run(session).await;
            drop(tell.cast(HeadLinkMsg::Ended(number, end)));
        });
        let outbound = Some(outbound);
        self.open = Some(Open { outbound, unheard, _task: AbortOnDropHandle::new(task) });
    }

    fn send(&self, body: v1::node_message::Body) {
        if let Some(open) = &self.open {
            open.send(body);
        }
    }

    /// Ends the session after what has been said; the head then knows that this node is gone.
    fn leave(&mut self, myself: &ActorRef<HeadLinkMsg>) {
        self.args.leave.cancel();
        match &mut self.open {
            Some(open) => open.outbound = None,
            None => myself.stop(None),
        }
    }

    async fn obey(&mut self, myself: &ActorRef<HeadLinkMsg>, message: v1::HeadMessage) {
        if let Some(Body::Registered(registered)) = &message.body
            && let Err(error) = self.remembered.enter(&registered.cluster_id).await
        {
            // Its epoch means nothing here.
            self.ended(myself, End::Rejected(error));
            return;
        }
        match self.remembered.admit(message.epoch).await {
            Verdict::Current | Verdict::Newer => self.carry_out(message),
            Verdict::Older => self.refuse(myself, &message),
        }
    }

    /// A head that no longer leads: its orders are dropped; one that takes registrations is left, to find the leader.
    fn refuse(&mut self, myself: &ActorRef<HeadLinkMsg>, message: &v1::HeadMessage) {
        let (epoch, current) = (message.epoch, self.remembered.epoch());
        tracing::warn!(epoch, current, "refused an order of a head that no longer leads");
        if matches!(message.body, Some(Body::Registered(_))) {
            self.ended(myself, End::Rejected(self.remembered.why_older(epoch)));
        }
    }

    fn carry_out(&mut self, message: v1::HeadMessage) {
        match message.body {
            Some(Body::Registered(_)) => {
                if matches!(self.last_end.take(), Some(End::Broken(_) | End::Rejected(_))) {
                    tracing::warn!(head = self.heads.current(), "the head is back");
                }
                self.failures = 0;
                self.args.registered.send_replace(true);
                self.remembered.change_orders(LastOrders::head_is_heard);
                tracing::info!(
                    epoch = message.epoch,
                    head = self.heads.current(),
                    "registered with the head"
                );
            }
            Some(Body::Start(start)) => match Order::try_from(start.clone()) {
                Ok(order) => {
                    self.remembered.change_orders(|orders| orders.start(start));
                    self.tell_worker(Event::Start(Arc::new(order)));
                }
                Err(error) => {
                    tracing::error!(replica_id = start.replica_id, %error, "order cannot be read");
                    self.send(v1::node_message::Body::Replica(order::unreadable(&start, &error)));
                }
            },
            Some(Body::Stop(stop)) => {
                let drain = Duration::from_millis(stop.drain_ms);
                self.remembered.change_orders(|orders| orders.stop(&stop.replica_id));
                self.tell_worker(Event::Stop { id: ReplicaId::from(stop.replica_id), drain });
            }
            Some(Body::Shutdown(shutdown)) => {
                tracing::info!("the head asks this worker to stop");
                self.args.asked_to_stop.send_replace(Some(Duration::from_millis(shutdown.drain_ms)));
            }
            None => tracing::warn!("a message of the head is of a newer version; ignored"),
        }
    }

    fn tell_worker(&self, event: Event) {
        let _ = self.worker.cast(WorkerMsg::Event(event));
    }

    fn ended(&mut self, myself: &ActorRef<HeadLinkMsg>, end: End) {
        self.open = None;
        if self.args.leave.is_cancelled() {
            myself.stop(None);
            return;
        }
        // However the connection breaks, it is one outage.
        let broken = |end: &End| matches!(end, End::Broken(_));
        let is_told = self.last_end.as_ref().is_some_and(|it| *it == end || broken(it) && broken(&end));
        if !is_told {
            end.tell(self.heads.current(), &self.args.facts.name);
            self.last_end = Some(end.clone());
        }
        let is_named = match end {
            End::NotLeading(answer) => self.heads.follow(answer.leader),
            End::Rejected(_) | End::Broken(_) | End::Left => {
                self.heads.failed();
                false
            }
        };
        // Whoever is named is asked at once, but not for ever: two heads may name each other.
        let failures = if is_named { self.failures } else { self.failures.saturating_add(1) };
        self.failures = self.failures.saturating_add(1);
        let delay = DIAL_BACKOFF.delay(failures, &mut random::rng());
        drop(myself.send_after(delay, || HeadLinkMsg::Dial));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_said_ends_the_session() {
        let (outbound, unsent) = mpsc::channel(1);
        let unheard = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(async {}));
        let open = Open { outbound: Some(outbound), unheard: unheard.clone(), _task: task };
        let say = || open.send(v1::node_message::Body::Heartbeat(v1::Heartbeat::default()));
        say();
        assert!(!unheard.is_cancelled());
        say();
        assert!(unheard.is_cancelled());
        // A session that is over is not ended once more.
        drop(unsent);
        say();
    }
}
