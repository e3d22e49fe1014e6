//! What text encoders (embedders, cross-encoders, classifiers) share, whatever computes their numbers.
//!
//! An engine implements [`Encoder`]: token ids in, one row of numbers per text out. This crate does the rest:
//! reading the model's tokenizer and settings as sentence-transformers writes them ([`TextModel`]), checking calls,
//! running texts of several calls together, and building the answers ([`TextEngine`]).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod answer;
mod batch;
mod call;
mod config;
mod cut;
mod engine;
mod model;
mod pool;
mod tokens;

pub use millstream_batching::Company;

pub use answer::{classified, embedded, ranked, top_labels};
pub use batch::TokenBatch;
pub use call::{ClassifyCall, EmbedCall, PromptChoice, RerankCall, TextCall};
pub use config::{Activation, ModelConfig, Pooling, SentenceConfig};
pub use cut::{Cut, Truncate};
pub use engine::{Encoder, EncoderError, Rows, TextEngine, TextJob, TextPart};
pub use model::TextModel;
pub use pool::{normalize, pool};
pub use tokens::{EncodeError, Query, TextTokenizer, Tokens};
