//! `POST /tokenize` with `prompt` or `messages`, and `POST /detokenize`, as vLLM has them beside this API.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::{Deserialize, Serialize};
use serde_json::json as document;

use super::super::fields::{Items, Unsupported, read, refuse};
use super::super::messages::{Message, values_of};
use super::super::tokens::{Ids, TokenAnswer, TokenCall, detokenized, tokenized};
use super::super::{Exchange, Last, Problem, Protocol, json};
use super::error;

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/detokenize",
    access: Access::ApiKey,
    help: "vLLM's tokens to text, by the tokenizer of the only deployment that has one, or of the one that `model` names.",
};

const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "tools", neutral: &[] },
    Unsupported { name: "chat_template", neutral: &[] },
    Unsupported { name: "chat_template_kwargs", neutral: &[] },
    Unsupported { name: "mm_processor_kwargs", neutral: &[] },
    Unsupported { name: "continue_final_message", neutral: &[] },
];

/// `POST /detokenize`.
pub(crate) struct Detokenize;

impl Protocol for Detokenize {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn yields(&self) -> bool {
        true
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let DetokenizeBody { model, tokens } = read(&body)?;
        if matches!(tokens, Ids::Many(_)) {
            return Err(Problem::bad_field("/tokens", "give a list of tokens, not of lists"));
        }
        Ok(TokenCall::detokenize(model, &tokens).answered_by(Prompt))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

#[derive(Deserialize)]
struct DetokenizeBody {
    model: Option<String>,
    tokens: Ids,
}

struct Prompt;

impl TokenAnswer for Prompt {
    fn answer(&self, value: &Value) -> Result<Response<Last>, Problem> {
        let text = detokenized(value)?.first();
        Ok(json(&document!({ "prompt": text })))
    }

    fn refuse(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

/// A request to `/tokenize` with a body of this API.
///
/// # Errors
/// The problem to answer with.
pub(crate) fn read_tokenize(body: &[u8]) -> Result<Box<dyn Exchange>, Problem> {
    refuse(body, UNSUPPORTED)?;
    let TokenizeBody {
        model,
        prompt,
        messages,
        add_special_tokens,
        add_generation_prompt,
        return_token_strs,
    } = read(body)?;
    let call = match (prompt, messages) {
        (Some(prompt), None) => TokenCall::texts(model, vec![prompt]),
        (None, Some(_)) if add_generation_prompt == Some(false) => {
            let text = "no model here can do this; leave the field out";
            return Err(Problem::bad_field("/add_generation_prompt", text));
        }
        (None, Some(messages)) => TokenCall::messages(model, values_of(messages.0)?),
        (Some(_), Some(_)) => {
            return Err(Problem::bad_field("/prompt", "is there beside `messages`; give one of them"));
        }
        (None, None) => return Err(Problem::bad_field("/prompt", "is missing")),
    };
    let tells_tokens = return_token_strs == Some(true);
    Ok(call.add_special_tokens(add_special_tokens).answered_by(Counted { tells_tokens }))
}

#[derive(Deserialize)]
struct TokenizeBody {
    model: Option<String>,
    prompt: Option<String>,
    messages: Option<Items<Message>>,
    add_special_tokens: Option<bool>,
    add_generation_prompt: Option<bool>,
    return_token_strs: Option<bool>,
}

struct Counted {
    tells_tokens: bool,
}

#[derive(Serialize)]
struct Document<'v> {
    count: usize,
    max_model_len: i64,
    tokens: Vec<i64>,
    token_strs: Option<Vec<&'v str>>,
}

impl TokenAnswer for Counted {
    fn answer(&self, value: &Value) -> Result<Response<Last>, Problem> {
        let all = tokenized(value)?;
        let only = all.texts.into_iter().next();
        let only = only.ok_or_else(|| Problem::internal("the model gave no tokens"))?;
        let (count, tokens) = (only.ids.len(), only.ids);
        let token_strs = self.tells_tokens.then_some(only.tokens);
        Ok(json(&Document { count, max_model_len: all.max_tokens, tokens, token_strs }))
    }

    fn refuse(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}
