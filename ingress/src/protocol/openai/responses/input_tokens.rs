//! `POST /v1/responses/input_tokens`: the tokens that a response with this input would be charged for, by the model's tokenizer.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_pipelines::Plan;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::Deserialize;
use serde_json::json;

use super::Memory;
use super::body::{How, UNSUPPORTED};
use super::items::Input;
use crate::protocol::fields::{read, refuse};
use crate::protocol::openai::error;
use crate::protocol::tokens::{TokenAnswer, TokenCall, tokenized};
use crate::protocol::{Asked, Client, Exchange, Last, Problem, Protocol, Target, Told, json as json_answer};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/v1/responses/input_tokens",
    access: Access::ApiKey,
    help: "How many tokens the input of a response has, by the tokenizer of the deployment that `model` names.",
};

/// See the module.
pub(crate) struct InputTokens;

#[derive(Deserialize)]
struct Question {
    model: Option<String>,
    input: Option<Input>,
    instructions: Option<String>,
    previous_response_id: Option<String>,
}

impl Protocol for InputTokens {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let Question { model, input, instructions, previous_response_id } = read(&body)?;
        read::<How>(&body)?.check()?;
        refuse(&body, UNSUPPORTED)?;
        let items = input.map(Input::items).transpose()?.unwrap_or_default();
        if items.is_empty() && previous_response_id.is_none() {
            return Err(Problem::bad_field("/input", "is missing"));
        }
        let memory = Memory { wanted: None, previous: previous_response_id, items, keeper: None };
        let count = count(model.as_deref(), instructions.as_deref(), &memory);
        Ok(Box::new(Counting { model, instructions, memory, count }))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

struct Counting {
    model: Option<String>,
    instructions: Option<String>,
    memory: Memory,
    /// The call of the tokenizer.
    count: Box<dyn Exchange>,
}

fn count(model: Option<&str>, instructions: Option<&str>, memory: &Memory) -> Box<dyn Exchange> {
    let messages = memory.messages(instructions).collect();
    TokenCall::messages(model.map(str::to_owned), messages).answered_by(Counted)
}

/// As the tokenizer's call is, once the conversation is known that the input goes on from.
impl Exchange for Counting {
    fn target(&self) -> Option<Target<'_>> {
        self.count.target()
    }

    fn comes_from(&mut self, client: Client<'_>) -> Result<usize, Problem> {
        let num_bytes = self.memory.recall(client)?;
        if num_bytes > 0 {
            self.count = count(self.model.as_deref(), self.instructions.as_deref(), &self.memory);
        }
        Ok(num_bytes)
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        self.count.ask(plan)
    }

    fn asked(&mut self) {
        self.count.asked();
        self.memory.items = Vec::new();
    }

    fn answer(&mut self, value: &Value, told: Told<'_>) -> Response<Last> {
        self.count.answer(value, told)
    }
}

struct Counted;

impl TokenAnswer for Counted {
    fn answer(&self, value: &Value) -> Result<Response<Last>, Problem> {
        let only = tokenized(value)?.texts.into_iter().next();
        let only = only.ok_or_else(|| Problem::internal("the model gave no tokens"))?;
        Ok(json_answer(&json!({ "object": "response.input_tokens", "input_tokens": only.ids.len() })))
    }

    fn refuse(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn refused(body: &str) -> Option<String> {
        let (head, ()) = Request::post("/v1/responses/input_tokens").body(()).unwrap().into_parts();
        let problem = InputTokens.read(&head, Bytes::copy_from_slice(body.as_bytes())).err()?;
        assert_eq!(InputTokens.problem(&problem, &RequestId::new("r-1")).status(), 400, "{body}");
        Some(problem.text())
    }

    #[test]
    fn bodies_are_those_of_responses_where_all_may_be_left_out_that_is_not_counted() {
        for good in [
            r#"{"model": "m", "input": "a", "instructions": "b", "parallel_tool_calls": true, "tool_choice": "auto"}"#,
            r#"{"input": [{"role": "user", "content": "a"}], "truncation": "disabled"}"#,
            r#"{"model": "m", "previous_response_id": "resp_1"}"#,
        ] {
            assert_eq!(refused(good), None, "{good}");
        }
        for (body, said) in [
            ("{", "does not fit"),
            (r#"{"model": "m"}"#, "`input`: is missing"),
            (r#"{"model": "m", "input": 1}"#, "`input`: "),
            (r#"{"model": "m", "input": "a", "tools": [{"type": "function"}]}"#, "`tools`: "),
            (r#"{"model": "m", "input": "a", "conversation": "conv_1"}"#, "`conversation`: "),
            (r#"{"model": "m", "input": "a", "reasoning": {"effort": "high"}}"#, "`reasoning/effort`: "),
        ] {
            let found = refused(body).unwrap_or_default();
            assert!(found.contains(said), "{body}: {found}");
        }
    }
}
