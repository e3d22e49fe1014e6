//! Bodies of requests: whatever comes is answered by values or by faults.

use millstream_pipelines::{Plan, RequestError};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const PIPELINE: &str = r#"
name = "bodies"
route = "/bodies"
[request]
question = { type = "text", max_length = 100 }
documents = "text[]"
top_k = { type = "int", default = 3, min = 1, max = 50 }
weight = { type = "float", default = 0.5 }
extra = { type = "json", default = {} }
image = { type = "bytes", default = "" }
rows = { type = "f32[?,3]", default = [] }
flags = { type = "bool[]", default = [] }
[response]
all = "request"
"#;

const BODIES: [&str; 3] = [
    r#"{"question": "why?", "documents": ["a", "b", "é"], "top_k": 5, "stream": true}"#,
    r#"{"question": "\u00e9\n", "documents": [], "weight": 1e-3, "extra": {"a": [1, {"b": null}]}, "image": "aGVsbG8="}"#,
    r#"{"question": "x", "documents": ["a"], "rows": [[1, 2.5, -3], [4, 5, 6]], "flags": [true, false]}"#,
];

const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e999",
    "2.0",
    "99999999999999999999",
    "\"question\"",
    "\"stream\"",
    "\\",
    "\\ud800",
    "é",
    "\0",
    "[[[[",
    "\"rows\": [[1]],",
    "\"top_k\": 0,",
    "NaN",
    " ",
];

/// A body with one to four random changes; may be no UTF-8.
fn mutate(body: &str, random: &mut StdRng) -> Vec<u8> {
    let mut body = body.as_bytes().to_vec();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=body.len());
        let end = (at + random.random_range(0..10)).min(body.len());
        match random.random_range(0..4) {
            0 => drop(body.drain(at..end)),
            1 => drop(body.splice(at..at, PIECES.choose(random).unwrap().bytes())),
            2 => drop(body.splice(at..end, PIECES.choose(random).unwrap().bytes())),
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte = random.random();
                }
            }
        }
    }
    body
}

fn check(plan: &Plan, body: &[u8]) -> usize {
    match plan.parse_request(body) {
        Ok(request) => {
            assert_eq!(request.fields.as_map().unwrap().len(), 8);
            0
        }
        Err(RequestError::Malformed { message }) => {
            assert!(!message.is_empty());
            1
        }
        Err(RequestError::Invalid(faults)) => {
            assert!(!faults.is_empty());
            assert!(faults.iter().all(|fault| !fault.message.is_empty()));
            2
        }
    }
}

#[test]
fn mutated_bodies_give_values_or_faults() {
    let plan = Plan::compile("bodies.toml", PIPELINE).unwrap();
    let mut outcomes = [0; 3];
    for body in BODIES {
        assert_eq!(check(&plan, body.as_bytes()), 0, "{body}");
    }
    for seed in 0..3000 {
        let mut random = StdRng::seed_from_u64(seed);
        let body = mutate(BODIES.choose(&mut random).unwrap(), &mut random);
        outcomes[check(&plan, &body)] += 1;
    }
    assert!(outcomes.iter().all(|&count| count > 50), "every outcome is met: {outcomes:?}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_give_values_or_faults(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let plan = Plan::compile("bodies.toml", PIPELINE).unwrap();
        check(&plan, &body);
    }
}
