//! What stands between a replica's calls and an engine that runs batches: takes calls apart, runs their parts as
//! [`decide`](crate::decide) says, repeats a failed batch call by call so that one bad input fails alone, and puts
//! answers together in order.

use std::sync::Arc;
use std::time::Instant;

use millstream_engine::{
    Call, LoadError, Priority, Progress, Reply, StepWatch, Stepped, SteppingEngine, Timing,
};
use millstream_pipelines::Batch;
use millstream_values::{CallError, ErrorClass, Value};
use slab::Slab;

use crate::clock;
use crate::decide::{Limits, Next, Waiting, next};
use crate::learn::Learned;

/// An engine that runs parts of several calls together.
pub trait BatchEngine: Send {
    /// A call whose parts are being run: what its answer is put together from.
    type Call: Send;
    /// What runs as a whole: a text, some rows of a tensor.
    type Part: Send;
    /// What a batch gives.
    type Outcome;

    /// Tokens in one batch when the deployment sets no `batch.max_tokens`.
    const DEFAULT_MAX_TOKENS: usize = usize::MAX;

    /// Runs the model once on made-up input, with the batches to come in mind.
    ///
    /// # Errors
    /// When the model does not run.
    fn warm_up(&mut self, batch: &Batch) -> Result<(), LoadError>;

    /// Checks a call and takes it apart, into parts of at most `max_size` inputs where it can be; none when there is
    /// nothing to compute.
    ///
    /// # Errors
    /// What the caller gets instead of an answer.
    fn open(&mut self, inputs: Value, max_size: usize) -> Result<(Self::Call, Vec<Self::Part>), CallError>;

    /// What a part looks like to the batcher.
    fn shape(&self, part: &Self::Part) -> Shape;

    /// Runs parts together: at least one, all of the same group. A failed run may be repeated with fewer of them.
    ///
    /// # Errors
    /// What the caller gets when its call fails alone.
    fn run(&mut self, parts: &[&Self::Part]) -> Result<Self::Outcome, CallError>;

    /// Puts the outcome of the part at place `at` of a run into its call.
    fn fill(&self, call: &mut Self::Call, part: &Self::Part, outcome: &mut Self::Outcome, at: usize);

    /// The answer of a call all of whose parts are filled in.
    ///
    /// # Errors
    /// What the caller gets instead of an answer.
    fn close(&self, call: Self::Call) -> Result<Value, CallError>;

    /// Bytes of memory that the model holds, as far as is known.
    fn memory_bytes(&self) -> u64;
}

/// What a part looks like to the batcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Inputs in it, at least 1.
    pub inputs: usize,
    /// Tokens of each input, 0 where nothing is padded.
    pub tokens: usize,
    /// What it may run with: parts of the same group; `None` runs alone.
    pub group: Option<u64>,
}

/// A batching engine made to take calls.
pub struct Batched<E: BatchEngine> {
    engine: E,
    batch: Batch,
    clock: Box<dyn Fn() -> Instant + Send>,
    learned: Learned,
    watch: Option<Arc<dyn StepWatch>>,
    calls: Slab<Open<E::Call>>,
    /// By priority, then first come first; the parts of a call stand together.
    queue: Vec<Queued<E::Part>>,
}

/// A call under way.
struct Open<C> {
    call: C,
    reply: Reply,
    deadline: Option<Instant>,
    /// Parts not yet filled in.
    left: usize,
    arrived: Instant,
    /// When a part of it was first run.
    started: Option<Instant>,
    /// Whether the run under way has parts of it.
    is_running: bool,
    is_timed: bool,
}

struct Queued<P> {
    priority: Priority,
    waiting: Waiting,
    part: P,
}

impl<E: BatchEngine> Batched<E> {
    /// Runs calls on `engine` by these settings.
    #[must_use]
    pub fn new(engine: E, batch: Batch) -> Self {
        Self::with_clock(engine, batch, clock::now)
    }

    /// The same on a clock of the caller's.
    #[must_use]
    pub fn with_clock(engine: E, batch: Batch, clock: impl Fn() -> Instant + Send + 'static) -> Self {
        Self {
            engine,
            batch,
            clock: Box::new(clock),
            learned: Learned::default(),
            watch: None,
            calls: Slab::new(),
            queue: Vec::new(),
        }
    }

    /// What runs the batches.
    #[must_use]
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// Takes a call apart and queues its parts; gives the number of its inputs.
    fn open(&mut self, call: Call, now: Instant) -> usize {
        let Call { inputs, arrived, deadline, priority, timed, reply, .. } = call;
        let (call, parts) = match self.engine.open(inputs, self.batch.max_size.max(1) as usize) {
            Ok(opened) => opened,
            Err(error) => {
                reply.finish(Err(error));
                return 0;
            }
        };
        if parts.is_empty() {
            reply.finish(self.engine.close(call));
            return 0;
        }
        let left = parts.len();
        let id = self.calls.insert(Open {
            call,
            reply,
            deadline,
            arrived,
            started: None,
            is_running: false,
            is_timed: timed,
            left,
        });
        let place = self.queue.partition_point(|queued| queued.priority <= priority);
        let mut num_inputs = 0;
        let engine = &self.engine;
        let parts = parts.into_iter().map(|part| {
            let Shape { inputs, tokens, group } = engine.shape(&part);
            num_inputs += inputs;
            let waiting = Waiting { call: id, inputs, tokens, group, since: arrived.min(now), due: false };
            Queued { priority, waiting, part }
        });
        self.queue.splice(place..place, parts).for_each(drop);
        num_inputs
    }

    /// Takes out calls that nobody waits for or that are too late.
    fn drop_dead(&mut self, now: Instant) {
        let is_dead = |open: &Open<E::Call>| {
            open.reply.is_cancelled() || open.deadline.is_some_and(|deadline| deadline <= now)
        };
        let dead: Vec<usize> = self.calls.iter().filter(|(_, it)| is_dead(it)).map(|(id, _)| id).collect();
        for id in dead {
            let Some(open) = self.calls.try_remove(id) else { continue };
            self.queue.retain(|queued| queued.waiting.call != id);
            let text = "the deadline passed before the model ran";
            let class = ErrorClass::DeadlineExceeded;
            open.reply.finish(Err(match open.started {
                Some(_) => CallError::started(class, text),
                None => CallError::not_started(class, text),
            }));
        }
    }

    /// What to do with the queue at this moment.
    fn decide(&self, now: Instant) -> Option<Next> {
        let max_size = self.batch.max_size.max(1) as usize;
        let max_tokens = self.batch.max_tokens.map_or(E::DEFAULT_MAX_TOKENS, |max| max as usize);
        let mut limits = Limits {
            max_size,
            max_tokens,
            max_wait: self.batch.max_wait,
            preferred_sizes: &self.batch.preferred_sizes,
        };
        if let Some(target) = self.batch.target_latency {
            let oldest = self.queue.iter().map(|queued| queued.waiting.since).min()?;
            let num_inputs = self.queue.iter().map(|queued| queued.waiting.inputs).sum();
            let advice = self.learned.advise(target, max_size, (num_inputs, oldest), now);
            limits.max_size = advice.max_size;
            limits.max_wait = advice.max_wait;
        }
        next(&self.queue, |queued| &queued.waiting, &limits, now)
    }

    /// Takes parts out of the queue and runs them; gives the inputs that were run.
    fn run(&mut self, places: &[usize], due: &[usize]) -> usize {
        due.iter().for_each(|&place| self.queue[place].waiting.due = true);
        let mut place = 0;
        let parts: Vec<Queued<E::Part>> = self
            .queue
            .extract_if(.., |_| {
                place += 1;
                places.binary_search(&(place - 1)).is_ok()
            })
            .collect();
        let start = (self.clock)();
        for part in &parts {
            if let Some(open) = self.calls.get_mut(part.waiting.call) {
                open.started.get_or_insert(start);
            }
        }
        // A call that has begun is not to wait for company with its rest.
        for queued in &mut self.queue {
            let started = self.calls.get(queued.waiting.call).and_then(|open| open.started);
            queued.waiting.due |= started.is_some();
        }
        let num_inputs = parts.iter().map(|part| part.waiting.inputs).sum();
        if let Some(watch) = &self.watch {
            let units =
                parts.iter().map(|part| part.waiting.inputs.saturating_mul(part.waiting.tokens.max(1)));
            watch.computes(units.fold(0, usize::saturating_add));
        }
        match self.run_parts(&parts) {
            Ok(outcome) => {
                self.learned.ran(num_inputs, (self.clock)().saturating_duration_since(start));
                self.fill(&parts, outcome);
            }
            Err(error) => self.run_call_by_call(parts, &error),
        }
        num_inputs
    }

    /// Runs parts together. A panic leaves their calls marked.
    fn run_parts(&mut self, parts: &[Queued<E::Part>]) -> Result<E::Outcome, CallError> {
        self.mark(parts, true);
        let outcome = self.engine.run(&parts.iter().map(|queued| &queued.part).collect::<Vec<_>>());
        self.mark(parts, false);
        outcome
    }

    fn mark(&mut self, parts: &[Queued<E::Part>], is_running: bool) {
        for part in parts {
            if let Some(open) = self.calls.get_mut(part.waiting.call) {
                open.is_running = is_running;
            }
        }
    }

    /// After a failed run: every call's parts by themselves; a call whose parts fail again fails.
    fn run_call_by_call(&mut self, parts: Vec<Queued<E::Part>>, first: &CallError) {
        let mut calls: Vec<Vec<Queued<E::Part>>> = Vec::new();
        for part in parts {
            match calls.last_mut() {
                Some(own) if own[0].waiting.call == part.waiting.call => own.push(part),
                _ => calls.push(vec![part]),
            }
        }
        let is_alone = calls.len() == 1;
        for own in calls {
            let id = own[0].waiting.call;
            let outcome = if is_alone { Err(first.clone()) } else { self.run_parts(&own) };
            match outcome {
                Ok(outcome) => self.fill(&own, outcome),
                Err(error) => {
                    self.queue.retain(|queued| queued.waiting.call != id);
                    if let Some(open) = self.calls.try_remove(id) {
                        open.reply.finish(Err(error));
                    }
                }
            }
        }
    }

    /// Puts a run's outcome into its calls and answers those that are complete.
    fn fill(&mut self, parts: &[Queued<E::Part>], mut outcome: E::Outcome) {
        for (at, queued) in parts.iter().enumerate() {
            let id = queued.waiting.call;
            let Some(open) = self.calls.get_mut(id) else { continue };
            self.engine.fill(&mut open.call, &queued.part, &mut outcome, at);
            open.left -= 1;
            if open.left == 0
                && let Some(open) = self.calls.try_remove(id)
            {
                if let Some(started) = open.started.filter(|_| open.is_timed) {
                    let waited = started.saturating_duration_since(open.arrived);
                    let ran = (self.clock)().saturating_duration_since(started);
                    open.reply.timing(Timing { waited, ran });
                }
                open.reply.finish(self.engine.close(open.call));
            }
        }
    }
}

impl<E: BatchEngine> SteppingEngine for Batched<E> {
    fn warm_up(&mut self) -> Result<(), LoadError> {
        self.engine.warm_up(&self.batch)
    }

    fn step(&mut self, calls: Vec<Call>) -> Stepped {
        let now = (self.clock)();
        let num_new = calls.into_iter().map(|call| self.open(call, now)).sum();
        self.learned.came(num_new, now);
        self.drop_dead(now);
        let num_inputs = match self.decide(now) {
            None => 0,
            Some(Next::Run { parts, due }) => self.run(&parts, &due),
            Some(Next::WaitUntil(until)) => {
                let deadline = self.calls.iter().filter_map(|(_, open)| open.deadline).min();
                let until = deadline.map_or(until, |deadline| deadline.min(until));
                return Stepped { progress: Progress::Waiting { until }, num_inputs: 0 };
            }
        };
        let progress = if self.queue.is_empty() { Progress::Idle } else { Progress::Busy };
        Stepped { progress, num_inputs }
    }

    fn set_batch(&mut self, batch: &Batch) {
        self.batch = batch.clone();
    }

    fn set_watch(&mut self, watch: Arc<dyn StepWatch>) {
        self.watch = Some(watch);
    }

    fn memory_bytes(&self) -> u64 {
        self.engine.memory_bytes()
    }
}

/// The end of the replica, or a panic in the engine: what has not been run may go elsewhere. What the engine panics on ends
/// without an answer.
impl<E: BatchEngine> Drop for Batched<E> {
    fn drop(&mut self) {
        for open in self.calls.drain().filter(|open| !open.is_running) {
            open.reply.finish(Err(match open.started {
                None => CallError::not_started(ErrorClass::Unavailable, NOT_SERVING),
                Some(_) => CallError::started(ErrorClass::Unavailable, NOT_SERVING),
            }));
        }
    }
}

/// What a caller hears of a replica that ends before its call began.
const NOT_SERVING: &str = "the replica takes no calls";

#[cfg(test)]
mod tests;
