//! One answer under way: its tokens, its text, what of it has been shown, and how long each part of it took.

use std::time::{Duration, Instant};

use millstream_engine::{EngineMeter, FinishReason, Generated, Reply, ResponseMode, Timing};
use millstream_values::{CallError, Value};
use rand::rngs::StdRng;

use crate::decoder::Cache;
use crate::sampler::Sampling;
use crate::stream::{Detokenizer, Scan, StopScanner};
use crate::text_side::TextSide;

/// See the module.
pub(crate) struct Sequence {
    pub(crate) cache: Cache,
    /// The last token, not yet run through the model.
    pub(crate) next: u32,
    pub(crate) sampling: Sampling,
    pub(crate) random: StdRng,
    pub(crate) text: AnswerText,
    pub(crate) length: Length,
    pub(crate) times: Times,
    /// Whether its caller wants to know where the time went.
    pub(crate) is_timed: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) reply: Reply,
}

/// The text of an answer.
pub(crate) struct AnswerText {
    detokenizer: Detokenizer,
    scanner: StopScanner,
    text: String,
    answer: ResponseMode,
}

/// Tokens of a sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    /// Those of its prompt.
    pub(crate) prompt: usize,
    /// Those of its answer.
    pub(crate) tokens: usize,
    /// Most that its answer may have.
    pub(crate) max_tokens: usize,
}

impl Length {
    /// Tokens that the model has run: all but the last of the answer.
    pub(crate) fn cached(self) -> usize {
        self.prompt + self.tokens.saturating_sub(1)
    }
}

/// When what happened to a sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// It came to the replica.
    pub(crate) arrived: Instant,
    /// Its prompt began to run.
    pub(crate) started: Instant,
    /// Its first token was there.
    first: Option<Instant>,
    /// Its last token was there.
    last: Instant,
}

impl Times {
    pub(crate) fn new(arrived: Instant, started: Instant) -> Self {
        Self { arrived, started, first: None, last: started }
    }
}

impl AnswerText {
    pub(crate) fn new(stop: Vec<String>, answer: ResponseMode) -> Self {
        let (detokenizer, scanner) = (Detokenizer::default(), StopScanner::new(stop));
        Self { detokenizer, scanner, text: String::new(), answer }
    }

    /// Adds a piece of text, and shows what of it is certain. Whether a stop text ends it.
    fn take(&mut self, piece: &str, reply: &Reply) -> bool {
        let (part, stops) = match self.scanner.push(piece) {
            Scan::Go(part) => (part, false),
            Scan::Stop(part) => {
                // Nothing behind a stop string counts.
                self.detokenizer = Detokenizer::default();
                (part, true)
            }
        };
        self.show(&part, reply);
        stops
    }

    fn show(&mut self, part: &str, reply: &Reply) {
        if part.is_empty() {
            return;
        }
        self.text.push_str(part);
        if self.answer == ResponseMode::Stream {
            reply.delta(Value::map([("text", Value::from(part))]));
        }
    }
}

impl Sequence {
    /// Takes the next token in; `Some` when the answer is complete by it.
    pub(crate) fn push(
        &mut self,
        token: u32,
        side: &TextSide,
        end_tokens: &[u32],
        meter: &dyn EngineMeter,
    ) -> Option<FinishReason> {
        self.length.tokens += 1;
        self.next = token;
        self.count_token(meter);
        if end_tokens.contains(&token) {
            return Some(FinishReason::Stop);
        }
        let piece = self.text.detokenizer.push(token, |ids| side.decode(ids));
        if self.text.take(&piece, &self.reply) {
            return Some(FinishReason::Stop);
        }
        (self.length.tokens >= self.length.max_tokens).then_some(FinishReason::Length)
    }

    fn count_token(&mut self, meter: &dyn EngineMeter) {
        let now = millstream_clock::now();
        let times = &mut self.times;
        let since = |instant| now.saturating_duration_since(instant);
        match times.first {
            None => meter.first_token(since(times.arrived)),
            Some(_) => meter.next_token(since(times.last)),
        }
        times.first.get_or_insert(now);
        times.last = now;
    }

    /// Shows what was held back and answers the call.
    pub(crate) fn finish(mut self, finish: FinishReason, side: &TextSide, meter: &dyn EngineMeter) {
        let rest = self.text.detokenizer.finish(|ids| side.decode(ids));
        let stops = self.text.take(&rest, &self.reply);
        let finish = if stops { FinishReason::Stop } else { finish };
        let held = self.text.scanner.finish();
        self.text.show(&held, &self.reply);
        if self.is_timed {
            let ran = millstream_clock::now().saturating_duration_since(self.times.started);
            let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
            self.reply.timing(Timing {
                waited: self.waited(),
                ran,
                input_tokens: small(self.length.prompt),
                output_tokens: small(self.length.tokens),
                ..Timing::default()
            });
        }
        self.count(finish, meter);
        self.reply.finish(Ok(Value::map([
            ("text", Value::from(self.text.text)),
            ("tokens", Value::Int(i64::try_from(self.length.tokens).unwrap_or(i64::MAX))),
            ("finish_reason", Value::from(finish.as_str())),
        ])));
    }

    /// Ends without an answer.
    pub(crate) fn fail(self, error: CallError, finish: FinishReason, meter: &dyn EngineMeter) {
        self.count(finish, meter);
        self.reply.finish(Err(error));
    }

    /// Nobody waits for it any more.
    pub(crate) fn left(self, meter: &dyn EngineMeter) {
        self.count(FinishReason::Abort, meter);
    }

    fn waited(&self) -> Duration {
        self.times.started.saturating_duration_since(self.times.arrived)
    }

    fn count(&self, finish: FinishReason, meter: &dyn EngineMeter) {
        let Times { started, first, last, .. } = self.times;
        let first = first.unwrap_or(last);
        meter.generated(&Generated {
            prompt_tokens: self.length.prompt,
            tokens: self.length.tokens,
            max_tokens: self.length.max_tokens,
            waited: self.waited(),
            prefill: first.saturating_duration_since(started),
            decode: last.saturating_duration_since(first),
            finish,
        });
    }
}
