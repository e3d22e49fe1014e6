//! What stands between a replica's calls and an engine that runs batches: prepares calls, runs their parts as
//! [`WaitingCalls`] says, repeats a failed batch call by call so that one bad input fails alone, and finishes calls whose
//! parts have all run.
//!
//! The lanes of an engine share its calls: each prepares what it is given, and runs whatever comes next. So one lane
//! prepares and finishes while another one computes, and what is due never waits for a lane that is busy.

use std::sync::Arc;
use std::time::Instant;

use millstream_engine::{
    Call, EngineMeter, LoadError, Progress, StepWatch, Stepped, SteppingEngine, Timing, Uncounted,
};
use millstream_pipelines::Batch;
use millstream_pipelines::types::ModelSignature;
use millstream_values::{CallError, ErrorClass};
use parking_lot::Mutex;

use crate::engine::{BatchEngine, Company, Preparing};
use crate::waiting_calls::{FirstBatch, Open, Queued, WaitingCalls, Work};

/// One lane of a batching engine, made to take calls.
pub struct Batched<E: BatchEngine> {
    shared: Arc<Shared<E>>,
    lane: E::Lane,
    watch: Option<Arc<dyn StepWatch>>,
    meter: Arc<dyn EngineMeter>,
}

/// What the lanes of an engine share.
struct Shared<E: BatchEngine> {
    engine: E,
    calls: Mutex<WaitingCalls<E::Call, E::Part>>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
}

impl<E: BatchEngine> Batched<E> {
    /// Runs calls on the lanes of `engine` by these settings.
    #[must_use]
    pub fn lanes(engine: E, lanes: Vec<E::Lane>, batch: Batch) -> Vec<Self> {
        Self::with_clock(engine, lanes, batch, millstream_clock::now)
    }

    /// The same on a clock of the caller's.
    #[must_use]
    pub fn with_clock(
        engine: E,
        lanes: Vec<E::Lane>,
        batch: Batch,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Vec<Self> {
        let calls = Mutex::new(WaitingCalls::new(batch, E::DEFAULT_MAX_TOKENS));
        let shared = Arc::new(Shared { engine, calls, clock: Box::new(clock) });
        lanes
            .into_iter()
            .map(|lane| Self { shared: shared.clone(), lane, watch: None, meter: Arc::new(Uncounted) })
            .collect()
    }

    /// What runs the batches.
    #[must_use]
    pub fn engine(&self) -> &E {
        &self.shared.engine
    }

    /// Checks a call, takes it apart and queues its parts.
    fn prepare(&self, call: Call, max_size: usize) {
        let Shared { engine, calls, clock } = &*self.shared;
        let Call { inputs, arrived, deadline, priority, timed, span, reply, .. } = call;
        let is_wanted = || !reply.is_cancelled() && deadline.is_none_or(|deadline| deadline > clock());
        let preparing = Preparing { max_size, is_wanted: &is_wanted };
        match engine.prepare(inputs, preparing) {
            Err(error) => reply.finish(Err(error)),
            Ok((call, parts)) if parts.is_empty() => reply.finish(engine.finish(call)),
            Ok((call, parts)) => {
                let parts = parts.into_iter().map(|part| {
                    let shape = engine.shape(&part);
                    (part, shape)
                });
                let open = Open {
                    call,
                    reply,
                    deadline,
                    priority,
                    arrived,
                    is_timed: timed,
                    span,
                    started: None,
                    first_batch: FirstBatch::default(),
                    num_tokens: 0,
                    left: 0,
                };
                calls.lock().add(open, parts.collect(), clock());
            }
        }
    }

    /// Runs parts together and answers the calls that are complete by it; returns the inputs that were run.
    fn run(&mut self, parts: Vec<Queued<E::Part>>, company: Company) -> usize {
        let shared = self.shared.clone();
        let start = (shared.clock)();
        let num_inputs = parts.iter().map(|part| part.waiting.inputs).sum();
        if let Some(watch) = &self.watch {
            let units =
                parts.iter().map(|part| part.waiting.inputs.saturating_mul(part.waiting.tokens.max(1)));
            watch.computes(units.fold(0, usize::saturating_add));
        }
        let tokens = parts.iter().map(|part| part.waiting.inputs.saturating_mul(part.waiting.tokens));
        self.meter.reads(tokens.fold(0, usize::saturating_add));
        let outcome = self.run_parts(&parts, company);
        let took = (shared.clock)().saturating_duration_since(start);
        match outcome {
            Ok(mut outcome) => {
                let mut calls = shared.calls.lock();
                calls.learned.ran(num_inputs, took);
                let fill = |call: &mut E::Call, part: &E::Part, at| {
                    shared.engine.fill(call, part, &mut outcome, at);
                };
                let complete = calls.fill(&parts, fill);
                drop(calls);
                complete.into_iter().for_each(|open| shared.finish(open));
            }
            Err(error) => self.run_call_by_call(parts, &error),
        }
        shared.calls.lock().ran();
        num_inputs
    }

    /// Runs parts together. In a panic their calls end with it.
    fn run_parts(&mut self, parts: &[Queued<E::Part>], company: Company) -> Result<E::Outcome, CallError> {
        let guard = PanicGuard { shared: &self.shared, parts };
        let together: Vec<&E::Part> = parts.iter().map(|queued| &queued.part).collect();
        let outcome = self.shared.engine.run(&mut self.lane, &together, company);
        drop(guard);
        outcome
    }

    /// After a failed run: every call's parts by themselves; a call whose parts fail again fails.
    fn run_call_by_call(&mut self, parts: Vec<Queued<E::Part>>, first: &CallError) {
        let shared = self.shared.clone();
        let mut by_call: Vec<Vec<Queued<E::Part>>> = Vec::new();
        for part in parts {
            match by_call.last_mut() {
                Some(own) if own[0].waiting.call == part.waiting.call => own.push(part),
                _ => by_call.push(vec![part]),
            }
        }
        let is_alone = by_call.len() == 1;
        for own in by_call {
            let outcome = match is_alone {
                true => Err(first.clone()),
                false => self.run_parts(&own, Company::Others),
            };
            match outcome {
                Ok(mut outcome) => {
                    let fill = |call: &mut E::Call, part: &E::Part, at| {
                        shared.engine.fill(call, part, &mut outcome, at);
                    };
                    let complete = shared.calls.lock().fill(&own, fill);
                    complete.into_iter().for_each(|open| shared.finish(open));
                }
                Err(error) => {
                    let failed = shared.calls.lock().remove(own[0].waiting.call);
                    failed.into_iter().for_each(|open| open.reply.finish(Err(error.clone())));
                }
            }
        }
    }
}

impl<E: BatchEngine> Shared<E> {
    /// Answers a call all of whose parts have run.
    fn finish(&self, open: Open<E::Call>) {
        if let Some(started) = open.started.filter(|_| open.is_timed) {
            let waited = started.saturating_duration_since(open.arrived);
            let ran = (self.clock)().saturating_duration_since(started);
            let FirstBatch { size, mates } = open.first_batch;
            let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
            let (batch_size, input_tokens) = (small(size), small(open.num_tokens));
            open.reply.timing(Timing { waited, ran, batch_size, input_tokens, output_tokens: 0, mates });
        }
        open.reply.finish(self.engine.finish(open.call));
    }
}

/// Ends the calls of a run in which the engine panics, while it does: they may be what it panics on.
struct PanicGuard<'a, E: BatchEngine> {
    shared: &'a Shared<E>,
    parts: &'a [Queued<E::Part>],
}

impl<E: BatchEngine> Drop for PanicGuard<'_, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut calls = self.shared.calls.lock();
            let ended: Vec<_> =
                self.parts.iter().filter_map(|part| calls.remove(part.waiting.call)).collect();
            drop(calls);
            drop(ended);
        }
    }
}

impl<E: BatchEngine> SteppingEngine for Batched<E> {
    fn warm_up(&mut self) -> Result<(), LoadError> {
        let batch = self.shared.calls.lock().batch.clone();
        self.shared.engine.warm_up(&mut self.lane, &batch)
    }

    fn step(&mut self, calls: Vec<Call>) -> Stepped {
        let shared = self.shared.clone();
        let max_size = shared.calls.lock().batch.max_size.max(1) as usize;
        calls.into_iter().for_each(|call| self.prepare(call, max_size));
        let now = (shared.clock)();
        let (ended, work, has_more) = {
            let mut calls = shared.calls.lock();
            let ended = calls.drop_dead(now);
            let work = calls.next(now);
            (ended, work, calls.has_waiting())
        };
        ended.into_iter().for_each(|(reply, error)| reply.finish(Err(error)));
        let num_inputs = match work {
            Work::Nothing => return Stepped { progress: Progress::Idle, num_inputs: 0 },
            Work::WaitUntil(until) => {
                return Stepped { progress: Progress::Waiting { until }, num_inputs: 0 };
            }
            Work::Run { parts, company } => {
                if let Some(watch) = self.watch.as_ref().filter(|_| has_more) {
                    watch.has_more();
                }
                self.run(parts, company)
            }
        };
        let has_more = shared.calls.lock().has_waiting();
        Stepped { progress: if has_more { Progress::Busy } else { Progress::Idle }, num_inputs }
    }

    fn set_batch(&mut self, batch: &Batch) {
        self.shared.calls.lock().batch = batch.clone();
    }

    fn set_watch(&mut self, watch: Arc<dyn StepWatch>) {
        self.watch = Some(watch);
    }

    fn set_meter(&mut self, meter: Arc<dyn EngineMeter>) {
        self.meter = meter;
    }

    fn memory_bytes(&self) -> u64 {
        self.shared.engine.memory_bytes()
    }

    fn signature(&self) -> Option<ModelSignature> {
        self.shared.engine.signature()
    }
}

/// The end of the replica: what has not been run may go elsewhere.
impl<E: BatchEngine> Drop for Shared<E> {
    fn drop(&mut self) {
        for open in self.calls.get_mut().drain() {
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
