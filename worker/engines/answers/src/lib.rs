//! What generators share, whatever makes their tokens: reading calls of `task = "generate"`, looking for stop texts, telling an answer in
//! parts or whole, and counting its tokens and times.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod answer;
mod request;
mod stop;

pub use crate::answer::{Answer, Asked, too_late};
pub use crate::request::{
    DEFAULT_NEW_TOKENS, GenerateCall, MAX_NEW_TOKENS, MAX_STOP_STRINGS, Prompt, Sampling, SamplingDefaults,
    messages_of,
};
