//! One start of one replica: its owner's side and the way in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use millstream_calls::call::{self, CallRequest, PendingCall};
use millstream_engine::{Call, EngineMeter};
use millstream_pipelines::Batch;
use millstream_values::{CallError, ErrorClass};

use crate::shared::{Event, Load, Runner, Shared, not_serving};
use crate::slots::{Refusal, SharedSlot};
use crate::{tasks, thread};

/// What a replica runs by. All but the name may change while it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names its thread.
    pub name: String,
    /// Most calls at a time.
    pub max_ongoing: u32,
    /// How its engine batches.
    pub batch: Batch,
    /// How long a step may take; `None` for what follows from the other steps.
    pub step_timeout: Option<Duration>,
}

/// Owns a replica: dropped, it ends the engine, and what that works on is given up.
pub struct Host {
    replica: Replica,
}

/// The way into a replica; cheap to clone.
#[derive(Clone)]
pub struct Replica(Arc<Shared>);

impl Host {
    /// Starts the thread that loads the engine. The calling thread is on the runtime on which what has to wait runs.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        settings: &Settings,
        load: Load,
        meter: Arc<dyn EngineMeter>,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(settings.max_ongoing, meter, tell));
        let host = Self { replica: Replica(shared.clone()) };
        host.apply(settings);
        thread::spawn(&settings.name, shared, load)?;
        Ok(host)
    }

    /// The way in. It takes calls from [`Event::Ready`] on.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Goes on with these settings.
    pub fn apply(&self, settings: &Settings) {
        let shared = &self.replica.0;
        shared.slots.set_max(settings.max_ongoing);
        shared.watchdog.set_fixed(settings.step_timeout);
        shared.queue.set_batch(settings.batch.clone());
    }

    /// Takes no more calls; those that it has go on.
    pub fn close(&self) {
        self.replica.0.slots.close();
        if let Some(Runner::Tasks(engine)) = self.replica.0.runner() {
            engine.drain();
        }
    }

    /// Ends the engine after the step that it is in; what it works on is given up. Its end is told.
    pub fn stop(&self) {
        self.replica.0.stop();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Replica {
    /// Sends a call; a refusal comes as its end.
    #[must_use]
    pub fn call(&self, request: CallRequest) -> PendingCall {
        let shared = &self.0;
        let arrived = millstream_clock::now();
        if request.context.deadline.is_some_and(|deadline| deadline <= arrived) {
            let text = "the deadline had passed before the call began";
            return PendingCall::refused(CallError::not_started(ErrorClass::DeadlineExceeded, text));
        }
        let Some(runner) = shared.runner() else { return PendingCall::refused(not_serving()) };
        let slot = match shared.slots.take() {
            Ok(slot) => slot,
            Err(Refusal::Closed) => return PendingCall::refused(not_serving()),
            Err(Refusal::Full) => {
                let text = "the replica has as many calls as it may";
                return PendingCall::refused(CallError::not_started(ErrorClass::Overloaded, text));
            }
        };
        let (reply, pending) = call::channel(request.parts());
        match runner {
            Runner::Tasks(engine) => {
                let reply = reply.on_end(move || drop(slot));
                tasks::run(shared, &**engine, request, reply, pending)
            }
            Runner::Threads => {
                // A caller that leaves frees the place at once, whatever the engine is busy with.
                let slot = SharedSlot::new(slot);
                let at_end = slot.clone();
                let reply = reply.on_end(move || {
                    at_end.give_back();
                });
                self.enqueue(Call::of(request, reply, arrived), pending, slot)
            }
        }
    }

    fn enqueue(&self, call: Call, pending: PendingCall, slot: SharedSlot) -> PendingCall {
        match self.0.queue.push(call) {
            Ok(place) => {
                let (shared, reader) = (self.0.clone(), self.0.clone());
                let pending = pending.on_read(move |read| {
                    if read.caught_up {
                        reader.queue.wake();
                    }
                });
                pending.on_drop(move || {
                    let is_left_to_engine = !shared.queue.remove(place);
                    // An engine that sleeps is to drop its sequence now, not when it would have woken.
                    if slot.give_back() && is_left_to_engine {
                        shared.queue.wake();
                    }
                })
            }
            Err(call) => {
                call.reply.finish(Err(not_serving()));
                pending
            }
        }
    }

    /// Calls that it has.
    #[must_use]
    pub fn ongoing(&self) -> usize {
        self.0.slots.ongoing()
    }

    /// Waits until it takes no more calls and the last one is over.
    pub async fn drained(&self) {
        self.0.slots.closed_and_empty().await;
    }

    /// Whether both are ways into the same start of a replica.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
