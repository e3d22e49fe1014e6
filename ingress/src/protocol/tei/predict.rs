//! `POST /predict`: the label of each text. Engines here tell the most likely label alone, so that each list has one.

use std::fmt;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_pipelines::MAX_ITEMS;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::super::fields::{Texts, read, refuse};
use super::super::task::{TaskAnswer, TaskCall, texts};
use super::super::{Exchange, Last, Problem, Protocol, Told, json};
use super::UNSUPPORTED;

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/predict",
    access: Access::ApiKey,
    help: "Classification as Text Embeddings Inference has it: the most likely label of each text with its score, by the only deployment that classifies, or by the one that `model` names.",
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
        let PredictBody { model, inputs } = read(&body)?;
        let (given, answers) = match inputs {
            Inputs::One(text) => (vec![text], Answers::One),
            Inputs::Many(texts) => (texts, Answers::Many),
        };
        Ok(TaskCall::classify(model, texts(given)).answered_by(PredictAnswer { answers }))
    }

    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        super::refuse(problem)
    }
}

#[derive(Deserialize)]
struct PredictBody {
    model: Option<String>,
    inputs: Inputs,
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
        let list = |name: &str| value.get(name).and_then(Value::as_list).unwrap_or_default();
        let predictions = list("scores").iter().zip(list("labels"));
        let mut predictions = predictions
            .map(|(score, label)| [Prediction { score: score.as_f64().unwrap_or_default(), label }]);
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
            let answer = Value::map([
                ("labels", Value::list(labels.iter().map(|label| Value::from(*label)))),
                ("scores", Value::list(labels.iter().map(|_| Value::from(0.75)))),
            ]);
            let request_id = RequestId::new("r-1");
            let told = Told { request_id: &request_id, spent: Spent::default() };
            let response = read(inputs).unwrap().answer(&answer, told);
            serde_json::from_slice(&response.body().bytes).unwrap()
        };
        let calm = value!([{"score": 0.75, "label": "calm"}]);
        let urgent = value!([{"score": 0.75, "label": "urgent"}]);
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
