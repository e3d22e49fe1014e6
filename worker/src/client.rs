//! The request path: from a caller in this process (an ingress, or a stream of the gRPC server) to a replica's
//! engine. No actor mailbox: a snapshot, an atomic counter, and the replica's own queue or the caller's own thread. The one
//! lock is a call's own: its slot's, which caller and replica take once each.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use millstream_engine::Call;
use millstream_proto::ReplicaId;
use millstream_proto::call::{self, CallRequest, PendingCall, ReplicaClient, Reply};
use millstream_values::{CallError, ErrorClass};
use tokio::runtime;

use crate::clock;
use crate::panics::panic_text;
use crate::slots::{Refusal, SharedSlot, Slots};
use crate::table::{Handle, InboxMessage, ReplicaTable, Runner, Tasks};

/// Calls the replicas of this process.
pub(crate) struct WorkerClient {
    table: Arc<ReplicaTable>,
    runtime: runtime::Handle,
}

impl WorkerClient {
    /// Calls the replicas of `table`; what has to wait runs on `runtime`.
    pub(crate) fn new(table: Arc<ReplicaTable>, runtime: runtime::Handle) -> Self {
        Self { table, runtime }
    }

    fn admit(&self, handle: &Handle, request: CallRequest) -> PendingCall {
        let arrived = clock::now();
        if request.context.deadline.is_some_and(|deadline| deadline <= arrived) {
            let text = "the deadline had passed before the call began";
            return PendingCall::refused(CallError::not_started(ErrorClass::DeadlineExceeded, text));
        }
        let slot = match handle.slots.take() {
            Ok(slot) => slot,
            Err(Refusal::Closed) => return PendingCall::refused(not_serving()),
            Err(Refusal::Full) => {
                let text = "the replica has as many calls as it may";
                return PendingCall::refused(CallError::not_started(ErrorClass::Overloaded, text));
            }
        };
        let (reply, pending) = call::channel(request.parts());
        match &handle.runner {
            Runner::Thread(queue) => {
                // A caller that leaves frees the place at once, whatever the engine is busy with.
                let slot = SharedSlot::new(slot);
                let at_end = slot.clone();
                let reply = reply.on_end(move || at_end.give_back());
                let pending = pending.on_drop(move || slot.give_back());
                let CallRequest { context, inputs, answer, timed } = request;
                let sent = queue.send(InboxMessage::Call(Call {
                    inputs,
                    arrived,
                    deadline: context.deadline,
                    answer,
                    priority: context.priority,
                    timed,
                    reply,
                }));
                if let Err(unsent) = sent
                    && let InboxMessage::Call(call) = unsent.0
                {
                    call.reply.finish(Err(not_serving()));
                }
                pending
            }
            Runner::Tasks(tasks) => {
                let reply = reply.on_end(move || drop(slot));
                self.run(tasks, &handle.slots, request, reply, pending)
            }
        }
    }

    /// Runs the call to its first wait on the caller's thread: one that never waits costs no task.
    fn run(
        &self,
        tasks: &Tasks,
        slots: &Arc<Slots>,
        request: CallRequest,
        reply: Reply,
        pending: PendingCall,
    ) -> PendingCall {
        let _context = self.runtime.enter();
        let first = catch_unwind(AssertUnwindSafe(|| {
            let mut future = tasks.engine.call(request, reply);
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(()) => None,
                Poll::Pending => Some(future),
            }
        }));
        match first {
            Ok(None) => pending,
            Ok(Some(future)) => {
                let task = self.runtime.spawn(finish(future, tasks, slots.clone()));
                pending.on_drop(move || task.abort())
            }
            Err(panic) => {
                crash(slots, &tasks.stop, &*tasks.crashed, &*panic);
                pending
            }
        }
    }
}

impl ReplicaClient for WorkerClient {
    fn call(&self, replica: &ReplicaId, request: CallRequest) -> PendingCall {
        let called = self.table.with(replica, |handle| self.admit(handle, request));
        called.unwrap_or_else(|| PendingCall::refused(not_serving()))
    }
}

/// The rest of a call that has to wait; the replica's end drops it.
fn finish(
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    tasks: &Tasks,
    slots: Arc<Slots>,
) -> impl Future<Output = ()> + Send + use<> {
    let (stop, crashed) = (tasks.stop.clone(), tasks.crashed.clone());
    async move {
        let guarded = AssertUnwindSafe(future).catch_unwind();
        if let Some(Err(panic)) = stop.run_until_cancelled(guarded).await {
            crash(&slots, &stop, &*crashed, &*panic);
        }
    }
}

/// A panic in an engine ends its replica: nothing new gets in, what is under way ends, the actor is told.
fn crash(
    slots: &Slots,
    stop: &tokio_util::sync::CancellationToken,
    crashed: &(dyn Fn(String) + Send + Sync),
    panic: &(dyn std::any::Any + Send),
) {
    slots.close();
    stop.cancel();
    crashed(panic_text(panic));
}

/// The answer of a replica that is not there, drains or has just ended.
pub(crate) fn not_serving() -> CallError {
    CallError::not_started(ErrorClass::Unavailable, "the replica takes no calls")
}
