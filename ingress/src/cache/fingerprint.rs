//! What makes two calls equal: a keyed hash of all that an answer depends on.
//!
//! What is hashed is an injective form: every part has a tag or a length before it, so that different calls are
//! different bytes. The hash is BLAKE3 with 256 bits, keyed with random bytes that never leave the process. Two calls
//! with one fingerprint would be a collision of BLAKE3; who looks for one cannot even compute fingerprints without the
//! key. So inputs need not be kept to be compared, and nobody can place an answer where another call finds it.

use millstream_pipelines::FullName;
use millstream_proto::Value;

use crate::model::Tenant;

/// Stands for a call; equal only for equal calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

/// What a call's answer depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// What is called.
    pub(crate) deployment: &'a FullName,
    /// The revision of it that answers.
    pub(crate) revision: u64,
    /// Who may see the answer; `None` for everybody.
    pub(crate) tenant: Option<Tenant>,
    /// The call's inputs. The order of a map's entries counts: an answer may repeat it.
    pub(crate) inputs: &'a Value,
}

/// The key of fingerprints: random, made for each table of them anew.
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// A key of these bytes.
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The fingerprint of a call. Costs a pass over its inputs.
    pub(crate) fn fingerprint(&self, subject: Subject<'_>) -> Fingerprint {
        let mut form = Form(blake3::Hasher::new_keyed(&self.0));
        form.text(subject.deployment.pipeline.as_str());
        form.text(subject.deployment.deployment.as_str());
        form.number(subject.revision);
        match subject.tenant {
            None => form.tag(0),
            Some(Tenant(number)) => {
                form.tag(1);
                form.number(u64::from(number));
            }
        }
        form.value(subject.inputs);
        Fingerprint(*form.0.finalize().as_bytes())
    }
}

/// Takes in the injective form.
struct Form(blake3::Hasher);

impl Form {
    fn tag(&mut self, tag: u8) {
        self.0.update(&[tag]);
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        self.number(length as u64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// The nesting of inputs is bounded by the run that made them.
    fn value(&mut self, value: &Value) {
        match value {
            Value::None => self.tag(0),
            Value::Bool(value) => {
                self.tag(1);
                self.tag(u8::from(*value));
            }
            Value::Int(value) => {
                self.tag(2);
                self.0.update(&value.to_le_bytes());
            }
            Value::Float(value) => {
                self.tag(3);
                self.number(value.to_bits());
            }
            Value::Text(text) => {
                self.tag(4);
                self.text(text);
            }
            Value::Bytes(bytes) => {
                self.tag(5);
                self.bytes(bytes);
            }
            Value::Tensor(tensor) => {
                self.tag(6);
                self.text(tensor.dtype().as_str());
                self.length(tensor.shape().len());
                tensor.shape().iter().for_each(|&size| self.length(size));
                self.bytes(tensor.data());
            }
            Value::List(items) => {
                self.tag(7);
                self.length(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Map(map) => {
                self.tag(8);
                self.length(map.len());
                for (name, entry) in map.iter() {
                    self.text(name);
                    self.value(entry);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use millstream_proto::Tensor;
    use proptest::prelude::*;

    use super::*;

    fn of(inputs: &Value) -> Fingerprint {
        let deployment = "p/d".parse().unwrap();
        let tenant = Some(Tenant::ANONYMOUS);
        Secret([7; 32]).fingerprint(Subject { deployment: &deployment, revision: 1, tenant, inputs })
    }

    #[test]
    fn everything_that_an_answer_depends_on_counts() {
        let (a, b) = ("p/ab".parse().unwrap(), "pa/b".parse().unwrap());
        let (hi, ho) = (Value::from("hi"), Value::from("ho"));
        let base = Subject { deployment: &a, revision: 1, tenant: Some(Tenant(0)), inputs: &hi };
        let others = [
            Subject { deployment: &b, ..base },
            Subject { revision: 2, ..base },
            Subject { tenant: Some(Tenant(1)), ..base },
            Subject { tenant: None, ..base },
            Subject { inputs: &ho, ..base },
        ];
        let secret = Secret([1; 32]);
        assert_eq!(secret.fingerprint(base), secret.fingerprint(base));
        assert_ne!(secret.fingerprint(base), Secret([2; 32]).fingerprint(base), "keyed");
        for other in others {
            assert_ne!(secret.fingerprint(base), secret.fingerprint(other), "{other:?}");
        }
    }

    #[test]
    fn values_that_look_alike_differ() {
        let tensor = |shape: &[usize]| Value::Tensor(Tensor::from_f32(shape, &[0.0; 4]).unwrap());
        let alike = [
            Value::None,
            Value::Bool(false),
            Value::Int(0),
            Value::Float(0.0),
            Value::Float(-0.0),
            Value::from(""),
            Value::from("0"),
            Value::Bytes(Bytes::from_static(b"0")),
            Value::list([]),
            Value::list([Value::list([])]),
            Value::list([Value::from("ab"), Value::from("c")]),
            Value::list([Value::from("a"), Value::from("bc")]),
            Value::map([("a", Value::Int(1)), ("b", Value::Int(2))]),
            Value::map([("b", Value::Int(2)), ("a", Value::Int(1))]),
            tensor(&[4]),
            tensor(&[2, 2]),
            Value::Tensor(Tensor::from_i64([2], &[0, 0]).unwrap()),
        ];
        let mut seen = HashMap::new();
        for value in &alike {
            assert!(seen.insert(of(value), value).is_none(), "{value:?}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        // Few leaves, so that equal values come up.
        let leaf = prop_oneof![
            (0..2_i64).prop_map(Value::Int),
            "[ab]{0,2}".prop_map(Value::from),
            Just(Value::None),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let named = ("[ab]", inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..3).prop_map(Value::list),
                prop::collection::vec(named, 0..3).prop_map(Value::map),
            ]
        })
    }

    proptest! {
        #[test]
        fn fingerprints_are_equal_exactly_for_equal_values(a in any_value(), b in any_value()) {
            // The text of a value tells its order, which the equality of maps does not look at.
            prop_assert_eq!(of(&a) == of(&b), format!("{a:?}") == format!("{b:?}"));
            prop_assert_eq!(of(&a), of(&a.clone()));
        }
    }
}
