//! A generator's text: prompts to tokens, tokens to text.

use millstream_engine::invalid_input;
use millstream_engine_answers::{Prompt, messages_of};
use millstream_model_files::TokenCall;
use millstream_values::{CallError, Value};
use tokenizers::Tokenizer;

use crate::failures::internal;
use crate::template::ChatTemplate;

/// Bytes of text for each token that the context holds: a longer prompt is refused without being cut into tokens. English has four
/// of them, and only runs of one character have more.
const BYTES_PER_TOKEN: usize = 16;

/// Everything but the numbers.
pub(crate) struct TextSide {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
}

impl TextSide {
    /// Token ids of a call's prompt, at least one. The model's context holds so many.
    pub(crate) fn encode(&self, prompt: &Prompt, context: usize) -> Result<Vec<u32>, CallError> {
        let (text, add_special_tokens) = match prompt {
            Prompt::Text(text) => (text.to_string(), true),
            Prompt::Messages(messages) => {
                let template = self.template.as_ref().ok_or_else(|| {
                    invalid_input(
                        "this model has no chat template, so it takes no `messages`; give a `prompt`",
                    )
                })?;
                // The template writes special tokens itself.
                (template.render(messages)?, false)
            }
        };
        if text.len() > context.saturating_mul(BYTES_PER_TOKEN) {
            return Err(invalid_input(format!(
                "the prompt has {} bytes, more than the model's context of {context} tokens can hold; shorten the prompt",
                text.len()
            )));
        }
        let encoding = self.tokenizer.encode_fast(text, add_special_tokens).map_err(|error| {
            tracing::warn!(error = %error, "a prompt could not be cut into tokens");
            internal("the prompt could not be cut into tokens")
        })?;
        if encoding.get_ids().is_empty() {
            return Err(invalid_input("the prompt is empty; give at least one character"));
        }
        Ok(encoding.get_ids().to_vec())
    }

    /// The answer to a call for tokens.
    pub(crate) fn answer_tokens(&self, call: TokenCall, context: usize) -> Result<Value, CallError> {
        let call = match (call.messages(), &self.template) {
            (Some(messages), Some(template)) => {
                let text = template.render(&messages_of(messages)?)?;
                call.of_conversation(text)
            }
            _ => call,
        };
        call.answer(&self.tokenizer, context, |text| Ok(text.to_owned()))
    }

    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).unwrap_or_default()
    }
}
