//! The stepping engine: prompts of new calls first, then one token for every sequence under way, step after step, so
//! that requests progress together.
//!
//! A sequence whose client reads slowly pauses until it has read on, so that its parts take no memory without bound. One whose caller has left, or whose deadline has passed, is dropped between two tokens. What is said about a
//! failure to operators is logged without prompts or answers.

use std::sync::Arc;
use std::time::Duration;

use millstream_engine::{
    Call, EngineMeter, FinishReason, LoadError, Progress, SequenceLoad, StepWatch, Stepped, SteppingEngine,
    invalid_input,
};
use millstream_engine_answers::{Answer, Asked, GenerateCall, too_late};
use millstream_model_files::TokenCall;
use millstream_pipelines::Batch;
use millstream_values::{CallError, Value};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::ThreadPool;

use crate::decoder::{Cache, Decoder};
use crate::failures::{failed, internal};
use crate::sampler::choose;
use crate::sequence::Sequence;
use crate::stream::Detokenizer;
use crate::text_side::TextSide;

/// A loaded generator.
pub(crate) struct GeneratorEngine {
    /// Shared by replicas of the same model.
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) text: TextSide,
    pub(crate) threads: usize,
    /// `None` with one thread: the caller's own is enough.
    pub(crate) pool: Option<ThreadPool>,
    /// Most sequences under way.
    pub(crate) max_sequences: usize,
    pub(crate) active: Vec<Sequence>,
    /// Where it says how much a step computes.
    pub(crate) watch: Option<Arc<dyn StepWatch>>,
    /// Where it counts tokens.
    pub(crate) meter: Arc<dyn EngineMeter>,
}

/// A prompt that has run.
struct Prefilled {
    request: GenerateCall,
    cache: Cache,
    /// What its first token is chosen by.
    logits: Vec<f32>,
    prompt_tokens: usize,
    max_tokens: usize,
}

/// How long an engine sleeps whose clients all read slowly, unless one of them reads on or leaves.
const MAX_PAUSE: Duration = Duration::from_millis(500);

impl GeneratorEngine {
    /// Runs `work` on the engine's threads.
    fn on_threads<R: Send>(&self, work: impl FnOnce(&Decoder, usize) -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(|| work(&self.decoder, self.threads)),
            None => work(&self.decoder, 1),
        }
    }

    /// Reads a call and runs its prompt; answers it when it is wrong or complete after its first token.
    fn start(&mut self, call: Call) {
        if call.is_cancelled() {
            return;
        }
        if call.deadline.is_some_and(|deadline| deadline <= millstream_clock::now()) {
            return call.reply.finish(Err(too_late()));
        }
        if let Some(tokens) = call.inputs.as_map().and_then(TokenCall::parse) {
            let context = self.decoder.config().max_context_tokens;
            return call.reply.finish(tokens.and_then(|tokens| self.text.answer_tokens(tokens, context)));
        }
        let started = millstream_clock::now();
        let prefilled = match self.prefill(&call.inputs) {
            Ok(prefilled) => prefilled,
            Err(error) => return call.reply.finish(Err(error)),
        };
        let Prefilled { request, cache, logits, prompt_tokens, max_tokens } = prefilled;
        #[expect(clippy::disallowed_methods, reason = "a client that gives no seed gets a new one")]
        let random = request.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
        let sequence = Sequence {
            cache,
            next: 0,
            sampling: request.sampling,
            random,
            detokenizer: Detokenizer::default(),
            answer: Answer::new(call, Asked { stop: request.stop, prompt_tokens, max_tokens }, started),
        };
        if let Some(sequence) = self.advance(sequence, &logits) {
            self.active.push(sequence);
        }
    }

    /// Runs a call's prompt.
    fn prefill(&self, inputs: &Value) -> Result<Prefilled, CallError> {
        let config = self.decoder.config();
        let request = GenerateCall::parse(inputs, config.defaults)?;
        let context = config.max_context_tokens;
        let ids = self.text.encode(&request.prompt, context)?;
        if ids.len() >= context {
            return Err(invalid_input(format!(
                "the prompt has {} tokens, but the model's context holds {context} with at least one of the answer; \
                 shorten the prompt",
                ids.len()
            )));
        }
        let max_tokens = request.max_tokens.min(context - ids.len());
        self.computes(ids.len());
        self.meter.reads(ids.len());
        let mut cache = Cache::new(config);
        let logits = self.on_threads(|decoder, threads| decoder.prefill(&ids, &mut cache, threads));
        let logits = logits.map_err(|error| failed(&error))?;
        Ok(Prefilled { request, cache, logits, prompt_tokens: ids.len(), max_tokens })
    }

    /// Chooses a sequence's next token; returns the sequence back unless its answer is complete.
    fn advance(&self, mut sequence: Sequence, logits: &[f32]) -> Option<Sequence> {
        let Some(token) = choose(logits, sequence.sampling, &mut sequence.random) else {
            let error = internal("the model gave no numbers to choose a token by");
            sequence.answer.fail(error, FinishReason::Error, &*self.meter);
            return None;
        };
        match sequence.push(token, &self.text, &self.decoder.config().end_tokens, &*self.meter) {
            None => Some(sequence),
            Some(finish) => {
                sequence.finish(finish, &self.text, &*self.meter);
                None
            }
        }
    }

    /// Drops sequences that nobody waits for any more.
    fn drop_dead(&mut self) {
        let now = millstream_clock::now();
        for sequence in std::mem::take(&mut self.active) {
            if sequence.answer.is_cancelled() {
                sequence.answer.left(&*self.meter);
            } else if sequence.answer.is_late(now) {
                sequence.answer.fail(too_late(), FinishReason::Abort, &*self.meter);
            } else {
                self.active.push(sequence);
            }
        }
    }

    /// One token for every sequence whose client reads; returns how many those are.
    fn decode(&mut self) -> usize {
        let is_behind = |sequence: &Sequence| sequence.answer.is_behind();
        let (paused, mut sequences): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.active).into_iter().partition(is_behind);
        self.active = paused;
        let num_sequences = sequences.len();
        if sequences.is_empty() {
            return 0;
        }
        self.computes(num_sequences);
        let ids: Vec<u32> = sequences.iter().map(|sequence| sequence.next).collect();
        let mut caches: Vec<&mut Cache> = sequences.iter_mut().map(|sequence| &mut sequence.cache).collect();
        match self.on_threads(|decoder, threads| decoder.decode(&ids, &mut caches, threads)) {
            Ok(logits) => {
                let rows = logits.chunks_exact(self.decoder.config().vocab_size);
                let pairs = sequences.into_iter().zip(rows);
                let going_on: Vec<_> = pairs.filter_map(|(it, row)| self.advance(it, row)).collect();
                self.active.extend(going_on);
            }
            Err(error) => {
                let error = failed(&error);
                for sequence in sequences {
                    sequence.answer.fail(error.clone(), FinishReason::Error, &*self.meter);
                }
            }
        }
        num_sequences
    }

    fn load(&self) -> SequenceLoad {
        SequenceLoad {
            sequences: self.active.len(),
            cached_tokens: self.active.iter().map(|sequence| sequence.answer.cached_tokens()).sum(),
            max_cached_tokens: self.max_sequences.saturating_mul(self.decoder.config().max_context_tokens),
        }
    }

    fn computes(&self, num_tokens: usize) {
        if let Some(watch) = &self.watch {
            watch.computes(num_tokens);
        }
    }
}

impl SteppingEngine for GeneratorEngine {
    fn warm_up(&mut self) -> Result<(), LoadError> {
        let broken = |error| LoadError::Model(format!("the model does not run: {error}; check its files"));
        let mut cache = Cache::new(self.decoder.config());
        let prompt = [0; 8];
        let prompt =
            &prompt[..prompt.len().min(self.decoder.config().max_context_tokens.saturating_sub(1)).max(1)];
        self.on_threads(|decoder, threads| {
            decoder.prefill(prompt, &mut cache, threads)?;
            decoder.decode(&[0], &mut [&mut cache], threads)
        })
        .map(drop)
        .map_err(broken)
    }

    fn room(&self) -> usize {
        self.max_sequences.saturating_sub(self.active.len())
    }

    fn step(&mut self, calls: Vec<Call>) -> Stepped {
        self.drop_dead();
        for call in calls {
            self.start(call);
        }
        let num_inputs = self.decode();
        self.meter.holds(self.load());
        let progress = if self.active.is_empty() {
            Progress::Idle
        } else if self.active.iter().all(|sequence| sequence.answer.is_behind()) {
            // Woken when a client has read on or left.
            Progress::Waiting { until: millstream_clock::now() + MAX_PAUSE }
        } else {
            Progress::Busy
        };
        Stepped { progress, num_inputs }
    }

    /// `max_size` is the most sequences under way; those beyond a smaller one finish.
    fn set_batch(&mut self, batch: &Batch) {
        self.max_sequences = (batch.max_size as usize).max(1);
    }

    fn set_watch(&mut self, watch: Arc<dyn StepWatch>) {
        self.watch = Some(watch);
    }

    fn set_meter(&mut self, meter: Arc<dyn EngineMeter>) {
        self.meter = meter;
    }

    fn memory_bytes(&self) -> u64 {
        let caches: u64 = self.active.iter().map(|sequence| sequence.cache.memory_bytes()).sum();
        self.decoder.memory_bytes() + caches
    }
}
