//! Bodies of the APIs that people bring their clients for, read straight into what is needed of them: fields that nobody reads cost no memory, lists have a bound, and a
//! fault names its field.

use std::fmt;
use std::marker::PhantomData;

use millstream_pipelines::MAX_ITEMS;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Problem;

/// Reads a body.
///
/// # Errors
/// A problem (400) with the path of the field that does not fit.
pub(crate) fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let read: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = pointer(error.path());
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data if !path.is_empty() => {
                Problem::bad_field(path, without_place(&error))
            }
            _ => Problem::malformed(format!("the body does not fit: {error}")),
        }
    })?;
    json.end().map_err(|error| Problem::malformed(format!("there is more than one JSON value: {error}")))?;
    Ok(read)
}

/// What is wrong, without the line and column, which bodies of one line have no use for. It may quote a value of the body, which can be long.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    what.chars().take(300).collect()
}

/// A path as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{key}")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// A list with as many items as a body may have.
#[derive(Debug)]
pub(crate) struct Items<T>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Items<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == MAX_ITEMS {
                        return Err(A::Error::custom(format!("there are more than {MAX_ITEMS} items")));
                    }
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        from.deserialize_seq(Reader(PhantomData))
    }
}

/// A text, or a list of texts.
#[derive(Debug, PartialEq)]
pub(crate) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    /// All of them.
    pub(crate) fn all(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts (lists of token ids are not taken)")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    if texts.len() == MAX_ITEMS {
                        return Err(A::Error::custom(format!("there are more than {MAX_ITEMS} items")));
                    }
                    texts.push(text);
                }
                Ok(Texts::Many(texts))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// A field of the API that no engine here can honour, and the values that ask for nothing.
pub(crate) struct Unsupported {
    pub(crate) name: &'static str,
    /// What may be said all the same.
    pub(crate) neutral: &'static [Neutral],
}

/// A value that asks for nothing beyond what is done anyway. Null, `false`, `0` and what is empty always do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Neutral {
    /// The number 1.
    One,
    /// This text, or an object whose `type` is this text.
    Text(&'static str),
}

/// Refuses a body with one of these fields.
///
/// # Errors
/// A problem (400) that names the field.
pub(crate) fn refuse(body: &[u8], fields: &'static [Unsupported]) -> Result<(), Problem> {
    struct Reader(&'static [Unsupported]);
    impl<'de> Visitor<'de> for Reader {
        type Value = Option<&'static str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut refused = None;
            while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                match self.0.iter().find(|field| field.name == key) {
                    Some(field) if refused.is_none() => {
                        let given: Given = map.next_value()?;
                        refused = (!given.is_neutral(field.neutral)).then_some(field.name);
                    }
                    _ => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(refused)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    match json.deserialize_map(Reader(fields)) {
        Ok(None) => Ok(()),
        Ok(Some(field)) => {
            Err(Problem::bad_field(format!("/{field}"), "no model here can do this; leave the field out"))
        }
        Err(error) => Err(Problem::malformed(format!("the body does not fit: {error}"))),
    }
}

/// What stands in a field, as far as it matters.
#[derive(Debug, PartialEq)]
enum Given {
    Nothing,
    One,
    Text(String),
    Something,
}

impl Given {
    fn is_neutral(&self, neutral: &[Neutral]) -> bool {
        *self == Self::Nothing
            || neutral.iter().any(|neutral| match (neutral, self) {
                (Neutral::One, Self::One) => true,
                (Neutral::Text(wanted), Self::Text(text)) => text == wanted,
                _ => false,
            })
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(GivenReader)
    }
}

struct GivenReader;

impl<'de> Visitor<'de> for GivenReader {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Given, E> {
        Ok(Given::Nothing)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Given, E> {
        Ok(if flag { Given::Something } else { Given::Nothing })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Given, E> {
        Ok(match number {
            0 => Given::Nothing,
            1 => Given::One,
            _ => Given::Something,
        })
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Given, E> {
        Ok(Given::Something)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Given, E> {
        Ok(if number == 0.0 {
            Given::Nothing
        } else if number == 1.0 {
            Given::One
        } else {
            Given::Something
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Given, E> {
        Ok(if text.is_empty() { Given::Nothing } else { Given::Text(text.to_owned()) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Given, A::Error> {
        let mut given = Given::Nothing;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            given = Given::Something;
        }
        Ok(given)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        let mut given = Given::Nothing;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == "type" {
                given = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
                if given == Given::Nothing {
                    given = Given::Something;
                }
            }
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Unsupported] = &[
        Unsupported { name: "tools", neutral: &[] },
        Unsupported { name: "n", neutral: &[Neutral::One] },
        Unsupported { name: "response_format", neutral: &[Neutral::Text("text")] },
    ];

    fn refused(body: &str) -> Option<String> {
        refuse(body.as_bytes(), FIELDS).err().map(|problem| match problem.errors() {
            [fault] => fault.path.clone(),
            _ => problem.detail().to_owned(),
        })
    }

    #[test]
    fn what_asks_for_nothing_is_taken() {
        for body in [
            "{}",
            r#"{"tools": null, "n": 1, "response_format": {"type": "text"}}"#,
            r#"{"tools": [], "n": 1.0, "other": {"tools": [1]}}"#,
            r#"{"tools": {}, "n": 0, "response_format": "text"}"#,
        ] {
            assert_eq!(refused(body), None, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (body, field) in [
            (r#"{"tools": [{"type": "function"}]}"#, "/tools"),
            (r#"{"n": 2}"#, "/n"),
            (r#"{"n": -1}"#, "/n"),
            (r#"{"response_format": {"type": "json_object"}}"#, "/response_format"),
            (r#"{"response_format": {"json": 1, "type": "text2"}}"#, "/response_format"),
            (r#"{"n": 1, "tools": true}"#, "/tools"),
        ] {
            assert_eq!(refused(body).as_deref(), Some(field), "{body}");
        }
        assert!(refused("[1]").is_some_and(|detail| detail.contains("an object")));
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "read for its faults")]
    struct Body {
        list: Items<Texts>,
        number: Option<i64>,
    }

    #[test]
    fn a_fault_has_a_path() {
        let fault = |body: &str| {
            let problem = read::<Body>(body.as_bytes()).unwrap_err();
            problem.errors().first().map(|fault| fault.path.clone()).unwrap_or_default()
        };
        assert_eq!(fault(r#"{"list": ["a", ["b", 1]]}"#), "/list/1/1");
        assert_eq!(fault(r#"{"list": [], "number": "x"}"#), "/number");
        assert_eq!(fault(r#"{"list": []"#), "", "not JSON");
        assert_eq!(fault("{}"), "", "the message names what is missing");
        assert!(read::<Body>(br#"{"list": ["a", ["b"]], "number": null, "more": 1}"#).is_ok());
        let wide = format!(r#"{{"list": [{}]}}"#, "[],".repeat(MAX_ITEMS) + "[]");
        assert!(read::<Body>(wide.as_bytes()).is_err());
    }
}
