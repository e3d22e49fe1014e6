//! OpenAI's API: chat completions, completions and embeddings of deployments, which a request names in `model`. What an engine here
//! cannot do is an error that names the field; fields that the API does not have are ignored, as its own server does.
//!
//! Source: openai-openapi, `openapi.yaml` of August 2026; where the official client reads something else, the client is right.

mod chat;
mod classify;
mod completions;
mod embeddings;
mod error;
mod models;
mod moderations;
mod responses;
mod score;
mod text;
mod tokens;

pub(crate) use self::chat::Chat;
pub(crate) use self::classify::Classify;
pub(crate) use self::completions::Completions;
pub(crate) use self::embeddings::Embeddings;
pub(crate) use self::models::{MODEL, MODELS, Models};
pub(crate) use self::moderations::Moderations;
pub(crate) use self::responses::{
    Cancelled, HOW_TO_KEEP, InputTokens, Kept, ResponseKey, ResponseStore, Responses,
};
pub(crate) use self::score::Score;
pub(crate) use self::tokens::{Detokenize, read_tokenize};

use serde::Serialize;

use super::Spent;

/// The tokens of a request, as the API tells them.
#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens: Option<u64>,
    total_tokens: u64,
}

impl Usage {
    /// Of what generates.
    fn of_text(spent: Spent) -> Self {
        let Spent { input_tokens, output_tokens } = spent;
        let total_tokens = input_tokens + output_tokens;
        Self { prompt_tokens: input_tokens, completion_tokens: Some(output_tokens), total_tokens }
    }

    /// Of what only reads.
    fn of_input(spent: Spent) -> Self {
        let prompt_tokens = spent.input_tokens;
        Self { prompt_tokens, completion_tokens: None, total_tokens: prompt_tokens }
    }
}

/// Seconds since the Unix epoch.
fn unix_seconds() -> u64 {
    millstream_clock::unix_us() / 1_000_000
}

/// An id as the API has them: a prefix and 32 digits.
fn new_id(prefix: &str) -> String {
    let id = millstream_proto::RequestId::random();
    format!("{prefix}{}", id.as_str().replace('-', ""))
}
