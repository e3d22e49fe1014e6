//! `POST /v1/completions`.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};
use millstream_pipelines::Plan;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::{Deserialize, Serialize};

use super::super::fields::{Texts, read, refuse};
use super::super::text::{Answer, TextRequest};
use super::super::{Asked, Exchange, Last, Problem, Protocol, Target, Told, Wishes, json, sse};
use super::error;
use super::text::{DONE, Settings, Teller, Treatment, UNSUPPORTED};
use crate::model::StreamPart;

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/v1/completions",
    access: Access::ApiKey,
    help: "OpenAI's completions: what comes after a prompt, by the deployment that `model` names.",
};

/// See the module.
pub(crate) struct Completions;

impl Protocol for Completions {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let settings: Settings = read(&body)?;
        let treatment: Treatment = read(&body)?;
        refuse(&body, UNSUPPORTED)?;
        let mut prompts = read::<Prompt>(&body)?.prompt.all();
        let prompt = match (prompts.pop(), prompts.len()) {
            (Some(prompt), 0) => prompt,
            (_, others) => {
                let text = format!("one prompt is taken in a request, this one has {}", others + 1);
                return Err(Problem::bad_field("/prompt", text));
            }
        };
        let tells_usage = settings.tells_usage();
        let request = settings.ask("prompt", Value::from(prompt))?;
        let teller = Teller::new("cmpl-", "text_completion");
        Ok(Box::new(CompletionExchange { request, treatment, teller, tells_usage }))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

#[derive(Deserialize)]
struct Prompt {
    prompt: Texts,
}

struct CompletionExchange {
    request: TextRequest,
    treatment: Treatment,
    teller: Teller,
    /// Whether the last chunk tells the tokens.
    tells_usage: bool,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    text: &'a str,
    logprobs: Option<()>,
    finish_reason: Option<&'a str>,
}

impl<'a> Choice<'a> {
    fn new(text: &'a str, finish_reason: Option<&'a str>) -> Self {
        Self { index: 0, text, logprobs: None, finish_reason }
    }
}

impl Exchange for CompletionExchange {
    fn target(&self) -> Option<Target<'_>> {
        Some(Target::Named { name: &self.request.model, version: None })
    }

    fn wishes(&self) -> Wishes<'_> {
        self.treatment.wishes()
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        self.request.ask(plan)
    }

    fn asked(&mut self) {
        self.request.asked();
    }

    fn answer(&mut self, value: &Value, told: Told<'_>) -> Response<Last> {
        let Answer { text, finish_reason } = self.request.answer(value);
        let choice = Choice::new(text, Some(finish_reason));
        json(&self.teller.envelope(&self.request.model, &[choice], Some(told.spent)))
    }

    fn stream_headers(&self) -> HeaderMap {
        sse::headers()
    }

    fn part(&mut self, part: &StreamPart, bytes: &mut Vec<u8>) {
        self.teller.chunk(&self.request.model, &[Choice::new(&part.text, None)], None, bytes);
    }

    fn keep_alive(&self) -> Bytes {
        sse::COMMENT
    }

    fn end(&mut self, outcome: Result<&Value, &Problem>, told: Told<'_>) -> Last {
        let mut bytes = Vec::new();
        match outcome {
            Ok(value) => {
                let choice = Choice::new("", Some(self.request.answer(value).finish_reason));
                self.teller.chunk(&self.request.model, &[choice], None, &mut bytes);
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
