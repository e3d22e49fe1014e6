//! What an engine counts, for those who look on: tokens, and how the answers of a generator came about.

use std::time::Duration;

/// Counts what a replica's engine does. It is told on the engine's threads, so that it only counts.
pub trait EngineMeter: Send + Sync {
    /// So many inputs ran together: texts, rows; of a generator, sequences that a step advanced.
    fn ran(&self, num_inputs: usize) {
        let _ = num_inputs;
    }

    /// Texts of so many tokens go into the model.
    fn reads(&self, num_tokens: usize) {
        let _ = num_tokens;
    }

    /// Of a prompt's tokens, so many were found in a cache of prefixes, if the engine has one.
    fn prefix(&self, lookup: PrefixLookup) {
        let _ = lookup;
    }

    /// The first token of an answer is there, so long after its call came to the replica.
    fn first_token(&self, after: Duration) {
        let _ = after;
    }

    /// One more token of an answer, so long after the one before.
    fn next_token(&self, after: Duration) {
        let _ = after;
    }

    /// A sequence has ended.
    fn generated(&self, generated: &Generated) {
        let _ = generated;
    }

    /// What the sequences under way hold, after each step.
    fn holds(&self, load: SequenceLoad) {
        let _ = load;
    }
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Uncounted;

impl EngineMeter for Uncounted {}

/// How a sequence came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generated {
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Tokens of its answer.
    pub tokens: usize,
    /// Most tokens that its answer could have had.
    pub max_tokens: usize,
    /// From its arrival at the replica to the beginning of its prompt.
    pub waited: Duration,
    /// From there to its first token.
    pub prefill: Duration,
    /// From its first token to its end.
    pub decode: Duration,
    /// Why it ended.
    pub finish: FinishReason,
}

/// What was found of a prompt in a cache of prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixLookup {
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Those of them, at its beginning, that were there.
    pub found: usize,
}

/// Why a sequence ended; the words are those of OpenAI's API and of vLLM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop text came.
    Stop,
    /// It had as many tokens as it may have.
    Length,
    /// Its caller left, or its deadline passed.
    Abort,
    /// The model failed.
    Error,
}

impl FinishReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stop, Self::Length, Self::Abort, Self::Error];

    /// As it stands in answers and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
            Self::Error => "error",
        }
    }
}

/// What the sequences under way hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SequenceLoad {
    /// Sequences under way.
    pub sequences: usize,
    /// Tokens in their caches.
    pub cached_tokens: usize,
    /// Tokens that the caches of as many sequences as may be under way could hold.
    pub max_cached_tokens: usize,
}
