//! `POST /v1/moderations`: whether texts are of a kind that somebody wants to know of, by a deployment that classifies. Its labels are the
//! categories.

use std::fmt;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::super::task::{Label, TaskAnswer, TaskCall, labels, texts};
use super::super::{Exchange, Last, Problem, Protocol, Told, json as json_answer};
use super::{error, new_id};
use crate::protocol::fields::{Items, read};
use crate::protocol::messages::shown;

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/v1/moderations",
    access: Access::ApiKey,
    help: "OpenAI's moderations: which labels texts have, by the deployment that `model` names; without it by the one with the alias `omni-moderation-latest`.",
};

/// What clients that name no model ask for.
const DEFAULT_MODEL: &str = "omni-moderation-latest";
/// A label with a score of this, or more, is flagged.
const THRESHOLD: f64 = 0.5;
/// Labels for texts that nobody has to look at, in lower case.
const HARMLESS: [&str; 12] = [
    "ok",
    "safe",
    "neutral",
    "none",
    "normal",
    "benign",
    "clean",
    "harmless",
    "non-toxic",
    "nontoxic",
    "not_toxic",
    "non_toxic",
];

/// See the module.
pub(crate) struct Moderations;

impl Protocol for Moderations {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let ModerationsBody { model, input } = read(&body)?;
        let model = model.unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        let texts = texts(input.texts()?);
        Ok(TaskCall::classify(Some(model), texts).all_labels().answered_by(ModerationAnswer))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

#[derive(Deserialize)]
struct ModerationsBody {
    model: Option<String>,
    input: Input,
}

/// A text, texts, or the parts of one thing.
enum Input {
    Text(String),
    Texts(Vec<String>),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

/// An item of a list.
#[derive(Deserialize)]
#[serde(untagged, expecting = "is neither a text nor a part with a `type`")]
enum Entry {
    Text(String),
    Part(Part),
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a list of texts or a list of parts with a `type`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Input, A::Error> {
                let Items(entries) = Items::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))?;
                let (mut texts, mut parts) = (Vec::new(), Vec::new());
                for entry in entries {
                    match entry {
                        Entry::Text(text) => texts.push(text),
                        Entry::Part(part) => parts.push(part),
                    }
                }
                match (texts.is_empty(), parts.is_empty()) {
                    (_, true) => Ok(Input::Texts(texts)),
                    (true, false) => Ok(Input::Parts(parts)),
                    (false, false) => Err(A::Error::custom("texts and parts are mixed; give one of the two")),
                }
            }
        }
        from.deserialize_any(Reader)
    }
}

impl Input {
    /// What is to be classified, one by one.
    ///
    /// # Errors
    /// A problem (400) where there is nothing, or something that is no text.
    fn texts(self) -> Result<Vec<String>, Problem> {
        match self {
            Self::Text(text) => Ok(vec![text]),
            Self::Texts(texts) if texts.is_empty() => {
                Err(Problem::bad_field("/input", "there is no text; give at least one"))
            }
            Self::Texts(texts) => Ok(texts),
            Self::Parts(parts) => {
                let mut whole = String::new();
                for (index, part) in parts.into_iter().enumerate() {
                    match (&*part.r#type, part.text) {
                        ("text", Some(text)) => whole.push_str(&text),
                        (kind, _) => {
                            let text =
                                format!("no model here takes parts of type `{}`; give `text`", shown(kind));
                            return Err(Problem::bad_field(format!("/input/{index}/type"), text));
                        }
                    }
                }
                Ok(vec![whole])
            }
        }
    }
}

struct ModerationAnswer;

#[derive(Serialize)]
struct Moderation {
    flagged: bool,
    categories: Map<String, serde_json::Value>,
    category_scores: Map<String, serde_json::Value>,
    category_applied_input_types: Map<String, serde_json::Value>,
}

impl Moderation {
    /// Of a text with these labels.
    fn of(labels: Vec<Label<'_>>) -> Self {
        let mut moderation = Self {
            flagged: false,
            categories: Map::new(),
            category_scores: Map::new(),
            category_applied_input_types: Map::new(),
        };
        for Label { label, score, .. } in labels {
            let label = label.as_text().unwrap_or_default();
            let is_flagged = score >= THRESHOLD && !HARMLESS.contains(&&*label.to_lowercase());
            moderation.flagged |= is_flagged;
            moderation.categories.insert(label.to_owned(), is_flagged.into());
            moderation.category_scores.insert(label.to_owned(), score.into());
            moderation.category_applied_input_types.insert(label.to_owned(), json!(["text"]));
        }
        moderation
    }
}

impl TaskAnswer for ModerationAnswer {
    fn answer(&self, model: &str, value: &Value, _: Told<'_>) -> Response<Last> {
        let results: Vec<_> = labels(value).into_iter().map(Moderation::of).collect();
        json_answer(&json!({ "id": new_id("modr-"), "model": model, "results": results }))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::super::Spent;
    use super::*;

    fn read(input: &serde_json::Value) -> Result<Box<dyn Exchange>, Problem> {
        let (head, ()) = Request::post("/v1/moderations").body(()).unwrap().into_parts();
        Moderations.read(&head, json!({ "input": input }).to_string().into())
    }

    fn shown(value: &Value) -> serde_json::Value {
        let request_id = RequestId::new("r-1");
        let told = Told { request_id: &request_id, spent: Spent::default() };
        let response = read(&json!("a")).unwrap().answer(value, told);
        serde_json::from_slice::<serde_json::Value>(&response.body().bytes).unwrap()["results"].clone()
    }

    #[test]
    fn labels_are_categories() {
        let rows = |rows: [[Value; 2]; 2]| Value::list(rows.map(Value::list));
        let all = Value::map([
            ("labels", rows([["violence", "hate"], ["ok", "hate"]].map(|row| row.map(Value::from)))),
            ("scores", rows([[0.5, 0.25], [0.9, 0.1]].map(|row| row.map(Value::from)))),
            ("indices", rows([[1, 0], [2, 0]].map(|row| row.map(Value::Int)))),
        ]);
        let results = shown(&all);
        assert_eq!(results[0]["categories"], json!({ "hate": false, "violence": true }));
        assert_eq!(results[0]["category_scores"], json!({ "hate": 0.25, "violence": 0.5 }));
        assert_eq!(results[0]["category_applied_input_types"]["hate"], json!(["text"]));
        assert_eq!(results[0]["flagged"], true);
        assert_eq!(results[1]["flagged"], false, "a harmless label");
    }

    #[test]
    fn inputs_are_texts_or_parts_of_one() {
        for good in [json!("a"), json!(["a", "b"]), json!([{"type": "text", "text": "a"}])] {
            let exchange = read(&good).unwrap();
            let named = format!("{:?}", exchange.target());
            assert!(named.contains(DEFAULT_MODEL), "{named}");
        }
        for (bad, path) in [
            (json!([]), "/input"),
            (json!(1), "/input"),
            (json!(["a", {"type": "text", "text": "b"}]), "/input"),
            (json!([{"type": "image_url", "image_url": {"url": "x"}}]), "/input/0/type"),
            (json!([[1]]), "/input/0"),
        ] {
            let problem = read(&bad).err().unwrap();
            assert!(problem.errors()[0].path.starts_with(path), "{bad}: {problem:?}");
        }
    }
}
