//! Bodies of every public API, made of whatever may come: each is read, or refused with a problem that has a document. Runs for a second
//! in the tests; `BOLERO_RANDOM_TEST_TIME_MS=60000 cargo test -p millstream-ingress --lib fuzz` for a minute.

use std::panic::AssertUnwindSafe;

use bolero::TypeGenerator;
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use millstream_pipelines::Plan;
use millstream_proto::RequestId;
use millstream_proto::inference::ModelInferRequest;
use prost::Message as _;

use crate::protocol::inference::{HEADER_LENGTH, Inference, MODEL_INFER, StreamedInfer};
use crate::protocol::run::{RUN, RUN_STREAM};
use crate::protocol::{GRPC_PROTOCOLS, PROTOCOLS, Protocol, Spent, Told};

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

const KEYS: [&str; 63] = [
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
    "jsonrpc",
    "id",
    "method",
    "params",
    "name",
    "arguments",
    "_meta",
    "progressToken",
    "cursor",
];
const WORDS: [&str; 15] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "false",
    "\"user\"",
    "\"a/b\"",
    "{\"model\":\"a/b\",",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":",
    "\"tools/call\",\"params\":{\"name\":\"p\",",
    "\"tools/list\"",
];

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
            Ok(mut exchange) if exchange.target().is_none() => {
                let response = exchange.own_answer(&mut std::iter::empty());
                assert!(response.is_none_or(|response| response.status().as_u16() < 500));
            }
            Ok(exchange) => assert!(!format!("{:?}", exchange.target()).is_empty()),
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

/// A message as its wire has it: fields with numbers and forms as they may come.
#[derive(Debug, Clone, TypeGenerator)]
enum WirePiece {
    /// A field with these bytes, which say how many they are, and by how much that is a lie.
    Bytes {
        number: u8,
        bytes: Vec<u8>,
        lie: Option<i8>,
    },
    /// A field with fields of its own.
    Message {
        number: u8,
        fields: Vec<WireLeaf>,
    },
    Leaf(WireLeaf),
    Raw(Vec<u8>),
}

/// A field without others in it.
#[derive(Debug, Clone, TypeGenerator)]
enum WireLeaf {
    Number { number: u8, value: u64 },
    Float { number: u8, value: f32 },
    Name { number: u8, which: u8 },
    Datatype { number: u8, which: u8 },
    Bytes { number: u8, bytes: Vec<u8> },
}

fn put(number: u8, form: u8, value: &[u8], message: &mut Vec<u8>) {
    message.push((1 + number % 9) << 3 | form);
    message.extend_from_slice(value);
}

fn with_length(bytes: &[u8], lie: i8) -> Vec<u8> {
    let mut with = Vec::new();
    prost::encoding::encode_varint((bytes.len() as u64).saturating_add_signed(lie.into()), &mut with);
    with.extend_from_slice(bytes);
    with
}

impl WireLeaf {
    fn write(&self, message: &mut Vec<u8>) {
        match self {
            Self::Number { number, value } => {
                let mut varint = Vec::new();
                prost::encoding::encode_varint(*value, &mut varint);
                put(*number, 0, &varint, message);
            }
            Self::Float { number, value } => put(*number, 5, &value.to_le_bytes(), message),
            Self::Name { number, which } => {
                let name = NAMES[usize::from(*which) % NAMES.len()];
                put(*number, 2, &with_length(name.as_bytes(), 0), message);
            }
            Self::Datatype { number, which } => {
                let name = DATATYPES[usize::from(*which) % DATATYPES.len()];
                put(*number, 2, &with_length(name.as_bytes(), 0), message);
            }
            Self::Bytes { number, bytes } => put(*number, 2, &with_length(bytes, 0), message),
        }
    }
}

fn message_of(pieces: &[WirePiece]) -> Vec<u8> {
    let mut message = Vec::new();
    for piece in pieces {
        match piece {
            WirePiece::Bytes { number, bytes, lie } => {
                put(*number, 2, &with_length(bytes, lie.unwrap_or(0)), &mut message);
            }
            WirePiece::Message { number, fields } => {
                let mut inner = Vec::new();
                fields.iter().for_each(|field| field.write(&mut inner));
                put(*number, 2, &with_length(&inner, 0), &mut message);
            }
            WirePiece::Leaf(leaf) => leaf.write(&mut message),
            WirePiece::Raw(bytes) => message.extend_from_slice(bytes),
        }
    }
    message
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

/// A call with this body: answered with its own fields, or refused.
fn ask(protocol: &dyn Protocol, body: Bytes, plan: &Plan) {
    let (head, ()) = Request::post("/").body(()).unwrap().into_parts();
    let (request_id, spent) = (RequestId::new("r-1"), Spent::default());
    let asked = protocol.read(&head, body).and_then(|exchange| {
        let asked = exchange.ask(plan)?;
        Ok((exchange, asked))
    });
    match asked {
        Ok((mut exchange, asked)) => {
            exchange.answer(&asked.fields, Told { request_id: &request_id, spent });
            exchange.end(Ok(&asked.fields), Told { request_id: &request_id, spent });
        }
        Err(problem) => {
            assert!(problem.status().is_client_error(), "{problem:?}");
            protocol.problem(&problem, &request_id);
        }
    }
}

#[test]
fn messages_are_read_or_refused() {
    let plan = AssertUnwindSafe(Plan::compile("p.toml", FIELDS).unwrap());
    bolero::check!().with_type::<Vec<WirePiece>>().for_each(|pieces| {
        let message = message_of(pieces);
        for protocol in GRPC_PROTOCOLS {
            ask(*protocol, framed(&message), &plan);
            ask(*protocol, message.clone().into(), &plan);
        }
        ask(&StreamedInfer::default(), message.clone().into(), &plan);
        for method in ["ModelReady", "ModelStatistics", "RepositoryIndex"] {
            let _ = crate::protocol::inference::question::Question::of(method).unwrap().read(&message);
        }
    });
}

/// What the generated code makes of a tensor is what ours makes of it.
#[test]
fn messages_are_what_they_were_written_as() {
    let plan = AssertUnwindSafe(Plan::compile("p.toml", FIELDS).unwrap());
    bolero::check!().with_type::<(Vec<u8>, u8, Vec<i32>)>().for_each(|(raw, columns, ints)| {
        use millstream_proto::inference::InferTensorContents;
        use millstream_proto::inference::model_infer_request::InferInputTensor;
        let columns = i64::from(columns % 8);
        let contents = Some(InferTensorContents { int_contents: ints.clone(), ..Default::default() });
        let n = InferInputTensor {
            name: "n".to_owned(),
            datatype: "INT32".to_owned(),
            shape: vec![i64::try_from(ints.len()).unwrap()],
            contents,
            ..Default::default()
        };
        let x = InferInputTensor {
            name: "x".to_owned(),
            datatype: "UINT8".to_owned(),
            shape: vec![columns, 2],
            ..Default::default()
        };
        let request = |inputs, raw_input_contents| ModelInferRequest {
            model_name: "p".to_owned(),
            inputs,
            raw_input_contents,
            ..Default::default()
        };
        let typed = request(vec![n], Vec::new());
        ask(&MODEL_INFER, framed(&typed.encode_to_vec()), &plan);
        let raw = request(vec![x], vec![raw.clone().into()]);
        ask(&MODEL_INFER, framed(&raw.encode_to_vec()), &plan);
        ask(&RUN, framed(&raw.encode_to_vec()), &plan);
        ask(&RUN_STREAM, framed(&raw.encode_to_vec()), &plan);
    });
}
