//! Whether an answer is the one that was captured: a plain function of both. Numbers may be off by a little, as models that run
//! elsewhere or are built otherwise round otherwise.

use serde_json::{Map, Value};

use millstream_pipelines::REDACTED;

/// How two answers compare.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Comparison {
    /// They say the same.
    Equal,
    /// Some numbers are off within the tolerance, by so much at most, as the tolerance counts it.
    Near(f64),
    /// They say something else.
    Different(Difference),
    /// All that was captured was redacted.
    NothingToCompare,
}

/// The first place where two answers differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Such as `answer.documents[2].text`.
    pub(super) path: String,
    /// What was captured there, shortened.
    pub(super) captured: String,
    /// What is there now, shortened.
    pub(super) now: String,
}

/// As much of a value as is shown, in characters.
const MAX_SHOWN: usize = 60;

/// Compares a captured answer with that of now. What was redacted is passed over. `tolerance` is how far a number may be off:
/// relative to the larger of both, and absolute below 1.
pub(super) fn compare(captured: &Value, now: &Value, tolerance: f64) -> Comparison {
    let mut walk = Walk { path: "answer".to_owned(), tolerance, off: 0.0, num_compared: 0 };
    match walk.pair(captured, now) {
        Err(difference) => Comparison::Different(difference),
        Ok(()) if walk.num_compared == 0 => Comparison::NothingToCompare,
        Ok(()) if walk.off > 0.0 => Comparison::Near(walk.off),
        Ok(()) => Comparison::Equal,
    }
}

struct Walk {
    /// Where it is.
    path: String,
    tolerance: f64,
    /// The most that a number was off.
    off: f64,
    /// Values that were not redacted.
    num_compared: usize,
}

impl Walk {
    fn pair(&mut self, captured: &Value, now: &Value) -> Result<(), Difference> {
        if captured == REDACTED {
            return Ok(());
        }
        match (captured, now) {
            (Value::Object(captured), Value::Object(now)) => self.objects(captured, now),
            (Value::Array(captured), Value::Array(now)) => self.arrays(captured, now),
            _ => {
                self.num_compared += 1;
                let is_near = match (captured.as_f64(), now.as_f64()) {
                    _ if captured == now => true,
                    (Some(captured), Some(now)) => self.is_near(captured, now),
                    _ => false,
                };
                if is_near { Ok(()) } else { Err(self.difference(shown(captured), shown(now))) }
            }
        }
    }

    /// Whether a number is near enough.
    fn is_near(&mut self, captured: f64, now: f64) -> bool {
        let off = (captured - now).abs() / captured.abs().max(now.abs()).max(1.0);
        let is_near = off <= self.tolerance;
        if is_near {
            self.off = self.off.max(off);
        }
        is_near
    }

    fn objects(&mut self, captured: &Map<String, Value>, now: &Map<String, Value>) -> Result<(), Difference> {
        // Empty ones are compared by being empty.
        self.num_compared += usize::from(captured.is_empty());
        let here = self.path.len();
        for (key, value) in captured {
            self.path.push('.');
            self.path.push_str(key);
            match now.get(key) {
                Some(now) => self.pair(value, now)?,
                None => return Err(self.difference(shown(value), "nothing".to_owned())),
            }
            self.path.truncate(here);
        }
        match now.iter().find(|(key, _)| !captured.contains_key(*key)) {
            Some((key, value)) => {
                self.path.push('.');
                self.path.push_str(key);
                Err(self.difference("nothing".to_owned(), shown(value)))
            }
            None => Ok(()),
        }
    }

    fn arrays(&mut self, captured: &[Value], now: &[Value]) -> Result<(), Difference> {
        if captured.len() != now.len() {
            let count = |items: &[Value]| format!("{} items", items.len());
            return Err(self.difference(count(captured), count(now)));
        }
        self.num_compared += usize::from(captured.is_empty());
        let here = self.path.len();
        for (index, (captured, now)) in captured.iter().zip(now).enumerate() {
            self.path.push_str(&format!("[{index}]"));
            self.pair(captured, now)?;
            self.path.truncate(here);
        }
        Ok(())
    }

    fn difference(&self, captured: String, now: String) -> Difference {
        Difference { path: self.path.clone(), captured, now }
    }
}

/// A value on one line, shortened, without what a terminal would obey.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let harmless = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let short: String = harmless.take(MAX_SHOWN).collect();
    if text.chars().nth(MAX_SHOWN).is_some() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn different(path: &str, captured: &str, now: &str) -> Comparison {
        let (path, captured, now) = (path.to_owned(), captured.to_owned(), now.to_owned());
        Comparison::Different(Difference { path, captured, now })
    }

    #[test]
    fn answers_are_equal_near_or_differ_somewhere() {
        let table = [
            (json!({"a": 1, "b": [true, null]}), json!({"b": [true, null], "a": 1}), Comparison::Equal),
            (json!({"a": 1}), json!({"a": 1.0}), Comparison::Equal),
            (json!({}), json!({}), Comparison::Equal),
            (json!({"a": [0.5, 200.0]}), json!({"a": [0.5, 200.125]}), Comparison::Near(0.125 / 200.125)),
            (json!({"a": 0.0}), json!({"a": 0.0009}), Comparison::Near(0.0009)),
            (json!({"a": [0.5, 1.0]}), json!({"a": [0.5, 1.1]}), different("answer.a[1]", "1.0", "1.1")),
            (json!({"a": "x"}), json!({"a": "y"}), different("answer.a", "\"x\"", "\"y\"")),
            (json!({"a": "1"}), json!({"a": 1}), different("answer.a", "\"1\"", "1")),
            (json!({"a": 1}), json!({}), different("answer.a", "1", "nothing")),
            (json!({}), json!({"b": 2}), different("answer.b", "nothing", "2")),
            (json!({"a": [1]}), json!({"a": [1, 2]}), different("answer.a", "1 items", "2 items")),
            (json!({"a": [{"b": 1}]}), json!({"a": [{"b": 7}]}), different("answer.a[0].b", "1", "7")),
            (json!("x"), json!({"a": 1}), different("answer", "\"x\"", "{\"a\":1}")),
        ];
        for (captured, now, expected) in table {
            assert_eq!(compare(&captured, &now, 1e-3), expected, "{captured} and {now}");
        }
    }

    #[test]
    fn what_was_redacted_is_passed_over() {
        let captured = json!({"text": REDACTED, "score": 0.5});
        assert_eq!(compare(&captured, &json!({"text": "anything", "score": 0.5}), 0.0), Comparison::Equal);
        let now = json!({"text": "anything", "score": 0.6});
        assert_eq!(compare(&captured, &now, 0.0), different("answer.score", "0.5", "0.6"));
        for whole in [json!(REDACTED), json!({"text": REDACTED}), json!([REDACTED])] {
            let now = whole.clone();
            assert_eq!(compare(&whole, &now, 0.0), Comparison::NothingToCompare, "{whole}");
        }
    }

    #[test]
    fn long_values_are_shortened_and_control_characters_are_not_shown() {
        let Comparison::Different(found) = compare(&json!("x".repeat(500)), &json!("\u{9b}31m"), 0.0) else {
            panic!("they differ")
        };
        assert_eq!(found.captured.chars().count(), MAX_SHOWN + 1);
        assert!(!found.now.contains('\u{9b}'), "{}", found.now);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-1e6..1e6).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Every number off by a part of itself, at least of 1.
    fn shifted(value: &Value, part: f64) -> Value {
        match value {
            Value::Number(number) => {
                let number = number.as_f64().unwrap();
                Value::from(number + part * number.abs().max(1.0))
            }
            Value::Array(items) => items.iter().map(|item| shifted(item, part)).collect(),
            Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), shifted(item, part))).collect(),
            other => other.clone(),
        }
    }

    fn has_number(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().any(has_number),
            Value::Object(map) => map.values().any(has_number),
            other => other.is_number(),
        }
    }

    proptest! {
        #[test]
        fn an_answer_equals_itself_and_order_does_not_matter(a in values(), b in values()) {
            prop_assert_eq!(compare(&a, &a, 0.0), Comparison::Equal);
            let differ = |a: &Value, b: &Value| matches!(compare(a, b, 0.0), Comparison::Different(_));
            prop_assert_eq!(differ(&a, &b), differ(&b, &a), "both ways");
        }

        #[test]
        fn numbers_within_the_tolerance_are_near_and_others_are_not(a in values(), part in 1e-6..1e-2) {
            let b = shifted(&a, part);
            prop_assert!(!matches!(compare(&a, &b, part * 1.01), Comparison::Different(_)));
            if has_number(&a) {
                prop_assert!(matches!(compare(&a, &b, part * 0.9), Comparison::Different(_)));
            }
        }
    }
}
