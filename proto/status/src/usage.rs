//! What API keys have used, as people see it: the JSON of `cluster usage --json` and of `GET /api/usage`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UsageCounts {
    /// Requests, those that were turned away among them.
    pub requests: u64,
    /// Requests that were turned away before they ran.
    pub refused: u64,
    /// Tokens that went into models.
    pub input_tokens: u64,
    /// Tokens that models made.
    pub output_tokens: u64,
}

impl UsageCounts {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        let Self { requests, refused, input_tokens, output_tokens } = other;
        self.requests = self.requests.saturating_add(*requests);
        self.refused = self.refused.saturating_add(*refused);
        self.input_tokens = self.input_tokens.saturating_add(*input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(*output_tokens);
    }
}

/// What was used, summed up over what is not told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageRow {
    /// Start of the hour, in milliseconds since the Unix epoch; absent when hours are not told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour_ms: Option<u64>,
    /// The key; absent when keys are not told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The pipeline or the deployment; empty for requests that were turned away before it was known, absent when models are not
    /// told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How much.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// What keys have used since some hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageReport {
    /// Start of the first hour that counts, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// By hour, key and model, as far as they are told apart.
    pub rows: Vec<UsageRow>,
}

/// What is told apart in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageBy {
    parts: [bool; 3],
}

/// The names of [`UsageBy`], in the order of columns.
const PARTS: [&str; 3] = ["hour", "key", "model"];

/// A text that says nothing of what to tell apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not what usage is told by; give `hour`, `key` or `model`, or several with commas between")]
pub struct NotAPart(String);

impl Default for UsageBy {
    fn default() -> Self {
        Self { parts: [false, true, true] }
    }
}

impl UsageBy {
    /// The start of an hour of which some are told apart.
    #[must_use]
    pub fn hour(self, hour_ms: u64) -> Option<u64> {
        self.parts[0].then_some(hour_ms)
    }

    /// The key, where keys are told apart.
    #[must_use]
    pub fn key(self, key: &str) -> Option<&str> {
        self.parts[1].then_some(key)
    }

    /// The model, where models are told apart.
    #[must_use]
    pub fn model(self, model: &str) -> Option<&str> {
        self.parts[2].then_some(model)
    }
}

impl std::str::FromStr for UsageBy {
    type Err = NotAPart;

    fn from_str(text: &str) -> Result<Self, NotAPart> {
        let mut parts = [false; 3];
        for name in text.split(',').map(str::trim) {
            let index = PARTS.iter().position(|part| *part == name);
            let index = index.ok_or_else(|| NotAPart(name.chars().take(40).collect()))?;
            parts[index] = true;
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for UsageBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = PARTS.iter().zip(self.parts).filter_map(|(name, is_told)| is_told.then_some(*name));
        f.write_str(&named.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_apart_is_a_list_of_names() {
        for text in ["hour", "key,model", "hour,key,model"] {
            assert_eq!(text.parse::<UsageBy>().unwrap().to_string(), text);
        }
        assert_eq!("model, key".parse(), Ok(UsageBy::default()));
        for bad in ["", "keys", "key,,model", "key,"] {
            assert!(bad.parse::<UsageBy>().is_err(), "{bad}");
        }
    }
}
