//! One replica's threads: the first loads the engine and warms it up; for engines that compute there is one for each lane, which runs
//! it step by step until the replica ends. A panic ends here: the calls in the engine end as `Unavailable`, the queued ones are given
//! back as not started, the owner is told, and no other replica notices.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, mem};

use millstream_engine::{Engine, LoadError, LoadedModel, Progress, StepWatch, SteppingEngine};

use crate::panics::panic_text;
use crate::queue::Received;
use crate::shared::{Event, Load, Runner, Shared};
use crate::tasks;

/// Starts the first thread. It lives until the replica ends, or for a concurrent engine until that is loaded.
pub(crate) fn spawn(name: &str, shared: Arc<Shared>, load: Load) -> io::Result<()> {
    let name = format!("engine-{name}");
    let own_name = name.clone();
    std::thread::Builder::new().name(name).spawn(move || run(&own_name, &shared, load))?;
    Ok(())
}

fn run(name: &str, shared: &Arc<Shared>, load: Load) {
    match caught(|| start(shared, load)) {
        Ok(Some(lanes)) => serve_all(name, shared, lanes),
        Ok(None) => {}
        Err(failure) => {
            shared.stop();
            if failure.is_permanent {
                shared.tell(Event::Unloadable);
            }
            shared.tell(Event::Ended(Some(failure.text)));
        }
    }
}

/// Why work was not done.
struct Failed {
    text: String,
    /// Whether it would fail again.
    is_permanent: bool,
}

/// The result of work that may panic, or why it failed.
fn caught<T>(work: impl FnOnce() -> Result<T, LoadError>) -> Result<T, Failed> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| Failed { text: error.to_string(), is_permanent: true }),
        Err(panic) => {
            let text = panic_text(&*panic);
            // What a panic carries may panic itself when it is dropped.
            mem::forget(panic);
            Err(Failed { text, is_permanent: false })
        }
    }
}

type Lane = Box<dyn SteppingEngine>;

/// Loads the engine; returns its lanes, warm, unless it needs no thread.
fn start(shared: &Arc<Shared>, load: Load) -> Result<Option<Vec<Lane>>, LoadError> {
    let engine = load(&|doing| shared.tell(Event::Doing(doing.to_owned())))?;
    match engine {
        Engine::Concurrent(engine) => {
            if !shared.stop.is_cancelled() {
                shared.ready(Runner::Tasks(engine.clone()), LoadedModel::default());
            }
            shared.runtime.spawn(tasks::watch(shared.clone(), engine));
            Ok(None)
        }
        Engine::Stepping(_) if shared.stop.is_cancelled() => Ok(Some(Vec::new())),
        Engine::Stepping(mut lanes) => {
            shared.tell(Event::Doing("warming up".to_owned()));
            for (number, lane) in lanes.iter_mut().enumerate() {
                lane.warm_up()?;
                lane.set_watch(Arc::new(Watch { shared: shared.clone(), lane: number }));
                lane.set_meter(shared.meter.clone());
            }
            let model = lanes.first().map_or_else(LoadedModel::default, |lane| LoadedModel {
                memory_bytes: lane.memory_bytes(),
                signature: lane.signature().map(Arc::new),
            });
            shared.ready(Runner::Threads, model);
            Ok(Some(lanes))
        }
    }
}

/// Serves each lane on a thread of its own, the first one on this.
fn serve_all(name: &str, shared: &Arc<Shared>, lanes: Vec<Lane>) {
    shared.runtime.spawn(watch(shared.clone()));
    let left = Arc::new(AtomicUsize::new(lanes.len().max(1)));
    let mut lanes = lanes.into_iter().enumerate();
    let first = lanes.next();
    for (number, lane) in lanes {
        let (shared_too, left_too) = (shared.clone(), left.clone());
        let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
        let spawned = thread.spawn(move || live(&shared_too, Some((number, lane)), &left_too));
        if let Err(error) = spawned {
            left.fetch_sub(1, Ordering::AcqRel);
            shared.stop();
            shared.tell(Event::Ended(Some(format!("cannot start an engine's thread: {error}"))));
        }
    }
    live(shared, first, &left);
}

/// Serves a lane to its end. The last one tells that the engine is gone.
fn live(shared: &Shared, lane: Option<(usize, Lane)>, left: &AtomicUsize) {
    let failure = match lane {
        None => None,
        Some((number, mut lane)) => caught(|| {
            serve(number, &mut *lane, shared);
            drop(lane);
            Ok(())
        })
        .err()
        .map(|failed| failed.text),
    };
    let failed = failure.is_some();
    shared.stop();
    if failed {
        shared.tell(Event::Ended(failure));
    }
    if left.fetch_sub(1, Ordering::AcqRel) == 1 && !failed {
        shared.tell(Event::Ended(None));
    }
}

/// A lane's side of the watch.
struct Watch {
    shared: Arc<Shared>,
    lane: usize,
}

impl StepWatch for Watch {
    fn computes(&self, units: usize) {
        self.shared.watchdog.computes(self.lane, units, millstream_clock::now());
    }

    fn has_more(&self) {
        self.shared.queue.wake();
    }
}

/// Feeds a lane until the replica ends. Blocks only while there is nothing to do.
fn serve(number: usize, lane: &mut dyn SteppingEngine, shared: &Shared) {
    let mut progress = Progress::Idle;
    while shared.queue.receive(number, progress, lane.room()) == Received::News {
        if let Some(batch) = shared.queue.new_batch() {
            lane.set_batch(&batch);
        }
        let calls = shared.queue.take(number, progress, lane.room(), millstream_clock::now());
        shared.running(&calls);
        shared.watchdog.begin(number, millstream_clock::now());
        let stepped = lane.step(calls);
        shared.watchdog.end(number, stepped.num_inputs, millstream_clock::now());
        progress = stepped.progress;
        if stepped.num_inputs > 0 {
            shared.meter.ran(stepped.num_inputs);
        }
    }
}

/// Looks after the lanes' steps until the replica ends, and gives the engine up when one does not come back.
async fn watch(shared: Arc<Shared>) {
    loop {
        let pause = tokio::time::sleep(shared.watchdog.interval());
        if shared.stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
        if let Some(limit) = shared.watchdog.overdue(millstream_clock::now()) {
            let reason = format!(
                "a step of the engine has not come back for {limit:?}; if the model needs that long, set a longer `step_timeout`"
            );
            return shared.give_up(reason);
        }
    }
}
