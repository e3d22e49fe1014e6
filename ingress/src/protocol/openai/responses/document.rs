//! The documents of a response, and the events of one that comes in parts, in the API's order.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::unix_seconds;
use super::items::Item;
use crate::protocol::{Problem, Spent, sse};

/// A response: what stays the same from its first document to its last.
pub(super) struct Document {
    pub(super) id: String,
    /// The fields that say what was asked for.
    pub(super) fields: Map<String, Value>,
}

/// How far a response is.
pub(super) enum State<'a> {
    Begun,
    /// Answered, by that reason.
    Ended {
        answer: &'a Item,
        reason: &'a str,
        spent: Spent,
    },
    Failed(&'a Problem),
    Cancelled,
}

impl State<'_> {
    /// In the API's words.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Begun => "in_progress",
            Self::Ended { reason: "length", .. } => "incomplete",
            Self::Ended { .. } => "completed",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Document {
    /// The document in that state.
    pub(super) fn json(&self, state: &State<'_>) -> Value {
        let mut fields = self.fields.clone();
        let status = state.name();
        let (mut output, mut error, mut incomplete, mut usage) =
            (json!([]), Value::Null, Value::Null, Value::Null);
        match state {
            State::Begun | State::Cancelled => {}
            State::Ended { answer, spent, .. } => {
                let mut item = answer.json();
                if status == "incomplete" {
                    incomplete = json!({ "reason": "max_output_tokens" });
                    item["status"] = status.into();
                }
                output = json!([item]);
                usage = usage_of(*spent);
                if status == "completed" {
                    fields.insert("completed_at".to_owned(), unix_seconds().into());
                }
            }
            State::Failed(problem) => error = error_of(problem),
        }
        let pairs = [
            ("status", status.into()),
            ("output", output),
            ("error", error),
            ("incomplete_details", incomplete),
            ("usage", usage),
        ];
        fields.extend(pairs.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(fields)
    }
}

fn usage_of(Spent { input_tokens, output_tokens }: Spent) -> Value {
    json!({
        "input_tokens": input_tokens, "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
        "output_tokens": output_tokens, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": input_tokens + output_tokens,
    })
}

/// Why a response failed. The API has three words for it.
fn error_of(problem: &Problem) -> Value {
    let code = match problem.status() {
        http::StatusCode::TOO_MANY_REQUESTS => "rate_limit_exceeded",
        status if status.is_client_error() => "invalid_prompt",
        _ => "server_error",
    };
    json!({ "code": code, "message": problem.text() })
}

/// The events of a response.
#[derive(Default)]
pub(super) struct Events {
    /// The number of the next one.
    next: u64,
    has_begun: bool,
}

/// The most frequent event, written without a tree in between.
#[derive(Serialize)]
struct TextDelta<'a> {
    r#type: &'static str,
    sequence_number: u64,
    item_id: &'a str,
    output_index: u32,
    content_index: u32,
    delta: &'a str,
    logprobs: [(); 0],
}

const DELTA: &str = "response.output_text.delta";

impl Events {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn tell(&mut self, name: &str, mut data: Value, bytes: &mut Vec<u8>) {
        data["type"] = name.into();
        data["sequence_number"] = self.number().into();
        sse::event(name, data.to_string().as_bytes(), bytes);
    }

    /// The response, in that state.
    fn response(&mut self, name: &str, document: &Document, state: &State<'_>, bytes: &mut Vec<u8>) {
        self.tell(name, json!({ "response": document.json(state) }), bytes);
    }

    /// What comes before the first part of the text, once.
    fn begin(&mut self, document: &Document, item_id: &str, bytes: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        self.response("response.created", document, &State::Begun, bytes);
        self.response("response.in_progress", document, &State::Begun, bytes);
        let item = json!({ "id": item_id, "type": "message", "status": "in_progress", "role": "assistant", "content": [] });
        self.tell("response.output_item.added", json!({ "output_index": 0, "item": item }), bytes);
        let part = json!({ "type": "output_text", "text": "", "annotations": [], "logprobs": [] });
        self.tell("response.content_part.added", in_content(item_id, "part", part), bytes);
    }

    /// A part of the text.
    pub(super) fn text(&mut self, document: &Document, item_id: &str, delta: &str, bytes: &mut Vec<u8>) {
        self.begin(document, item_id, bytes);
        let sequence_number = self.number();
        let (output_index, content_index) = (0, 0);
        let event = TextDelta {
            r#type: DELTA,
            sequence_number,
            item_id,
            output_index,
            content_index,
            delta,
            logprobs: [],
        };
        let json = serde_json::to_vec(&event).expect("texts and numbers have a JSON form");
        sse::event(DELTA, &json, bytes);
    }

    /// The end.
    pub(super) fn end(&mut self, document: &Document, item_id: &str, state: &State<'_>, bytes: &mut Vec<u8>) {
        self.begin(document, item_id, bytes);
        if let State::Ended { answer, .. } = state {
            let mut item = answer.json();
            item["status"] = state.name().into();
            let mut done = in_content(item_id, "text", (&*answer.text).into());
            done["logprobs"] = json!([]);
            self.tell("response.output_text.done", done, bytes);
            let part = in_content(item_id, "part", item["content"][0].clone());
            self.tell("response.content_part.done", part, bytes);
            self.tell("response.output_item.done", json!({ "output_index": 0, "item": item }), bytes);
        }
        self.response(&format!("response.{}", state.name()), document, state, bytes);
    }
}

/// Something of the only content of the only item.
fn in_content(item_id: &str, name: &str, what: Value) -> Value {
    let mut data = json!({ "item_id": item_id, "output_index": 0, "content_index": 0 });
    data[name] = what;
    data
}
