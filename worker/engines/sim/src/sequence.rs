//! One answer under way in the simulated model.

use std::time::Instant;

use millstream_engine::{EngineMeter, FinishReason};
use millstream_engine_answers::Answer;
use millstream_values::{CallError, ErrorClass};

use crate::corpus::Writer;

/// See the module.
pub(crate) struct Sequence {
    pub(crate) answer: Answer,
    pub(crate) writer: Writer,
    pub(crate) phase: Phase,
    /// Tokens of the cache that are kept for it.
    pub(crate) reserved: usize,
    pub(crate) end: Ending,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its prompt is read until then.
    Prompt { until: Instant },
    /// It gets tokens from the next step on that begins.
    Joining,
    /// It gets a token at the end of the step.
    Decoding,
}

/// Where its answer ends, if it does not become too long before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ending {
    /// Tokens after which the model ends it.
    pub(crate) length: Option<usize>,
    /// Tokens after which it fails.
    pub(crate) fails_after: Option<usize>,
}

/// How a sequence ends with a token.
pub(crate) enum Ended {
    /// It is answered.
    Finished(FinishReason),
    /// It fails.
    Failed,
}

impl Sequence {
    /// Takes the next token in; `Some` when the answer ends with it.
    pub(crate) fn push(&mut self, now: Instant, meter: &dyn EngineMeter) -> Option<Ended> {
        if self.end.fails_after.is_some_and(|tokens| tokens <= self.answer.tokens()) {
            return Some(Ended::Failed);
        }
        self.answer.count_token(now, meter);
        let token = self.writer.next();
        let is_over = self.end.length.is_some_and(|length| self.answer.tokens() >= length);
        if self.answer.push(token) || is_over {
            return Some(Ended::Finished(FinishReason::Stop));
        }
        self.answer.is_full().then_some(Ended::Finished(FinishReason::Length))
    }

    /// Answers the call, or fails it.
    pub(crate) fn end(self, ended: &Ended, now: Instant, meter: &dyn EngineMeter) {
        match ended {
            Ended::Finished(reason) => self.answer.finish(*reason, now, meter),
            Ended::Failed => {
                let text = "sim fails this call, as its `fail_ratio` asks";
                let error = CallError::started(ErrorClass::Internal, text);
                self.answer.fail(error, FinishReason::Error, meter);
            }
        }
    }
}
