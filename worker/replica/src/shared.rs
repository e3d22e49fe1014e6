//! What the owner of a replica, its thread and its calls share.

use std::sync::{Arc, OnceLock};

use millstream_calls::call::Ender;
use millstream_engine::{Call, ConcurrentEngine, Engine, EngineMeter, LoadError, LoadedModel};
use millstream_values::{CallError, ErrorClass};
use parking_lot::Mutex;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use crate::queue::Queue;
use crate::slots::Slots;
use crate::watchdog::Watchdog;

/// Loads the engine, on the replica's thread; tells what it is doing in a few words.
pub type Load = Box<dyn FnOnce(&(dyn Fn(&str) + Send + Sync)) -> Result<Engine, LoadError> + Send>;

/// What a replica tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What it is doing while it loads, for people.
    Doing(String),
    /// Its model cannot be loaded, and trying again will not help as long as its files are what they are. Its end follows.
    Unloadable,
    /// Its engine is warm: it takes calls.
    Ready(LoadedModel),
    /// It takes no calls any more, and its engine is gone or given up: as told, or by the given failure. A concurrent engine may
    /// fail several times.
    Ended(Option<String>),
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) slots: Arc<Slots>,
    pub(crate) queue: Queue,
    pub(crate) watchdog: Watchdog,
    /// What runs the calls, once it is loaded.
    runner: OnceLock<Runner>,
    /// Calls that the engine's thread has taken.
    running: Mutex<Vec<Ender>>,
    /// Cancelled when the replica ends: drops the futures of a concurrent engine.
    pub(crate) stop: CancellationToken,
    pub(crate) runtime: runtime::Handle,
    pub(crate) meter: Arc<dyn EngineMeter>,
    tell: Box<dyn Fn(Event) + Send + Sync>,
}

/// What runs a replica's calls.
pub(crate) enum Runner {
    /// Its threads, which take them from the queue.
    Threads,
    /// The async runtime.
    Tasks(Arc<dyn ConcurrentEngine>),
}

impl Shared {
    /// A replica that is not ready, with room for so many calls. The calling thread is on the runtime on which what has to wait
    /// runs.
    pub(crate) fn new(
        max_ongoing: u32,
        meter: Arc<dyn EngineMeter>,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        Self {
            slots: Slots::new(max_ongoing),
            queue: Queue::default(),
            watchdog: Watchdog::default(),
            runner: OnceLock::new(),
            running: Mutex::default(),
            stop: CancellationToken::new(),
            runtime: runtime::Handle::current(),
            meter,
            tell: Box::new(tell),
        }
    }

    /// What runs the calls, once it is loaded.
    pub(crate) fn runner(&self) -> Option<&Runner> {
        self.runner.get()
    }

    pub(crate) fn tell(&self, event: Event) {
        (self.tell)(event);
    }

    /// The engine is loaded and warm.
    pub(crate) fn ready(&self, runner: Runner, model: LoadedModel) {
        // Set once: an engine loads once.
        let _ = self.runner.set(runner);
        self.tell(Event::Ready(model));
    }

    /// The thread has taken calls, which it may not come back from.
    pub(crate) fn running(&self, calls: &[Call]) {
        let mut running = self.running.lock();
        running.retain(|call| !call.is_over());
        running.extend(calls.iter().map(|call| call.reply.ender()));
    }

    /// Takes no more calls; what no engine has seen may go elsewhere.
    pub(crate) fn stop(&self) {
        self.slots.close();
        self.stop.cancel();
        for call in self.queue.close() {
            call.reply.finish(Err(not_serving()));
        }
    }

    /// Gives up an engine that does not come back, and with it the calls that it has.
    pub(crate) fn give_up(&self, reason: String) {
        self.stop();
        for call in self.running.lock().drain(..) {
            call.fail(CallError::started(ErrorClass::Unavailable, "the replica's engine does not come back"));
        }
        self.tell(Event::Ended(Some(reason)));
    }
}

/// The answer of a replica that is not there, drains or has just ended.
pub(crate) fn not_serving() -> CallError {
    CallError::not_started(ErrorClass::Unavailable, "the replica takes no calls")
}
