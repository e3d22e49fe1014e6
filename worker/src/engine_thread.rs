//! One replica's thread: loads the engine, warms it up, and for engines that compute runs them step by step until the
//! replica ends. A panic ends here: the calls in the engine end as `Unavailable`, the queued ones are given back as
//! not started, the actor is told, and no other replica notices.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use ::metrics::Histogram;
use millstream_engine::{Call, Engine, LoadArgs, LoadError, Progress, SteppingEngine};
use millstream_pipelines::Task;
use millstream_values::{CallError, ErrorClass};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::batcher::{self, Fate, Room, Waiting};
use crate::client::not_serving;
use crate::clock;
use crate::engines::Engines;
use crate::order::Order;
use crate::panics::panic_text;
use crate::slots::Slots;
use crate::table::{Feed, Handle, Runner, Tasks};
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
    let (sender, receiver) = unbounded_channel();
    let mut inbox =
        Inbox { receiver, waiting: VecDeque::new(), task: job.order.spec.task, sizes: Histogram::noop() };
    let outcome = catch_unwind(AssertUnwindSafe(|| live(job, sender, &mut inbox)));
    let failure = match outcome {
        Ok(Ok(Life::HandedOver)) => return,
        Ok(Ok(Life::Stopped)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(panic_text(&*panic)),
    };
    job.slots.close();
    inbox.give_back();
    (job.tell)(EngineEvent::Ended(failure));
}

/// How an engine's time on the thread ended without a failure.
enum Life {
    /// It needs no thread.
    HandedOver,
    /// The replica ended.
    Stopped,
}

fn live(job: &Job, sender: UnboundedSender<Feed>, inbox: &mut Inbox) -> Result<Life, LoadError> {
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
            inbox.sizes = metrics::batch_sizes(job.order.full_name());
            let max_size = usize::try_from(job.order.spec.batch.max_size).unwrap_or(usize::MAX);
            serve(&mut *engine, inbox, max_size);
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
fn serve(engine: &mut dyn SteppingEngine, inbox: &mut Inbox, max_size: usize) {
    let mut progress = Progress::Idle;
    while inbox.receive(progress) == Received::News {
        let room = match progress {
            Progress::Idle => Room::Inputs(max_size),
            Progress::Busy { room } => Room::Calls(room),
        };
        let calls = inbox.take(room);
        if !calls.is_empty() || progress != Progress::Idle {
            progress = engine.step(calls);
        }
    }
}

/// Calls that wait for the engine.
struct Inbox {
    receiver: UnboundedReceiver<Feed>,
    waiting: VecDeque<Call>,
    task: Task,
    /// Counts batches by their inputs.
    sizes: Histogram,
}

/// What came in.
#[derive(PartialEq, Eq)]
enum Received {
    /// Possibly calls; the engine goes on.
    News,
    /// The replica ends.
    Stop,
}

impl Inbox {
    /// Takes in what is there; waits for it only when engine and queue have nothing to do.
    fn receive(&mut self, progress: Progress) -> Received {
        if progress == Progress::Idle && self.waiting.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Feed::Call(call)) => self.waiting.push_back(call),
                Some(Feed::Stop) | None => return Received::Stop,
            }
        }
        while let Ok(feed) = self.receiver.try_recv() {
            match feed {
                Feed::Call(call) => self.waiting.push_back(call),
                Feed::Stop => return Received::Stop,
            }
        }
        Received::News
    }

    /// Takes out the next batch; ends what has expired, drops what nobody waits for.
    fn take(&mut self, room: Room) -> Vec<Call> {
        let task = self.task;
        let look = |call: &Call| Waiting {
            num_inputs: batcher::num_inputs(task, &call.inputs),
            deadline: call.deadline,
            cancelled: call.is_cancelled(),
        };
        let fates = batcher::next(self.waiting.iter().map(look), room, clock::now());
        let (mut batch, mut size) = (Vec::new(), 0_u32);
        for (fate, call) in fates.into_iter().zip(std::mem::take(&mut self.waiting)) {
            match fate {
                Fate::Run => {
                    let inputs = batcher::num_inputs(task, &call.inputs);
                    size = size.saturating_add(u32::try_from(inputs).unwrap_or(u32::MAX));
                    batch.push(call);
                }
                Fate::Wait => self.waiting.push_back(call),
                Fate::Cancelled => drop(call),
                Fate::Expired => {
                    let text = "the deadline passed while the call waited for the model";
                    call.reply.finish(Err(CallError::not_started(ErrorClass::DeadlineExceeded, text)));
                }
            }
        }
        if size > 0 {
            self.sizes.record(size);
        }
        batch
    }

    /// Ends the queue: what no engine has seen may go elsewhere.
    fn give_back(&mut self) {
        self.receiver.close();
        let refuse = |call: Call| call.reply.finish(Err(not_serving()));
        self.waiting.drain(..).for_each(refuse);
        while let Ok(feed) = self.receiver.try_recv() {
            if let Feed::Call(call) = feed {
                refuse(call);
            }
        }
    }
}

#[cfg(test)]
mod tests;
