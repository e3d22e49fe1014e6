//! The contract between a replica and the engine that runs its model.
//!
//! The replica (in `millstream-worker`) owns admission, queue and thread; an engine only loads a model and does the work
//! that it is given. Engines that run batches implement `BatchEngine` of `millstream-batching`, which makes a
//! [`SteppingEngine`] of them. Engines know nothing of nodes, routes or the network.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod meter;
mod models;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

pub use crate::meter::{EngineMeter, FinishReason, Generated, PrefixLookup, SequenceLoad, Uncounted};
pub use crate::models::ModelStore;
pub use millstream_calls::call::{
    CallContext, CallRequest, MAX_MATES, Priority, Reply, ResponseMode, SpanRef, Timing,
};
use millstream_calls::{CallError, ErrorClass, Value};
use millstream_pipelines::types::ModelSignature;
use millstream_pipelines::{Batch, DeploymentSpec};

/// What an engine gets to load a model.
pub struct LoadArgs<'a> {
    /// The deployment's settings: task, batch, engine options.
    pub spec: &'a DeploymentSpec,
    /// Folder of the model's files; `None` for engines without a model.
    pub model_dir: Option<PathBuf>,
    /// CPU threads that the engine may keep busy, at least 1.
    pub threads: usize,
    /// The parts of GPUs that it may use; empty without any.
    pub gpus: &'a [GpuShare],
    /// What replicas of one model share.
    pub models: &'a ModelStore,
    /// Tells people what is being done, in a few words (`loading model.safetensors`).
    pub progress: &'a (dyn Fn(&str) + Send + Sync),
}

/// What a loaded model is, for those who ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadedModel {
    /// Bytes of memory that it holds, as far as its engine knows.
    pub memory_bytes: u64,
    /// The tensors that it takes and returns, where they are the call's inputs and answer.
    pub signature: Option<Arc<ModelSignature>>,
}

/// Part of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuShare {
    /// Which device of this node.
    pub index: u32,
    /// Thousandths of it; how much of its memory is the deployment's `demand` to say.
    pub milli: u32,
}

impl LoadArgs<'_> {
    /// The folder of the model's files, for an engine of that name that needs one.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] when the deployment has no model.
    pub fn model_dir_for(&self, engine: &str) -> Result<&Path, LoadError> {
        self.model_dir.as_deref().ok_or_else(|| {
            LoadError::Unsupported(format!(
                "`{engine}` needs a model; set `model` to one with safetensors weights"
            ))
        })
    }

    /// How many lanes an engine of batches has: as the deployment says, else one for each thread. A lane that has no company may
    /// use all of the threads, so that a lone caller loses nothing by it.
    #[must_use]
    pub fn num_lanes(&self) -> usize {
        let asked = self.spec.lanes.map(|lanes| usize::try_from(lanes).unwrap_or(usize::MAX));
        asked.unwrap_or(self.threads).clamp(1, self.threads.max(1))
    }
}

/// A kind of engine; one value for the life of the worker.
pub trait EngineFactory: Send + Sync + 'static {
    /// Its name in pipeline files, such as `candle`.
    fn name(&self) -> &'static str;

    /// Whether this engine would run the model in `args` (by the files that are there) and can do so on this machine.
    /// Used to choose an engine for `engine = "auto"`.
    ///
    /// # Errors
    /// [`LoadError`] saying why not, for the message that lists every engine's reason.
    fn accepts(&self, args: &LoadArgs<'_>) -> Result<(), LoadError>;

    /// Loads the model. Runs on a thread of its own and may take long.
    ///
    /// # Errors
    /// [`LoadError`] for operators: what, where, what to do.
    fn load(&self, args: &LoadArgs<'_>) -> Result<Engine, LoadError>;
}

/// A loaded engine.
pub enum Engine {
    /// Works in steps, on a thread for each of these lanes: models. Lanes share what they have been given: a call that went to one may
    /// be run and answered by another.
    Stepping(Vec<Box<dyn SteppingEngine>>),
    /// Answers many calls at once without a thread: whatever waits rather than computes.
    Concurrent(Arc<dyn ConcurrentEngine>),
}

impl Engine {
    /// An engine with one lane.
    #[must_use]
    pub fn stepping(engine: impl SteppingEngine + 'static) -> Self {
        Self::Stepping(vec![Box::new(engine)])
    }

    /// An engine with these lanes.
    #[must_use]
    pub fn lanes<L: SteppingEngine + 'static>(lanes: Vec<L>) -> Self {
        let boxed = |lane| -> Box<dyn SteppingEngine> { Box::new(lane) };
        Self::Stepping(lanes.into_iter().map(boxed).collect())
    }
}

/// An engine that computes, or one of its lanes. It lives on a thread of its own; the replica calls [`step`](Self::step) in a loop.
pub trait SteppingEngine: Send {
    /// Runs the model once on made-up input, so that the first real call meets no cold path.
    ///
    /// # Errors
    /// When the model does not run.
    fn warm_up(&mut self) -> Result<(), LoadError>;

    /// How many calls the next step can take. Asked before each step.
    fn room(&self) -> usize {
        usize::MAX
    }

    /// Takes new calls and does one unit of work: a whole batch, or one decoding step of every sequence under way.
    /// Each call is answered through its reply, now or in a later step; a cancelled one may be dropped unanswered.
    /// Called with no calls to go on with what it has, if anything.
    fn step(&mut self, calls: Vec<Call>) -> Stepped;

    /// Goes on with these batch settings, from the next step on.
    fn set_batch(&mut self, batch: &Batch);

    /// Where it is to say how much each step computes. An engine that does not is judged by the number of its steps alone.
    fn set_watch(&mut self, watch: Arc<dyn StepWatch>) {
        let _ = watch;
    }

    /// Where it is to count tokens. Engines of tensors have none.
    fn set_meter(&mut self, meter: Arc<dyn EngineMeter>) {
        let _ = meter;
    }

    /// Bytes of memory that the model holds, as far as the engine knows.
    fn memory_bytes(&self) -> u64;

    /// The tensors that the model takes and returns, where they are the call's inputs and answer.
    fn signature(&self) -> Option<ModelSignature> {
        None
    }
}

/// Watches that steps come back.
pub trait StepWatch: Send + Sync {
    /// The step under way is about to compute so much: tokens, rows, whatever its time grows with.
    fn computes(&self, units: usize);

    /// There is work for another lane, if one is idle.
    fn has_more(&self) {}
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stepped {
    /// What it leaves behind.
    pub progress: Progress,
    /// Inputs (or sequences) that ran together in it, 0 for none.
    pub num_inputs: usize,
}

/// What a step leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Every call is answered.
    Idle,
    /// Calls are under way: call `step` again at once.
    Busy,
    /// Calls wait for company: call `step` again with the next ones, or at this instant.
    Waiting {
        /// When waiting is over.
        until: Instant,
    },
}

/// What an engine works on while others go on.
pub type EngineFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An engine that waits for something else (a clock, another server) and so can hold many calls.
pub trait ConcurrentEngine: Send + Sync {
    /// Works on one call to its end. The future is dropped when the caller leaves.
    fn call(&self, request: CallRequest, reply: Reply) -> EngineFuture<'static, ()>;

    /// The replica takes no more calls: what the engine waits for may be told. Calls that it has go on.
    fn drain(&self) {}

    /// Whether what the engine waits for still answers. Asked every few seconds; after several errors in a row the replica fails with
    /// the last one.
    fn health(&self) -> EngineFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Ends what belongs to the engine, such as a process. The replica is over once this returns, or takes too long.
    fn end(&self) -> EngineFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// One call as an engine sees it.
#[derive(Debug)]
pub struct Call {
    /// A map of inputs; names follow from the deployment's task.
    pub inputs: Value,
    /// When it came to the replica.
    pub arrived: Instant,
    /// Work past this instant is in vain.
    pub deadline: Option<Instant>,
    /// Whether parts are wanted as they come.
    pub answer: ResponseMode,
    /// Who goes first.
    pub priority: Priority,
    /// Whether it is not to run beside others.
    pub alone: bool,
    /// Whether the caller wants to know where the time went: [`Reply::timing`].
    pub timed: bool,
    /// Its span, where it is traced.
    pub span: Option<SpanRef>,
    /// Where the answer goes; also tells whether the caller has left.
    pub reply: Reply,
}

impl Call {
    /// A call as most are: without a deadline, answered in one piece, of normal priority.
    #[must_use]
    pub fn new(inputs: Value, reply: Reply, arrived: Instant) -> Self {
        let (answer, priority) = (ResponseMode::Whole, Priority::default());
        let (alone, timed) = (false, false);
        Self { inputs, arrived, deadline: None, answer, priority, alone, timed, span: None, reply }
    }

    /// The call that was asked for.
    #[must_use]
    pub fn of(request: CallRequest, reply: Reply, arrived: Instant) -> Self {
        let CallRequest { context, inputs, answer, timed } = request;
        let CallContext { deadline, priority, alone, trace, .. } = context;
        let span = trace.as_ref().map(SpanRef::from);
        Self { inputs, arrived, deadline, answer, priority, alone, timed, span, reply }
    }

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }
}

/// A failure that is the caller's fault: its inputs do not fit the model. Becomes class `Invalid`.
#[must_use]
pub fn invalid_input(message: impl Into<String>) -> CallError {
    CallError::started(ErrorClass::Invalid, message)
}

/// Why a model does not load, for operators: what, where, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Something that the engine needs is not on this machine.
    #[error("{0}")]
    NotInstalled(String),
    /// The files are not what this engine runs.
    #[error("{0}")]
    Unsupported(String),
    /// The files are there but broken or inconsistent.
    #[error("{0}")]
    Model(String),
}
