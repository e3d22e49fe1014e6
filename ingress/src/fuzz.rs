//! Bodies of every public API, made of whatever may come: each is read, or refused with a problem that has a document. Runs for a second
//! in the tests; `BOLERO_RANDOM_TEST_TIME_MS=60000 cargo test -p millstream-ingress --lib fuzz` for a minute.

use std::panic::AssertUnwindSafe;

use bolero::TypeGenerator;
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use millstream_pipelines::Plan;
use millstream_proto::RequestId;

use crate::protocol::inference::{HEADER_LENGTH, Inference};
use crate::protocol::{PROTOCOLS, Protocol as _, Spent, Told};

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

const KEYS: [&str; 54] = [
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
    "instructions",
    "previous_response_id",
    "background",
    "store",
    "metadata",
    "format",
    "reasoning",
    "truncation",
    "prompt_name",
    "tokens",
    "ids",
    "add_special_tokens",
    "skip_special_tokens",
    "return_token_strs",
    "add_generation_prompt",
    "max_tokens",
    "activation",
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

/// A tensor as a client of the Open Inference Protocol may describe it.
#[derive(Debug, Clone, TypeGenerator)]
struct Tensor {
    name: u8,
    datatype: u8,
    shape: Vec<i8>,
    json: Option<Vec<Piece>>,
    binary_size: Option<u8>,
}

/// A request of theirs, with what stands behind its JSON.
#[derive(Debug, Clone, TypeGenerator)]
struct TensorRequest {
    tensors: Vec<Tensor>,
    outputs: Vec<u8>,
    /// Whether the header says how long the JSON is, and by how much it lies.
    header_error: Option<i8>,
    binary: Vec<u8>,
}

const NAMES: [&str; 7] = ["t", "n", "l", "x", "j", "b", "nobody"];
const DATATYPES: [&str; 10] =
    ["BYTES", "FP32", "INT64", "BOOL", "UINT8", "FP16", "BF16", "FP64", "UINT64", "FP31"];

const FIELDS: &str = r#"
name = "p"
route = "/p"
[request]
t = { type = "text", default = "" }
n = { type = "int", default = 1 }
l = { type = "float[][]", default = [] }
x = { type = "f32[?,2]", default = [] }
j = { type = "json", default = {} }
b = { type = "bool[]", default = [] }
[deployments.d]
engine = "echo"
[stages.s]
use = "d"
inputs = { all = "request" }
[response]
all = "s.all"
"#;

impl TensorRequest {
    fn json(&self) -> Vec<u8> {
        let pick = |from: &[&'static str], which: u8| from[usize::from(which) % from.len()];
        let tensors = self.tensors.iter().map(|tensor| {
            let (name, datatype) = (pick(&NAMES, tensor.name), pick(&DATATYPES, tensor.datatype));
            let mut text = format!(r#"{{"name":"{name}","datatype":"{datatype}","shape":{:?}"#, tensor.shape);
            if let Some(size) = tensor.binary_size {
                text += &format!(r#","parameters":{{"binary_data_size":{size}}}"#);
            }
            let mut bytes = text.into_bytes();
            if let Some(pieces) = &tensor.json {
                bytes.extend(br#","data":["#);
                bytes.extend(body_of(pieces));
                bytes.push(b']');
            }
            bytes.push(b'}');
            bytes
        });
        let outputs =
            self.outputs.iter().map(|name| format!(r#"{{"name":"{}"}}"#, pick(&["all", "x"], *name)));
        let outputs = outputs.collect::<Vec<_>>().join(",");
        let inputs = tensors.collect::<Vec<_>>().join(&b',');
        [br#"{"inputs":["#, &*inputs, br#"],"outputs":["#, outputs.as_bytes(), b"]}"].concat()
    }
}

#[test]
fn tensors_are_read_or_refused() {
    let plan = AssertUnwindSafe(Plan::compile("p.toml", FIELDS).unwrap());
    bolero::check!().with_type::<TensorRequest>().for_each(|request| check_tensors(&plan, request));
}

fn check_tensors(plan: &AssertUnwindSafe<Plan>, request: &TensorRequest) {
    let json = request.json();
    let mut head = Request::post("/v2/models/p/infer");
    if let Some(error) = request.header_error {
        head = head.header(HEADER_LENGTH, json.len().saturating_add_signed(error.into()).to_string());
    }
    let (head, ()) = head.body(()).unwrap().into_parts();
    let body = Bytes::from([json, request.binary.clone()].concat());
    let asked = Inference.read(&head, body).and_then(|exchange| {
        let asked = exchange.ask(plan)?;
        Ok((exchange, asked))
    });
    let response = match asked {
        Ok((mut exchange, asked)) => {
            let told = Told { request_id: &RequestId::new("r-1"), spent: Spent::default() };
            exchange.answer(&asked.fields, told)
        }
        Err(problem) => Inference.problem(&problem, &RequestId::new("r-1")),
    };
    let status = response.status().as_u16();
    assert!(status == 200 || status == 400, "{status}");
}
