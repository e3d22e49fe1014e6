//! Reading calls: which texts, for which task. Every fault is the caller's and says which input is wrong.

use std::sync::Arc;

use millstream_engine::invalid_input;
use millstream_model_files::TokenCall;
use millstream_pipelines::Task;
use millstream_values::{CallError, Map, Value};

use crate::cut::{Cut, positive};

/// Most texts of one call.
const MAX_TEXTS: usize = 256;

/// A call of `task = "embed"`.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedCall {
    /// What to embed, in order.
    pub texts: Vec<Arc<str>>,
    /// What is put before each of them.
    pub prompt: PromptChoice,
    /// What is done with those that are too long.
    pub cut: Cut,
}

/// Which of a model's prompts a call wants.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum PromptChoice {
    /// Its default, if it has one.
    #[default]
    Default,
    /// The one of this name.
    Named(Arc<str>),
    /// One for texts of this kind, such as `query` and `document`, if it has one; else its default.
    For(Arc<str>),
}

/// A call of `task = "rerank"`.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankCall {
    /// What the documents are compared with.
    pub query: Arc<str>,
    /// The documents as they came: texts, or maps with a `text`.
    pub documents: Vec<Value>,
    /// The documents' texts, in the same order.
    pub texts: Vec<Arc<str>>,
    /// How many to answer with; `None` for all.
    pub keep: Option<usize>,
    /// Most tokens of each document; `None` for as many as fit.
    pub max_document_tokens: Option<usize>,
    /// What is done with pairs that are too long.
    pub cut: Cut,
}

/// A call of `task = "classify"`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifyCall {
    /// What to classify, in order.
    pub texts: Vec<Arc<str>>,
    /// How many labels each text is to have, likeliest first, in a list; `None` for the likeliest alone.
    pub top_k: Option<usize>,
    /// What is done with those that are too long.
    pub cut: Cut,
}

/// A checked call to a text encoder.
#[derive(Debug, Clone, PartialEq)]
pub enum TextCall {
    /// Texts to vectors.
    Embed(EmbedCall),
    /// Documents by their fit to a query.
    Rerank(RerankCall),
    /// Texts to labels.
    Classify(ClassifyCall),
    /// Texts to tokens or back, without the model.
    Tokens(TokenCall),
}

impl TextCall {
    /// Checks the inputs of a call to a deployment with `task`.
    ///
    /// # Errors
    /// Class `Invalid` when an input is missing, unknown or of the wrong type, and for tasks that are not a text
    /// encoder's.
    pub fn parse(task: Task, inputs: &Value) -> Result<Self, CallError> {
        let map = inputs
            .as_map()
            .ok_or_else(|| invalid_input(format!("inputs are `{}`, not a map", inputs.type_name())))?;
        if let Some(call) = TokenCall::parse(map) {
            return call.map(Self::Tokens);
        }
        match task {
            Task::Embed => {
                check_names(map, &["texts", "prompt_name", "input_type"])?;
                let (texts, prompt) = (texts(map, "texts")?, prompt(map)?);
                Ok(Self::Embed(EmbedCall { texts, prompt, cut: Cut::parse(map)? }))
            }
            Task::Classify => {
                check_names(map, &["texts", "top_k"])?;
                let (texts, top_k) = (texts(map, "texts")?, positive(map, "top_k")?);
                Ok(Self::Classify(ClassifyCall { texts, top_k, cut: Cut::parse(map)? }))
            }
            Task::Rerank => parse_rerank(map).map(Self::Rerank),
            Task::Generate | Task::Tensor | Task::Custom => {
                Err(invalid_input("this model takes `embed`, `rerank` and `classify` calls only"))
            }
        }
    }

    /// How many texts or pairs the model has to run for this call.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        match self {
            Self::Embed(call) => call.texts.len(),
            Self::Rerank(call) => call.texts.len(),
            Self::Classify(call) => call.texts.len(),
            Self::Tokens(_) => 0,
        }
    }
}

fn parse_rerank(map: &Map) -> Result<RerankCall, CallError> {
    check_names(map, &["query", "documents", "keep", "max_document_tokens"])?;
    let query = match required(map, "query")? {
        Value::Text(text) => text.clone(),
        other => return Err(wrong_type("query", other, "text")),
    };
    let documents = match required(map, "documents")? {
        Value::List(documents) => documents.to_vec(),
        other => return Err(wrong_type("documents", other, "a list of texts")),
    };
    check_number("documents", documents.len())?;
    let texts = documents
        .iter()
        .enumerate()
        .map(|(at, document)| document_text(at, document))
        .collect::<Result<_, _>>()?;
    let keep = positive(map, "keep")?;
    let max_document_tokens = positive(map, "max_document_tokens")?;
    Ok(RerankCall { query, documents, texts, keep, max_document_tokens, cut: Cut::parse(map)? })
}

/// What the inputs `prompt_name` and `input_type` say. A name must be there; a kind need not.
fn prompt(map: &Map) -> Result<PromptChoice, CallError> {
    let text = |name: &str| match map.get(name) {
        None | Some(Value::None) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong_type(name, other, "text")),
    };
    Ok(match (text("prompt_name")?, text("input_type")?) {
        (Some(name), None) => PromptChoice::Named(name),
        (None, Some(kind)) => PromptChoice::For(kind),
        (None, None) => PromptChoice::Default,
        (Some(_), Some(_)) => {
            return Err(invalid_input("`prompt_name` and `input_type` are both given; give one of them"));
        }
    })
}

fn document_text(at: usize, document: &Value) -> Result<Arc<str>, CallError> {
    match document {
        Value::Text(text) => Ok(text.clone()),
        Value::Map(map) => match map.get("text") {
            Some(Value::Text(text)) => Ok(text.clone()),
            _ => Err(invalid_input(format!("`documents[{at}]` is a map without a text `text`"))),
        },
        other => Err(wrong_type(&format!("documents[{at}]"), other, "text, or a map with a `text`")),
    }
}

/// A list of texts, or one text, which counts as a list of one.
fn texts(map: &Map, name: &str) -> Result<Vec<Arc<str>>, CallError> {
    match required(map, name)? {
        Value::Text(text) => Ok(vec![text.clone()]),
        Value::List(values) => {
            check_number(name, values.len())?;
            let texts = values.iter().enumerate().map(|(at, value)| match value {
                Value::Text(text) => Ok(text.clone()),
                other => Err(wrong_type(&format!("{name}[{at}]"), other, "text")),
            });
            texts.collect()
        }
        other => Err(wrong_type(name, other, "a list of texts")),
    }
}

/// One call takes so many texts, so that it is known what it costs.
fn check_number(name: &str, number: usize) -> Result<(), CallError> {
    if number <= MAX_TEXTS {
        return Ok(());
    }
    Err(invalid_input(format!(
        "`{name}` has {number} texts; at most {MAX_TEXTS} go into one call: send them in several, or use `for_each`"
    )))
}

fn required<'a>(map: &'a Map, name: &str) -> Result<&'a Value, CallError> {
    match map.get(name) {
        None | Some(Value::None) => Err(invalid_input(format!("input `{name}` is missing"))),
        Some(value) => Ok(value),
    }
}

/// Beside those that are known, every call has those of [`Cut`].
fn check_names(map: &Map, known: &[&str]) -> Result<(), CallError> {
    let is_known = |key: &str| known.contains(&key) || Cut::NAMES.contains(&key);
    match map.keys().find(|key| !is_known(key)) {
        None => Ok(()),
        Some(key) => {
            let known = [known, &Cut::NAMES].concat();
            Err(invalid_input(format!("input `{key}` is not known; the inputs are `{}`", known.join("`, `"))))
        }
    }
}

fn wrong_type(place: &str, found: &Value, expected: &str) -> CallError {
    invalid_input(format!("`{place}` is `{}`, not {expected}", found.type_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_input() {
        let text = || Value::from("x");
        let table = [
            (Task::Embed, Value::Int(1), "inputs are `int`, not a map"),
            (
                Task::Embed,
                Value::map([("text", text())]),
                "input `text` is not known; the inputs are `texts`, `prompt_name`, `input_type`, `truncate`, `max_tokens`",
            ),
            (Task::Embed, Value::Map(Arc::default()), "input `texts` is missing"),
            (
                Task::Embed,
                Value::map([("texts", Value::list([text(), Value::Int(1)]))]),
                "`texts[1]` is `int`, not text",
            ),
            (Task::Rerank, Value::map([("query", text())]), "input `documents` is missing"),
            (
                Task::Rerank,
                Value::map([("query", text()), ("documents", Value::list([])), ("keep", Value::Int(0))]),
                "`keep` is `0`; it must be 1 or more",
            ),
            (
                Task::Rerank,
                Value::map([("query", text()), ("documents", Value::list([Value::map([("a", text())])]))]),
                "`documents[0]` is a map without a text `text`",
            ),
        ];
        for (task, inputs, message) in table {
            assert_eq!(TextCall::parse(task, &inputs).unwrap_err().message, message);
        }
    }

    #[test]
    fn a_prompt_is_chosen_by_its_name_or_by_what_texts_are_for() {
        let parse = |more: &[(&'static str, &str)]| {
            let more = more.iter().map(|&(name, value)| (name, Value::from(value)));
            let map = Value::map([("texts", Value::from("x"))].into_iter().chain(more));
            match TextCall::parse(Task::Embed, &map) {
                Ok(TextCall::Embed(call)) => Ok(call.prompt),
                Ok(_) => panic!("not an embed call"),
                Err(error) => Err(error.message),
            }
        };
        assert_eq!(parse(&[]), Ok(PromptChoice::Default));
        assert_eq!(parse(&[("prompt_name", "query")]), Ok(PromptChoice::Named("query".into())));
        assert_eq!(parse(&[("input_type", "query")]), Ok(PromptChoice::For("query".into())));
        assert!(parse(&[("input_type", "a"), ("prompt_name", "b")]).is_err());
    }

    #[test]
    fn a_call_has_so_many_texts_at_most() {
        let texts = |count: usize| Value::list(vec![Value::from("x"); count]);
        for (task, name) in [(Task::Embed, "texts"), (Task::Classify, "texts"), (Task::Rerank, "documents")] {
            let of = |count| {
                let query = (task == Task::Rerank).then(|| ("query", Value::from("q")));
                TextCall::parse(task, &Value::map([(name, texts(count))].into_iter().chain(query)))
            };
            assert_eq!(of(256).unwrap().num_rows(), 256);
            let message = of(257).unwrap_err().message;
            assert!(message.starts_with(&format!("`{name}` has 257 texts; at most 256")), "{message}");
        }
    }

    #[test]
    fn documents_may_be_texts_or_maps_and_keep_is_optional() {
        let inputs = Value::map([
            ("query", Value::from("q")),
            ("documents", Value::list([Value::from("a"), Value::map([("text", Value::from("b"))])])),
            ("keep", Value::None),
        ]);
        let TextCall::Rerank(call) = TextCall::parse(Task::Rerank, &inputs).unwrap() else {
            panic!("not a rerank")
        };
        assert_eq!(call.texts, ["a".into(), "b".into()]);
        assert_eq!(call.keep, None);
        assert_eq!(call.documents[1], Value::map([("text", Value::from("b"))]));
    }
}
