//! API keys as people see and set them: the JSON of `cluster key list --json`, and which settings make sense. The command
//! and the head check by the same rules. More keys may come; these keep their names and meaning.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Priority;

/// Most requests a second, and most at once, that a key may be given.
const MAX_REQUESTS: u32 = 1_000_000;
/// Largest weight.
const MAX_WEIGHT: u32 = 1000;
/// Most tokens of a minute or a day that a key may be given.
const MAX_TOKENS: u64 = 1_000_000_000_000;
/// Most patterns of models of a key: they travel in every route table.
const MAX_PATTERNS: usize = 32;
/// Longest pattern: a full name of two names of 63 characters fits.
const MAX_PATTERN_BYTES: usize = 128;

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyStatus {
    /// Its name.
    pub name: String,
    /// Its number, which no other key ever has.
    pub tenant: u32,
    /// Requests a second; absent: no limit.
    pub rate_per_s: Option<f64>,
    /// Requests that may come at once; absent without a rate.
    pub burst: Option<u32>,
    /// Requests under way at a time; absent: no limit.
    pub concurrency: Option<u32>,
    /// Its share beside others where requests wait.
    pub weight: u32,
    /// The highest priority that its requests may have.
    pub priority: Priority,
    /// Tokens a minute, those of prompts and those of answers together; absent: no limit.
    #[serde(default)]
    pub tokens_per_minute: Option<u64>,
    /// Tokens a day; absent: no limit.
    #[serde(default)]
    pub tokens_per_day: Option<u64>,
    /// What it may call: names of pipelines, full names of deployments, and what they begin with (`rag/*`); empty: everything.
    #[serde(default)]
    pub models: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

/// What is asked for a key; what is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct KeyRequest {
    /// Requests a second; 0 lifts the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// Requests that may come at once; 0 lifts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Requests under way at a time; 0 lifts the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Its share beside others where requests wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Name of the highest priority that its requests may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Tokens a minute, those of prompts and those of answers together; 0 lifts the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens a day; 0 lifts the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// What it may call: names of pipelines, full names of deployments, and what they begin with (`rag/*`); an empty list lifts the
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
}

impl fmt::Display for KeyRequest {
    /// What it sets, in the words of the command's flags: `rate 20, concurrency none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |value: f64| if value == 0.0 { "none".to_owned() } else { value.to_string() };
        let count = |value: u64| if value == 0 { "none".to_owned() } else { value.to_string() };
        let set = [
            ("rate", self.rate_per_s.map(limit)),
            ("burst", self.burst.map(|burst| limit(burst.into()))),
            ("concurrency", self.concurrency.map(|concurrency| limit(concurrency.into()))),
            ("weight", self.weight.map(|weight| weight.to_string())),
            ("priority", self.priority.clone()),
            ("tokens per minute", self.tokens_per_minute.map(count)),
            ("tokens per day", self.tokens_per_day.map(count)),
            (
                "models",
                self.models
                    .as_ref()
                    .map(|models| if models.is_empty() { "all".to_owned() } else { models.join(" ") }),
            ),
        ];
        let set: Vec<_> = set
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name} {value}")))
            .collect();
        f.write_str(&set.join(", "))
    }
}

/// Everything about these settings that makes no sense, each with the fix; the names are those of the command's flags.
#[must_use]
pub fn faults(settings: &KeyRequest) -> Vec<String> {
    let KeyRequest { rate_per_s, burst, concurrency, weight, priority, .. } = settings;
    let mut faults = Vec::new();
    if let Some(rate) = rate_per_s.filter(|rate| !(0.0..=f64::from(MAX_REQUESTS)).contains(rate)) {
        faults.push(format!(
            "rate {rate} is not a number of requests a second; write one above 0 and at most {MAX_REQUESTS}, or `none`"
        ));
    }
    let counts = [("burst", burst), ("concurrency", concurrency)];
    for (name, count) in counts.map(|(name, count)| (name, count.filter(|&count| count > MAX_REQUESTS))) {
        faults.extend(count.map(|count| format!("{name} {count} is too large; give at most {MAX_REQUESTS}")));
    }
    if let Some(weight) = weight.filter(|weight| !(1..=MAX_WEIGHT).contains(weight)) {
        faults.push(format!("weight {weight} is not a weight; give 1 to {MAX_WEIGHT}"));
    }
    if let Some(priority) = priority.as_ref().filter(|name| Priority::from_name(name).is_none()) {
        faults.push(format!("priority `{priority}` is none; give `high`, `normal` or `low`"));
    }
    let tokens =
        [("tokens-per-minute", settings.tokens_per_minute), ("tokens-per-day", settings.tokens_per_day)];
    for (name, count) in tokens.map(|(name, count)| (name, count.filter(|&count| count > MAX_TOKENS))) {
        faults.extend(count.map(|count| format!("{name} {count} is too large; give at most {MAX_TOKENS}")));
    }
    let models = settings.models.as_deref().unwrap_or_default();
    if models.len() > MAX_PATTERNS {
        faults.push(format!(
            "models has {} names, at most {MAX_PATTERNS} fit; `rag/*` stands for all that begin with `rag/`",
            models.len()
        ));
    }
    faults.extend(models.iter().take(MAX_PATTERNS).filter(|text| !is_pattern(text)).map(|text| {
        let shown: String = text.chars().take(60).collect();
        format!(
            "models: `{}` is not the name of a pipeline (`rag`), the full name of a deployment (`rag/generator`) or the \
             beginning of such names with a `*` at its end (`rag/*`)",
            shown.escape_debug()
        )
    }));
    faults
}

/// Whether a text can stand for names of pipelines and deployments.
fn is_pattern(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    let is_of_names =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'/');
    let num_slashes = name.bytes().filter(|&byte| byte == b'/').count();
    (1..=MAX_PATTERN_BYTES).contains(&text.len()) && name.bytes().all(is_of_names) && num_slashes <= 1
}

/// Whether a pattern of a key's `models` stands for that pipeline or deployment.
#[must_use]
pub fn matches(pattern: &str, model: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == model, |start| model.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_come_at_once_and_what_lifts_a_limit_is_none() {
        let settings = |rate, count, weight, priority: &str| KeyRequest {
            rate_per_s: Some(rate),
            burst: Some(count),
            concurrency: Some(count),
            weight: Some(weight),
            priority: Some(priority.to_owned()),
            ..KeyRequest::default()
        };
        for good in [settings(0.0, 0, 1, "LOW"), settings(0.1, 1, 1000, "high"), KeyRequest::default()] {
            assert_eq!(faults(&good), Vec::<String>::new());
        }
        assert_eq!(
            settings(0.0, 3, 2, "low").to_string(),
            "rate none, burst 3, concurrency 3, weight 2, priority low"
        );
        assert_eq!(KeyRequest { rate_per_s: Some(0.5), ..Default::default() }.to_string(), "rate 0.5");
        for rate in [-1.0, f64::NAN, f64::INFINITY, 1e7] {
            let found = faults(&settings(rate, 2_000_000, 0, "soon"));
            assert_eq!(found.len(), 5, "{found:?}");
        }
        assert_eq!(faults(&settings(1.0, 1, 1001, "low")), ["weight 1001 is not a weight; give 1 to 1000"]);
    }

    #[test]
    fn models_are_names_or_what_they_begin_with() {
        let with = |models: &[&str]| KeyRequest {
            models: Some(models.iter().map(|&text| text.to_owned()).collect()),
            tokens_per_minute: Some(100),
            tokens_per_day: Some(0),
            ..KeyRequest::default()
        };
        let good = with(&["rag", "rag/generator", "rag/*", "*", "ra*"]);
        assert_eq!(faults(&good), Vec::<String>::new());
        assert_eq!(
            good.to_string(),
            "tokens per minute 100, tokens per day none, models rag rag/generator rag/* * ra*"
        );
        assert_eq!(with(&[]).to_string(), "tokens per minute 100, tokens per day none, models all");
        for bad in ["", "Rag", "rag*x", "**", "a/b/c", "a b", "rag\n", &"a".repeat(129)] {
            assert_eq!(faults(&with(&[bad])).len(), 1, "{bad}");
        }
        assert_eq!(faults(&with(&["a"; 33])).len(), 1);
        let tokens = KeyRequest { tokens_per_day: Some(u64::MAX), ..KeyRequest::default() };
        assert_eq!(faults(&tokens).len(), 1);
        let table = [
            ("rag", "rag", true),
            ("rag", "rag/generator", false),
            ("rag/*", "rag/generator", true),
            ("rag/*", "rag", false),
            ("rag*", "rag", true),
            ("*", "x/y", true),
        ];
        for (pattern, model, expected) in table {
            assert_eq!(matches(pattern, model), expected, "{pattern} {model}");
        }
    }
}
