//! Items of a conversation: what goes into a response, and what comes out. Only messages with text are taken.

use std::fmt;
use std::sync::Arc;

use millstream_proto::Value;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::json;

use super::super::new_id;
use crate::protocol::Problem;
use crate::protocol::fields::Items;
use crate::protocol::messages::{Content, Parts, message, role_of};

/// The types of parts with text.
const PARTS: Parts = Parts { names: &["input_text", "output_text"], wanted: "input_text" };

/// What somebody has said.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    /// In the API's words: `user`, `assistant`, `system` or `developer`.
    pub(crate) role: &'static str,
    pub(crate) text: Arc<str>,
}

impl Item {
    /// One with an id of its own.
    pub(crate) fn new(role: &'static str, text: impl Into<Arc<str>>) -> Self {
        Self { id: new_id("msg_"), role, text: text.into() }
    }

    /// As the API tells it.
    pub(crate) fn json(&self) -> serde_json::Value {
        let part = match self.role {
            "assistant" => {
                json!({ "type": "output_text", "text": &*self.text, "annotations": [], "logprobs": [] })
            }
            _ => json!({ "type": "input_text", "text": &*self.text }),
        };
        json!({ "id": self.id, "type": "message", "status": "completed", "role": self.role, "content": [part] })
    }

    /// As a generator takes it.
    pub(super) fn value(&self) -> Value {
        let role = role_of(self.role).unwrap_or("user");
        message(role, Value::Text(self.text.clone()))
    }
}

/// `input`: a text of the user, or items.
pub(super) enum Input {
    Text(String),
    Items(Vec<InputItem>),
}

#[derive(Deserialize)]
#[serde(expecting = "an item, such as {\"role\": \"user\", \"content\": \"…\"}")]
pub(super) struct InputItem {
    r#type: Option<String>,
    role: Option<String>,
    content: Option<Content>,
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of items")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Input, A::Error> {
                Items::deserialize(SeqAccessDeserializer::new(seq)).map(|Items(items)| Input::Items(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Input, A::Error> {
                InputItem::deserialize(MapAccessDeserializer::new(map)).map(|item| Input::Items(vec![item]))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl Input {
    /// The items, at least one.
    ///
    /// # Errors
    /// A problem (400) that names the item.
    pub(super) fn items(self) -> Result<Vec<Arc<Item>>, Problem> {
        let items = match self {
            Self::Text(text) => return Ok(vec![Arc::new(Item::new("user", text))]),
            Self::Items(items) => items,
        };
        if items.is_empty() {
            return Err(Problem::bad_field(
                "/input",
                "there are no items; give a text or at least one message",
            ));
        }
        items.into_iter().enumerate().map(|(index, item)| Ok(Arc::new(item.read(index)?))).collect()
    }
}

impl InputItem {
    fn read(self, index: usize) -> Result<Item, Problem> {
        let path = format!("/input/{index}");
        if let Some(kind) = self.r#type.filter(|kind| kind != "message") {
            let text = format!(
                "no model here takes items of type `{}`; give messages",
                crate::protocol::messages::shown(&kind)
            );
            return Err(Problem::bad_field(format!("{path}/type"), text));
        }
        let role = match self.role.as_deref() {
            Some("user") => "user",
            Some("assistant") => "assistant",
            Some("system") => "system",
            Some("developer") => "developer",
            other => {
                let given = other.map_or("nothing".to_owned(), |role| {
                    format!("`{}`", crate::protocol::messages::shown(role))
                });
                let text = format!("{given} is no role; give `user`, `assistant`, `system` or `developer`");
                return Err(Problem::bad_field(format!("{path}/role"), text));
            }
        };
        let content =
            self.content.ok_or_else(|| Problem::bad_field(format!("{path}/content"), "is missing"))?;
        Ok(Item::new(role, content.text(&format!("{path}/content"), &PARTS)?))
    }
}
