//! One replica's thread: loads the engine, warms it up, and for engines that compute runs them step by step until the
//! replica ends. A panic ends here: the calls in the engine end as `Unavailable`, the queued ones are given back as
//! not started, the actor is told, and no other replica notices.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use ::metrics::Histogram;
use millstream_engine::{Engine, LoadArgs, LoadError, Progress, SteppingEngine};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::engines::Engines;
use crate::inbox::{Inbox, Received};
use crate::order::Order;
use crate::panics::panic_text;
use crate::slots::Slots;
use crate::table::{Handle, InboxMessage, Runner, Tasks};
use crate::{metrics, models};

/// What the thread tells its replica's actor.
pub(crate) enum EngineEvent {
    /// What it is doing while it loads, for people.
    Doing(String),
    /// The engine is warm.
    Ready {
        /// The way in.
        handle: Arc<Handle>,
        /// What the model holds.
        memory_bytes: u64,
    },
    /// The engine is gone: as told, or of the given failure.
    Ended(Option<String>),
}

/// What the thread needs.
pub(crate) struct Job {
    /// What to run.
    pub(crate) order: Arc<Order>,
    /// The engines of this build.
    pub(crate) engines: Arc<Engines>,
    /// Where models are.
    pub(crate) model_dirs: Arc<[PathBuf]>,
    /// CPU threads for the engine.
    pub(crate) num_threads: usize,
    /// Admission to the replica.
    pub(crate) slots: Arc<Slots>,
    /// Cancelled when the replica ends.
    pub(crate) stop: CancellationToken,
    /// Where to tell.
    pub(crate) tell: Arc<dyn Fn(EngineEvent) + Send + Sync>,
}

/// Starts the thread. It lives until the replica ends, or for a concurrent engine until that is loaded.
pub(crate) fn spawn(job: Job) -> std::io::Result<()> {
    let name = format!("engine-{}", job.order.id);
    std::thread::Builder::new().name(name).spawn(move || run(&job))?;
    Ok(())
}

fn run(job: &Job) {
    let (sender, receiver) = channel();
    let mut inbox = Inbox::new(receiver);
    let outcome = catch_unwind(AssertUnwindSafe(|| live(job, sender, &mut inbox)));
    let failure = match outcome {
        Ok(Ok(Life::HandedOver)) => return,
        Ok(Ok(Life::Stopped)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(panic_text(&*panic)),
    };
    job.slots.close();
    inbox.give_back(&job.slots);
    (job.tell)(EngineEvent::Ended(failure));
}

/// How an engine's time on the thread ended without a failure.
enum Life {
    /// It needs no thread.
    HandedOver,
    /// The replica ended.
    Stopped,
}

fn live(job: &Job, sender: Sender<InboxMessage>, inbox: &mut Inbox) -> Result<Life, LoadError> {
    let engine = load(job)?;
    if job.stop.is_cancelled() {
        return Ok(Life::Stopped);
    }
    let ready = |runner, memory_bytes| {
        let handle = Arc::new(Handle { slots: job.slots.clone(), runner });
        (job.tell)(EngineEvent::Ready { handle, memory_bytes });
    };
    match engine {
        Engine::Concurrent(engine) => {
            let tell = job.tell.clone();
            let crashed = Arc::new(move |text| tell(EngineEvent::Ended(Some(text))));
            ready(Runner::Tasks(Tasks { engine, stop: job.stop.clone(), crashed }), 0);
            Ok(Life::HandedOver)
        }
        Engine::Stepping(mut engine) => {
            (job.tell)(EngineEvent::Doing("warming up".to_owned()));
            engine.warm_up()?;
            ready(Runner::Thread(sender), engine.memory_bytes());
            serve(&mut *engine, inbox, &metrics::batch_sizes(job.order.full_name()));
            Ok(Life::Stopped)
        }
    }
}

fn load(job: &Job) -> Result<Engine, LoadError> {
    let spec = &job.order.spec;
    let resolve = |model| models::resolve(model, &job.model_dirs, &job.order.source_dir);
    let model_dir =
        spec.model.as_ref().map(resolve).transpose().map_err(|error| LoadError::Model(error.to_string()))?;
    let progress = |doing: &str| (job.tell)(EngineEvent::Doing(doing.to_owned()));
    let args = LoadArgs { spec, model_dir, threads: job.num_threads, progress: &progress };
    job.engines.choose(&args)?.load(&args)
}

/// Feeds the engine until the replica ends. Blocks only while there is nothing to do.
fn serve(engine: &mut dyn SteppingEngine, inbox: &mut Inbox, sizes: &Histogram) {
    let mut progress = Progress::Idle;
    while inbox.receive(progress, clock::now()) == Received::News {
        if let Some(batch) = inbox.new_batch() {
            engine.set_batch(&batch);
        }
        let room = match progress {
            Progress::Idle | Progress::Waiting { .. } => usize::MAX,
            Progress::Busy { room } => room,
        };
        let calls = inbox.take(room, clock::now());
        if calls.is_empty() && progress == Progress::Idle {
            continue;
        }
        let stepped = engine.step(calls);
        progress = stepped.progress;
        if let Ok(size @ 1..) = u32::try_from(stepped.num_inputs) {
            sizes.record(size);
        }
    }
}

#[cfg(test)]
mod tests;
