//! Places in requests and answers that are never captured: how a file names them, and taking out what stands there.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use millstream_values::Value;

/// What stands in a capture in place of what was taken out.
pub const REDACTED: &str = "[redacted]";

/// How a place is written.
pub(crate) const PATH_HELP: &str =
    "write a field such as `\"request.question\"`, `\"request.documents[].text\"` or `\"answer.text\"`";

/// A place: `request.question`, `request.documents[].text`, `answer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedPath {
    pub(crate) part: Part,
    pub(crate) steps: Vec<Step>,
}

/// What a place is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The fields of the request.
    Request,
    /// The answer.
    Answer,
}

/// A step on the way to a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// `.name`: the entry of that name.
    Field(Arc<str>),
    /// `[]`: each element of the list.
    Each,
}

/// The fields of a request without what stands at these places.
#[must_use]
pub fn redact_request(paths: &[RedactedPath], fields: &Value) -> Value {
    redact(paths, Part::Request, fields)
}

/// An answer without what stands at these places.
#[must_use]
pub fn redact_answer(paths: &[RedactedPath], answer: &Value) -> Value {
    redact(paths, Part::Answer, answer)
}

fn redact(paths: &[RedactedPath], part: Part, value: &Value) -> Value {
    let paths = paths.iter().filter(|path| path.part == part);
    paths.fold(value.clone(), |value, path| without(&value, &path.steps))
}

/// What has another shape than the path says is taken out whole: nothing of it is known to be harmless.
fn without(value: &Value, steps: &[Step]) -> Value {
    let Some((step, rest)) = steps.split_first() else { return taken_out(value) };
    match (step, value) {
        (Step::Field(name), Value::Map(map)) if map.contains_key(name) => {
            let entry = |(key, entry): (&Arc<str>, &Value)| {
                let entry = if key == name { without(entry, rest) } else { entry.clone() };
                (Arc::clone(key), entry)
            };
            Value::map(map.iter().map(entry))
        }
        (Step::Field(_), Value::Map(_)) => value.clone(),
        (Step::Each, Value::List(items)) => Value::list(items.iter().map(|item| without(item, rest))),
        _ => taken_out(value),
    }
}

fn taken_out(value: &Value) -> Value {
    if *value == Value::None { Value::None } else { Value::text(REDACTED) }
}

impl Part {
    /// How paths begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }
}

impl FromStr for RedactedPath {
    type Err = &'static str;

    /// The error says how a place is written.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let end = text.find(['.', '[']).unwrap_or(text.len());
        let part = match &text[..end] {
            "request" => Part::Request,
            "answer" => Part::Answer,
            _ => return Err(PATH_HELP),
        };
        let mut rest = &text[end..];
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("[]") {
                steps.push(Step::Each);
                rest = after;
                continue;
            }
            let after = rest.strip_prefix('.').ok_or(PATH_HELP)?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end == 0 {
                return Err(PATH_HELP);
            }
            steps.push(Step::Field(after[..end].into()));
            rest = &after[end..];
        }
        Ok(Self { part, steps })
    }
}

/// As it is written.
impl fmt::Display for RedactedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.part.name())?;
        for step in &self.steps {
            match step {
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Each => f.write_str("[]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> RedactedPath {
        text.parse().unwrap()
    }

    fn documents() -> Value {
        let document = |text: &str| Value::map([("text", Value::from(text)), ("id", Value::Int(1))]);
        Value::map([
            ("question", Value::from("who?")),
            ("documents", Value::list([document("a"), document("b")])),
            ("none", Value::None),
        ])
    }

    fn json(value: &Value) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn paths_are_read_and_shown_alike_and_others_are_refused() {
        for text in ["request", "answer", "request.a", "request.a[].b", "answer.a.b[][]", "request.a-b_c"] {
            assert_eq!(path(text).to_string(), text);
        }
        for bad in
            ["", "requests", "request.", "request..a", "request.a[", "request.a[0]", "question", "request a"]
        {
            assert_eq!(bad.parse::<RedactedPath>(), Err(PATH_HELP), "{bad}");
        }
    }

    #[test]
    fn what_stands_at_a_path_is_taken_out_and_all_else_stays() {
        let whole = json(&documents());
        for (text, expected) in [
            ("request.question", whole.replace("\"who?\"", "\"[redacted]\"")),
            (
                "request.documents[].text",
                whole.replace("\"a\"", "\"[redacted]\"").replace("\"b\"", "\"[redacted]\""),
            ),
            ("request", "\"[redacted]\"".to_owned()),
            ("request.none", whole.clone()),
            ("request.elsewhere", whole.clone()),
            ("answer", whole.clone()),
        ] {
            assert_eq!(json(&redact_request(&[path(text)], &documents())), expected, "{text}");
        }
        let both = [path("request.question"), path("request")];
        assert_eq!(json(&redact_request(&both, &documents())), "\"[redacted]\"");
        assert_eq!(json(&redact_answer(&[path("answer")], &Value::Int(1))), "\"[redacted]\"");
    }

    #[test]
    fn what_has_another_shape_than_the_path_is_taken_out_whole() {
        for text in ["request.documents.text", "request.question.text", "request.question[]"] {
            let left = json(&redact_request(&[path(text)], &documents()));
            let field = if text.contains("documents") { "\"documents\":" } else { "\"question\":" };
            assert!(left.contains(&format!("{field}\"[redacted]\"")), "{text}: {left}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::from("secret")),
            Just(Value::list([Value::from("secret")])),
            Just(Value::map([("c", Value::from("secret"))])),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::list),
                prop::collection::btree_map("[abc]", inner, 1..4).prop_map(Value::map),
            ]
        })
    }

    /// What stands where the path leads, as far as the value has the shape that it says.
    fn at<'v>(value: &'v Value, steps: &[Step]) -> Vec<&'v Value> {
        match (steps.split_first(), value) {
            (None, value) => vec![value],
            (Some((Step::Field(name), rest)), Value::Map(map)) => {
                map.get(name).map(|entry| at(entry, rest)).unwrap_or_default()
            }
            (Some((Step::Each, rest)), Value::List(items)) => {
                items.iter().flat_map(|item| at(item, rest)).collect()
            }
            _ => Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn nothing_is_left_at_a_path_whatever_the_shape(
            value in values(), steps in prop::collection::vec("(\\[\\]|\\.[abc])", 0..4)
        ) {
            let paths = [path(&format!("request.x{}", steps.concat()))];
            let whole = Value::map([("x", value)]);
            let left = redact_request(&paths, &whole);
            let found = at(&left, &paths[0].steps);
            prop_assert!(found.iter().all(|found| **found == Value::from(REDACTED)), "{found:?}");
            let there = at(&whole, &paths[0].steps);
            prop_assert!(found.len() <= there.len(), "nothing is made up");
            prop_assert_eq!(redact_request(&paths, &left), left, "once is enough");
        }
    }
}
