//! The stepping engine. As in a real one, the sequences under way take a step together, which gives each of them a token; a sequence whose
//! prompt was read in the meantime joins with the step after.
//!
//! The engine's thread sleeps until a token or a deadline is due. Its replica wakes it when a call comes, and when a caller has read on or
//! left.

use std::collections::VecDeque;
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_engine::{
    Call, EngineMeter, FinishReason, LoadError, PrefixLookup, Progress, SequenceLoad, Stepped,
    SteppingEngine, Uncounted, invalid_input,
};
use millstream_engine_answers::{Answer, Asked, GenerateCall, SamplingDefaults, too_late};
use millstream_pipelines::{Batch, Sim};
use millstream_values::{CallError, Value};

use crate::corpus::Writer;
use crate::curves;
use crate::faults::Faults;
use crate::prefixes::{HASH_START, Prefixes, hash_on};
use crate::prompt;
use crate::sequence::{Ending, Phase, Sequence};

/// Longest sleep while a sequence is under way.
pub(crate) const MAX_SLEEP: Duration = Duration::from_secs(1);
/// Sampling when a call does not say: it changes nothing here.
const DEFAULTS: SamplingDefaults = SamplingDefaults { temperature: 0.0, top_p: 1.0 };

/// A simulated model.
pub(crate) struct SimEngine {
    settings: Sim,
    /// Most sequences under way.
    max_sequences: usize,
    /// Calls that the cache has no room for yet, first come first served.
    waiting: VecDeque<Waiting>,
    active: Vec<Sequence>,
    /// When the step under way ends.
    step_ends: Option<Instant>,
    prefixes: Prefixes,
    /// Which calls fail.
    faults: Faults,
    meter: Arc<dyn EngineMeter>,
}

/// A checked call.
struct Waiting {
    call: Call,
    prompt: Arc<str>,
    asked: Asked,
    seed: u64,
}

impl Waiting {
    /// Tokens of the cache that it needs.
    fn needed(&self) -> usize {
        self.asked.prompt_tokens + self.asked.max_tokens
    }
}

impl SimEngine {
    /// The `number`th replica of its process.
    pub(crate) fn new(settings: Sim, batch: &Batch, number: u64) -> Self {
        Self {
            max_sequences: max_sequences(batch),
            waiting: VecDeque::new(),
            active: Vec::new(),
            step_ends: None,
            prefixes: Prefixes::new(settings.prefix_tokens as usize),
            faults: Faults::new(settings.fail_ratio, u64::from(settings.seed), number),
            meter: Arc::new(Uncounted),
            settings,
        }
    }

    /// Takes new calls, makes the tokens that are due at that time, and begins what can begin.
    pub(crate) fn step_at(&mut self, now: Instant, calls: Vec<Call>) -> Stepped {
        self.drop_dead(now);
        for call in calls {
            match self.read(&call.inputs) {
                Ok((prompt, asked, seed)) => {
                    // Its inputs are not needed any more.
                    let call = Call { inputs: Value::None, ..call };
                    self.waiting.push_back(Waiting { call, prompt, asked, seed });
                }
                Err(error) => call.reply.finish(Err(error)),
            }
        }
        let is_due = self.step_ends.is_some_and(|end| end <= now);
        let num_inputs = self.make_tokens(now, is_due);
        self.admit(now);
        if is_due || self.step_ends.is_none() {
            let begins = self.step_ends.filter(|_| is_due).unwrap_or(now);
            self.step_ends = self.begin_step(begins, now);
        }
        self.meter.holds(self.load());
        Stepped { progress: self.progress(now), num_inputs }
    }

    /// Drops what nobody waits for any more.
    fn drop_dead(&mut self, now: Instant) {
        let meter = &*self.meter;
        for sequence in self.active.extract_if(.., |it| it.answer.is_cancelled() || it.answer.is_late(now)) {
            if sequence.answer.is_cancelled() {
                sequence.answer.left(meter);
            } else {
                sequence.answer.fail(too_late(), FinishReason::Abort, meter);
            }
        }
        let is_over =
            |call: &Call| call.is_cancelled() || call.deadline.is_some_and(|deadline| deadline <= now);
        if self.waiting.iter().any(|it| is_over(&it.call)) {
            for waiting in std::mem::take(&mut self.waiting) {
                if is_over(&waiting.call) {
                    waiting.call.reply.finish(Err(too_late()));
                } else {
                    self.waiting.push_back(waiting);
                }
            }
        }
    }

    /// A call's prompt, what it asks for, and the seed of its answer.
    fn read(&self, inputs: &Value) -> Result<(Arc<str>, Asked, u64), CallError> {
        if inputs.get("tokenize").or_else(|| inputs.get("detokenize")).is_some() {
            return Err(invalid_input("a simulated model has no tokenizer"));
        }
        let request = GenerateCall::parse(inputs, DEFAULTS)?;
        let prompt = prompt::text_of(request.prompt);
        if let Some(text) = &self.settings.crash_on {
            assert!(!prompt.contains(text.as_str()), "a prompt holds the text of `crash_on`");
        }
        let prompt_tokens = prompt::num_tokens(&prompt);
        if prompt_tokens == 0 {
            return Err(invalid_input("the prompt is empty; give at least one character"));
        }
        let holds = self.settings.kv_tokens as usize;
        if prompt_tokens >= holds {
            return Err(invalid_input(format!(
                "the prompt has {prompt_tokens} tokens, but the model holds {holds} with at least one of the answer; \
                 shorten the prompt"
            )));
        }
        let max_tokens = request.max_tokens.min(holds - prompt_tokens);
        let seed = [u64::from(self.settings.seed), request.seed.unwrap_or_default()]
            .iter()
            .fold(HASH_START, |hash, number| hash_on(hash, &number.to_le_bytes()));
        let seed = hash_on(seed, prompt.as_bytes());
        Ok((prompt, Asked { stop: request.stop, prompt_tokens, max_tokens }, seed))
    }

    /// First tokens whose time has come, and one for everybody in the step that is over. Returns how many sequences that were.
    fn make_tokens(&mut self, now: Instant, step_is_over: bool) -> usize {
        let meter = &*self.meter;
        let mut num_sequences = 0;
        let mut ended = Vec::new();
        for (index, sequence) in self.active.iter_mut().enumerate() {
            let is_due = match sequence.phase {
                Phase::Prompt { until } => until <= now,
                Phase::Joining => false,
                Phase::Decoding => step_is_over && !sequence.answer.is_behind(),
            };
            if !is_due {
                continue;
            }
            num_sequences += 1;
            if sequence.phase != Phase::Decoding {
                sequence.phase = Phase::Joining;
            }
            ended.extend(sequence.push(now, meter).map(|end| (index, end)));
        }
        for (index, end) in ended.into_iter().rev() {
            self.active.swap_remove(index).end(&end, now, meter);
        }
        num_sequences
    }

    /// Begins the prompts of calls that wait, as long as there is room.
    fn admit(&mut self, now: Instant) {
        let mut held: usize = self.active.iter().map(|sequence| sequence.reserved).sum();
        while self.active.len() < self.max_sequences
            && let Some(waiting) =
                self.waiting.pop_front_if(|first| held + first.needed() <= self.settings.kv_tokens as usize)
        {
            held += waiting.needed();
            let sequence = self.start(waiting, now);
            self.active.push(sequence);
        }
    }

    fn start(&mut self, waiting: Waiting, now: Instant) -> Sequence {
        let reserved = waiting.needed();
        let Waiting { call, prompt, asked, seed } = waiting;
        let known = self.prefixes.read(&prompt);
        // The last token of a prompt is always read: the first of the answer follows from it.
        let to_read = (asked.prompt_tokens - known.min(asked.prompt_tokens)).max(1);
        self.meter.reads(asked.prompt_tokens);
        let found = asked.prompt_tokens - to_read;
        self.meter.prefix(PrefixLookup { tokens: asked.prompt_tokens, found });
        let mut writer = Writer::new(seed);
        let length = curves::answer_length(self.settings.answer_tokens, writer.draw());
        let fails = self.faults.next_fails();
        let breaks_off = usize::try_from(writer.draw()).unwrap_or_default()
            % length.unwrap_or(asked.max_tokens).min(asked.max_tokens);
        let takes = curves::first_token(&self.settings.first_token, to_read, self.active.len());
        Sequence {
            answer: Answer::new(call, asked, now),
            writer,
            phase: Phase::Prompt { until: now + takes },
            reserved,
            end: Ending { length, fails_after: fails.then_some(breaks_off) },
        }
    }

    /// Begins a step of all sequences that have read their prompt and whose callers read on; returns when it ends. Steps follow one upon
    /// the other without a gap, unless the thread has come later than by a whole step.
    fn begin_step(&mut self, begins: Instant, now: Instant) -> Option<Instant> {
        let mut num_sequences = 0;
        for sequence in &mut self.active {
            if matches!(sequence.phase, Phase::Prompt { .. }) {
                continue;
            }
            if sequence.answer.is_behind() {
                sequence.phase = Phase::Joining;
            } else {
                sequence.phase = Phase::Decoding;
                num_sequences += 1;
            }
        }
        let takes = curves::next_token(&self.settings.next_token, num_sequences);
        let begins = if begins + takes < now { now } else { begins };
        (num_sequences > 0).then(|| begins + takes)
    }

    /// What is next, and when.
    fn progress(&self, now: Instant) -> Progress {
        if self.active.is_empty() {
            // What waits finds room with the next step.
            return if self.waiting.is_empty() { Progress::Idle } else { Progress::Busy };
        }
        let prompts = self.active.iter().filter_map(|sequence| match sequence.phase {
            Phase::Prompt { until } => Some(until),
            Phase::Joining | Phase::Decoding => None,
        });
        let deadlines = self.active.iter().filter_map(|sequence| sequence.answer.deadline());
        let waiting = self.waiting.iter().filter_map(|waiting| waiting.call.deadline);
        let moments = prompts.chain(deadlines).chain(waiting).chain(self.step_ends);
        Progress::Waiting { until: moments.fold(now + MAX_SLEEP, Instant::min) }
    }

    fn load(&self) -> SequenceLoad {
        SequenceLoad {
            sequences: self.active.len(),
            cached_tokens: self.active.iter().map(|sequence| sequence.answer.cached_tokens()).sum(),
            max_cached_tokens: self.settings.kv_tokens as usize,
        }
    }
}

fn max_sequences(batch: &Batch) -> usize {
    (batch.max_size as usize).max(1)
}

impl SteppingEngine for SimEngine {
    /// On the thread that is going to sleep: the kernel is to wake it when a token is due, rather than up to 50 µs later.
    fn warm_up(&mut self) -> Result<(), LoadError> {
        // Where that is not allowed, tokens come that much later.
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN));
        Ok(())
    }

    /// None while calls wait for the cache: those that are more urgent are to be taken first once there is room.
    fn room(&self) -> usize {
        if self.waiting.is_empty() { self.max_sequences.saturating_sub(self.active.len()) } else { 0 }
    }

    fn step(&mut self, calls: Vec<Call>) -> Stepped {
        self.step_at(millstream_clock::now(), calls)
    }

    /// `max_size` is the most sequences under way; those beyond a smaller one finish.
    fn set_batch(&mut self, batch: &Batch) {
        self.max_sequences = max_sequences(batch);
    }

    fn set_meter(&mut self, meter: Arc<dyn EngineMeter>) {
        self.meter = meter;
    }

    /// None to speak of: there is no model.
    fn memory_bytes(&self) -> u64 {
        0
    }
}
