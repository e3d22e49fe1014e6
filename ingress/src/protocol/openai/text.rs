//! What chat and plain completions share: the settings of a generator's call, and how its answer is told whole and in chunks.

use millstream_proto::call::Priority;
use millstream_values::Value;
use serde::{Deserialize, Serialize};

use super::super::fields::{Neutral, Texts, Unsupported};
use super::{Usage, unix_seconds};
use crate::protocol::text::{Input, Sampling, TextRequest};
use crate::protocol::{Form, Problem, Spent, Wishes, sse};

/// Fields of both APIs that no generator here honours.
pub(super) const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "n", neutral: &[Neutral::One] },
    Unsupported { name: "logprobs", neutral: &[] },
    Unsupported { name: "top_logprobs", neutral: &[] },
    Unsupported { name: "logit_bias", neutral: &[] },
    Unsupported { name: "presence_penalty", neutral: &[] },
    Unsupported { name: "frequency_penalty", neutral: &[] },
    Unsupported { name: "best_of", neutral: &[Neutral::One] },
    Unsupported { name: "echo", neutral: &[] },
    Unsupported { name: "suffix", neutral: &[] },
    Unsupported { name: "tools", neutral: &[] },
    Unsupported { name: "tool_choice", neutral: &[Neutral::Text("none"), Neutral::Text("auto")] },
    Unsupported { name: "functions", neutral: &[] },
    Unsupported { name: "function_call", neutral: &[Neutral::Text("none"), Neutral::Text("auto")] },
    Unsupported { name: "response_format", neutral: &[Neutral::Text("text")] },
    Unsupported { name: "modalities", neutral: &[] },
    Unsupported { name: "audio", neutral: &[] },
    Unsupported { name: "prediction", neutral: &[] },
    Unsupported { name: "web_search_options", neutral: &[] },
    Unsupported { name: "reasoning_effort", neutral: &[Neutral::Text("none")] },
    Unsupported { name: "verbosity", neutral: &[Neutral::Text("medium")] },
    // What a chat says is not kept here; `/v1/responses` may keep it.
    Unsupported { name: "store", neutral: &[] },
];

/// The settings that both have.
#[derive(Debug, Deserialize)]
pub(super) struct Settings {
    model: String,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<Texts>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

/// How soon a request is to be served.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ServiceTier {
    Auto,
    Default,
    /// When nothing else waits.
    Flex,
    /// Before others.
    Priority,
}

/// How a request is to be treated.
#[derive(Debug, Deserialize)]
pub(super) struct Treatment {
    service_tier: Option<ServiceTier>,
    pub(super) prompt_cache_key: Option<String>,
    pub(super) user: Option<String>,
    pub(super) safety_identifier: Option<String>,
}

/// Longest text that is taken as the id of a user.
const MAX_USER_BYTES: usize = 64;

/// Whether a text is an id that logs and traces may have: not a sentence, and not an address of a person.
fn is_id(text: &&str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    !text.is_empty() && text.len() <= MAX_USER_BYTES && text.bytes().all(plain)
}

/// The tier of requests with that priority.
pub(super) fn tier_of(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "priority",
        Priority::Normal => "default",
        Priority::Low => "flex",
    }
}

impl Treatment {
    pub(super) fn wishes(&self) -> Wishes<'_> {
        let priority = match self.service_tier {
            Some(ServiceTier::Flex) => Some(Priority::Low),
            Some(ServiceTier::Priority) => Some(Priority::High),
            Some(ServiceTier::Auto | ServiceTier::Default) | None => None,
        };
        let user = self.safety_identifier.as_deref().or(self.user.as_deref()).filter(is_id);
        Wishes { priority, affinity: self.prompt_cache_key.as_deref(), user }
    }

    /// The tier that the request has got, where it asks for one.
    pub(super) fn tier(&self, priority: Priority) -> Option<&'static str> {
        self.service_tier.map(|_| tier_of(priority))
    }
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Settings {
    /// What they ask for, for this input.
    ///
    /// # Errors
    /// A problem (400) that names the field.
    pub(super) fn ask(self, name: &str, input: Value) -> Result<TextRequest, Problem> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
            stop: self.stop.map(Texts::all).unwrap_or_default(),
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
        };
        let form = if self.stream == Some(true) { Form::Parts } else { Form::Whole };
        TextRequest::new(self.model, sampling, form, Input { name, value: input })
    }

    /// Whether the last chunk tells the tokens.
    pub(super) fn tells_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true)
    }
}

/// What a completion, or a chunk of one, is around its choice.
#[derive(Serialize)]
pub(super) struct Envelope<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [C],
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// Who tells an answer: its id and model.
pub(super) struct Teller {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) created: u64,
    /// The tier that the request has got, where it asks for one.
    pub(super) service_tier: Option<&'static str>,
}

impl Teller {
    pub(super) fn new(prefix: &str, object: &'static str) -> Self {
        Self { id: super::new_id(prefix), object, created: unix_seconds(), service_tier: None }
    }

    /// The document with these choices.
    pub(super) fn envelope<'a, C>(
        &'a self,
        model: &'a str,
        choices: &'a [C],
        spent: Option<Spent>,
    ) -> Envelope<'a, C> {
        let usage = spent.map(Usage::of_text);
        let Self { id, object, created, service_tier } = self;
        Envelope { id, object, created: *created, model, choices, service_tier: *service_tier, usage }
    }

    /// Appends a chunk.
    pub(super) fn chunk<C: Serialize>(
        &self,
        model: &str,
        choices: &[C],
        spent: Option<Spent>,
        bytes: &mut Vec<u8>,
    ) {
        sse::json(&self.envelope(model, choices, spent), bytes);
    }
}

/// What ends a stream.
pub(super) const DONE: &[u8] = b"[DONE]";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::fields::read;

    #[test]
    fn tiers_are_priorities_and_the_cache_key_finds_the_replica() {
        for (tier, priority) in [
            ("null", None),
            ("\"auto\"", None),
            ("\"default\"", None),
            ("\"flex\"", Some(Priority::Low)),
            ("\"priority\"", Some(Priority::High)),
        ] {
            let body = format!("{{\"model\":\"m\",\"service_tier\":{tier},\"prompt_cache_key\":\"k\"}}");
            let treatment: Treatment = read(body.as_bytes()).unwrap();
            assert_eq!(treatment.wishes(), Wishes { priority, affinity: Some("k"), user: None }, "{tier}");
        }
        assert!(read::<Treatment>(br#"{"model":"m","service_tier":"scale"}"#).is_err());
    }

    #[test]
    fn a_user_is_an_id_or_nobody() {
        for (body, user) in [
            (r#"{"user":"u-1"}"#, Some("u-1")),
            (r#"{"user":"u-1","safety_identifier":"9f:2"}"#, Some("9f:2")),
            (r#"{"user":"somebody@example.com"}"#, None),
            (r#"{"user":"two words"}"#, None),
            (r#"{"user":""}"#, None),
        ] {
            assert_eq!(read::<Treatment>(body.as_bytes()).unwrap().wishes().user, user, "{body}");
        }
        let long = format!(r#"{{"user":"{}"}}"#, "x".repeat(65));
        assert_eq!(read::<Treatment>(long.as_bytes()).unwrap().wishes().user, None);
    }
}
