//! One answer under way: its text, what of it has been shown, its tokens, and how long each part of it took. Whoever makes the tokens
//! says what time it is.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use millstream_engine::{Call, EngineMeter, FinishReason, Generated, Reply, ResponseMode, Timing};
use millstream_values::{CallError, ErrorClass, Value};

use crate::stop::{Scan, StopScanner};

/// See the module.
pub struct Answer {
    scanner: StopScanner,
    text: String,
    mode: ResponseMode,
    length: Length,
    times: Times,
    /// Whether its caller wants to know where the time went.
    is_timed: bool,
    deadline: Option<Instant>,
    reply: Reply,
}

/// What a call asks of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// Texts that end it; not part of it.
    pub stop: Vec<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Most tokens of the answer.
    pub max_tokens: usize,
}

#[derive(Debug, Clone, Copy)]
struct Length {
    prompt: usize,
    tokens: usize,
    max_tokens: usize,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    arrived: Instant,
    started: Instant,
    /// Its first token was there.
    first: Option<Instant>,
    /// Its last token was there.
    last: Instant,
}

/// The name of the text in a part. Made once: there is one part for each token.
static TEXT: LazyLock<Arc<str>> = LazyLock::new(|| "text".into());

impl Answer {
    /// The answer to a call whose prompt began to run at that time.
    #[must_use]
    pub fn new(call: Call, asked: Asked, started: Instant) -> Self {
        let Call { arrived, deadline, answer, timed, reply, .. } = call;
        Self {
            scanner: StopScanner::new(asked.stop),
            text: String::new(),
            mode: answer,
            length: Length { prompt: asked.prompt_tokens, tokens: 0, max_tokens: asked.max_tokens },
            times: Times { arrived, started, first: None, last: started },
            is_timed: timed,
            deadline,
            reply,
        }
    }

    /// One more token is there.
    pub fn count_token(&mut self, now: Instant, meter: &dyn EngineMeter) {
        self.length.tokens += 1;
        let times = &mut self.times;
        let since = |instant| now.saturating_duration_since(instant);
        match times.first {
            None => meter.first_token(since(times.arrived)),
            Some(_) => meter.next_token(since(times.last)),
        }
        times.first.get_or_insert(now);
        times.last = now;
    }

    /// Adds a piece of text, and shows what of it is certain. Whether a stop text ends the answer: then nothing behind it counts.
    pub fn push(&mut self, piece: impl Into<Arc<str>> + AsRef<str>) -> bool {
        if self.scanner.is_idle() {
            self.show(piece);
            return false;
        }
        match self.scanner.push(piece.as_ref()) {
            Scan::Go(part) => {
                self.show(part);
                false
            }
            Scan::Stop(part) => {
                self.show(part);
                true
            }
        }
    }

    fn show(&mut self, part: impl Into<Arc<str>> + AsRef<str>) {
        if part.as_ref().is_empty() {
            return;
        }
        self.text.push_str(part.as_ref());
        if self.mode == ResponseMode::Stream {
            self.reply.delta(Value::map([(TEXT.clone(), Value::Text(part.into()))]));
        }
    }

    /// Tokens so far.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.length.tokens
    }

    /// Whether it has as many tokens as it may have.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.length.tokens >= self.length.max_tokens
    }

    /// Tokens that the model has run: all but the last of the answer.
    #[must_use]
    pub fn cached_tokens(&self) -> usize {
        self.length.prompt + self.length.tokens.saturating_sub(1)
    }

    /// Whether nobody waits for it any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }

    /// Whether its deadline has passed.
    #[must_use]
    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// When its caller gives up.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether its caller leaves so much unread that it is to pause.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.reply.is_behind()
    }

    /// Shows what was held back and answers the call.
    pub fn finish(mut self, finish: FinishReason, now: Instant, meter: &dyn EngineMeter) {
        let held = self.scanner.finish();
        self.show(held);
        if self.is_timed {
            let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
            self.reply.timing(Timing {
                waited: self.waited(),
                ran: now.saturating_duration_since(self.times.started),
                input_tokens: small(self.length.prompt),
                output_tokens: small(self.length.tokens),
                ..Timing::default()
            });
        }
        self.count(finish, meter);
        self.reply.finish(Ok(Value::map([
            (TEXT.clone(), Value::from(self.text)),
            ("tokens".into(), Value::Int(i64::try_from(self.length.tokens).unwrap_or(i64::MAX))),
            ("finish_reason".into(), Value::from(finish.as_str())),
        ])));
    }

    /// Ends without an answer.
    pub fn fail(self, error: CallError, finish: FinishReason, meter: &dyn EngineMeter) {
        self.count(finish, meter);
        self.reply.finish(Err(error));
    }

    /// Nobody waits for it any more.
    pub fn left(self, meter: &dyn EngineMeter) {
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

/// The deadline of a call has passed before its answer was complete.
#[must_use]
pub fn too_late() -> CallError {
    CallError::started(ErrorClass::DeadlineExceeded, "the deadline passed before the answer was complete")
}

#[cfg(test)]
mod tests {
    use millstream_calls::call::{CallEvent, Parts, channel};
    use millstream_engine::Uncounted;

    use super::*;

    #[test]
    fn parts_are_shown_as_they_become_certain_and_the_answer_has_them_all() {
        let now = millstream_clock::now();
        for (stop, shown, ends) in [(vec![], "a b END c", false), (vec!["END".to_owned()], "a b ", true)] {
            let (reply, mut pending) = channel(Parts::Wanted);
            let mut call = Call::new(Value::None, reply, now);
            call.answer = ResponseMode::Stream;
            let asked = Asked { stop, prompt_tokens: 3, max_tokens: 4 };
            let mut answer = Answer::new(call, asked, now);
            let mut ended = false;
            for piece in ["a", " b", " E", "ND", " c"] {
                if !ended {
                    answer.count_token(now, &Uncounted);
                    ended = answer.push(piece);
                }
            }
            assert_eq!((ended, answer.is_full()), (ends, true));
            answer.finish(FinishReason::Stop, now, &Uncounted);
            let mut parts = String::new();
            let value = loop {
                match futures_util::FutureExt::now_or_never(pending.next()) {
                    Some(CallEvent::Delta(part)) => parts += part.get("text").unwrap().as_text().unwrap(),
                    Some(CallEvent::Done(value)) => break value,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!((parts.as_str(), value.get("text").unwrap().as_text().unwrap()), (shown, shown));
        }
    }
}
