//! The body of `POST /v1/responses`: what is read of it, and what is refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::items::Input;
use crate::protocol::Problem;
use crate::protocol::fields::{Neutral, Unsupported};

/// Most pairs of `metadata`, and the longest key and value in characters, as in the API.
const MAX_METADATA: (usize, usize, usize) = (16, 64, 512);

/// Fields that no generator here honours.
pub(super) const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "tools", neutral: &[] },
    Unsupported { name: "tool_choice", neutral: &[Neutral::Text("none"), Neutral::Text("auto")] },
    Unsupported { name: "truncation", neutral: &[Neutral::Text("disabled")] },
    Unsupported { name: "include", neutral: &[] },
    Unsupported { name: "conversation", neutral: &[] },
    Unsupported { name: "prompt", neutral: &[] },
    Unsupported { name: "top_logprobs", neutral: &[] },
    Unsupported { name: "context_management", neutral: &[] },
    Unsupported { name: "moderation", neutral: &[] },
];

/// What is asked.
#[derive(Deserialize)]
pub(super) struct Question {
    pub(super) model: String,
    pub(super) input: Input,
    pub(super) instructions: Option<String>,
    pub(super) previous_response_id: Option<String>,
}

/// How it is to be answered.
#[derive(Deserialize)]
pub(super) struct How {
    pub(super) max_output_tokens: Option<i64>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) stream: Option<bool>,
    pub(super) background: Option<bool>,
    pub(super) store: Option<bool>,
    pub(super) metadata: Option<BTreeMap<String, String>>,
    text: Option<TextForm>,
    reasoning: Option<Reasoning>,
}

#[derive(Deserialize)]
struct TextForm {
    format: Option<Kind>,
    verbosity: Option<String>,
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct Reasoning {
    effort: Option<String>,
}

impl How {
    /// Refuses what no generator here honours.
    ///
    /// # Errors
    /// A problem (400) that names the field.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let refuse = |path: &str, what: &str| {
            Err(Problem::bad_field(
                path,
                format!("no model here can do this; {what}, or leave the field out"),
            ))
        };
        if let Some(TextForm { format, verbosity }) = &self.text {
            if format.as_ref().is_some_and(|format| format.r#type != "text") {
                return refuse("/text/format", "give `{\"type\": \"text\"}`");
            }
            if verbosity.as_ref().is_some_and(|verbosity| verbosity != "medium") {
                return refuse("/text/verbosity", "give `medium`");
            }
        }
        let effort = self.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref());
        if effort.is_some_and(|effort| effort != "none") {
            return refuse("/reasoning/effort", "give `none`");
        }
        if self.background == Some(true) && self.stream == Some(true) {
            let text = "a response in the background has no stream here; leave one of the two out, and ask `GET /v1/responses/ID`";
            return Err(Problem::bad_field("/background", text));
        }
        if self.max_output_tokens.is_some_and(|tokens| tokens < 1) {
            return Err(Problem::bad_field("/max_output_tokens", "give 1 or more"));
        }
        let (pairs, key, value) = MAX_METADATA;
        if self.metadata.as_ref().is_some_and(|metadata| {
            let is_long = |(k, v): (&String, &String)| k.chars().count() > key || v.chars().count() > value;
            metadata.len() > pairs || metadata.iter().any(is_long)
        }) {
            let text = format!(
                "at most {pairs} pairs are taken, with keys of {key} and values of {value} characters"
            );
            return Err(Problem::bad_field("/metadata", text));
        }
        Ok(())
    }
}
