//! The stepping engine: prompts of new calls first, then one token for every sequence under way, step after step, so
//! that requests progress together.
//!
//! A sequence whose client reads slowly pauses until it has read on, so that its parts take no memory without bound. One whose caller has left, or whose deadline has passed, is dropped between two tokens. What is said about a
//! failure to operators is logged without prompts or answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_engine::{
    Call, LoadError, Progress, Reply, ResponseMode, StepWatch, Stepped, SteppingEngine, Timing, invalid_input,
};
use millstream_pipelines::Batch;
use millstream_values::{CallError, ErrorClass, Value};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::ThreadPool;
use tokenizers::Tokenizer;

use crate::decoder::{Cache, Decoder};
use crate::request::{GenerateCall, Prompt};
use crate::sampler::{Sampling, choose};
use crate::stream::{Detokenizer, Scan, StopScanner};
use crate::template::ChatTemplate;

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
}

/// How long an engine sleeps whose clients all read slowly, unless one of them reads on.
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// Bytes of text for each token that the context holds: a longer prompt is refused without being cut into tokens. English has four
/// of them, and only runs of one character have more.
const BYTES_PER_TOKEN: usize = 16;

/// Everything but the numbers.
pub(crate) struct TextSide {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
}

/// An answer under way.
pub(crate) struct Sequence {
    cache: Cache,
    /// The last token, not yet run through the model.
    next: u32,
    sampling: Sampling,
    random: StdRng,
    detokenizer: Detokenizer,
    scanner: StopScanner,
    text: String,
    num_tokens: usize,
    max_tokens: usize,
    answer: ResponseMode,
    deadline: Option<Instant>,
    /// How long it waited and when it began, for a caller that wants to know.
    timing: Option<(Duration, Instant)>,
    reply: Reply,
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finish {
    Stop,
    Length,
}

impl TextSide {
    /// Token ids of a call's prompt, at least one. The model's context holds so many.
    fn encode(&self, prompt: &Prompt, context: usize) -> Result<Vec<u32>, CallError> {
        let (text, add_special_tokens) = match prompt {
            Prompt::Text(text) => (text.to_string(), true),
            Prompt::Messages(messages) => {
                let template = self.template.as_ref().ok_or_else(|| {
                    invalid_input(
                        "this model has no chat template, so it takes no `messages`; give a `prompt`",
                    )
                })?;
                // The template writes special tokens itself.
                (template.render(messages)?, false)
            }
        };
        if text.len() > context.saturating_mul(BYTES_PER_TOKEN) {
            return Err(invalid_input(format!(
                "the prompt has {} bytes, more than the model's context of {context} tokens can hold; shorten the prompt",
                text.len()
            )));
        }
        let encoding = self.tokenizer.encode_fast(text, add_special_tokens).map_err(|error| {
            tracing::warn!(error = %error, "a prompt could not be cut into tokens");
            internal("the prompt could not be cut into tokens")
        })?;
        if encoding.get_ids().is_empty() {
            return Err(invalid_input("the prompt is empty; give at least one character"));
        }
        Ok(encoding.get_ids().to_vec())
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).unwrap_or_default()
    }
}

impl Sequence {
    /// Takes the next token in; `Some` when the answer is complete by it.
    fn push(&mut self, token: u32, text: &TextSide, end_tokens: &[u32]) -> Option<Finish> {
        self.num_tokens += 1;
        self.next = token;
        if end_tokens.contains(&token) {
            return Some(Finish::Stop);
        }
        let piece = self.detokenizer.push(token, |ids| text.decode(ids));
        if self.take(&piece) == Some(Finish::Stop) {
            return Some(Finish::Stop);
        }
        (self.num_tokens >= self.max_tokens).then_some(Finish::Length)
    }

    /// Adds a piece of text, and shows what of it is certain.
    fn take(&mut self, piece: &str) -> Option<Finish> {
        let (part, finish) = match self.scanner.push(piece) {
            Scan::Go(part) => (part, None),
            Scan::Stop(part) => {
                // Nothing behind a stop string counts.
                self.detokenizer = Detokenizer::default();
                (part, Some(Finish::Stop))
            }
        };
        self.show(&part);
        finish
    }

    fn show(&mut self, part: &str) {
        if part.is_empty() {
            return;
        }
        self.text.push_str(part);
        if self.answer == ResponseMode::Stream {
            self.reply.delta(Value::map([("text", Value::from(part))]));
        }
    }

    /// Shows what was held back and answers the call.
    fn finish(mut self, finish: Finish, text: &TextSide) {
        let rest = self.detokenizer.finish(|ids| text.decode(ids));
        let finish = self.take(&rest).unwrap_or(finish);
        let held = self.scanner.finish();
        self.show(&held);
        let reason = match finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        };
        if let Some((waited, started)) = self.timing {
            let ran = millstream_clock::now().saturating_duration_since(started);
            self.reply.timing(Timing { waited, ran, batch_size: 0 });
        }
        self.reply.finish(Ok(Value::map([
            ("text", Value::from(self.text)),
            ("tokens", Value::Int(i64::try_from(self.num_tokens).unwrap_or(i64::MAX))),
            ("finish_reason", Value::from(reason)),
        ])));
    }
}

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
        let Call { inputs, arrived, deadline, answer, timed, reply, .. } = call;
        let started = millstream_clock::now();
        match self.prefill(&inputs) {
            Ok((request, cache, logits, max_tokens)) => {
                #[expect(clippy::disallowed_methods, reason = "a client that gives no seed gets a new one")]
                let random = request.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
                let sequence = Sequence {
                    cache,
                    next: 0,
                    sampling: request.sampling,
                    random,
                    detokenizer: Detokenizer::default(),
                    scanner: StopScanner::new(request.stop),
                    text: String::new(),
                    num_tokens: 0,
                    max_tokens,
                    answer,
                    deadline,
                    timing: timed.then(|| (started.saturating_duration_since(arrived), started)),
                    reply,
                };
                if let Some(sequence) = self.advance(sequence, &logits) {
                    self.active.push(sequence);
                }
            }
            Err(error) => reply.finish(Err(error)),
        }
    }

    /// The call's settings, the cache and logits after its prompt, and how many tokens its answer may have.
    fn prefill(&self, inputs: &Value) -> Result<(GenerateCall, Cache, Vec<f32>, usize), CallError> {
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
        let mut cache = Cache::new(config);
        let logits = self.on_threads(|decoder, threads| decoder.prefill(&ids, &mut cache, threads));
        let logits = logits.map_err(|error| failed(&error))?;
        Ok((request, cache, logits, max_tokens))
    }

    /// Chooses a sequence's next token; returns the sequence back unless its answer is complete.
    fn advance(&self, mut sequence: Sequence, logits: &[f32]) -> Option<Sequence> {
        let Some(token) = choose(logits, sequence.sampling, &mut sequence.random) else {
            sequence.reply.finish(Err(internal("the model gave no numbers to choose a token by")));
            return None;
        };
        match sequence.push(token, &self.text, &self.decoder.config().end_tokens) {
            None => Some(sequence),
            Some(finish) => {
                sequence.finish(finish, &self.text);
                None
            }
        }
    }

    /// Drops sequences that nobody waits for any more.
    fn drop_dead(&mut self) {
        let now = millstream_clock::now();
        for sequence in std::mem::take(&mut self.active) {
            if sequence.reply.is_cancelled() {
                continue;
            }
            if sequence.deadline.is_some_and(|deadline| deadline <= now) {
                sequence.reply.finish(Err(too_late()));
            } else {
                self.active.push(sequence);
            }
        }
    }

    /// One token for every sequence whose client reads; returns how many those are.
    fn decode(&mut self) -> usize {
        let is_behind = |sequence: &Sequence| sequence.reply.is_behind();
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
                sequences.into_iter().for_each(|sequence| sequence.reply.finish(Err(error.clone())));
            }
        }
        num_sequences
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
        let progress = if self.active.is_empty() {
            Progress::Idle
        } else if self.active.iter().all(|sequence| sequence.reply.is_behind()) {
            // Woken when a client has read on.
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

    fn memory_bytes(&self) -> u64 {
        let caches: u64 = self.active.iter().map(|sequence| sequence.cache.memory_bytes()).sum();
        self.decoder.memory_bytes() + caches
    }
}

fn too_late() -> CallError {
    CallError::started(ErrorClass::DeadlineExceeded, "the deadline passed before the answer was complete")
}

fn internal(message: &str) -> CallError {
    CallError::started(ErrorClass::Internal, message)
}

fn failed(error: &candle_core::Error) -> CallError {
    tracing::warn!(error = %error, "a generator failed to run its model");
    internal("the model failed on this request")
}
