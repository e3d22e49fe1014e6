//! Bodies of every public API, made of whatever may come: each is read, or refused with a problem that has a document. Runs for a second
//! in the tests; `BOLERO_RANDOM_TEST_TIME_MS=60000 cargo test -p millstream-ingress --lib fuzz` for a minute.

use std::panic::AssertUnwindSafe;

use bolero::TypeGenerator;
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use millstream_proto::RequestId;

use crate::protocol::PROTOCOLS;

/// A piece of a body.
#[derive(Debug, Clone, TypeGenerator)]
enum Piece {
    Key(u8),
    Text(String),
    Number(i64),
    Float(f64),
    Word(u8),
    Raw(Vec<u8>),
}

const KEYS: [&str; 37] = [
    "model",
    "messages",
    "role",
    "content",
    "type",
    "text",
    "prompt",
    "input",
    "query",
    "documents",
    "top_n",
    "top_k",
    "stop",
    "n",
    "stream",
    "stream_options",
    "temperature",
    "max_tokens",
    "tools",
    "response_format",
    "dimensions",
    "encoding_format",
    "inputs",
    "texts",
    "normalize",
    "truncate",
    "truncation_direction",
    "raw_scores",
    "return_text",
    "input_type",
    "embedding_types",
    "output_dimension",
    "text_1",
    "text_2",
    "queries",
    "use_activation",
    "truncate_prompt_tokens",
];
const WORDS: [&str; 12] =
    ["{", "}", "[", "]", ",", ":", "null", "true", "false", "\"user\"", "\"a/b\"", "{\"model\":\"a/b\","];

fn body_of(pieces: &[Piece]) -> Vec<u8> {
    let mut body = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Key(which) => {
                body.extend(format!("\"{}\":", KEYS[usize::from(*which) % KEYS.len()]).bytes());
            }
            Piece::Text(text) => body.extend(serde_json::to_vec(text).unwrap()),
            Piece::Number(number) => body.extend(number.to_string().bytes()),
            Piece::Float(number) => body.extend(number.to_string().bytes()),
            Piece::Word(which) => body.extend(WORDS[usize::from(*which) % WORDS.len()].bytes()),
            Piece::Raw(bytes) => body.extend(bytes),
        }
    }
    body
}

#[test]
fn bodies_are_read_or_refused() {
    let (head, ()) = Request::post("/").body(()).unwrap().into_parts();
    let head = AssertUnwindSafe(head);
    bolero::check!().with_type::<Vec<Piece>>().for_each(|pieces| check(&head, pieces));
}

fn check(head: &AssertUnwindSafe<Parts>, pieces: &[Piece]) {
    let body = Bytes::from(body_of(pieces));
    for protocol in PROTOCOLS {
        match protocol.read(head, body.clone()) {
            Ok(exchange) => assert!(exchange.target().is_none_or(|target| !format!("{target:?}").is_empty())),
            Err(problem) => {
                let response = protocol.problem(&problem, &RequestId::new("r-1"));
                assert!(response.status().as_u16() >= 400);
                serde_json::from_slice::<serde_json::Value>(&response.body().bytes).unwrap();
            }
        }
    }
}
