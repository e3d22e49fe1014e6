//! `[chat]`: how a conversation, as the chat APIs have it, becomes a request of the pipeline, and which field of the response is the
//! next message.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_values::{Map, Value};

use crate::expr::{Env, EvalError, Expression, Scope};
use crate::types::Type;

/// What its expressions may use: the messages, each with `role` and `content`, and the settings of the chat APIs, which a request
/// may leave out.
const VARIABLES: [&str; 6] = ["messages", "temperature", "top_p", "seed", "max_tokens", "stop"];

/// See the module.
#[derive(Debug)]
pub struct Chat {
    /// The fields of the request, each by what it is made of.
    pub(crate) fields: Vec<(Arc<str>, Expression)>,
    /// The field of the response that is the next message.
    pub(crate) answer: Arc<str>,
}

impl Chat {
    /// The scope of its expressions.
    pub(crate) fn scope() -> Scope {
        let mut scope = Scope::default();
        for (index, name) in VARIABLES.into_iter().enumerate() {
            scope.add_stage(name, index, type_of(name));
        }
        scope
    }

    /// The field of the response that is the next message.
    #[must_use]
    pub fn answer(&self) -> &Arc<str> {
        &self.answer
    }

    /// Whether a field of the request is made of that variable.
    #[must_use]
    pub fn uses(&self, variable: &str) -> bool {
        self.fields.iter().any(|(_, expression)| expression.references().contains(variable))
    }

    /// What a field of the request is made of: names of variables.
    #[must_use]
    pub fn sources(&self, field: &str) -> Option<&BTreeSet<Arc<str>>> {
        let (_, expression) = self.fields.iter().find(|(name, _)| **name == *field)?;
        Some(expression.references())
    }

    /// The fields of a request, unchecked, for these values of the variables. A field whose value is none is left out.
    ///
    /// # Errors
    /// [`EvalError`] when an expression has no value for them, such as the second message of one.
    pub fn request(&self, given: &Map) -> Result<Map, EvalError> {
        let values = VARIABLES.map(|name| given.get(name).cloned().unwrap_or(Value::None));
        let env = Env { request: &Value::None, stages: &values, item: None };
        let mut fields = Map::new();
        for (name, expression) in &self.fields {
            let value = expression.eval(&env);
            match value
                .map_err(|error| EvalError { message: format!("`{name}`: {}", error.message), ..error })?
            {
                Value::None => {}
                value => drop(fields.insert(Arc::clone(name), value)),
            }
        }
        Ok(fields)
    }
}

fn type_of(variable: &str) -> Type {
    match variable {
        "messages" => Type::list(Type::map([("role", Type::Text), ("content", Type::Text)])),
        "temperature" | "top_p" => Type::Float.optional(),
        "stop" => Type::list(Type::Text).optional(),
        _ => Type::Int.optional(),
    }
}
