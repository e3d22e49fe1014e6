//! `POST /v1/responses`: OpenAI's responses, whole, as events, or in the background. Where the ingress keeps responses, later ones go on
//! from them; the pages that show and delete them are in `http`.

mod body;
mod document;
mod input_tokens;
mod items;
mod store;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Response};
use millstream_pipelines::Plan;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use self::body::{How, Question, UNSUPPORTED};
use self::document::{Document, Events, State};
pub(crate) use self::input_tokens::InputTokens;
use self::items::Item;
use self::store::Work;
pub(crate) use self::store::{Cancelled, Kept, ResponseKey, ResponseStore};
use super::text::Treatment;
use super::{error, new_id, unix_seconds};
use crate::model::StreamPart;
use crate::protocol::fields::{read, refuse};
use crate::protocol::messages::message;
use crate::protocol::text::{Answer, Input, Sampling, TextRequest};
use crate::protocol::{
    Asked, Client, Exchange, Form, Last, Problem, Protocol, Target, Told, Wishes, json as json_answer, sse,
};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/v1/responses",
    access: Access::ApiKey,
    help: "OpenAI's responses: what comes next in a conversation, by the deployment or the pipeline that `model` names.",
};

/// How to have responses kept, for messages.
pub(crate) const HOW_TO_KEEP: &str =
    "this ingress keeps no responses; `cluster up --response-store 64MiB` has it keep them";

/// See the module.
pub(crate) struct Responses;

impl Protocol for Responses {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let Question { model, input, instructions, previous_response_id } = read(&body)?;
        let how: How = read(&body)?;
        let treatment: Treatment = read(&body)?;
        refuse(&body, UNSUPPORTED)?;
        how.check()?;
        let items = input.items()?;
        let form = match (how.background, how.stream) {
            (Some(true), _) => Form::Later,
            (_, Some(true)) => Form::Parts,
            _ => Form::Whole,
        };
        let sampling = Sampling {
            temperature: how.temperature,
            top_p: how.top_p,
            max_tokens: how.max_output_tokens,
            ..Sampling::default()
        };
        let input = Input { name: "messages", value: Value::None };
        let request = TextRequest::new(model, sampling, form, input)?;
        let id = new_id("resp_");
        let fields = json!({
            "id": id, "object": "response", "created_at": unix_seconds(), "model": request.model, "instructions": instructions,
            "max_output_tokens": how.max_output_tokens, "temperature": how.temperature, "top_p": how.top_p,
            "background": form == Form::Later, "metadata": how.metadata.unwrap_or_default(),
            "previous_response_id": previous_response_id, "user": treatment.user, "safety_identifier": treatment.safety_identifier,
            "prompt_cache_key": treatment.prompt_cache_key, "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
            "truncation": "disabled", "reasoning": { "effort": null, "summary": null }, "text": { "format": { "type": "text" } },
            "top_logprobs": 0, "max_tool_calls": null, "completed_at": null,
        });
        let serde_json::Value::Object(fields) = fields else {
            return Err(Problem::internal("a map is none"));
        };
        let memory = Memory { wanted: how.store, previous: previous_response_id, items, keeper: None };
        let mut exchange = ResponseExchange {
            request,
            treatment,
            form,
            instructions,
            memory,
            document: Document { id, fields },
            answer_id: new_id("msg_"),
            events: Events::default(),
        };
        exchange.set_messages();
        Ok(Box::new(exchange))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

struct ResponseExchange {
    request: TextRequest,
    treatment: Treatment,
    form: Form,
    instructions: Option<String>,
    memory: Memory,
    document: Document,
    /// The id of the only item of the answer.
    answer_id: String,
    events: Events,
}

/// What a response knows of those before it, and whether it is kept for those after it.
struct Memory {
    /// Whether the client wants it kept.
    wanted: Option<bool>,
    /// The response that it goes on from.
    previous: Option<String>,
    /// The conversation up to here.
    items: Vec<Arc<Item>>,
    /// Who keeps it, and as whose.
    keeper: Option<(Arc<ResponseStore>, ResponseKey)>,
}

impl Memory {
    /// The conversation as a generator takes it.
    fn messages(&self, instructions: Option<&str>) -> impl Iterator<Item = Value> {
        let instructions = instructions.map(|text| message("system", Value::from(text)));
        instructions.into_iter().chain(self.items.iter().map(|item| item.value()))
    }

    /// Takes over the conversation that it goes on from; says how many bytes that has.
    fn recall(&mut self, client: Client<'_>) -> Result<usize, Problem> {
        let Some(previous) = &self.previous else { return Ok(0) };
        let refuse = |text: &str| Err(Problem::bad_field("/previous_response_id", text));
        let Some(store) = client.responses else {
            return refuse(&format!("{HOW_TO_KEEP}; without it send the whole conversation as `input`"));
        };
        let Some(kept) = store.get(&ResponseKey { owner: client.tenant, id: previous.as_str().into() })
        else {
            return refuse(
                "there is no such response, or it is no longer kept; send the whole conversation as `input`",
            );
        };
        let Some(answer) = &kept.answer else {
            return refuse("that response has not come to an end; wait for it, or go on from one that has");
        };
        let before: Vec<_> = kept.items.iter().chain([answer]).cloned().collect();
        let num_bytes = before.iter().map(|item| item.text.len()).sum();
        self.items.splice(..0, before);
        Ok(num_bytes)
    }
}

impl ResponseExchange {
    fn set_messages(&mut self) {
        let messages = self.memory.messages(self.instructions.as_deref());
        self.request.set("messages", Value::list(messages));
    }

    /// Asks for a place for it where responses are kept.
    fn find_keeper(&mut self, client: Client<'_>) -> Result<(), Problem> {
        if self.form == Form::Later {
            if self.memory.wanted == Some(false) {
                let text = "a response in the background has to be kept; leave `store` out";
                return Err(Problem::bad_field("/store", text));
            }
            let Some(store) = client.responses else {
                return Err(Problem::bad_field("/background", HOW_TO_KEEP));
            };
            let num_bytes = self.memory.items.iter().map(|item| item.text.len()).sum();
            if !store.fits(num_bytes) {
                let text = "the conversation is too long to be kept; leave `background` out";
                return Err(Problem::bad_field("/background", text));
            }
        }
        match client.responses {
            None if self.memory.wanted == Some(true) => {
                return Err(Problem::bad_field("/store", HOW_TO_KEEP));
            }
            Some(store) if self.memory.wanted != Some(false) => {
                let key = ResponseKey { owner: client.tenant, id: self.document.id.as_str().into() };
                self.memory.keeper = Some((store.clone(), key));
            }
            _ => self.memory.items = Vec::new(),
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.document.fields.insert(name.to_owned(), value.into());
    }

    /// What the answer says.
    fn item(&self, text: &str) -> Arc<Item> {
        Arc::new(Item { id: self.answer_id.clone(), role: "assistant", text: text.into() })
    }

    /// The last document; keeps it where it is to be kept.
    fn finish(&mut self, state: &State<'_>, answer: Option<&Arc<Item>>) -> serde_json::Value {
        let mut document = self.document.json(state);
        let Some((store, key)) = self.memory.keeper.take() else { return document };
        let items = std::mem::take(&mut self.memory.items);
        let kept = Kept { document: document.to_string().into(), items, answer: answer.cloned() };
        if self.form == Form::Later {
            store.finish(&key, kept);
        } else if store.fits(kept.num_bytes()) {
            store.put(key, kept, None);
        } else {
            self.set("store", false);
            document["store"] = false.into();
        }
        document
    }
}

impl Exchange for ResponseExchange {
    fn target(&self) -> Option<Target<'_>> {
        Some(Target::Named { name: &self.request.model, version: None })
    }

    fn wishes(&self) -> Wishes<'_> {
        self.treatment.wishes()
    }

    fn comes_from(&mut self, client: Client<'_>) -> Result<usize, Problem> {
        let num_bytes = self.memory.recall(client)?;
        if num_bytes > 0 {
            self.set_messages();
        }
        self.find_keeper(client)?;
        self.set("store", self.memory.keeper.is_some());
        self.set("service_tier", super::text::tier_of(client.priority));
        Ok(num_bytes)
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        let names = [("/messages", "/input"), ("/max_tokens", "/max_output_tokens")];
        self.request.ask(plan).map_err(|problem| problem.with_fields_named(&names))
    }

    fn asked(&mut self) {
        self.request.asked();
        self.instructions = None;
    }

    fn answer(&mut self, value: &Value, told: Told<'_>) -> Response<Last> {
        let Answer { text, finish_reason } = self.request.answer(value);
        let answer = self.item(text);
        let state = State::Ended { answer: &answer, reason: finish_reason, spent: told.spent };
        json_answer(&self.finish(&state, Some(&answer)))
    }

    fn accept(&mut self, task: AbortOnDropHandle<()>) -> Response<Last> {
        let begun = self.document.json(&State::Begun);
        if let Some((store, key)) = &self.memory.keeper {
            let document = Bytes::from(begun.to_string());
            let cancelled = self.document.json(&State::Cancelled).to_string().into();
            let kept = Kept { document, items: self.memory.items.clone(), answer: None };
            store.put(key.clone(), kept, Some(Work { task, cancelled }));
        }
        json_answer(&begun)
    }

    fn stream_headers(&self) -> HeaderMap {
        sse::headers()
    }

    fn part(&mut self, part: &StreamPart, bytes: &mut Vec<u8>) {
        if let Some(text) = self.request.part(part) {
            self.events.text(&self.document, &self.answer_id, text, bytes);
        }
    }

    fn keep_alive(&self) -> Bytes {
        sse::COMMENT
    }

    fn end(&mut self, outcome: Result<&Value, &Problem>, told: Told<'_>) -> Last {
        let answer = outcome.ok().map(|value| self.item(self.request.answer(value).text));
        let state = match (outcome, &answer) {
            (Ok(value), Some(answer)) => {
                let reason = self.request.answer(value).finish_reason;
                State::Ended { answer, reason, spent: told.spent }
            }
            (Err(problem), _) => State::Failed(problem),
            (Ok(_), None) => State::Cancelled,
        };
        let has_failed = outcome.is_err();
        if !has_failed || self.form == Form::Later {
            self.finish(&state, answer.as_ref());
        }
        let mut bytes = Vec::new();
        if self.form == Form::Parts {
            if let Some(text) = outcome.ok().and_then(|value| self.request.untold(value)) {
                self.events.text(&self.document, &self.answer_id, text, &mut bytes);
            }
            self.events.end(&self.document, &self.answer_id, &state, &mut bytes);
        }
        bytes.into()
    }
}
