//! Chat templates: a model's own Jinja template turns messages into the text that it was trained on.

use std::io;
use std::path::Path;

use millstream_engine::{LoadError, invalid_input};
use millstream_model_files::{json_if_there, read_if_there};
use millstream_values::{CallError, Value};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, context};
use serde::Deserialize;

/// Steps that rendering may take: far beyond any real conversation.
const FUEL: u64 = 5_000_000;
/// Longest prompt that a template may make.
const MAX_PROMPT_BYTES: usize = 16 << 20;
/// Largest `chat_template.jinja`.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;
const NAME: &str = "chat";

/// A compiled template with the model's own special tokens.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    chat_template: Option<RawTemplate>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawTemplate {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Added { content: String },
}

impl Token {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Added { content: text } => text,
        }
    }
}

impl ChatTemplate {
    /// The template in `tokenizer_config.json` (the one named `default` of several) or in `chat_template.jinja`;
    /// `None` when the model has none.
    ///
    /// # Errors
    /// [`LoadError::Model`] when a file is broken or the template is not a template.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, LoadError> {
        let config: TokenizerConfig = json_if_there(dir, "tokenizer_config.json")?.unwrap_or_default();
        let source = match config.chat_template {
            Some(RawTemplate::One(source)) => Some(source),
            Some(RawTemplate::Named(list)) => {
                list.into_iter().find(|named| named.name == "default").map(|named| named.template)
            }
            None => read_template_file(dir)?,
        };
        let Some(source) = source else { return Ok(None) };
        let token = |token: Option<Token>| token.map(Token::text).unwrap_or_default();
        Self::new(source, token(config.bos_token), token(config.eos_token)).map(Some).map_err(|error| {
            LoadError::Model(format!("the chat template in `{}` cannot be used: {error}", dir.display()))
        })
    }

    fn new(source: String, bos_token: String, eos_token: String) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        // As transformers sets up Jinja.
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source)?;
        Ok(Self { environment, bos_token, eos_token })
    }

    /// The prompt for a conversation, up to where the model's answer begins.
    ///
    /// # Errors
    /// Class `Invalid` when the template refuses the conversation.
    pub(crate) fn render(&self, messages: &[Value]) -> Result<String, CallError> {
        let none = || minijinja::Value::from(());
        let context = context! {
            messages => minijinja::Value::from(Serde(messages)),
            add_generation_prompt => true,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
            tools => none(),
            documents => none(),
        };
        let mut prompt = Capped(Vec::new());
        let template = self.environment.get_template(NAME);
        let rendered =
            template.and_then(|template| template.render_captured_to(context, &mut prompt).map(drop));
        rendered.map(|()| String::from_utf8_lossy(&prompt.0).into_owned()).map_err(|error| {
            let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            invalid_input(format!("the model's chat template does not take these messages: {reason}"))
        })
    }
}

/// A prompt being written, up to its limit.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PROMPT_BYTES {
            return Err(io::Error::other("the prompt that it makes is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// JSON as transformers' `tojson` writes it: not escaped for HTML, and with `indent` where asked for.
#[expect(clippy::needless_pass_by_value, reason = "the form of a filter with options")]
fn to_json(value: &minijinja::Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let failed =
        |error: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string());
    let indent: Option<usize> = options.get("indent")?;
    // Other options of Python's `json.dumps` change nothing that a model would notice.
    let _ = options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    match indent {
        None => serde_json::to_string(value).map_err(failed),
        Some(width) => {
            let spaces = vec![b' '; width.min(16)];
            let mut out = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            serde::Serialize::serialize(
                value,
                &mut serde_json::Serializer::with_formatter(&mut out, formatter),
            )
            .map_err(failed)?;
            Ok(String::from_utf8_lossy(&out).into_owned())
        }
    }
}

fn read_template_file(dir: &Path) -> Result<Option<String>, LoadError> {
    let path = dir.join("chat_template.jinja");
    let Some(bytes) = read_if_there(&path, MAX_TEMPLATE_BYTES)? else { return Ok(None) };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| LoadError::Model(format!("`{}` is no UTF-8 text; fetch the model anew", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Vec<Value> {
        let message =
            |role: &str, content: &str| Value::map([("role", role.into()), ("content", content.into())]);
        vec![message("system", " be <brief> "), message("user", "hi")]
    }

    fn load(config: &str, file: Option<&str>) -> Result<Option<ChatTemplate>, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        if let Some(file) = file {
            std::fs::write(dir.path().join("chat_template.jinja"), file).unwrap();
        }
        ChatTemplate::load(dir.path())
    }

    #[test]
    fn templates_use_blocks_python_methods_json_and_special_tokens() {
        let source = "{{ bos_token }}{% for m in messages %}\n    {% if m.role == 'system' %}\n\
                      [{{ m['content'].strip() | tojson }}]\n    {% endif %}\n{% endfor %}{{ eos_token }}";
        let config = serde_json::json!({
            "chat_template": [{"name": "tool_use", "template": ""}, {"name": "default", "template": source}],
            "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false},
        });
        let template = load(&config.to_string(), None).unwrap().unwrap();
        assert_eq!(template.render(&conversation()).unwrap(), "<s>[\"be <brief>\"]\n</s>");
    }

    #[test]
    fn a_refusal_of_the_template_is_the_callers_fault() {
        let config = r#"{"chat_template": "{{ raise_exception('system role not supported') }}"}"#;
        let error = load(config, None).unwrap().unwrap().render(&conversation()).unwrap_err();
        assert_eq!(error.class, millstream_values::ErrorClass::Invalid);
        assert!(error.message.ends_with("system role not supported"), "{}", error.message);
    }

    #[test]
    fn a_prompt_beyond_its_limit_is_refused() {
        let source = "{% for i in range(20000) %}{{ messages[0].content * 1000 }}{% endfor %}";
        let template = load("{}", Some(source)).unwrap().unwrap();
        let error = template.render(&conversation()).unwrap_err();
        assert_eq!(error.class, millstream_values::ErrorClass::Invalid, "{}", error.message);
    }

    #[test]
    fn the_template_may_be_a_file_or_missing_but_not_broken() {
        let template = load("{}", Some("{{ messages | length }}")).unwrap().unwrap();
        assert_eq!(template.render(&conversation()).unwrap(), "2");
        assert!(load("{}", None).unwrap().is_none());
        let error = load(r#"{"chat_template": "{% for %}"}"#, None).err().unwrap().to_string();
        assert!(error.contains("cannot be used"), "{error}");
    }
}
