//! Reading calls of `task = "generate"`: all faults at once, each with the name of its input.

use std::sync::Arc;

use millstream_engine::invalid_input;
use millstream_values::{CallError, Map, Value};

/// Most tokens of an answer that may be asked for.
pub const MAX_NEW_TOKENS: i64 = 4096;
/// Tokens of an answer when the call does not say.
pub const DEFAULT_NEW_TOKENS: i64 = 256;
/// Most stop strings of a call.
pub const MAX_STOP_STRINGS: usize = 4;

/// How tokens are chosen; ranges are checked where requests are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token; higher values flatten the distribution.
    pub temperature: f64,
    /// Only the most likely tokens that together have this probability are drawn from; in (0, 1].
    pub top_p: f64,
}

/// What a model says about sampling, for calls that do not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingDefaults {
    /// See [`Sampling`].
    pub temperature: f64,
    /// See [`Sampling`].
    pub top_p: f64,
}

/// A checked call.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateCall {
    /// What it goes on from.
    pub prompt: Prompt,
    /// How its tokens are chosen.
    pub sampling: Sampling,
    /// Makes draws repeatable.
    pub seed: Option<u64>,
    /// Texts that end the answer; not part of it.
    pub stop: Vec<String>,
    /// Most tokens of the answer, at least 1.
    pub max_tokens: usize,
}

/// What the model goes on from.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Text as it is.
    Text(Arc<str>),
    /// A conversation for the model's chat template: maps with `role` and `content` as text.
    Messages(Vec<Value>),
}

/// Keys of a message that a chat template may see; the content is always there.
const MESSAGE_KEYS: [&str; 5] = ["role", "content", "name", "tool_calls", "tool_call_id"];
const NAMES: [&str; 7] = ["prompt", "messages", "temperature", "top_p", "seed", "stop", "max_tokens"];

impl GenerateCall {
    /// Checks a call's inputs; what it leaves out is taken from `defaults`.
    ///
    /// # Errors
    /// Class `Invalid`, naming every fault.
    pub fn parse(inputs: &Value, defaults: SamplingDefaults) -> Result<Self, CallError> {
        let map = inputs
            .as_map()
            .ok_or_else(|| invalid_input(format!("inputs are `{}`, not a map", inputs.type_name())))?;
        let mut reader = Reader { map, faults: Vec::new() };
        for name in map.keys().filter(|name| !NAMES.contains(&name.as_ref())) {
            reader
                .faults
                .push(format!("`{name}` is not an input of `generate`; it takes `{}`", NAMES.join("`, `")));
        }
        let prompt = reader.prompt();
        let temperature = reader.number("temperature", |t| (0.0..=2.0).contains(&t), "a number from 0 to 2");
        let top_p = reader.number("top_p", |p| p > 0.0 && p <= 1.0, "a number above 0 and at most 1");
        let seed = reader.int("seed", i64::MIN..=i64::MAX);
        let max_tokens = reader.int("max_tokens", 1..=MAX_NEW_TOKENS).unwrap_or(DEFAULT_NEW_TOKENS);
        let stop = reader.stop();
        match prompt {
            Some(prompt) if reader.faults.is_empty() => Ok(Self {
                prompt,
                sampling: Sampling {
                    temperature: temperature.unwrap_or(defaults.temperature),
                    top_p: top_p.unwrap_or(defaults.top_p),
                },
                seed: seed.map(i64::cast_unsigned),
                stop,
                max_tokens: usize::try_from(max_tokens).unwrap_or(1),
            }),
            _ => Err(invalid_input(reader.faults.join("; "))),
        }
    }
}

/// The messages of a conversation, checked as those of a call are.
///
/// # Errors
/// Class `Invalid`, naming every fault.
pub fn messages_of(messages: &Value) -> Result<Vec<Value>, CallError> {
    let map = Map::from_iter([("messages".into(), messages.clone())]);
    let mut reader = Reader { map: &map, faults: Vec::new() };
    match reader.prompt() {
        Some(Prompt::Messages(messages)) if reader.faults.is_empty() => Ok(messages),
        _ => Err(invalid_input(reader.faults.join("; "))),
    }
}

struct Reader<'a> {
    map: &'a Map,
    faults: Vec<String>,
}

impl<'a> Reader<'a> {
    /// The input of that name; one that is none counts as left out.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| **value != Value::None)
    }

    fn fault(&mut self, name: &str, value: &Value, wanted: &str) {
        let found = match value {
            Value::Int(number) => format!("`{number}`"),
            Value::Float(number) => format!("`{number}`"),
            other => format!("of type `{}`", other.type_name()),
        };
        self.faults.push(format!("`{name}` is {found}; give {wanted}"));
    }

    fn number(&mut self, name: &str, fits: impl Fn(f64) -> bool, wanted: &str) -> Option<f64> {
        let value = self.get(name)?;
        let number = value.as_f64().filter(|&number| fits(number));
        if number.is_none() {
            self.fault(name, value, wanted);
        }
        number
    }

    fn int(&mut self, name: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.get(name)?;
        let number = value.as_int().filter(|number| range.contains(number));
        if number.is_none() {
            let wanted = match (*range.start(), *range.end()) {
                (i64::MIN, i64::MAX) => "an int".to_owned(),
                (start, end) => format!("an int from {start} to {end}"),
            };
            self.fault(name, value, &wanted);
        }
        number
    }

    fn stop(&mut self) -> Vec<String> {
        let Some(value) = self.get("stop") else { return Vec::new() };
        let stops: Option<Vec<String>> = match value {
            Value::Text(text) => Some(vec![text.to_string()]),
            Value::List(list) => list.iter().map(|stop| stop.as_text().map(str::to_owned)).collect(),
            _ => None,
        };
        match stops {
            Some(stops) if stops.len() <= MAX_STOP_STRINGS && stops.iter().all(|stop| !stop.is_empty()) => {
                stops
            }
            Some(stops) if stops.len() > MAX_STOP_STRINGS => {
                self.faults
                    .push(format!("`stop` has {} texts; give at most {MAX_STOP_STRINGS}", stops.len()));
                Vec::new()
            }
            Some(_) => {
                self.faults.push("`stop` has an empty text; leave it out".to_owned());
                Vec::new()
            }
            None => {
                self.fault("stop", value, "a text or a list of texts");
                Vec::new()
            }
        }
    }

    fn prompt(&mut self) -> Option<Prompt> {
        match (self.get("prompt"), self.get("messages")) {
            (Some(Value::Text(text)), None) => Some(Prompt::Text(text.clone())),
            (Some(other), None) => {
                self.fault("prompt", other, "a text");
                None
            }
            (None, Some(Value::List(list))) if !list.is_empty() => {
                let messages: Vec<Option<Value>> =
                    list.iter().enumerate().map(|(index, message)| self.message(index, message)).collect();
                messages.into_iter().collect::<Option<_>>().map(Prompt::Messages)
            }
            (None, Some(Value::List(_))) => {
                self.faults.push("`messages` is empty; give at least one message".to_owned());
                None
            }
            (None, Some(other)) => {
                self.fault("messages", other, "a list of maps with `role` and `content`");
                None
            }
            (Some(_), Some(_)) => {
                self.faults.push("`prompt` and `messages` are both given; give one of them".to_owned());
                None
            }
            (None, None) => {
                self.faults.push("`prompt` or `messages` is missing".to_owned());
                None
            }
        }
    }

    /// A message with its content as one text: parts of type `text` are joined.
    fn message(&mut self, index: usize, message: &Value) -> Option<Value> {
        let Some(map) = message.as_map() else {
            self.fault(&format!("messages[{index}]"), message, "a map with `role` and `content`");
            return None;
        };
        if map.get("role").and_then(Value::as_text).is_none() {
            self.faults.push(format!("`messages[{index}].role` is missing or no text"));
            return None;
        }
        let content = match map.get("content") {
            None | Some(Value::None) => String::new(),
            Some(Value::Text(text)) => text.to_string(),
            Some(Value::List(parts)) => {
                let texts: Option<Vec<&str>> =
                    parts.iter().map(|part| part.get("text").and_then(Value::as_text)).collect();
                if let Some(texts) = texts {
                    texts.concat()
                } else {
                    self.faults.push(format!("`messages[{index}].content` has a part that is not a text"));
                    return None;
                }
            }
            Some(other) => {
                self.fault(&format!("messages[{index}].content"), other, "a text");
                return None;
            }
        };
        // What else a client writes into a message is no business of the model's template.
        let known = map.iter().filter(|(name, _)| MESSAGE_KEYS.contains(&&***name));
        let mut message: Map = known.map(|(name, value)| (name.clone(), value.clone())).collect();
        message.insert("content".into(), Value::from(content));
        Some(Value::from(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: SamplingDefaults = SamplingDefaults { temperature: 0.0, top_p: 1.0 };

    fn parse(entries: Vec<(&str, Value)>) -> Result<GenerateCall, CallError> {
        GenerateCall::parse(&Value::map(entries), DEFAULTS)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let call = parse(vec![("prompt", "hi".into()), ("seed", Value::None)]).unwrap();
        assert_eq!(call.prompt, Prompt::Text("hi".into()));
        assert_eq!((call.sampling.temperature, call.sampling.top_p), (0.0, 1.0));
        assert_eq!((call.seed, call.max_tokens, call.stop.len()), (None, 256, 0));
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let error = parse(vec![
            ("temperature", Value::Float(2.5)),
            ("top_p", Value::Int(0)),
            ("seed", "x".into()),
            ("max_tokens", Value::Int(5000)),
            ("stop", Value::list(["a", "b", "c", "d", "e"].map(Value::from))),
            ("best_of", Value::Int(2)),
        ])
        .unwrap_err();
        assert_eq!(error.class, millstream_values::ErrorClass::Invalid);
        for expected in [
            "`temperature` is `2.5`; give a number from 0 to 2",
            "`top_p` is `0`; give a number above 0 and at most 1",
            "`seed` is of type `text`; give an int",
            "`max_tokens` is `5000`; give an int from 1 to 4096",
            "`stop` has 5 texts; give at most 4",
            "`best_of` is not an input of `generate`",
            "`prompt` or `messages` is missing",
        ] {
            assert!(error.message.contains(expected), "{} lacks {expected}", error.message);
        }
    }

    #[test]
    fn messages_need_roles_and_their_parts_become_one_text() {
        let part = |text: &str| Value::map([("type", "text".into()), ("text", text.into())]);
        let message = Value::map([("role", "user".into()), ("content", Value::list([part("a"), part("b")]))]);
        let call = parse(vec![("messages", Value::list([message]))]).unwrap();
        let Prompt::Messages(messages) = call.prompt else { panic!("expected messages") };
        assert_eq!(messages[0].get("content"), Some(&Value::from("ab")));
        let error =
            parse(vec![("messages", Value::list([Value::map([("content", "a".into())]), Value::Int(1)]))]);
        let message = error.unwrap_err().message;
        assert!(message.contains("`messages[0].role` is missing"), "{message}");
        assert!(message.contains("`messages[1]` is `1`; give a map"), "{message}");
    }
}
