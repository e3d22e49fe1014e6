//! `POST /v1/chat/completions`.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};
use millstream_pipelines::Plan;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::{Deserialize, Serialize};

use super::super::fields::{Items, read, refuse};
use super::super::messages::{Message, values_of};
use super::super::text::{Answer, TextRequest};
use super::super::{Asked, Client, Exchange, Last, Problem, Protocol, Target, Told, Wishes, json, sse};
use super::error;
use super::text::{DONE, Settings, Teller, Treatment, UNSUPPORTED};
use crate::model::StreamPart;

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/v1/chat/completions",
    access: Access::ApiKey,
    help: "OpenAI's chat completions: the next message of a conversation, by the deployment that `model` names.",
};

/// See the module.
pub(crate) struct Chat;

impl Protocol for Chat {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let settings: Settings = read(&body)?;
        let treatment: Treatment = read(&body)?;
        refuse(&body, UNSUPPORTED)?;
        let messages = values_of(read::<Messages>(&body)?.messages.0)?;
        let tells_usage = settings.tells_usage();
        let request = settings.ask("messages", Value::list(messages))?;
        let teller = Teller::new("chatcmpl-", OBJECT);
        Ok(Box::new(ChatExchange { request, treatment, teller, tells_usage, has_begun: false }))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

const OBJECT: &str = "chat.completion";
const CHUNK: &str = "chat.completion.chunk";

#[derive(Deserialize)]
struct Messages {
    messages: Items<Message>,
}

struct ChatExchange {
    request: TextRequest,
    treatment: Treatment,
    teller: Teller,
    /// Whether the last chunk tells the tokens.
    tells_usage: bool,
    /// Whether the first chunk has been told, which names the role.
    has_begun: bool,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Said<'a>,
    logprobs: Option<()>,
    finish_reason: &'a str,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

impl ChatExchange {
    fn chunk(&mut self, delta: Delta<'_>, finish_reason: Option<&str>, bytes: &mut Vec<u8>) {
        self.teller.object = CHUNK;
        let mut tell = |delta, finish_reason| {
            let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason };
            self.teller.chunk(&self.request.model, &[choice], None, bytes);
        };
        if !std::mem::replace(&mut self.has_begun, true) {
            tell(Delta { role: Some("assistant"), content: Some("") }, None);
        }
        tell(delta, finish_reason);
    }
}

impl Exchange for ChatExchange {
    fn target(&self) -> Option<Target<'_>> {
        Some(Target::Named { name: &self.request.model, version: None })
    }

    fn wishes(&self) -> Wishes<'_> {
        self.treatment.wishes()
    }

    fn comes_from(&mut self, client: Client<'_>) -> Result<usize, Problem> {
        self.teller.service_tier = self.treatment.tier(client.priority);
        Ok(0)
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        self.request.ask(plan)
    }

    fn asked(&mut self) {
        self.request.asked();
    }

    fn answer(&mut self, value: &Value, told: Told<'_>) -> Response<Last> {
        let Answer { text, finish_reason } = self.request.answer(value);
        let message = Said { role: "assistant", content: text, refusal: None };
        let choice = Choice { index: 0, message, logprobs: None, finish_reason };
        json(&self.teller.envelope(&self.request.model, &[choice], Some(told.spent)))
    }

    fn stream_headers(&self) -> HeaderMap {
        sse::headers()
    }

    fn part(&mut self, part: &StreamPart, bytes: &mut Vec<u8>) {
        if let Some(text) = self.request.part(part) {
            self.chunk(Delta { role: None, content: Some(text) }, None, bytes);
        }
    }

    fn keep_alive(&self) -> Bytes {
        sse::COMMENT
    }

    fn end(&mut self, outcome: Result<&Value, &Problem>, told: Told<'_>) -> Last {
        let mut bytes = Vec::new();
        match outcome {
            Ok(value) => {
                if let Some(text) = self.request.untold(value) {
                    self.chunk(Delta { role: None, content: Some(text) }, None, &mut bytes);
                }
                let finish_reason = self.request.answer(value).finish_reason;
                self.chunk(Delta::default(), Some(finish_reason), &mut bytes);
                if self.tells_usage {
                    self.teller.chunk::<()>(&self.request.model, &[], Some(told.spent), &mut bytes);
                }
                sse::data(DONE, &mut bytes);
            }
            Err(problem) => sse::data(&error::json(problem, told.request_id), &mut bytes),
        }
        bytes.into()
    }
}
