//! `POST /predict`: all labels of each text with their scores, likeliest first.

use std::fmt;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_pipelines::MAX_ITEMS;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::super::cut::Direction;
use super::super::fields::{Texts, read, refuse};
use super::super::task::{Label, TaskAnswer, TaskCall, labels, texts};
use super::super::{Exchange, Last, Problem, Protocol, Told, json};
use super::UNSUPPORTED;

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/predict",
    access: Access::ApiKey,
    help: "Classification as Text Embeddings Inference has it: all labels of each text with their scores, likeliest first, by the only deployment that classifies, or by the one that `model` names.",
};

/// See the module.
pub(crate) struct Predict;

impl Protocol for Predict {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn yields(&self) -> bool {
        true
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        refuse(&body, UNSUPPORTED)?;
        let PredictBody { model, inputs, truncate, truncation_direction } = read(&body)?;
        let (given, answers) = match inputs {
            Inputs::One(text) => (vec![text], Answers::One),
            Inputs::Many(texts) => (texts, Answers::Many),
        };
        let cut = Direction::cut(truncation_direction, truncate);
        let call = TaskCall::classify(model, texts(given)).all_labels().cut(cut);
        Ok(call.answered_by(PredictAnswer { answers }))
    }

    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        super::refuse(problem)
    }
}

#[derive(Deserialize)]
struct PredictBody {
    model: Option<String>,
    inputs: Inputs,
    truncate: Option<bool>,
    truncation_direction: Option<Direction>,
}

/// A text, as it is or in a list; or a list of such lists. Two texts in a list are a pair, which no engine here classifies.
#[derive(Debug, PartialEq)]
enum Inputs {
    One(String),
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of lists of one text, such as `[[\"a\"], [\"b\"]]`; two texts in a list are a pair, which no model here takes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inputs, A::Error> {
                let mut many = Vec::new();
                while let Some(item) = seq.next_element::<Texts>()? {
                    let text = match item {
                        Texts::One(text) if many.is_empty() => {
                            return match seq.next_element::<Texts>()? {
                                None => Ok(Inputs::One(text)),
                                Some(_) => Err(A::Error::invalid_length(2, &self)),
                            };
                        }
                        Texts::One(_) => {
                            return Err(A::Error::custom(
                                "lists and texts are mixed; give lists of one text",
                            ));
                        }
                        Texts::Many(texts) => match <[String; 1]>::try_from(texts) {
                            Ok([text]) => text,
                            Err(texts) => return Err(A::Error::invalid_length(texts.len(), &self)),
                        },
                    };
                    if many.len() == MAX_ITEMS {
                        return Err(A::Error::custom(format!("there are more than {MAX_ITEMS} items")));
                    }
                    many.push(text);
                }
                if many.is_empty() {
                    Err(A::Error::custom("there is no text; give at least one"))
                } else {
                    Ok(Inputs::Many(many))
                }
            }
        }
        from.deserialize_any(Reader)
    }
}

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// The labels of one text.
    One,
    /// A list of those of each.
    Many,
}

struct PredictAnswer {
    answers: Answers,
}

#[derive(Serialize)]
struct Prediction<'a> {
    score: f64,
    label: &'a Value,
}

impl TaskAnswer for PredictAnswer {
    fn answer(&self, _: &str, value: &Value, _: Told<'_>) -> Response<Last> {
        let mut predictions = labels(value).into_iter().map(|row| {
            row.into_iter().map(|Label { label, score, .. }| Prediction { score, label }).collect::<Vec<_>>()
        });
        match (self.answers, predictions.next()) {
            (Answers::One, Some(first)) => json(&first),
            (Answers::Many, Some(first)) => {
                json(&std::iter::once(first).chain(predictions).collect::<Vec<_>>())
            }
            (_, None) => super::refuse(&Problem::internal("the model gave no labels")),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::json as value;

    use super::super::super::Spent;
    use super::*;

    fn read(inputs: &serde_json::Value) -> Result<Box<dyn Exchange>, Problem> {
        let (head, ()) = Request::post("/predict").body(()).unwrap().into_parts();
        Predict.read(&head, value!({ "inputs": inputs }).to_string().into())
    }

    #[test]
    fn one_text_has_one_list_and_several_have_a_list_each() {
        let shown = |inputs: &serde_json::Value, labels: &[&str]| -> serde_json::Value {
            let rows = |item: &dyn Fn(&str) -> [Value; 2]| {
                Value::list(labels.iter().map(|label| Value::list(item(label))))
            };
            let answer = Value::map([
                ("labels", rows(&|label| [Value::from(label), Value::from("none")])),
                ("scores", rows(&|_| [0.75, 0.25].map(Value::from))),
                ("indices", rows(&|_| [1, 0].map(Value::Int))),
            ]);
            let request_id = RequestId::new("r-1");
            let told = Told { request_id: &request_id, spent: Spent::default() };
            let response = read(inputs).unwrap().answer(&answer, told);
            serde_json::from_slice(&response.body().bytes).unwrap()
        };
        let calm = value!([{"score": 0.75, "label": "calm"}, {"score": 0.25, "label": "none"}]);
        let urgent = value!([{"score": 0.75, "label": "urgent"}, {"score": 0.25, "label": "none"}]);
        assert_eq!(shown(&value!("a"), &["calm"]), calm);
        assert_eq!(shown(&value!(["a"]), &["calm"]), calm);
        assert_eq!(shown(&value!([["a"]]), &["calm"]), value!([calm]));
        assert_eq!(shown(&value!([["a"], ["b"]]), &["calm", "urgent"]), value!([calm, urgent]));
        assert_eq!(shown(&value!("a"), &[])["error_type"], "Backend");
    }

    #[test]
    fn pairs_are_refused() {
        for (inputs, said) in [
            (value!(["a", "b"]), "are a pair"),
            (value!([["a", "b"]]), "are a pair"),
            (value!([["a"], "b"]), "mixed"),
            (value!(["a", ["b"]]), "are a pair"),
            (value!([]), "no text"),
            (value!([[]]), "invalid length 0"),
            (value!(1), "expected a text"),
        ] {
            let problem = read(&inputs).err().unwrap();
            let fault = &problem.errors()[0];
            assert!(fault.path.starts_with("/inputs") && fault.message.contains(said), "{inputs}: {fault:?}");
        }
    }
}
