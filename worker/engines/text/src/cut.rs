//! What is done with texts that are longer than what a model reads, and how a call says it.

use millstream_engine::invalid_input;
use millstream_values::{CallError, Map, Value};

/// Of a text that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Truncate {
    /// Its end is left out.
    #[default]
    End,
    /// Its beginning is left out.
    Start,
    /// Nothing is: it is an error.
    Never,
}

/// How texts of a call are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// Where.
    pub truncate: Truncate,
    /// At so many tokens, special ones counted; `None` for as many as the model reads.
    pub max_tokens: Option<usize>,
}

impl Cut {
    /// The names of the inputs that say it.
    pub(crate) const NAMES: [&str; 2] = ["truncate", "max_tokens"];

    /// What the inputs `truncate` and `max_tokens` say.
    ///
    /// # Errors
    /// Class `Invalid` for what is not known.
    pub(crate) fn parse(map: &Map) -> Result<Self, CallError> {
        let truncate = match map.get("truncate") {
            None | Some(Value::None) => Truncate::End,
            Some(Value::Text(text)) => match &**text {
                "end" => Truncate::End,
                "start" => Truncate::Start,
                "none" => Truncate::Never,
                _ => return Err(invalid_input("`truncate` is not one of `end`, `start`, `none`")),
            },
            Some(other) => {
                let found = other.type_name();
                return Err(invalid_input(format!("`truncate` is `{found}`, not `end`, `start` or `none`")));
            }
        };
        Ok(Self { truncate, max_tokens: positive(map, "max_tokens")? })
    }

    /// How many tokens are kept of what a model reads.
    pub(crate) fn max_tokens(self, of_model: usize) -> usize {
        self.max_tokens.map_or(of_model, |asked| asked.min(of_model))
    }
}

/// An input that is a whole number of at least 1; `None` where it is left out.
///
/// # Errors
/// Class `Invalid` for another value.
pub(crate) fn positive(map: &Map, name: &str) -> Result<Option<usize>, CallError> {
    match map.get(name) {
        None | Some(Value::None) => Ok(None),
        Some(Value::Int(number)) => match usize::try_from(*number) {
            Ok(number) if number >= 1 => Ok(Some(number)),
            _ => Err(invalid_input(format!("`{name}` is `{number}`; it must be 1 or more"))),
        },
        Some(other) => Err(invalid_input(format!("`{name}` is `{}`, not a whole number", other.type_name()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_how_texts_are_cut() {
        let parse = |truncate: Value, max_tokens: Value| {
            let map = Value::map([("truncate", truncate), ("max_tokens", max_tokens)]);
            Cut::parse(map.as_map().unwrap()).map_err(|error| error.message)
        };
        let cut = |truncate, max_tokens| Ok(Cut { truncate, max_tokens });
        for (truncate, max_tokens, expected) in [
            (Value::None, Value::None, cut(Truncate::End, None)),
            ("end".into(), Value::Int(3), cut(Truncate::End, Some(3))),
            ("start".into(), Value::None, cut(Truncate::Start, None)),
            ("none".into(), Value::None, cut(Truncate::Never, None)),
            ("END".into(), Value::None, Err("`truncate` is not one of `end`, `start`, `none`".into())),
            (true.into(), Value::None, Err("`truncate` is `bool`, not `end`, `start` or `none`".into())),
            (Value::None, Value::Int(0), Err("`max_tokens` is `0`; it must be 1 or more".into())),
            (Value::None, "1".into(), Err("`max_tokens` is `text`, not a whole number".into())),
        ] {
            assert_eq!(parse(truncate, max_tokens), expected);
        }
    }
}
