//! What runs a model; and the settings of engines that run none: `echo`, which answers its inputs, and `sim`, which behaves as a language
//! model does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// By the model's files and what is installed.
    Auto,
    /// ONNX Runtime.
    Onnx,
    /// candle, for BERT-family models.
    Candle,
    /// candle, for decoder-only generators.
    Generator,
    /// Another server, run as a replica.
    Process,
    /// Answers its inputs; for tests and for measuring overhead.
    Echo,
    /// Behaves as a language model does, without one.
    Sim,
}

impl EngineKind {
    /// Whether it runs no model, and so needs no files and little of a machine.
    #[must_use]
    pub fn runs_no_model(self) -> bool {
        matches!(self, Self::Echo | Self::Sim)
    }
}

/// Settings of an engine that runs no model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineSettings {
    /// Of `engine = "echo"`.
    Echo(Echo),
    /// Of `engine = "sim"`.
    Sim(Sim),
}

impl From<Echo> for EngineSettings {
    fn from(echo: Echo) -> Self {
        Self::Echo(echo)
    }
}

impl From<Sim> for EngineSettings {
    fn from(sim: Sim) -> Self {
        Self::Sim(sim)
    }
}

/// Settings of `engine = "echo"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Echo {
    /// How long an answer takes.
    pub delay: Duration,
    /// Part of the calls that fail, 0 to 1.
    pub fail_ratio: f64,
    /// Ends the replica when an input contains this text (fault tests).
    pub crash_on: Option<String>,
}

/// Settings of `engine = "sim"`: the curves of a language model's times, and what it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sim {
    /// Time from the beginning of a prompt to its first token.
    pub first_token: FirstToken,
    /// Time from a token to the next.
    pub next_token: NextToken,
    /// Tokens that all sequences under way hold together at most, prompts and answers.
    pub kv_tokens: u32,
    /// Tokens of prompts that are remembered, so that the next prompt with the same beginning reads less; 0 for none.
    pub prefix_tokens: u32,
    /// Fewest and most tokens after which an answer ends by itself; `None` for answers as long as they may be.
    pub answer_tokens: Option<AnswerTokens>,
    /// Part of the calls that fail, 0 to 1.
    pub fail_ratio: f64,
    /// Ends the replica when a prompt contains this text (fault tests).
    pub crash_on: Option<String>,
    /// Another one gives other texts, lengths and failures.
    pub seed: u32,
}

/// Terms of the time to the first token; it is their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstToken {
    /// Always.
    pub base: Duration,
    /// For each token of the prompt that is not remembered.
    pub per_prompt_token: Duration,
    /// For each other sequence under way.
    pub per_sequence: Duration,
}

/// Terms of the time to the next token; it is their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextToken {
    /// Always.
    pub base: Duration,
    /// For each other sequence that gets a token in the same step.
    pub per_sequence: Duration,
}

/// How long answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerTokens {
    /// Fewest.
    pub min: u32,
    /// Most.
    pub max: u32,
}

/// What a file leaves out: about a model of 8 billion parameters on one large GPU.
impl Default for Sim {
    fn default() -> Self {
        Self {
            first_token: FirstToken {
                base: Duration::from_millis(20),
                per_prompt_token: Duration::from_micros(50),
                per_sequence: Duration::ZERO,
            },
            next_token: NextToken {
                base: Duration::from_millis(10),
                per_sequence: Duration::from_micros(50),
            },
            kv_tokens: 131_072,
            prefix_tokens: 65_536,
            answer_tokens: None,
            fail_ratio: 0.0,
            crash_on: None,
            seed: 0,
        }
    }
}
