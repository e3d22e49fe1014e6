//! What an engine is that runs parts of several calls together, in three phases: a call is prepared and finished on any thread, and
//! its parts run on one of the engine's lanes.

use millstream_engine::LoadError;
use millstream_pipelines::Batch;
use millstream_pipelines::types::ModelSignature;
use millstream_values::{CallError, ErrorClass, Value};

/// See the module.
pub trait BatchEngine: Send + Sync + 'static {
    /// What one run needs for itself: a session, buffers. As many runs go on at a time as there are lanes.
    type Lane: Send + 'static;
    /// A call whose parts are being run: what its answer is put together from.
    type Call: Send;
    /// What runs as a whole: a text, some rows of a tensor.
    type Part: Send;
    /// What a batch gives.
    type Outcome;

    /// Tokens in one batch when the deployment sets no `batch.max_tokens`.
    const DEFAULT_MAX_TOKENS: usize = usize::MAX;

    /// Runs the model once on made-up input, with the batches to come in mind. Every lane is warmed up, one after the other.
    ///
    /// # Errors
    /// When the model does not run.
    fn warm_up(&self, lane: &mut Self::Lane, batch: &Batch) -> Result<(), LoadError>;

    /// Checks a call and takes it apart, into parts of at most `max_size` inputs where it can be; none when there is
    /// nothing to compute.
    ///
    /// # Errors
    /// What the caller gets instead of an answer.
    fn prepare(
        &self,
        inputs: Value,
        preparing: Preparing<'_>,
    ) -> Result<(Self::Call, Vec<Self::Part>), CallError>;

    /// What a part looks like to the batcher.
    fn shape(&self, part: &Self::Part) -> Shape;

    /// Runs parts together: at least one, all of the same group. A failed run may be repeated with fewer of them.
    ///
    /// # Errors
    /// What the caller gets when its call fails alone.
    fn run(
        &self,
        lane: &mut Self::Lane,
        parts: &[&Self::Part],
        company: Company,
    ) -> Result<Self::Outcome, CallError>;

    /// Puts the outcome of the part at place `at` of a run into its call.
    fn fill(&self, call: &mut Self::Call, part: &Self::Part, outcome: &mut Self::Outcome, at: usize);

    /// The answer of a call all of whose parts are filled in.
    ///
    /// # Errors
    /// What the caller gets instead of an answer.
    fn finish(&self, call: Self::Call) -> Result<Value, CallError>;

    /// Bytes of memory that the model holds, as far as is known.
    fn memory_bytes(&self) -> u64;

    /// The tensors that the model takes and returns, where they are the call's inputs and answer.
    fn signature(&self) -> Option<ModelSignature> {
        None
    }
}

/// Whether other lanes have work beside a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// They have none: the run may keep all of the engine's threads busy.
    Alone,
    /// Some have, or will at once: it has one thread.
    Others,
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

/// How a call is to be prepared.
#[derive(Clone, Copy)]
pub struct Preparing<'a> {
    /// Most inputs in a part, where it can be cut.
    pub max_size: usize,
    /// Whether somebody waits for the answer and there is time left: asked between pieces of long work.
    pub is_wanted: &'a dyn Fn() -> bool,
}

impl Preparing<'_> {
    /// Goes on only while the call is wanted.
    ///
    /// # Errors
    /// What a call hears that is not wanted any more.
    pub fn go_on(self) -> Result<(), CallError> {
        if (self.is_wanted)() {
            return Ok(());
        }
        Err(CallError::started(ErrorClass::DeadlineExceeded, TOO_LATE))
    }
}

/// What a call hears whose time is over before its parts have run.
pub(crate) const TOO_LATE: &str = "the deadline passed before the model ran";
