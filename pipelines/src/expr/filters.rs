//! Filters and tests: the common ones here, the others minijinja's. Those that can blow a value up are replaced by
//! bounded ones, also where `map` applies them.

use std::io;
use std::sync::{Arc, LazyLock};

use millstream_values::{MAX_DEPTH, Value, Value as V};
use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Jinja};
use serde::Serialize;

use super::EvalError;
use super::budget::Budget;
use super::object::{from_jinja, to_jinja};

/// Largest count that a filter may be told (`indent(8)`, `batch(3)`).
const MAX_COUNT: i64 = 1024;
/// Most bytes that one filter makes of its inputs.
const MAX_FILTER_BYTES: usize = 16 << 20;

/// The filters of minijinja that pipelines may use, and the bounded ones of ours.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_debug(false);
    for filter in ["safe", "escape", "e", "format", "pprint", "chain", "zip", "slice", "batch"] {
        environment.remove_filter(filter);
    }
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter("tojson", to_json);
    environment
});

/// Names of the filters there are, for messages and checks; sorted.
pub(crate) const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
];

/// Names of the tests there are.
pub(crate) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

/// What a filter or a test is given.
pub(crate) struct Operands<'c> {
    /// What stands before the bar, or before `is`.
    pub(crate) subject: Value,
    /// What stands between the brackets, by place.
    pub(crate) args: Vec<Value>,
    /// And by name.
    pub(crate) kwargs: Vec<(&'c str, Value)>,
}

/// Applies a filter; `None` when it asks for what is not there, such as the first of nothing.
pub(crate) fn filter(
    name: &Arc<str>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Result<Option<Value>, EvalError> {
    let subject = &operands.subject;
    match (&**name, subject) {
        ("length" | "count", _) => return length(subject, budget).map(Some),
        ("first", V::List(list)) => return Ok(list.first().cloned()),
        ("last", V::List(list)) => return Ok(list.last().cloned()),
        ("list", V::List(_)) | ("string", V::Text(_)) => return Ok(Some(operands.subject)),
        _ => {}
    }
    operands.pay(name, budget)?;
    let found = ENVIRONMENT
        .empty_state()
        .apply_filter(name, &operands.to_jinja())
        .map_err(|error| failed(name, subject, &error))?;
    if found.is_undefined() {
        return Ok(None);
    }
    from_jinja(&found, budget, MAX_DEPTH).map(Some)
}

/// Performs a test.
pub(crate) fn test(name: &Arc<str>, operands: &Operands<'_>, budget: &mut Budget) -> Result<bool, EvalError> {
    if &**name == "none" {
        return Ok(matches!(operands.subject, V::None));
    }
    // What has no operand looks at the kind of its subject, or at all of a text.
    if !operands.args.is_empty() || matches!(operands.subject, V::Text(_)) {
        operands.pay(name, budget)?;
    }
    ENVIRONMENT
        .empty_state()
        .perform_test(name, &operands.to_jinja())
        .map_err(|error| failed(name, &operands.subject, &error))
}

impl Operands<'_> {
    /// Pays for minijinja's work on them: it looks through all, some filters several times, and some through their arguments once
    /// for each item.
    fn pay(&self, name: &str, budget: &mut Budget) -> Result<(), EvalError> {
        let num_items = match &self.subject {
            V::List(items) => items.len(),
            V::Map(map) => map.len(),
            _ => 1,
        };
        let (of_subject, of_arguments) = match name {
            "sort" | "unique" | "groupby" | "dictsort" => (num_items.max(2).ilog2() as usize, 1),
            "select" | "reject" | "selectattr" | "rejectattr" | "map" => (1, num_items.max(1)),
            _ => (1, 1),
        };
        budget.look_through(&self.subject, of_subject)?;
        let arguments = self.args.iter().chain(self.kwargs.iter().map(|(_, value)| value));
        arguments.into_iter().try_for_each(|argument| budget.look_through(argument, of_arguments))
    }

    fn to_jinja(&self) -> Vec<Jinja> {
        let mut args = vec![to_jinja(&self.subject)];
        args.extend(self.args.iter().map(to_jinja));
        if !self.kwargs.is_empty() {
            let kwargs = self.kwargs.iter().map(|(name, value)| (*name, to_jinja(value)));
            args.push(Jinja::from(kwargs.collect::<Kwargs>()));
        }
        args
    }
}

/// A filter's error without the contents that minijinja's own text may show.
fn failed(name: &Arc<str>, subject: &Value, error: &Error) -> EvalError {
    if let Some(own) = error.detail().filter(|_| error.kind() == ErrorKind::WriteFailure) {
        return EvalError::too_large(format!("`{name}`: {own}"));
    }
    EvalError::invalid(format!("`{name}` of a {}: {}", subject.type_name(), error.kind()))
}

fn length(subject: &Value, budget: &mut Budget) -> Result<Value, EvalError> {
    if matches!(subject, V::Text(_)) {
        budget.look_through(subject, 1)?;
    }
    let length = match subject {
        V::List(list) => list.len(),
        V::Map(map) => map.len(),
        V::Text(text) => text.chars().count(),
        V::Bytes(bytes) => bytes.len(),
        V::Tensor(tensor) => {
            tensor.len().ok_or_else(|| EvalError::invalid("`length` of a tensor without axes"))?
        }
        other => return Err(EvalError::invalid(format!("`length` of a {}", other.type_name()))),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

/// Our own limit, as an error that minijinja carries; [`failed`] tells it by its kind.
fn too_large() -> Error {
    Error::new(ErrorKind::WriteFailure, format!("more than {} MiB of text", MAX_FILTER_BYTES >> 20))
}

fn wrong(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn replace(subject: &str, from: &str, to: &str) -> Result<String, Error> {
    let times = if from.is_empty() { subject.len() + 1 } else { subject.matches(from).count() };
    if subject.len().saturating_add(times.saturating_mul(to.len())) > MAX_FILTER_BYTES {
        return Err(too_large());
    }
    Ok(subject.replace(from, to))
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters own their arguments")]
fn join(subject: &Jinja, separator: Option<&str>, args: Rest<Jinja>) -> Result<String, Error> {
    let mut attribute = None;
    for arg in args.iter() {
        match Kwargs::try_from(arg.clone()) {
            Ok(kwargs) => attribute = kwargs.get::<Option<String>>("attribute")?,
            Err(_) => attribute = arg.as_str().map(str::to_owned),
        }
    }
    let mut out = String::new();
    for (index, item) in subject.try_iter()?.enumerate() {
        let item = match &attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        if item.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        if index > 0 {
            out.push_str(separator.unwrap_or_default());
        }
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&item.to_string()),
        }
        if out.len() > MAX_FILTER_BYTES {
            return Err(too_large());
        }
    }
    Ok(out)
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja's filters own their arguments")]
fn indent(
    subject: &str,
    width: Option<i64>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<Jinja, Error> {
    let width = width.or(kwargs.get::<Option<i64>>("width")?).unwrap_or(4);
    if !(0..=MAX_COUNT).contains(&width) {
        return Err(wrong("a width from 0 to 1024"));
    }
    let (first, blank) = (first.or(kwargs.get("first")?), blank.or(kwargs.get("blank")?));
    kwargs.assert_all_used()?;
    let width = usize::try_from(width).unwrap_or_default();
    if subject.lines().count().saturating_mul(width).saturating_add(subject.len()) > MAX_FILTER_BYTES {
        return Err(too_large());
    }
    let margin = " ".repeat(width);
    let mut out = String::new();
    for (index, line) in subject.strip_suffix('\n').unwrap_or(subject).split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if (index > 0 || first == Some(true)) && (!line.trim().is_empty() || blank == Some(true)) {
            out.push_str(&margin);
        }
        out.push_str(line);
    }
    Ok(Jinja::from(out))
}

/// JSON as prompts want it: spaced as Python writes it, without escapes for HTML.
fn to_json(subject: &Jinja) -> Result<String, Error> {
    let refused = || wrong("what has no JSON form");
    let value = from_jinja(subject, &mut Budget::default(), MAX_DEPTH).map_err(|_| refused())?;
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(|_| refused())?;
    String::from_utf8(out).map_err(|_| refused())
}

/// A space after commas and colons.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
