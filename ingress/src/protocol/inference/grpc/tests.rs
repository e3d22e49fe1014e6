use millstream_pipelines::Plan;
use millstream_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use millstream_proto::inference::{InferTensorContents, ModelInferRequest};
use prost::Message as _;
use tonic::Code;

use super::super::super::Spent;
use super::*;

const FILE: &str = r#"
name = "p"
route = "/p"
[request]
question = { type = "text", default = "" }
rows = { type = "f32[?,2]", default = [] }
any = { type = "json", default = {} }
[deployments.d]
engine = "echo"
[deployments.w]
task = "generate"
model = "m"
[stages.s]
use = "d"
inputs = { all = "request" }
[stages.t]
use = "w"
inputs = { prompt = "request.question" }
[response]
question = "request.question"
rows = "request.rows"
any = "request.any"
text = "t.text"
raw = "s.all"
"#;

fn plan() -> Plan {
    Plan::compile("p.toml", FILE).unwrap()
}

fn told(request_id: &RequestId) -> Told<'_> {
    Told { request_id, spent: Spent::default() }
}

fn parts() -> Parts {
    http::Request::post("/").body(()).unwrap().into_parts().0
}

/// The answer of a model that answers with its fields.
fn answer(message: &ModelInferRequest) -> Result<ModelInferResponse, Problem> {
    answer_bytes(&message.encode_to_vec())
}

fn answer_bytes(message: &[u8]) -> Result<ModelInferResponse, Problem> {
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend_from_slice(message);
    let mut exchange = MODEL_INFER.read(&parts(), body.into())?;
    let asked = exchange.ask(&plan())?;
    exchange.asked();
    exchange.runs_on(7);
    let response = exchange.answer(&asked.fields, told(&RequestId::new("r-1")));
    let bytes = response.into_body().bytes;
    Ok(ModelInferResponse::decode(grpc::only_message(bytes).unwrap()).unwrap())
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..Default::default()
    }
}

fn typed(name: &str, datatype: &str, shape: &[i64], contents: InferTensorContents) -> ModelInferRequest {
    let input = InferInputTensor { contents: Some(contents), ..input(name, datatype, shape) };
    ModelInferRequest { model_name: "p".to_owned(), inputs: vec![input], ..Default::default() }
}

fn raw(inputs: Vec<InferInputTensor>, raw: &[&'static [u8]]) -> ModelInferRequest {
    let raw_input_contents = raw.iter().map(|bytes| Bytes::from_static(bytes)).collect();
    ModelInferRequest { model_name: "p".to_owned(), inputs, raw_input_contents, ..Default::default() }
}

/// The raw contents of an output.
fn output(response: &ModelInferResponse, name: &str) -> (String, Vec<i64>, Bytes) {
    let index = response.outputs.iter().position(|output| output.name == name).unwrap();
    let InferOutputTensor { datatype, shape, .. } = response.outputs[index].clone();
    (datatype, shape, response.raw_output_contents[index].clone())
}

#[test]
fn raw_contents_come_and_go() {
    let request = ModelInferRequest {
        id: "my-1".to_owned(),
        ..raw(
            vec![input("question", "BYTES", &[1]), input("rows", "FP32", &[1, 2])],
            &[b"\x04\0\0\0who?", b"\0\0\x80\x3f\0\0\0\xc0"],
        )
    };
    let response = answer(&request).unwrap();
    let head = (&*response.model_name, &*response.model_version, &*response.id);
    assert_eq!(head, ("p", "7", "my-1"));
    assert_eq!(
        output(&response, "question"),
        ("BYTES".to_owned(), vec![1], Bytes::from_static(b"\x04\0\0\0who?"))
    );
    let rows = ("FP32".to_owned(), vec![1, 2], Bytes::from_static(b"\0\0\x80\x3f\0\0\0\xc0"));
    assert_eq!(output(&response, "rows"), rows);
    let only = ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor { name: "rows".to_owned(), ..Default::default() }],
        ..request
    };
    assert_eq!(answer(&only).unwrap().outputs.len(), 1);
}

#[test]
fn each_type_has_its_list() {
    let list = InferTensorContents::default;
    for (datatype, contents, expected) in [
        ("BOOL", InferTensorContents { bool_contents: vec![true, false], ..list() }, &b"\x01\0"[..]),
        ("INT8", InferTensorContents { int_contents: vec![-1, 127], ..list() }, b"\xff\x7f"),
        ("INT16", InferTensorContents { int_contents: vec![-1, 2], ..list() }, b"\xff\xff\x02\0"),
        ("INT32", InferTensorContents { int_contents: vec![-2, 1], ..list() }, b"\xfe\xff\xff\xff\x01\0\0\0"),
        (
            "INT64",
            InferTensorContents { int64_contents: vec![-1, 1], ..list() },
            b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\0\0\0\0",
        ),
        ("UINT8", InferTensorContents { uint_contents: vec![255, 0], ..list() }, b"\xff\0"),
        ("UINT16", InferTensorContents { uint_contents: vec![65535, 1], ..list() }, b"\xff\xff\x01\0"),
        (
            "UINT32",
            InferTensorContents { uint_contents: vec![u32::MAX, 1], ..list() },
            b"\xff\xff\xff\xff\x01\0\0\0",
        ),
        (
            "UINT64",
            InferTensorContents { uint64_contents: vec![u64::MAX, 1], ..list() },
            b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\0\0\0\0\0\0",
        ),
        ("FP32", InferTensorContents { fp32_contents: vec![1.0, -2.0], ..list() }, b"\0\0\x80\x3f\0\0\0\xc0"),
        (
            "FP64",
            InferTensorContents { fp64_contents: vec![1.0, -2.0], ..list() },
            b"\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\xc0",
        ),
    ] {
        let response = answer(&typed("any", datatype, &[2], contents)).unwrap();
        assert_eq!(
            output(&response, "any"),
            (datatype.to_owned(), vec![2], Bytes::copy_from_slice(expected))
        );
    }
    let texts = InferTensorContents { bytes_contents: vec![Bytes::from_static(b"who?")], ..list() };
    let response = answer(&typed("question", "BYTES", &[1], texts)).unwrap();
    assert_eq!(output(&response, "question").2, &b"\x04\0\0\0who?"[..]);
    // As an encoder may write it that does not pack lists, or packs them in pieces.
    let numbers = b"\x0a\x01p\x2a\x1f\x0a\x04rows\x12\x04FP32\x18\x01\x18\x02\x2a\x0d\x32\x04\0\0\x80\x3f\x35\0\0\0\xc0";
    let (length, contents) = (numbers.len() - 5, 2 + 4 + 1 + 4);
    let mut numbers = numbers.to_vec();
    numbers[4] = u8::try_from(length).unwrap();
    let at = numbers.len() - contents - 1;
    numbers[at] = u8::try_from(contents).unwrap();
    let response = answer_bytes(&numbers).unwrap();
    assert_eq!(output(&response, "rows").2, &b"\0\0\x80\x3f\0\0\0\xc0"[..]);
}

#[test]
fn bytes_of_a_tensor_are_not_copied() {
    let floats = InferTensorContents { fp32_contents: vec![1.0, -2.0], ..Default::default() };
    for request in [
        raw(vec![input("rows", "FP32", &[1, 2])], &[b"\0\0\x80\x3f\0\0\0\xc0"]),
        typed("rows", "FP32", &[1, 2], floats),
    ] {
        let message = Bytes::from(request.encode_to_vec());
        let read = InferMessage::read(&message).unwrap().request(&message).unwrap();
        let super::super::tensors::Content::Tensor(tensor) = &read.inputs[0].content else { panic!() };
        assert!(message.as_ptr_range().contains(&tensor.data().as_ptr()));
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let rows = |shape: &[i64]| input("rows", "FP32", shape);
    let floats = |number| InferTensorContents { fp32_contents: vec![1.0; number], ..Default::default() };
    let ints = |number| InferTensorContents { int_contents: vec![number], ..Default::default() };
    let both = InferInputTensor { contents: Some(floats(2)), ..rows(&[1, 2]) };
    let shared = HashMap::from([("shared_memory_region".to_owned(), InferParameter::default())]);
    let named = |name: &str| InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() };
    let outputs = |outputs| ModelInferRequest { outputs, ..raw(Vec::new(), &[]) };
    for (request, reason) in [
        (raw(vec![rows(&[1, 3])], &[&[0; 12]]), "`rows`: expected `f32[?,2]`, found `f32[1,3]`"),
        (raw(vec![rows(&[1, 2])], &[&[0; 7]]), "input `rows`: 7 bytes do not make a tensor of type FP32"),
        (raw(vec![rows(&[i64::MAX, i64::MAX])], &[&[0; 7]]), "input `rows`: 7 bytes do not make"),
        (raw(vec![rows(&[-1, 2])], &[&[0; 8]]), "input `rows`: the shape has the size -1"),
        (raw(vec![rows(&[1; 9])], &[&[0; 4]]), "input `rows`: the shape has 9 axes"),
        (raw(vec![rows(&[1; 1000])], &[&[0; 4]]), "input `rows`: the shape has more than 64 axes"),
        (raw(vec![rows(&[1, 2])], &[]), "input `rows`: has no data; give `contents`"),
        (
            raw(vec![rows(&[1, 2]), input("any", "FP32", &[1])], &[&[0; 8]]),
            "input `any`: has no data; there are fewer",
        ),
        (raw(vec![rows(&[1, 2])], &[&[0; 8], &[0; 8]]), "there are 2 `raw_input_contents` for 1 inputs"),
        (raw(vec![both], &[&[0; 8]]), "input `rows`: has `contents` beside `raw_input_contents`"),
        (raw(vec![rows(&[1, 2]), rows(&[1, 2])], &[&[0; 8], &[0; 8]]), "input `rows`: is given twice"),
        (raw(vec![input("rows", "FP31", &[1])], &[&[0; 4]]), "the datatype `FP31` is unknown"),
        (raw(vec![input("question", "BYTES", &[1])], &[b"\xff\0\0\0"]), "has the length 255, but 0 bytes"),
        (raw(vec![input("question", "BYTES", &[1])], &[b"\x01\0\0\0\xff"]), "not UTF-8"),
        (raw(vec![input("question", "BYTES", &[1 << 40])], &[b"\0\0\0\0"]), "more than 65536 elements"),
        (
            raw(vec![InferInputTensor { parameters: shared, ..rows(&[1, 2]) }], &[&[0; 8]]),
            "input `rows`: shared memory is not supported",
        ),
        (
            typed("rows", "FP32", &[1, 2], floats(3)),
            "input `rows`: has more elements than the shape, which has 2",
        ),
        (typed("rows", "FP32", &[2, 2], floats(3)), "input `rows`: has 3 elements, the shape 4"),
        (
            typed("rows", "FP32", &[1, 2], ints(1)),
            "whose elements are in `fp32_contents`, and has `int_contents`",
        ),
        (typed("any", "INT8", &[1], ints(128)), "input `any`: `128` is not a value of type INT8"),
        (typed("any", "FP16", &[1], floats(1)), "elements of type FP16 have no list of their own"),
        (typed("any", "INT8", &[i64::MAX, 8], ints(1)), "too many elements"),
        (outputs(vec![named("nobody")]), "there is no output `nobody`"),
        (outputs(vec![named("rows"), named("rows")]), "output `rows` is asked for twice"),
    ] {
        let problem = answer(&request).unwrap_err();
        assert_eq!(grpc::code_of(&problem), Code::InvalidArgument);
        assert!(problem.text().contains(reason), "{reason}: {}", problem.text());
    }
    let unknown = ModelInferRequest { model_version: "newest".to_owned(), ..raw(Vec::new(), &[]) };
    assert_eq!(grpc::code_of(&answer(&unknown).unwrap_err()), Code::NotFound);
    for message in [&b"\x0a\x02\xff\xfe"[..], b"\x0a\x7fp", b"\x08\x01", b"\x2a\x02\x0a", b"\x0b"] {
        assert_eq!(answer_bytes(message).unwrap_err().status(), 400, "{message:?}");
    }
    // Many of what costs two bytes.
    let wide = b"\x2a\x00".repeat(100_000);
    assert!(answer_bytes(&wide).unwrap_err().text().contains("more than 65536 items"));
}

/// The messages of a stream's answer.
fn streamed(mut bytes: Bytes) -> Vec<ModelStreamInferResponse> {
    let mut found = Vec::new();
    while let Some(prefix) = bytes.first_chunk() {
        let frame = bytes.split_to(grpc::announced(*prefix).unwrap());
        found.push(ModelStreamInferResponse::decode(grpc::without_prefix(frame)).unwrap());
    }
    found
}

fn is_last(response: &ModelInferResponse) -> bool {
    response.parameters[FINAL].parameter_choice == Some(ParameterChoice::BoolParam(true))
}

#[test]
fn texts_come_in_parts_and_the_last_answer_has_the_rest() {
    let part = |text: &str| StreamPart { field: "text".into(), text: text.into() };
    let request = ModelInferRequest { id: "a".to_owned(), ..raw(Vec::new(), &[]) };
    let begin = |request: &ModelInferRequest| {
        let exchange = StreamedInfer::default().read(&parts(), request.encode_to_vec().into()).unwrap();
        let form = exchange.ask(&plan()).unwrap().form;
        (exchange, form)
    };
    let (mut exchange, form) = begin(&request);
    assert_eq!(form, Form::Parts);
    let mut bytes = Vec::new();
    exchange.part(&part("one "), &mut bytes);
    exchange.part(&part("two"), &mut bytes);
    let found = streamed(bytes.into());
    let texts: Vec<_> = found.iter().map(|found| found.infer_response.clone().unwrap()).collect();
    assert_eq!(output(&texts[1], "text").2, &b"\x03\0\0\0two"[..]);
    assert!(texts.iter().all(|response| response.id == "a" && !is_last(response)));
    let whole = Value::map([("text", Value::from("one two")), ("question", Value::from("x"))]);
    let request_id = RequestId::new("r-1");
    let last = streamed(exchange.end(Ok(&whole), told(&request_id)).bytes);
    let last = last[0].infer_response.as_ref().unwrap();
    assert!(is_last(last) && last.outputs.len() == 1, "{last:?}");

    // One without outputs comes where it is asked for, and to a request that has had no other.
    let only_text = Value::map([("text", Value::from("x"))]);
    for (is_asked, num_parts, expected) in [(false, 1, 0), (true, 1, 1), (false, 0, 1)] {
        let parameter = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(is_asked)) };
        let name = "triton_enable_empty_final_response".to_owned();
        let (mut exchange, _) =
            begin(&ModelInferRequest { parameters: HashMap::from([(name, parameter)]), ..request.clone() });
        for _ in 0..num_parts {
            exchange.part(&part("x"), &mut Vec::new());
        }
        assert_eq!(streamed(exchange.end(Ok(&only_text), told(&request_id)).bytes).len(), expected);
    }
    let parameter = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(false)) };
    let parameters = HashMap::from([("stream".to_owned(), parameter)]);
    assert_eq!(begin(&ModelInferRequest { parameters, ..request.clone() }).1, Form::Whole);
    // Errors are messages that name the request.
    let error = streamed(exchange.end(Err(&Problem::malformed("why")), told(&request_id)).bytes);
    assert_eq!(&*error[0].error_message, "why");
    assert_eq!(error[0].infer_response.as_ref().unwrap().id, "a");
}
