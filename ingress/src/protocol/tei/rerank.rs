//! `POST /rerank` with `texts`: a bare list of scores, best first.

use http::Response;
use millstream_proto::Value;
use serde::{Deserialize, Serialize};

use super::super::cut::Direction;
use super::super::fields::{Items, read, refuse};
use super::super::task::{TaskAnswer, TaskCall, ranked};
use super::super::{Exchange, Last, Problem, Told, json};
use super::UNSUPPORTED;

/// A request with a body of this API.
///
/// # Errors
/// The problem to answer with.
pub(crate) fn read_rerank(body: &[u8]) -> Result<Box<dyn Exchange>, Problem> {
    refuse(body, UNSUPPORTED)?;
    let RerankBody { model, query, texts, return_text, truncate, truncation_direction } = read(body)?;
    if texts.0.is_empty() {
        return Err(Problem::bad_field("/texts", "there are none; give at least one"));
    }
    let keep = texts.0.len() as u64;
    let cut = Direction::cut(truncation_direction, truncate);
    let call = TaskCall::rerank(model, query, texts.0, keep).cut(cut);
    Ok(call.answered_by(RerankAnswer { tells_texts: return_text == Some(true) }))
}

#[derive(Deserialize)]
struct RerankBody {
    model: Option<String>,
    query: String,
    texts: Items<String>,
    return_text: Option<bool>,
    truncate: Option<bool>,
    truncation_direction: Option<Direction>,
}

struct RerankAnswer {
    tells_texts: bool,
}

#[derive(Serialize)]
struct Rank<'a> {
    index: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a Value>,
    score: f64,
}

impl TaskAnswer for RerankAnswer {
    fn answer(&self, _: &str, value: &Value, _: Told<'_>) -> Response<Last> {
        let ranks = ranked(value).map(|it| Rank {
            index: it.index,
            text: Some(it.text).filter(|_| self.tells_texts),
            score: it.score,
        });
        json(&ranks.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use millstream_proto::RequestId;
    use serde_json::json as value;

    use super::super::super::Spent;
    use super::*;

    #[test]
    fn texts_come_along_where_they_are_asked_for() {
        let answer = Value::map([
            ("items", Value::list(["b", "a"].map(Value::from))),
            ("scores", Value::list([0.75, 0.25].map(Value::from))),
            ("indices", Value::list([1, 0].map(Value::Int))),
        ]);
        let request_id = RequestId::new("r-1");
        let shown = |body: &str| -> serde_json::Value {
            let told = Told { request_id: &request_id, spent: Spent::default() };
            let response = read_rerank(body.as_bytes()).unwrap().answer(&answer, told);
            serde_json::from_slice(&response.body().bytes).unwrap()
        };
        assert_eq!(
            shown(r#"{"query": "q", "texts": ["a", "b"]}"#),
            value!([{"index": 1, "score": 0.75}, {"index": 0, "score": 0.25}])
        );
        assert_eq!(
            shown(r#"{"query": "q", "texts": ["a", "b"], "return_text": true}"#)[0],
            value!({"index": 1, "text": "b", "score": 0.75})
        );
    }
}
