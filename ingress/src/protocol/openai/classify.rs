//! `POST /classify` as vLLM has it beside this API: the label of each text, and how likely each of the model's labels is.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::{Deserialize, Serialize};

use super::super::cut::Cut;
use super::super::fields::{Texts, Unsupported, read, refuse};
use super::super::task::{TaskAnswer, TaskCall, labels, texts};
use super::super::{Exchange, Last, Problem, Protocol, Told, json};
use super::{Usage, error, new_id, unix_seconds};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/classify",
    access: Access::ApiKey,
    help: "vLLM's classification: the likeliest label of each text, with the probabilities of all, by the deployment that `model` names, or by the only one that classifies.",
};

const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "messages", neutral: &[] },
    Unsupported { name: "chat_template", neutral: &[] },
    Unsupported { name: "mm_processor_kwargs", neutral: &[] },
];

/// See the module.
pub(crate) struct Classify;

impl Protocol for Classify {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn yields(&self) -> bool {
        true
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        refuse(&body, UNSUPPORTED)?;
        let ClassifyBody { model, input, use_activation, truncate_prompt_tokens } = read(&body)?;
        if use_activation == Some(false) {
            let text = "no model here gives scores without its activation; leave the field out";
            return Err(Problem::bad_field("/use_activation", text));
        }
        let input = input.all();
        if input.is_empty() {
            return Err(Problem::bad_field("/input", "there is no text; give at least one"));
        }
        let cut = Cut::of_vllm(truncate_prompt_tokens)?.unwrap_or(Cut::NEVER);
        let call = TaskCall::classify(model, texts(input)).all_labels().cut(cut);
        Ok(call.answered_by(ClassifyAnswer))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

#[derive(Deserialize)]
struct ClassifyBody {
    model: Option<String>,
    input: Texts,
    #[serde(alias = "activation", alias = "softmax")]
    use_activation: Option<bool>,
    truncate_prompt_tokens: Option<i64>,
}

struct ClassifyAnswer;

#[derive(Serialize)]
struct Document<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<Classified<'a>>,
    usage: Usage,
}

#[derive(Serialize)]
struct Classified<'a> {
    index: usize,
    label: Option<&'a Value>,
    /// In the order of the model's labels.
    probs: Vec<f64>,
    num_classes: usize,
}

impl TaskAnswer for ClassifyAnswer {
    fn answer(&self, model: &str, value: &Value, told: Told<'_>) -> Response<Last> {
        let data = labels(value).into_iter().enumerate().map(|(index, mut row)| {
            let label = row.first().map(|likeliest| likeliest.label);
            row.sort_by_key(|label| label.index);
            let probs: Vec<_> = row.iter().map(|label| label.score).collect();
            Classified { index, label, num_classes: probs.len(), probs }
        });
        json(&Document {
            id: new_id("classify-"),
            object: "list",
            created: unix_seconds(),
            model,
            data: data.collect(),
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
        let (head, ()) = Request::post("/classify").body(()).unwrap().into_parts();
        let read = Classify.read(&head, body.to_string().into());
        read.map_err(|problem| problem.errors().first().map(|it| it.path.clone()).unwrap_or_default())
    }

    #[test]
    fn probabilities_come_in_the_order_of_the_models_labels() {
        let mut exchange =
            read(&value!({"model": "p/d", "input": "a", "truncate_prompt_tokens": -1})).unwrap();
        let row = |items: [Value; 2]| Value::list([Value::list(items)]);
        let answer = Value::map([
            ("labels", row(["yes", "no"].map(Value::from))),
            ("scores", row([0.75, 0.25].map(Value::from))),
            ("indices", row([1, 0].map(Value::Int))),
        ]);
        let request_id = RequestId::new("r-1");
        let spent = Spent { input_tokens: 7, output_tokens: 0 };
        let response = exchange.answer(&answer, Told { request_id: &request_id, spent });
        let json: serde_json::Value = serde_json::from_slice(&response.body().bytes).unwrap();
        let data = value!([{"index": 0, "label": "yes", "probs": [0.25, 0.75], "num_classes": 2}]);
        assert_eq!(
            (&json["object"], &json["model"], &json["data"]),
            (&value!("list"), &value!("p/d"), &data)
        );
        assert_eq!(json["usage"], value!({"prompt_tokens": 7, "total_tokens": 7}));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (body, path) in [
            (value!({"input": []}), "/input"),
            (value!({"input": [1]}), "/input/0"),
            (value!({"input": "a", "activation": false}), "/use_activation"),
            (value!({"input": "a", "truncate_prompt_tokens": 0}), "/truncate_prompt_tokens"),
            (value!({"messages": [{"role": "user"}]}), "/messages"),
            (value!({}), ""),
        ] {
            assert_eq!(read(&body).err().as_deref(), Some(path), "{body}");
        }
    }
}
