//! All that a head knows and does as the leader. Made from a won election; once it is over nothing of it is used again:
//! the next term begins with what the store and the workers say.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::present::snapshot::{Snapshot, Version};
use millstream_core::reconcile::{Reconciler, Start};
use ractor::{Actor, ActorRef, RpcReplyPort, SpawnErr, call_t};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::context::{self, TermContext};
use super::election::{HeldLease, Inherits, RENEW_INTERVAL, Won};
use crate::actors::messages::ReconcilerMsg;
use crate::actors::reconciler_actor::ReconcilerActor;
use crate::host::Host;
use crate::members;
use crate::snapshots::{Shown, Unanswered};

/// Longest wait for the reconciler's answer.
const CALL_TIMEOUT_MS: u64 = 5_000;
/// How long the parts of a term may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a term did not begin, although the election was won.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    /// The store cannot be read.
    #[error(transparent)]
    Context(#[from] context::Error),
    /// The reconciler did not start.
    #[error("the reconciler did not start: {0}")]
    Reconciler(#[from] SpawnErr),
}

/// The reconciler does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head's reconciler is being restarted; retry in a second")]
pub(crate) struct Restarting;

/// See the module.
pub(crate) struct Term {
    context: Arc<TermContext>,
    /// What decides.
    pub(crate) reconciler: ActorRef<ReconcilerMsg>,
    /// The highest term that a worker said it has obeyed.
    obeyed: watch::Sender<u64>,
    /// Cancelled once somebody wants another head to lead.
    stepped_down: CancellationToken,
}

impl Deref for Term {
    type Target = Arc<TermContext>;

    fn deref(&self) -> &Arc<TermContext> {
        &self.context
    }
}

impl Term {
    /// A worker obeyed a later term (of a store that was put back or made anew since) and would refuse this one's
    /// orders: the head goes on in a term above it.
    pub(crate) fn give_way(&self, obeyed: u64) {
        tracing::warn!(
            obeyed,
            epoch = self.epoch,
            "a worker obeyed a later term than this head's; going above it"
        );
        self.obeyed.send_modify(|highest| *highest = obeyed.max(*highest));
    }

    /// Ends the term, so that another head begins the next one.
    pub(crate) fn step_down(&self) {
        self.stepped_down.cancel();
    }

    /// Asks the reconciler and waits for the answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> ReconcilerMsg,
    ) -> Result<T, Restarting> {
        call_t!(self.reconciler, message, CALL_TIMEOUT_MS).map_err(|_| Restarting)
    }

    /// The cluster as it is now.
    pub(crate) async fn snapshot(&self) -> Result<Arc<Shown>, Restarting> {
        let now = self.host.clock.now();
        self.snapshot_when(|snapshot| snapshot.taken_at >= now, Duration::ZERO).await
    }

    /// The cluster as of that version or later. Those who follow every change share a snapshot for a while: it is not taken
    /// more often than the status interval says.
    pub(crate) async fn snapshot_of(&self, version: Version) -> Result<Arc<Shown>, Restarting> {
        self.snapshot_when(|snapshot| snapshot.version >= version, self.host.timing.status_interval).await
    }

    async fn snapshot_when(
        &self,
        is_new: impl Fn(&Snapshot) -> bool,
        interval: Duration,
    ) -> Result<Arc<Shown>, Restarting> {
        let ask = || self.reconciler.cast(ReconcilerMsg::Snapshot).map_err(|_| Unanswered);
        let shown = self.snapshots.when(is_new, interval, self.host.clock, ask);
        shown.await.map_err(|Unanswered| Restarting)
    }
}

/// A term under way, with what keeps it so.
pub(crate) struct Leading {
    term: Arc<Term>,
    lease: HeldLease,
    reconciler_end: JoinHandle<()>,
    tasks: JoinSet<()>,
}

/// Why a term is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The head closes.
    Closing,
    /// Another head is to lead.
    SteppedDown,
    /// The lease was not renewed in time.
    LeaseLost,
    /// The reconciler died, and what it observed is forgotten.
    ReconcilerDied,
    /// A worker has obeyed this later term.
    Exceeded(u64),
}

impl Leading {
    /// Begins the term of a won election. When it cannot, the leadership is given back.
    pub(crate) async fn begin(host: &Arc<Host>, won: Won) -> Result<Self, BeginError> {
        let Won { store, epoch, inherits, cluster_id, lease } = won;
        let begun = async {
            let context = TermContext::read(Arc::clone(host), store, epoch, cluster_id).await?;
            start_reconciler(Arc::new(context), inherits).await
        };
        let (term, reconciler_end) = match begun.await {
            Ok(begun) => begun,
            Err(error) => {
                lease.resign().await;
                return Err(error);
            }
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(write_events(Arc::clone(&term.context)));
        tasks.spawn(write_usage(Arc::clone(&term.context)));
        tasks.spawn(follow_store(Arc::clone(&term.context)));
        tasks.spawn(pass_on_changes(Arc::clone(&term.context), term.reconciler.clone()));
        Ok(Self { term: Arc::new(term), lease, reconciler_end, tasks })
    }

    /// The term.
    pub(crate) fn term(&self) -> &Arc<Term> {
        &self.term
    }

    /// Keeps the lease until the term is over.
    pub(crate) async fn until_over(&mut self) -> End {
        let mut obeyed = self.term.obeyed.subscribe();
        let mut renew = tokio::time::interval(RENEW_INTERVAL);
        loop {
            let believed_until = self.lease.believed_until();
            tokio::select! {
                () = self.term.over.cancelled() => return End::Closing,
                () = self.term.stepped_down.cancelled() => return End::SteppedDown,
                _ = &mut self.reconciler_end => return End::ReconcilerDied,
                Ok(later) = obeyed.wait_for(|later| *later > self.term.epoch) => return End::Exceeded(*later),
                () = tokio::time::sleep_until(believed_until) => return End::LeaseLost,
                renewed = async { renew.tick().await; self.lease.renew().await } => {
                    if let Err(error) = renewed {
                        tracing::warn!(%error, "the lease of the leadership was not renewed");
                    }
                }
            }
        }
    }

    /// Ends everything of the term, stores what it still has to tell, and releases the leadership.
    pub(crate) async fn end(mut self) {
        self.term.over.cancel();
        self.term.reconciler.stop(None);
        let ended = async {
            if !self.reconciler_end.is_finished() {
                let _ = (&mut self.reconciler_end).await;
            }
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
            tracing::warn!("a part of the term did not end in time");
        }
        self.lease.resign().await;
    }
}

/// Starts what decides, from what people ask for and the nodes that were there.
async fn start_reconciler(
    context: Arc<TermContext>,
    inherits: Inherits,
) -> Result<(Term, JoinHandle<()>), BeginError> {
    let members = match members::list(&context.store).await {
        Ok(members) => members.into_keys().collect(),
        Err(error) => {
            tracing::warn!(%error, "which nodes there were is not known; waiting the full time for them");
            BTreeSet::new()
        }
    };
    let TermContext { ref host, ref catalog, epoch, .. } = *context;
    let (desired, began_at) = (catalog.desired(), host.clock.now());
    // Where nothing is deployed, something may still be asked that was, until whoever asks it has heard of this term.
    let settle = inherits.settle(host.timing.settle);
    let settle_until = if settle.is_zero() { settle } else { began_at + settle };
    let start = Start { epoch, settle_until, began_at, members };
    let reconciler = Reconciler::new(start, desired, host.timing.clone());
    let actor = ReconcilerActor { context: Arc::clone(&context) };
    let (reconciler, end) = ReconcilerActor::spawn(None, actor, reconciler).await?;
    let (obeyed, stepped_down) = (watch::Sender::new(0), CancellationToken::new());
    Ok((Term { context, reconciler, obeyed, stepped_down }, end))
}

/// Keeps events in the store.
async fn write_events(context: Arc<TermContext>) {
    context.events.keep(&context.store, context.over.clone()).await;
}

/// Stores what keys have used.
async fn write_usage(context: Arc<TermContext>) {
    context.usage.keep(&context.store, context.over.clone()).await;
}

/// Hears of changes that were stored late, or by others.
async fn follow_store(context: Arc<TermContext>) {
    tokio::select! {
        () = context.over.cancelled() => {}
        () = context.catalog.follow() => {}
    }
}

/// Tells the reconciler that what people ask for has changed.
async fn pass_on_changes(context: Arc<TermContext>, reconciler: ActorRef<ReconcilerMsg>) {
    let mut changes = context.catalog.subscribe();
    loop {
        tokio::select! {
            () = context.over.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        changes.mark_unchanged();
        let _ = reconciler.cast(ReconcilerMsg::DesiredChanged);
    }
}
