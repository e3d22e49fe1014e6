//! Messages of a conversation, as the APIs for language models have them, and as generators take them.

use std::fmt;

use millstream_proto::Value;
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::Problem;
use super::fields::Items;

/// What somebody has said.
#[derive(Deserialize)]
pub(crate) struct Message {
    role: String,
    content: Option<Content>,
}

/// What is said: a text, or parts.
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
pub(crate) struct Part {
    r#type: String,
    text: Option<String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of parts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Content, A::Error> {
                Items::deserialize(SeqAccessDeserializer::new(seq)).map(|Items(parts)| Content::Parts(parts))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// Which parts an API has for text.
pub(crate) struct Parts {
    /// Their types.
    pub(crate) names: &'static [&'static str],
    /// The one to write, for messages.
    pub(crate) wanted: &'static str,
}

impl Content {
    /// All of its text; `path` is where it stands.
    ///
    /// # Errors
    /// A problem (400) for parts that are no text.
    pub(crate) fn text(self, path: &str, texts: &Parts) -> Result<String, Problem> {
        let parts = match self {
            Self::Text(text) => return Ok(text),
            Self::Parts(parts) => parts,
        };
        let mut text = String::new();
        for (index, part) in parts.into_iter().enumerate() {
            match (&*part.r#type, part.text) {
                (kind, Some(part)) if texts.names.contains(&kind) => text.push_str(&part),
                (kind, _) => {
                    let message = format!(
                        "no model here takes parts of type `{}`; give `{}`",
                        shown(kind),
                        texts.wanted
                    );
                    return Err(Problem::bad_field(format!("{path}/{index}/type"), message));
                }
            }
        }
        Ok(text)
    }
}

/// A message as generators take it.
pub(crate) fn message(role: &str, content: Value) -> Value {
    Value::map([("role", Value::from(role)), ("content", content)])
}

/// Messages as generators take them, at least one.
///
/// # Errors
/// A problem (400) that names the message.
pub(crate) fn values_of(messages: Vec<Message>) -> Result<Vec<Value>, Problem> {
    if messages.is_empty() {
        return Err(Problem::bad_field("/messages", "there are none; give at least one"));
    }
    messages.into_iter().enumerate().map(|(index, message)| message.into_value(index)).collect()
}

/// The role that generators know, for one that an API has.
pub(crate) fn role_of(role: &str) -> Option<&'static str> {
    Some(match role {
        "system" | "developer" => "system",
        "user" => "user",
        "assistant" => "assistant",
        "tool" | "function" => "tool",
        _ => return None,
    })
}

/// The parts of chats.
pub(crate) const CHAT_PARTS: Parts = Parts { names: &["text"], wanted: "text" };

impl Message {
    fn into_value(self, index: usize) -> Result<Value, Problem> {
        let role = role_of(&self.role).ok_or_else(|| {
            let text =
                format!("`{}` is no role; give `system`, `user`, `assistant` or `tool`", shown(&self.role));
            Problem::bad_field(format!("/messages/{index}/role"), text)
        })?;
        let content = match self.content {
            None => String::new(),
            Some(content) => content.text(&format!("/messages/{index}/content"), &CHAT_PARTS)?,
        };
        Ok(message(role, content.into()))
    }
}

/// As much of a client's text as belongs in an answer.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
