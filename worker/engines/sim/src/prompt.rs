//! What a call's prompt is to the simulated model: one text, and how many tokens that is.

use std::sync::Arc;

use millstream_engine_answers::Prompt;
use millstream_values::Value;

/// Bytes of a token of a prompt. English has about four.
pub(crate) const BYTES_PER_TOKEN: usize = 4;

/// Tokens of a text: one for each four bytes begun.
pub(crate) fn num_tokens(text: &str) -> usize {
    text.len().div_ceil(BYTES_PER_TOKEN)
}

/// The text of a prompt; of a conversation a line for each message, `ROLE: CONTENT`.
pub(crate) fn text_of(prompt: Prompt) -> Arc<str> {
    match prompt {
        Prompt::Text(text) => text,
        Prompt::Messages(messages) => {
            let text = |message: &Value, name| {
                message.get(name).and_then(Value::as_text).unwrap_or_default().to_owned()
            };
            messages
                .iter()
                .map(|message| text(message, "role") + ": " + &text(message, "content") + "\n")
                .collect::<String>()
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_are_a_token() {
        for (text, expected) in [("", 0), ("a", 1), ("four", 1), ("fives", 2), ("éé", 1)] {
            assert_eq!(num_tokens(text), expected, "{text}");
        }
        let message =
            |role: &str, content: &str| Value::map([("role", role.into()), ("content", content.into())]);
        let text = text_of(Prompt::Messages(vec![message("system", "Be brief."), message("user", "Hi")]));
        assert_eq!(&*text, "system: Be brief.\nuser: Hi\n");
    }
}
