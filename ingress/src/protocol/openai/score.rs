//! `POST /score` and `/v1/score` as vLLM has them beside this API: how well texts fit one text, in the order in which they were given.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::{Deserialize, Serialize};

use super::super::cut::Cut;
use super::super::fields::{Texts, Unsupported, read, refuse};
use super::super::task::{TaskAnswer, TaskCall, ranked};
use super::super::{Exchange, Last, Problem, Protocol, Told, json};
use super::{Usage, error, new_id, unix_seconds};

const ENDPOINTS: [Endpoint; 2] = [
    Endpoint {
        methods: "POST",
        path: "/score",
        access: Access::ApiKey,
        help: "vLLM's scores: how well each of `text_2` fits `text_1`, by the deployment that `model` names, or by the only one that reranks.",
    },
    Endpoint { methods: "POST", path: "/v1/score", access: Access::ApiKey, help: "The same." },
];

const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "mm_processor_kwargs", neutral: &[] },
    Unsupported { name: "instruction", neutral: &[] },
    Unsupported { name: "chat_template", neutral: &[] },
];

/// See the module.
pub(crate) struct Score;

impl Protocol for Score {
    fn endpoints(&self) -> &'static [Endpoint] {
        &ENDPOINTS
    }

    fn yields(&self) -> bool {
        true
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        refuse(&body, UNSUPPORTED)?;
        let ScoreBody { model, text_1, text_2, use_activation, truncate_prompt_tokens } = read(&body)?;
        if use_activation == Some(false) {
            let text = "no model here gives scores without its activation; leave the field out";
            return Err(Problem::bad_field("/use_activation", text));
        }
        let documents = text_2.all();
        if documents.is_empty() {
            return Err(Problem::bad_field("/text_2", "there is no text; give at least one"));
        }
        let query = one_query(text_1.all(), documents.len())?;
        let keep = documents.len() as u64;
        let cut = Cut::of_vllm(truncate_prompt_tokens)?.unwrap_or(Cut::NEVER);
        Ok(TaskCall::rerank(model, query, documents, keep).cut(cut).answered_by(ScoreAnswer))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

/// The text that all documents are compared with. A call has one: pairs with different first texts are calls of their own.
fn one_query(queries: Vec<String>, num_documents: usize) -> Result<String, Problem> {
    let num_queries = queries.len();
    let mut queries = queries.into_iter();
    let Some(first) = queries.next() else {
        return Err(Problem::bad_field("/text_1", "there is no text; give one"));
    };
    if num_queries > 1 && num_queries != num_documents {
        let text = format!("there are {num_queries} texts for {num_documents} of `text_2`; give one");
        return Err(Problem::bad_field("/text_1", text));
    }
    if queries.any(|query| query != first) {
        let text = "the texts differ; send one request for each of them, with all that it is compared with in `text_2`";
        return Err(Problem::bad_field("/text_1", text));
    }
    Ok(first)
}

#[derive(Deserialize)]
struct ScoreBody {
    model: Option<String>,
    #[serde(alias = "queries", alias = "data_1")]
    text_1: Texts,
    #[serde(alias = "documents", alias = "items", alias = "data_2")]
    text_2: Texts,
    #[serde(alias = "activation")]
    use_activation: Option<bool>,
    truncate_prompt_tokens: Option<i64>,
}

struct ScoreAnswer;

#[derive(Serialize)]
struct Document<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<Scored>,
    usage: Usage,
}

#[derive(Serialize)]
struct Scored {
    index: i64,
    object: &'static str,
    score: f64,
}

impl TaskAnswer for ScoreAnswer {
    fn answer(&self, model: &str, value: &Value, told: Told<'_>) -> Response<Last> {
        let scored = ranked(value).map(|it| Scored { index: it.index, object: "score", score: it.score });
        let mut data: Vec<_> = scored.collect();
        data.sort_by_key(|scored| scored.index);
        json(&Document {
            id: new_id("score-"),
            object: "list",
            created: unix_seconds(),
            model,
            data,
            usage: Usage::of_input(told.spent),
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::json as value;

    use super::super::super::Spent;
    use super::*;

    fn read(body: &serde_json::Value) -> Result<Box<dyn Exchange>, String> {
        let (head, ()) = Request::post("/score").body(()).unwrap().into_parts();
        let read = Score.read(&head, body.to_string().into());
        read.map_err(|problem| problem.errors().first().map(|it| it.path.clone()).unwrap_or_default())
    }

    #[test]
    fn scores_come_in_the_order_of_the_texts() {
        let mut exchange = read(
            &value!({"model": "p/d", "queries": ["q"], "documents": ["a", "b"], "use_activation": true}),
        )
        .unwrap();
        let answer = Value::map([
            ("items", Value::list(["b", "a"].map(Value::from))),
            ("scores", Value::list([0.75, 0.25].map(Value::from))),
            ("indices", Value::list([1, 0].map(Value::Int))),
        ]);
        let request_id = RequestId::new("r-1");
        let spent = Spent { input_tokens: 7, output_tokens: 0 };
        let response = exchange.answer(&answer, Told { request_id: &request_id, spent });
        let json: serde_json::Value = serde_json::from_slice(&response.body().bytes).unwrap();
        let data = value!([
            {"index": 0, "object": "score", "score": 0.25},
            {"index": 1, "object": "score", "score": 0.75},
        ]);
        assert_eq!(
            (&json["object"], &json["model"], &json["data"]),
            (&value!("list"), &value!("p/d"), &data)
        );
        assert_eq!(json["usage"], value!({"prompt_tokens": 7, "total_tokens": 7}));
        assert!(json["created"].is_u64() && json["id"].is_string());
    }

    #[test]
    fn a_call_compares_with_one_text() {
        assert!(read(&value!({"text_1": "q", "text_2": "a"})).is_ok());
        assert!(
            read(&value!({"text_1": ["q", "q"], "text_2": ["a", "b"], "truncate_prompt_tokens": -1})).is_ok()
        );
        for (body, path) in [
            (value!({"text_1": ["q", "r"], "text_2": ["a", "b"]}), "/text_1"),
            (value!({"text_1": ["q", "q"], "text_2": ["a", "b", "c"]}), "/text_1"),
            (value!({"text_1": [], "text_2": ["a"]}), "/text_1"),
            (value!({"text_1": "q", "text_2": []}), "/text_2"),
            (value!({"queries": "q", "documents": [{"type": "image_url"}]}), "/documents/0"),
            (value!({"text_1": "q", "text_2": "a", "activation": false}), "/use_activation"),
            (value!({"text_1": "q", "text_2": "a", "truncate_prompt_tokens": 0}), "/truncate_prompt_tokens"),
            (value!({"text_1": "q"}), ""),
        ] {
            assert_eq!(read(&body).err().as_deref(), Some(path), "{body}");
        }
    }
}
