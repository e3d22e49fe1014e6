//! `POST /tokenize` with `inputs`, and `POST /decode`: texts to tokens and back.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::{Deserialize, Serialize};

use super::super::fields::{Texts, read};
use super::super::tokens::{Ids, TokenAnswer, TokenCall, Tokenized, detokenized, tokenized};
use super::super::{Exchange, Last, Problem, Protocol, json};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/decode",
    access: Access::ApiKey,
    help: "Tokens to texts as Text Embeddings Inference has it, by the tokenizer of the only deployment that has one, or of the one that `model` names.",
};

/// `POST /decode`.
pub(crate) struct Decode;

impl Protocol for Decode {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn yields(&self) -> bool {
        true
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let DecodeBody { model, ids, skip_special_tokens } = read(&body)?;
        let call = TokenCall::detokenize(model, &ids);
        let call = call.skip_special_tokens(skip_special_tokens.or(Some(true)));
        Ok(call.answered_by(Decoded))
    }

    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        super::refuse(problem)
    }
}

#[derive(Deserialize)]
struct DecodeBody {
    model: Option<String>,
    ids: Ids,
    skip_special_tokens: Option<bool>,
}

struct Decoded;

impl TokenAnswer for Decoded {
    fn answer(&self, value: &Value) -> Result<Response<Last>, Problem> {
        Ok(json(&detokenized(value)?))
    }

    fn refuse(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        super::refuse(problem)
    }
}

/// A request to `/tokenize` with a body of this API.
///
/// # Errors
/// The problem to answer with.
pub(crate) fn read_tokenize(body: &[u8]) -> Result<Box<dyn Exchange>, Problem> {
    let TokenizeBody { model, inputs, add_special_tokens, prompt_name } = read(body)?;
    let inputs = inputs.all();
    if inputs.is_empty() {
        return Err(Problem::bad_field("/inputs", "there is no text; give at least one"));
    }
    let call = TokenCall::texts(model, inputs).add_special_tokens(add_special_tokens);
    Ok(call.spans().prompt_name(prompt_name).answered_by(Listed))
}

#[derive(Deserialize)]
struct TokenizeBody {
    model: Option<String>,
    inputs: Texts,
    add_special_tokens: Option<bool>,
    prompt_name: Option<String>,
}

struct Listed;

#[derive(Serialize)]
struct Token<'v> {
    id: i64,
    text: &'v str,
    special: bool,
    /// Bytes of the text, for what stands in it.
    start: Option<i64>,
    stop: Option<i64>,
}

impl TokenAnswer for Listed {
    fn answer(&self, value: &Value) -> Result<Response<Last>, Problem> {
        let rows = tokenized(value)?.texts.into_iter().map(|Tokenized { ids, tokens, offsets, special }| {
            let all = ids.into_iter().zip(tokens).zip(offsets).zip(special);
            let tokens = all.map(|(((id, text), [start, stop]), special)| {
                let place = |at| Some(at).filter(|_| !special);
                Token { id, text, special, start: place(start), stop: place(stop) }
            });
            tokens.collect::<Vec<_>>()
        });
        Ok(json(&rows.collect::<Vec<_>>()))
    }

    fn refuse(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        super::refuse(problem)
    }
}
