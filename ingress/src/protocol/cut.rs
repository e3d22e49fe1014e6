//! What is to be done with texts that are longer than a model reads, as APIs say it.

use serde::Deserialize;

use super::Problem;

/// How a request's texts are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// As engines have it.
    pub(crate) truncate: &'static str,
    /// At so many tokens; `None` for as many as the model reads.
    pub(crate) max_tokens: Option<u64>,
}

impl Cut {
    /// Their ends are left out, which is what engines do by themselves.
    pub(crate) const END: Self = Self { truncate: "end", max_tokens: None };
    /// Their beginnings are left out.
    pub(crate) const START: Self = Self { truncate: "start", max_tokens: None };
    /// Nothing is: those that are too long are an error.
    pub(crate) const NEVER: Self = Self { truncate: "none", max_tokens: None };

    /// Whether ends are cut where it is not said: `truncate` of Text Embeddings Inference, `truncation` of Voyage.
    pub(crate) fn unless_refused(is_wanted: Option<bool>) -> Self {
        if is_wanted == Some(false) { Self::NEVER } else { Self::END }
    }

    /// What vLLM's `truncate_prompt_tokens` says: the last so many tokens are kept, with -1 as many as the model reads. `None` where
    /// it is not there.
    ///
    /// # Errors
    /// A problem (400) for another number.
    pub(crate) fn of_vllm(last: Option<i64>) -> Result<Option<Self>, Problem> {
        match last {
            None => Ok(None),
            Some(-1) => Ok(Some(Self::START)),
            Some(last) => match u64::try_from(last) {
                Ok(last) if last > 0 => Ok(Some(Self { max_tokens: Some(last), ..Self::START })),
                _ => {
                    let text = "give at least 1, or -1 for as many as the model reads";
                    Err(Problem::bad_field("/truncate_prompt_tokens", text))
                }
            },
        }
    }
}

/// An end of a text, as Text Embeddings Inference names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Direction {
    /// The beginning.
    #[serde(rename = "left", alias = "Left")]
    Left,
    /// The end.
    #[serde(rename = "right", alias = "Right")]
    Right,
}

impl Direction {
    /// How texts are cut in a request that may say whether, and where.
    pub(crate) fn cut(direction: Option<Self>, is_wanted: Option<bool>) -> Cut {
        match (direction, Cut::unless_refused(is_wanted)) {
            (Some(Self::Left), Cut::END) => Cut::START,
            (_, cut) => cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_has_words_for_it() {
        assert_eq!(Cut::of_vllm(None).unwrap(), None);
        assert_eq!(Cut::of_vllm(Some(-1)).unwrap(), Some(Cut::START));
        assert_eq!(Cut::of_vllm(Some(7)).unwrap(), Some(Cut { truncate: "start", max_tokens: Some(7) }));
        assert!(Cut::of_vllm(Some(0)).is_err() && Cut::of_vllm(Some(-2)).is_err());
        assert_eq!(Direction::cut(None, None), Cut::END);
        assert_eq!(Direction::cut(Some(Direction::Left), Some(true)), Cut::START);
        assert_eq!(Direction::cut(Some(Direction::Left), Some(false)), Cut::NEVER);
    }
}
