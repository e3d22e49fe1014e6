//! Texts to tokens and back, by the tokenizer of a deployment: a call to a replica as others are, as the tokenizer is where the model is.
//! Its fields are not those of the deployment's task: what they are is said where engines read them
//! (`worker/model-files/src/token_call.rs`).

use std::fmt;

use http::Response;
use millstream_pipelines::{MAX_ITEMS, Plan, Task};
use millstream_proto::{RequestId, Value};
use millstream_values::Map;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::fields::Items;
use super::task::{check_task, texts};
use super::{Asked, Exchange, Form, Last, Problem, Target, Told};

/// The tasks of models with a tokenizer.
const READERS: [Task; 4] = [Task::Embed, Task::Rerank, Task::Classify, Task::Generate];

/// A request for tokens, or for the text of tokens.
pub(crate) struct TokenCall {
    model: Option<String>,
    /// What engines know the operation by.
    operation: &'static str,
    inputs: Map,
    num_values: usize,
}

impl TokenCall {
    /// Texts to tokens.
    pub(crate) fn texts(model: Option<String>, given: Vec<String>) -> Self {
        let num_values = given.len();
        let inputs = Map::from_iter([("texts".into(), texts(given))]);
        Self { model, operation: "tokenize", inputs, num_values }
    }

    /// A conversation to tokens.
    pub(crate) fn messages(model: Option<String>, messages: Vec<Value>) -> Self {
        let num_values = messages.len();
        let inputs = Map::from_iter([("messages".into(), Value::list(messages))]);
        Self { model, operation: "tokenize", inputs, num_values }
    }

    /// Tokens to texts.
    pub(crate) fn detokenize(model: Option<String>, ids: &Ids) -> Self {
        let list = |ids: &Vec<u32>| Value::list(ids.iter().map(|&id| Value::Int(i64::from(id))));
        let lists = match ids {
            Ids::One(ids) => Value::list([list(ids)]),
            Ids::Many(lists) => Value::list(lists.iter().map(list)),
        };
        let inputs = Map::from_iter([("ids".into(), lists)]);
        Self { model, operation: "detokenize", inputs, num_values: ids.len() }
    }

    /// Whether the model's special tokens are put around a text, where the request says it.
    pub(crate) fn add_special_tokens(self, are_added: Option<bool>) -> Self {
        self.with("add_special_tokens", are_added.map(Value::Bool))
    }

    /// Whether special tokens are left out of a text, where the request says it.
    pub(crate) fn skip_special_tokens(self, are_skipped: Option<bool>) -> Self {
        self.with("skip_special_tokens", are_skipped.map(Value::Bool))
    }

    /// With the text that each token stands for, in place of its name.
    pub(crate) fn spans(self) -> Self {
        self.with("spans", Some(Value::Bool(true)))
    }

    /// With the model's prompt of that name before each text.
    pub(crate) fn prompt_name(self, name: Option<String>) -> Self {
        self.with("prompt_name", name.map(Value::from))
    }

    fn with(mut self, name: &str, value: Option<Value>) -> Self {
        self.inputs.extend(value.map(|value| (name.into(), value)));
        self
    }

    /// The request, answered in that way.
    pub(crate) fn answered_by(self, answer: impl TokenAnswer + 'static) -> Box<dyn Exchange> {
        Box::new(TokenExchange { call: self, answer })
    }
}

/// How an API answers such a request.
pub(crate) trait TokenAnswer: Send + Sync {
    /// The whole answer.
    ///
    /// # Errors
    /// A problem where the model gave none.
    fn answer(&self, value: &Value) -> Result<Response<Last>, Problem>;

    /// That problem.
    fn refuse(&self, problem: &Problem, request_id: &RequestId) -> Response<Last>;
}

struct TokenExchange<A> {
    call: TokenCall,
    answer: A,
}

impl<A: TokenAnswer> Exchange for TokenExchange<A> {
    fn target(&self) -> Option<Target<'_>> {
        Some(match &self.call.model {
            Some(name) => Target::Named { name, version: None },
            None => Target::Only(&READERS),
        })
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        let TokenCall { model, operation, inputs, num_values } = &self.call;
        let model = model.as_deref().unwrap_or_default();
        match plan.task() {
            Some(task) if READERS.contains(&task) => {}
            Some(_) => {
                let text = format!("the model `{model}` has no tokenizer; name one that reads texts");
                return Err(Problem::bad_field("/model", text));
            }
            None => check_task(plan, Task::Embed, model)?,
        }
        let fields = Value::map([(*operation, Value::from(inputs.clone()))]);
        Ok(Asked { fields, num_values: *num_values, form: Form::Whole })
    }

    fn asked(&mut self) {
        self.call.inputs = Map::new();
    }

    fn answer(&mut self, value: &Value, told: Told<'_>) -> Response<Last> {
        let answer = self.answer.answer(value);
        answer.unwrap_or_else(|problem| self.answer.refuse(&problem, told.request_id))
    }
}

/// What a model's tokenizer made of texts.
pub(crate) struct AllTokens<'v> {
    /// Most tokens that the model reads.
    pub(crate) max_tokens: i64,
    /// Each text.
    pub(crate) texts: Vec<Tokenized<'v>>,
}

/// A text as tokens.
pub(crate) struct Tokenized<'v> {
    pub(crate) ids: Vec<i64>,
    pub(crate) tokens: Vec<&'v str>,
    /// Where each begins and ends in the text, in bytes.
    pub(crate) offsets: Vec<[i64; 2]>,
    pub(crate) special: Vec<bool>,
}

/// The tokens of an answer.
///
/// # Errors
/// A problem when there are none.
pub(crate) fn tokenized(value: &Value) -> Result<AllTokens<'_>, Problem> {
    let none = || Problem::internal("the model gave no tokens");
    let max_tokens = value.get("max_tokens").and_then(Value::as_int).ok_or_else(none)?;
    let texts = value.get("texts").and_then(Value::as_list).ok_or_else(none)?;
    let texts = texts.iter().map(|text| tokenized_text(text).ok_or_else(none)).collect::<Result<_, _>>()?;
    Ok(AllTokens { max_tokens, texts })
}

fn tokenized_text(text: &Value) -> Option<Tokenized<'_>> {
    let numbers = |name| text.get(name)?.as_tensor()?.to_i64().ok();
    let offsets = numbers("offsets")?.as_chunks::<2>().0.to_vec();
    let special = text.get("special")?.as_tensor()?.data().iter().map(|&byte| byte != 0).collect();
    let tokens = text.get("tokens")?.as_list()?.iter().map(Value::as_text).collect::<Option<_>>()?;
    Some(Tokenized { ids: numbers("ids")?, tokens, offsets, special })
}

/// The texts of an answer.
///
/// # Errors
/// A problem when there are none.
pub(crate) fn detokenized(value: &Value) -> Result<&[Value], Problem> {
    let texts = value.get("texts").and_then(Value::as_list);
    texts.ok_or_else(|| Problem::internal("the model gave no text"))
}

/// Tokens of a text, or of several.
#[derive(Debug, PartialEq)]
pub(crate) enum Ids {
    One(Vec<u32>),
    Many(Vec<Vec<u32>>),
}

impl Ids {
    /// All of them.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(ids) => ids.len(),
            Self::Many(lists) => lists.iter().map(Vec::len).sum(),
        }
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Item {
            Id(u32),
            List(Items<u32>),
        }
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Ids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tokens, which are whole numbers, or a list of such lists")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ids, A::Error> {
                let (mut one, mut many, mut num_ids) = (Vec::new(), Vec::new(), 0);
                while let Some(item) = seq.next_element()? {
                    match item {
                        Item::Id(id) if many.is_empty() => one.push(id),
                        Item::List(Items(ids)) if one.is_empty() => {
                            num_ids += ids.len();
                            many.push(ids);
                        }
                        _ => {
                            return Err(A::Error::custom(
                                "tokens and lists are mixed; give one or the other",
                            ));
                        }
                    }
                    if one.len() + many.len() > MAX_ITEMS || num_ids > MAX_ITEMS {
                        return Err(A::Error::custom(format!("there are more than {MAX_ITEMS} items")));
                    }
                }
                Ok(if many.is_empty() { Ids::One(one) } else { Ids::Many(many) })
            }
        }
        from.deserialize_seq(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_a_list_or_lists() {
        let read = |json: &str| serde_json::from_str::<Ids>(json).map_err(|error| error.to_string());
        assert_eq!(read("[1, 2]").unwrap(), Ids::One(vec![1, 2]));
        assert_eq!(read("[]").unwrap(), Ids::One(Vec::new()));
        assert_eq!(read("[[1], [2, 3]]").unwrap(), Ids::Many(vec![vec![1], vec![2, 3]]));
        for bad in ["[1, [2]]", "[[1], 2]", "[-1]", "[1.5]", "[\"a\"]", "[[[1]]]", "1", "{}", "[4294967296]"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        let long = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
        assert!(read(&long("1", MAX_ITEMS)).is_ok());
        assert!(read(&long("1", MAX_ITEMS + 1)).is_err());
        assert!(read(&long(&long("1", 1000), 66)).is_err(), "all of them count");
    }
}
