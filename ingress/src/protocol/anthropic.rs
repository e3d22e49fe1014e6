//! Anthropic's Messages: `POST /v1/messages`, whole and as events. What a generator here cannot do is an error that names the field.
//!
//! Source: the API's reference and its official client, version 2023-06-01 of the header `anthropic-version`.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use millstream_pipelines::Plan;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::Deserialize;
use serde_json::json;

use super::fields::{Items, Neutral, Unsupported, read, refuse};
use super::messages::{CHAT_PARTS, Content, Message, message, values_of};
use super::text::{Answer, Input, Sampling, TextRequest};
use super::{Asked, Exchange, Form, Last, Problem, Protocol, Target, Told, pipeline, sse};
use crate::model::StreamPart;

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/v1/messages",
    access: Access::ApiKey,
    help: "Anthropic's messages: the next message of a conversation, by the deployment that `model` names.",
};

/// What the API answers when it is overloaded.
const OVERLOADED: u16 = 529;

/// Fields that no generator here honours.
const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "tools", neutral: &[] },
    Unsupported { name: "tool_choice", neutral: &[Neutral::Text("auto"), Neutral::Text("none")] },
    Unsupported { name: "top_k", neutral: &[] },
    Unsupported { name: "thinking", neutral: &[Neutral::Text("disabled")] },
    Unsupported { name: "mcp_servers", neutral: &[] },
    Unsupported { name: "container", neutral: &[] },
    Unsupported { name: "service_tier", neutral: &[Neutral::Text("auto"), Neutral::Text("standard_only")] },
];

/// See the module.
pub(crate) struct Messages;

impl Protocol for Messages {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let MessagesBody { model, messages, system, max_tokens, temperature, top_p, stop_sequences, stream } =
            read(&body)?;
        refuse(&body, UNSUPPORTED)?;
        let system = system.map(|system| system.text("/system", &CHAT_PARTS)).transpose()?;
        let system = system.filter(|text| !text.is_empty()).map(|text| message("system", text.into()));
        let messages = system.into_iter().chain(values_of(messages.0)?);
        let stop = stop_sequences.map(|Items(stops)| stops).unwrap_or_default();
        let sampling = Sampling { temperature, top_p, seed: None, stop, max_tokens: Some(max_tokens) };
        let form = if stream == Some(true) { Form::Parts } else { Form::Whole };
        let input = Input { name: "messages", value: Value::list(messages) };
        let request = TextRequest::new(model, sampling, form, input)?.forgiving(&["max_tokens"]);
        let id = format!("msg_{}", RequestId::random().as_str().replace('-', ""));
        Ok(Box::new(MessagesExchange { request, id, has_begun: false }))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        let mut response = Response::new(Last::from(error(problem, request_id)));
        *response.status_mut() = status(problem);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

#[derive(Deserialize)]
struct MessagesBody {
    model: String,
    messages: Items<Message>,
    system: Option<Content>,
    max_tokens: i64,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop_sequences: Option<Items<String>>,
    stream: Option<bool>,
}

/// The status in this API: what does not fit is 400, and a server that is overloaded says so in a status of its own.
fn status(problem: &Problem) -> StatusCode {
    match problem.status() {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        StatusCode::SERVICE_UNAVAILABLE => {
            StatusCode::from_u16(OVERLOADED).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
        }
        status => status,
    }
}

/// The document of an error.
fn error(problem: &Problem, request_id: &RequestId) -> Vec<u8> {
    let kind = match problem.status() {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    };
    let faults = problem.errors().iter();
    let faults: Vec<_> =
        faults.map(|fault| format!("{}: {}", fault.path[1..].replace('/', "."), fault.message)).collect();
    let message = if faults.is_empty() { problem.detail().to_owned() } else { faults.join("; ") };
    let error = json!({ "type": kind, "message": message });
    json!({ "type": "error", "error": error, "request_id": request_id.as_str() }).to_string().into_bytes()
}

struct MessagesExchange {
    request: TextRequest,
    id: String,
    /// Whether the message has been told to begin.
    has_begun: bool,
}

/// Why a message ends, in the API's words. Whether it was a stop text that ended it is not known.
fn stop_reason(finish_reason: &str) -> &'static str {
    if finish_reason == "length" { "max_tokens" } else { "end_turn" }
}

fn event(name: &str, data: &serde_json::Value, bytes: &mut Vec<u8>) {
    sse::event(name, data.to_string().as_bytes(), bytes);
}

impl MessagesExchange {
    fn begin(&mut self, bytes: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        // How many tokens the prompt has is known at the end.
        let message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.request.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 0, "output_tokens": 0 },
        });
        event("message_start", &json!({ "type": "message_start", "message": message }), bytes);
        let block = json!({ "type": "text", "text": "" });
        let start = json!({ "type": "content_block_start", "index": 0, "content_block": block });
        event("content_block_start", &start, bytes);
    }
}

impl MessagesExchange {
    /// Appends a part of the text.
    fn tell(&mut self, text: &str, bytes: &mut Vec<u8>) {
        self.begin(bytes);
        let delta = json!({ "type": "text_delta", "text": text });
        let data = json!({ "type": "content_block_delta", "index": 0, "delta": delta });
        event("content_block_delta", &data, bytes);
    }
}

impl Exchange for MessagesExchange {
    fn target(&self) -> Option<Target<'_>> {
        Some(Target::Named { name: &self.request.model, version: None })
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        self.request.ask(plan)
    }

    fn asked(&mut self) {
        self.request.asked();
    }

    fn answer(&mut self, value: &Value, told: Told<'_>) -> Response<Last> {
        let Answer { text, finish_reason } = self.request.answer(value);
        pipeline::json(&json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.request.model,
            "content": [{ "type": "text", "text": text }],
            "stop_reason": stop_reason(finish_reason),
            "stop_sequence": null,
            "usage": { "input_tokens": told.spent.input_tokens, "output_tokens": told.spent.output_tokens },
        }))
    }

    fn stream_headers(&self) -> HeaderMap {
        sse::headers()
    }

    fn part(&mut self, part: &StreamPart, bytes: &mut Vec<u8>) {
        if let Some(text) = self.request.part(part) {
            self.tell(text, bytes);
        }
    }

    fn keep_alive(&self) -> Bytes {
        Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n")
    }

    fn end(&mut self, outcome: Result<&Value, &Problem>, told: Told<'_>) -> Last {
        let mut bytes = Vec::new();
        match outcome {
            Ok(value) => {
                match self.request.untold(value) {
                    Some(text) => self.tell(text, &mut bytes),
                    None => self.begin(&mut bytes),
                }
                let stop = json!({ "type": "content_block_stop", "index": 0 });
                event("content_block_stop", &stop, &mut bytes);
                let reason = stop_reason(self.request.answer(value).finish_reason);
                let usage = json!({ "input_tokens": told.spent.input_tokens, "output_tokens": told.spent.output_tokens });
                let delta = json!({ "stop_reason": reason, "stop_sequence": null });
                let data = json!({ "type": "message_delta", "delta": delta, "usage": usage });
                event("message_delta", &data, &mut bytes);
                event("message_stop", &json!({ "type": "message_stop" }), &mut bytes);
            }
            Err(problem) => sse::event("error", &error(problem, told.request_id), &mut bytes),
        }
        bytes.into()
    }
}
