//! One answer under way, with what the model needs to go on with it.

use millstream_engine::{EngineMeter, FinishReason};
use millstream_engine_answers::{Answer, Sampling};
use rand::rngs::StdRng;

use crate::decoder::Cache;
use crate::stream::Detokenizer;
use crate::text_side::TextSide;

/// See the module.
pub(crate) struct Sequence {
    pub(crate) cache: Cache,
    /// The last token, not yet run through the model.
    pub(crate) next: u32,
    pub(crate) sampling: Sampling,
    pub(crate) random: StdRng,
    pub(crate) detokenizer: Detokenizer,
    pub(crate) answer: Answer,
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
        self.next = token;
        self.answer.count_token(millstream_clock::now(), meter);
        if end_tokens.contains(&token) {
            return Some(FinishReason::Stop);
        }
        let piece = self.detokenizer.push(token, |ids| side.decode(ids));
        if self.answer.push(piece) {
            // Nothing behind a stop text counts.
            self.detokenizer = Detokenizer::default();
            return Some(FinishReason::Stop);
        }
        self.answer.is_full().then_some(FinishReason::Length)
    }

    /// Shows what was held back and answers the call.
    pub(crate) fn finish(mut self, finish: FinishReason, side: &TextSide, meter: &dyn EngineMeter) {
        let rest = self.detokenizer.finish(|ids| side.decode(ids));
        let stops = self.answer.push(rest);
        let finish = if stops { FinishReason::Stop } else { finish };
        self.answer.finish(finish, millstream_clock::now(), meter);
    }
}
