//! Calls for a model's tokens and nothing else, which every engine with a tokenizer answers, whatever its task: texts to tokens, and
//! back.
//!
//! `{tokenize: {texts | messages, add_special_tokens, spans, prompt_name}}` gives `{max_tokens, texts: [{ids, special, offsets,
//! tokens}]}`, `{detokenize: {ids, skip_special_tokens}}` gives `{texts}`. Ingresses make such calls for the routes of other model
//! servers; files cannot.

use std::sync::Arc;

use millstream_engine::invalid_input;
use millstream_values::{CallError, DType, ErrorClass, Map, Tensor, Value};
use tokenizers::{Encoding, Tokenizer};

/// Most bytes of text in one call: each may come to a token, and is then many times as large.
const MAX_BYTES: usize = 256 << 10;
/// Most token ids in one call.
const MAX_IDS: usize = 64 << 10;

/// A checked call.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenCall {
    /// Texts to tokens.
    Tokenize(Tokenize),
    /// Tokens to texts.
    Detokenize(Detokenize),
}

/// Texts to tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokenize {
    input: TokenInput,
    /// `None` where it follows from the input: a conversation's template writes them itself.
    add_special_tokens: Option<bool>,
    /// Whether tokens are told by what they stand for in the text; else by their names.
    spans: bool,
    prompt_name: Option<Arc<str>>,
}

/// What becomes tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenInput {
    /// Texts.
    Texts(Vec<Arc<str>>),
    /// A conversation, for a model with a chat template; not checked.
    Messages(Value),
}

/// Tokens to texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Detokenize {
    ids: Vec<Vec<u32>>,
    skip_special_tokens: bool,
}

impl TokenCall {
    /// Reads a call's inputs; `None` for a call of the model's task.
    #[must_use]
    pub fn parse(inputs: &Map) -> Option<Result<Self, CallError>> {
        let (name, value) = inputs.first().filter(|_| inputs.len() == 1)?;
        match (&**name, value) {
            ("tokenize", Value::Map(map)) => Some(tokenize(map).map(Self::Tokenize)),
            ("detokenize", Value::Map(map)) => Some(detokenize(map).map(Self::Detokenize)),
            _ => None,
        }
    }

    /// The conversation that is to become tokens, if it is one.
    #[must_use]
    pub fn messages(&self) -> Option<&Value> {
        match self {
            Self::Tokenize(Tokenize { input: TokenInput::Messages(messages), .. }) => Some(messages),
            _ => None,
        }
    }

    /// The same for the text that a conversation is.
    #[must_use]
    pub fn of_conversation(self, text: String) -> Self {
        match self {
            Self::Tokenize(call) => Self::Tokenize(Tokenize {
                input: TokenInput::Texts(vec![text.into()]),
                add_special_tokens: Some(call.add_special_tokens.unwrap_or(false)),
                ..call
            }),
            other @ Self::Detokenize(_) => other,
        }
    }

    /// The prompt that is put before texts.
    #[must_use]
    pub fn prompt_name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Tokenize(call) => call.prompt_name.as_ref(),
            Self::Detokenize(_) => None,
        }
    }

    /// The answer, by a tokenizer that cuts nothing, of a model that reads so many tokens. `written` makes of a text what the model
    /// would get.
    ///
    /// # Errors
    /// Class `Invalid` for a conversation, which is to be made a text before; that of `written`; `Internal` when the tokenizer fails.
    pub fn answer(
        &self,
        tokenizer: &Tokenizer,
        max_tokens: usize,
        written: impl Fn(&str) -> Result<String, CallError>,
    ) -> Result<Value, CallError> {
        match self {
            Self::Tokenize(Tokenize { input: TokenInput::Messages(_), .. }) => {
                Err(invalid_input("this model has no chat template, so it takes no `messages`; give a text"))
            }
            Self::Tokenize(Tokenize {
                input: TokenInput::Texts(texts), add_special_tokens, spans, ..
            }) => {
                let texts = texts.iter().map(|text| {
                    let text = written(text)?;
                    check_bytes(text.len())?;
                    let encoding = tokenizer.encode(&*text, add_special_tokens.unwrap_or(true));
                    tokens_of(&encoding.map_err(|error| failed(&error))?, spans.then_some(&*text))
                });
                let texts = texts.collect::<Result<Vec<_>, CallError>>()?;
                let max_tokens = Value::Int(i64::try_from(max_tokens).unwrap_or(i64::MAX));
                Ok(Value::map([("max_tokens", max_tokens), ("texts", Value::list(texts))]))
            }
            Self::Detokenize(Detokenize { ids, skip_special_tokens }) => {
                let texts =
                    ids.iter().map(|ids| tokenizer.decode(ids, *skip_special_tokens).map(Value::from));
                let texts = texts.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
                Ok(Value::map([("texts", Value::list(texts))]))
            }
        }
    }
}

/// The tokens of a text; told by what they stand for, where the text is given.
fn tokens_of(encoding: &Encoding, text: Option<&str>) -> Result<Value, CallError> {
    let num_tokens = encoding.len();
    let ids = encoding.get_ids().iter().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
    let special: Vec<u8> = encoding.get_special_tokens_mask().iter().map(|bit| u8::from(*bit == 1)).collect();
    let offsets = encoding.get_offsets().iter().flat_map(|(start, stop)| {
        let place = |at: usize| i64::try_from(at).unwrap_or(i64::MAX).to_le_bytes();
        [place(*start), place(*stop)].into_iter().flatten()
    });
    let tokens = encoding.get_tokens().iter().enumerate().map(|(at, token)| {
        let (start, stop) = encoding.get_offsets()[at];
        let span = text.filter(|_| special[at] == 0).and_then(|text| text.get(start..stop));
        Value::from(span.unwrap_or(token))
    });
    let tokens = Value::list(tokens);
    let tensor = |dtype, shape: &[usize], data: Vec<u8>| {
        Tensor::new(dtype, shape, data.into()).map(Value::Tensor).map_err(|error| failed(&error))
    };
    Ok(Value::map([
        ("ids", tensor(DType::I64, &[num_tokens], ids)?),
        ("offsets", tensor(DType::I64, &[num_tokens, 2], offsets.collect())?),
        ("special", tensor(DType::Bool, &[num_tokens], special)?),
        ("tokens", tokens),
    ]))
}

fn tokenize(map: &Map) -> Result<Tokenize, CallError> {
    let input = match (map.get("texts"), map.get("messages")) {
        (Some(Value::List(texts)), None) => {
            let texts: Option<Vec<Arc<str>>> = texts.iter().map(text).collect();
            let texts =
                texts.ok_or_else(|| invalid_input("what is to become tokens is not a list of texts"))?;
            check_bytes(texts.iter().map(|text| text.len()).sum())?;
            TokenInput::Texts(texts)
        }
        (None, Some(messages)) => TokenInput::Messages(messages.clone()),
        _ => return Err(invalid_input("there is no text to become tokens; give one")),
    };
    Ok(Tokenize {
        input,
        add_special_tokens: flag(map, "add_special_tokens"),
        spans: flag(map, "spans").unwrap_or(false),
        prompt_name: map.get("prompt_name").and_then(text),
    })
}

fn detokenize(map: &Map) -> Result<Detokenize, CallError> {
    let lists = map.get("ids").and_then(Value::as_list).unwrap_or_default();
    let num_ids: usize = lists.iter().map(|list| list.as_list().map_or(0, <[Value]>::len)).sum();
    if num_ids > MAX_IDS {
        return Err(invalid_input(format!("there are {num_ids} tokens, at most {MAX_IDS} go into one call")));
    }
    let id = |value: &Value| value.as_int().and_then(|id| u32::try_from(id).ok());
    let ids = lists.iter().map(|list| list.as_list()?.iter().map(id).collect()).collect::<Option<_>>();
    let ids = ids.ok_or_else(|| invalid_input("a token is not a whole number from 0 to 4294967295"))?;
    Ok(Detokenize { ids, skip_special_tokens: flag(map, "skip_special_tokens").unwrap_or(false) })
}

fn check_bytes(num_bytes: usize) -> Result<(), CallError> {
    if num_bytes <= MAX_BYTES {
        return Ok(());
    }
    let text = format!("the text has {num_bytes} bytes, at most {MAX_BYTES} are made tokens of in one call");
    Err(invalid_input(text))
}

fn text(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn flag(map: &Map, name: &str) -> Option<bool> {
    match map.get(name) {
        Some(Value::Bool(flag)) => Some(*flag),
        _ => None,
    }
}

fn failed(error: &dyn ToString) -> CallError {
    tracing::warn!(error = error.to_string(), "a tokenizer failed");
    CallError::started(ErrorClass::Internal, "the tokenizer failed on this")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(inputs: &Value) -> Result<String, String> {
        let dir =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/models/mini-reranker");
        let tokenizer = crate::tokenizer_file(&dir).unwrap().unwrap().tokenizer;
        let call = TokenCall::parse(inputs.as_map().unwrap()).unwrap();
        let answer = call.and_then(|call| call.answer(&tokenizer, 64, |text| Ok(text.to_owned())));
        answer.map(|answer| serde_json::to_string(&answer).unwrap()).map_err(|error| error.message)
    }

    fn of(name: &'static str, fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
        Value::map([(name, Value::map(fields))])
    }

    #[test]
    fn texts_become_tokens_and_texts_again() {
        let texts = ("texts", Value::list([Value::from("Flour!")]));
        let told = answer(&of("tokenize", [texts.clone(), ("spans", true.into())])).unwrap();
        let json: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(json["max_tokens"], 64);
        let only = &json["texts"][0];
        let last = only["ids"].as_array().unwrap().len() - 1;
        assert_eq!(
            (&only["special"][0], &only["special"][1], &only["special"][last]),
            (&true.into(), &false.into(), &true.into())
        );
        assert_eq!(only["tokens"][0], "[CLS]");
        let spans: String = (1..last).map(|at| only["tokens"][at].as_str().unwrap()).collect();
        assert_eq!(spans, "Flour!");
        assert_eq!(only["offsets"][last - 1], serde_json::json!([5, 6]));
        let plain = answer(&of("tokenize", [texts, ("add_special_tokens", false.into())])).unwrap();
        let plain: serde_json::Value = serde_json::from_str(&plain).unwrap();
        assert_eq!(plain["texts"][0]["ids"].as_array().unwrap().len(), last - 1);
        let ids = only["ids"].as_array().unwrap().iter().map(|id| Value::Int(id.as_i64().unwrap()));
        let ids = ("ids", Value::list([Value::list(ids)]));
        let back = answer(&of("detokenize", [ids.clone(), ("skip_special_tokens", true.into())])).unwrap();
        assert!(back.contains("flour"), "{back}");
        assert!(answer(&of("detokenize", [ids])).unwrap().contains("[CLS]"));
    }

    #[test]
    fn what_is_too_much_or_not_that_is_refused() {
        let list = |item: Value| Value::list([item]);
        let many = Value::list(vec![Value::Int(1); MAX_IDS + 1]);
        for (inputs, said) in [
            (of("tokenize", [("texts", list("a".repeat(MAX_BYTES + 1).into()))]), "at most 262144"),
            (of("tokenize", [("texts", list(Value::Int(1)))]), "not a list of texts"),
            (of("tokenize", []), "no text"),
            (of("tokenize", [("messages", Value::None)]), "no chat template"),
            (of("detokenize", [("ids", list(list(Value::Int(-1))))]), "not a whole number"),
            (of("detokenize", [("ids", list(Value::Int(1)))]), "not a whole number"),
            (of("detokenize", [("ids", list(many))]), "at most 65536"),
        ] {
            let error = answer(&inputs).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let other = Value::map([("texts", Value::from("a"))]);
        assert!(TokenCall::parse(other.as_map().unwrap()).is_none());
        assert!(answer(&of("detokenize", [("ids", list(list(Value::Int(4_000_000_000))))])).is_ok());
    }
}
