//! One replica's thread: loads the engine, warms it up, and for engines that compute runs them step by step until the
//! replica ends. A panic ends here: the calls in the engine end as `Unavailable`, the queued ones are given back as
//! not started, the owner is told, and no other replica notices.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::{io, mem};

use millstream_engine::{Engine, LoadError, Progress, StepWatch, SteppingEngine};

use crate::clock;
use crate::panics::panic_text;
use crate::queue::Received;
use crate::shared::{Event, Load, Runner, Shared};

/// Starts the thread. It lives until the replica ends, or for a concurrent engine until that is loaded.
pub(crate) fn spawn(name: &str, shared: Arc<Shared>, load: Load) -> io::Result<()> {
    std::thread::Builder::new().name(format!("engine-{name}")).spawn(move || run(&shared, load))?;
    Ok(())
}

fn run(shared: &Arc<Shared>, load: Load) {
    let outcome = catch_unwind(AssertUnwindSafe(|| live(shared, load)));
    let failure = match outcome {
        Ok(Ok(Life::HandedOver)) => return,
        Ok(Ok(Life::Stopped)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => {
            let text = panic_text(&*panic);
            // What a panic carries may panic itself when it is dropped.
            mem::forget(panic);
            Some(text)
        }
    };
    shared.stop();
    shared.tell(Event::Ended(failure));
}

/// How an engine's time on the thread ended without a failure.
enum Life {
    /// It needs no thread.
    HandedOver,
    /// The replica ended.
    Stopped,
}

fn live(shared: &Arc<Shared>, load: Load) -> Result<Life, LoadError> {
    let engine = load(&|doing| shared.tell(Event::Doing(doing.to_owned())))?;
    if shared.stop.is_cancelled() {
        return Ok(Life::Stopped);
    }
    match engine {
        Engine::Concurrent(engine) => {
            shared.ready(Runner::Tasks(engine), 0);
            Ok(Life::HandedOver)
        }
        Engine::Stepping(mut engine) => {
            shared.tell(Event::Doing("warming up".to_owned()));
            engine.warm_up()?;
            engine.set_watch(Arc::new(Watch(shared.clone())));
            shared.ready(Runner::Thread, engine.memory_bytes());
            let watch = shared.runtime.spawn(watch(shared.clone()));
            serve(&mut *engine, shared);
            watch.abort();
            Ok(Life::Stopped)
        }
    }
}

/// The engine's side of the watch.
struct Watch(Arc<Shared>);

impl StepWatch for Watch {
    fn computes(&self, units: usize) {
        self.0.watchdog.computes(units, clock::now());
    }
}

/// Feeds the engine until the replica ends. Blocks only while there is nothing to do.
fn serve(engine: &mut dyn SteppingEngine, shared: &Shared) {
    let mut progress = Progress::Idle;
    while shared.queue.receive(progress) == Received::News {
        if let Some(batch) = shared.queue.new_batch() {
            engine.set_batch(&batch);
        }
        let calls = shared.queue.take(progress, engine.room(), clock::now());
        if calls.is_empty() && progress == Progress::Idle {
            continue;
        }
        shared.running(&calls);
        shared.watchdog.begin(clock::now());
        let stepped = engine.step(calls);
        shared.watchdog.end(clock::now());
        progress = stepped.progress;
        if let Ok(size @ 1..) = u32::try_from(stepped.num_inputs) {
            shared.batch_sizes.record(size);
        }
    }
}

/// Looks after the thread's steps, and gives the engine up when one does not come back.
async fn watch(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.watchdog.interval()).await;
        if let Some(limit) = shared.watchdog.overdue(clock::now()) {
            let reason = format!(
                "a step of the engine has not come back for {limit:?}; if the model needs that long, set a longer `step_timeout`"
            );
            return shared.give_up(reason);
        }
    }
}
