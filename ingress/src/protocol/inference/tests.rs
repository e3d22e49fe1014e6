use http::Request;
use http::header::HeaderName;
use millstream_pipelines::Plan;
use millstream_values::{Tensor, Value};
use serde_json::{Value as Json, json};

use super::super::{Spent, Told};
use super::*;

const FILE: &str = r#"
name = "p"
route = "/p"
[request]
question = "text"
rows = { type = "f32[?,2]", default = [] }
[deployments.d]
engine = "echo"
[stages.s]
use = "d"
inputs = { all = "request" }
[response]
question = "request.question"
rows = "request.rows"
raw = "s.all"
"#;

fn parts(headers: &[(HeaderName, &str)]) -> Parts {
    let mut request = Request::post("/v2/models/p/infer");
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// The answer to a body of JSON and what is behind it, of a pipeline that answers with its own fields.
fn answer(json: &Json, binary: &[u8]) -> (u16, Option<usize>, Vec<u8>) {
    let json = json.to_string();
    let length = json.len().to_string();
    let head = if binary.is_empty() { parts(&[]) } else { parts(&[(HEADER_LENGTH, &length)]) };
    let body = Bytes::from([json.as_bytes(), binary].concat());
    let plan = Plan::compile("p.toml", FILE).unwrap();
    let asked = Inference.read(&head, body).and_then(|exchange| {
        let asked = exchange.ask(&plan)?;
        Ok((exchange, asked))
    });
    let response = match asked {
        Ok((mut exchange, asked)) => {
            exchange.runs_on(7);
            exchange.asked();
            let told = Told { request_id: &RequestId::new("r-1"), spent: Spent::default() };
            exchange.answer(&asked.fields, told)
        }
        Err(problem) => Inference.problem(&problem, &RequestId::new("r-1")),
    };
    let length = response.headers().get(HEADER_LENGTH).map(|value| value.to_str().unwrap().parse().unwrap());
    (response.status().as_u16(), length, response.into_body().bytes.to_vec())
}

fn question() -> Json {
    json!({"name": "question", "shape": [1], "datatype": "BYTES", "data": ["who?"]})
}

#[test]
fn json_in_json_out() {
    let rows = json!({"name": "rows", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4.5]]});
    let (status, length, body) = answer(&json!({"id": "my-1", "inputs": [rows, question()]}), b"");
    let body: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, length), (200, None), "{body}");
    assert_eq!(
        body,
        json!({
            "model_name": "p", "model_version": "7", "id": "my-1",
            "outputs": [
                {"name": "question", "datatype": "BYTES", "shape": [1], "data": ["who?"]},
                {"name": "rows", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.5]},
            ],
        })
    );
}

#[test]
fn tensors_come_and_go_in_binary() {
    let rows =
        json!({"name": "rows", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}});
    let text =
        json!({"name": "question", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 8}});
    let numbers = [1.0_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat();
    let binary = [&numbers[..], b"\x04\0\0\0who?"].concat();
    let request = json!({"inputs": [rows, text], "parameters": {"binary_data_output": true, "priority": 1}});
    let (status, length, body) = answer(&request, &binary);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let (head, rest) = body.split_at(length.unwrap());
    let head: Json = serde_json::from_slice(head).unwrap();
    assert_eq!(head["outputs"][0]["parameters"], json!({"binary_data_size": 8}));
    assert_eq!(head["outputs"][1]["shape"], json!([1, 2]));
    assert_eq!(rest, [b"\x04\0\0\0who?", &numbers[..]].concat());

    // Some in binary, some as JSON, on either side.
    let rows =
        json!({"name": "rows", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}});
    let outputs = json!([{"name": "rows", "parameters": {"binary_data": true}}, {"name": "question"}]);
    let request = json!({"inputs": [question(), rows], "outputs": outputs});
    let (status, length, body) = answer(&request, &numbers);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let (head, rest) = body.split_at(length.unwrap());
    let head: Json = serde_json::from_slice(head).unwrap();
    assert_eq!(head["outputs"][1]["data"], json!(["who?"]));
    assert_eq!(rest, numbers);
}

#[test]
fn bytes_of_a_tensor_are_not_copied() {
    let rows =
        json!({"name": "rows", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}});
    let json = json!({"inputs": [question(), rows]}).to_string();
    let body = Bytes::from([json.as_bytes(), &[0; 8]].concat());
    let length = json.len().to_string();
    let exchange = Inference.read(&parts(&[(HEADER_LENGTH, &length)]), body.clone()).unwrap();
    let asked = exchange.ask(&Plan::compile("p.toml", FILE).unwrap()).unwrap();
    let tensor = asked.fields.get("rows").and_then(Value::as_tensor).map(Tensor::data).unwrap();
    assert_eq!(tensor.as_ptr(), body[json.len()..].as_ptr());
}

#[test]
fn what_does_not_fit_is_400_with_the_reason() {
    let tensor = |name: &str, shape: Json, datatype: &str, more: Json| {
        let mut tensor = json!({"name": name, "shape": shape, "datatype": datatype});
        tensor.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"inputs": [question(), tensor]})
    };
    let binary = |size: Json| json!({"parameters": {"binary_data_size": size}});
    let rows = |shape: Json, more: Json| tensor("rows", shape, "FP32", more);
    let data = |data: Json| json!({"data": data});
    let outputs = |output: Json| json!({"inputs": [question()], "outputs": [output]});
    for (request, behind, reason) in [
        (
            rows(json!([1, 3]), data(json!([1, 2, 3]))),
            &b""[..],
            "`rows`: expected `f32[?,2]`, found `f32[1,3]`",
        ),
        (rows(json!([1, 2]), data(json!([1, 2, 3]))), b"", "input `rows`: `data` has more elements"),
        (rows(json!([-1, 2]), data(json!([]))), b"", "input `rows`: the shape has the size -1"),
        (
            rows(json!([1_i64 << 62, 4]), data(json!([]))),
            b"",
            "input `rows`: the shape has too many elements",
        ),
        (rows(json!([1_i64 << 62, 0]), data(json!([]))), b"", "input `rows`: 0 bytes do not make a tensor"),
        (rows(json!([1, 1, 1, 1, 1, 1, 1, 1, 1]), data(json!([1]))), b"", "the shape has 9 axes"),
        (rows(json!([0.5]), data(json!([1]))), b"", "`inputs/1/shape/0`: invalid type"),
        (rows(json!([1, 2]), binary(json!(8))), b"", "`binary_data_size` is 8, but 0 bytes"),
        (rows(json!([1, 2]), binary(json!(9))), b"12345678", "`binary_data_size` is 9, but 8 bytes"),
        (rows(json!([1, 2]), binary(json!(u64::MAX))), b"12345678", "but 8 bytes of the body are left"),
        (rows(json!([1, 2]), binary(json!(4))), b"12345678", "4 bytes do not make a tensor of type FP32"),
        (rows(json!([1, 2]), binary(json!(8))), b"123456789", "1 bytes at the end of the body"),
        (
            rows(json!([1, 2]), binary(json!(-1))),
            b"",
            "`inputs/1/parameters/binary_data_size`: invalid value",
        ),
        (rows(json!([1, 2]), json!({})), b"", "input `rows`: has no data"),
        (
            rows(json!([1, 2]), json!({"data": [1, 2], "parameters": {"binary_data_size": 8}})),
            b"12345678",
            "input `rows`: has `data` and `binary_data_size`",
        ),
        (
            rows(
                json!([1, 2]),
                json!({"parameters": {"shared_memory_region": "x", "shared_memory_byte_size": 8}}),
            ),
            b"",
            "input `rows`: shared memory is not supported",
        ),
        (
            tensor("rows", json!([1]), "FP31", data(json!([1]))),
            b"",
            "the datatype `FP31` is unknown; it is one of BOOL,",
        ),
        (tensor("rows", json!([2]), "BOOL", binary(json!(2))), b"\x01\x02", "bytes other than 0 and 1"),
        (
            tensor("question", json!([1]), "BYTES", data(json!(["a"]))),
            b"",
            "input `question`: is given twice",
        ),
        (tensor("nobody", json!([1]), "FP32", data(json!([1]))), b"", "`nobody`: the field is unknown"),
        (
            tensor("rows", json!([1]), "BYTES", data(json!(["a"]))),
            b"",
            "input `rows`: a field of type `f32[?,2]` takes no texts",
        ),
        (
            tensor("x", json!([1_i64 << 40]), "BYTES", binary(json!(4))),
            b"\0\0\0\0",
            "more than 65536 elements",
        ),
        (tensor("x", json!([2]), "BYTES", binary(json!(4))), b"\0\0\0\0", "has 1 elements, the shape 2"),
        (tensor("x", json!([0]), "BYTES", binary(json!(4))), b"\0\0\0\0", "more elements than the shape"),
        (tensor("x", json!([1]), "BYTES", binary(json!(5))), b"\x02\0\0\0a", "has the length 2, but 1 bytes"),
        (tensor("x", json!([1]), "BYTES", binary(json!(6))), b"\x01\0\0\0ab", "ends with 1 bytes"),
        (json!({"inputs": []}), b"", "`question`: the field is missing"),
        (json!({"outputs": []}), b"", "missing field `inputs`"),
        (json!({"inputs": [question()], "id": 7}), b"", "`id`: invalid type"),
        (
            outputs(json!({"name": "nobody"})),
            b"",
            "no output `nobody`; the model has `question`, `rows`, `raw`",
        ),
        (
            outputs(json!({"name": "rows", "parameters": {"classification": 3}})),
            b"",
            "output `rows`: `classification`",
        ),
        (
            outputs(json!({"name": "rows", "parameters": {"shared_memory_region": "x"}})),
            b"",
            "output `rows`: shared memory",
        ),
        (
            json!({"inputs": [question()], "outputs": [{"name": "rows"}, {"name": "rows"}]}),
            b"",
            "output `rows` is asked for twice",
        ),
        // Known to be an output of the pipeline; this answer has none.
        (outputs(json!({"name": "raw"})), b"", "no output `raw`; the model has `question`, `rows`"),
    ] {
        let (status, _, body) = answer(&request, behind);
        let body: Json = serde_json::from_slice(&body).unwrap();
        let error = body["error"].as_str().unwrap();
        assert!(status == 400 && error.contains(reason), "{request}: {status} {error}");
    }
}

#[test]
fn bodies_that_are_no_json_are_400() {
    let deep = format!(r#"{{"inputs": {}"#, "[".repeat(100_000));
    let deep_data = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": "#.to_owned()
        + &"[".repeat(100_000);
    for (body, length) in [
        ("", None),
        ("[]", None),
        ("{", None),
        ("{} {}", None),
        (r#"{"inputs": []}"#, Some("15")),
        (r#"{"inputs": []}"#, Some("13")),
        (r#"{"inputs": []}"#, Some("18446744073709551616")),
        (r#"{"inputs": []}"#, Some("-1")),
        (r#"{"inputs": []}"#, Some("")),
        (&deep, None),
        (&deep_data, None),
    ] {
        let head = length.map_or(parts(&[]), |length| parts(&[(HEADER_LENGTH, length)]));
        let problem = Inference.read(&head, Bytes::copy_from_slice(body.as_bytes())).err().unwrap();
        assert_eq!(problem.status(), 400, "{:.40} {length:?}", body);
    }
    let raw = Bytes::from_static(b"{\"inputs\": [{\"name\": \"\xff\xfe\"}]}");
    assert_eq!(Inference.read(&parts(&[]), raw).err().unwrap().status(), 400);
}

#[test]
fn json_bytes_and_no_type_are_taken_but_not_what_pages_send_unasked() {
    for (headers, is_good) in [
        (&[][..], true),
        (&[(CONTENT_TYPE, "application/json")], true),
        (&[(CONTENT_TYPE, "application/octet-stream")], true),
        (&[(CONTENT_TYPE, "text/plain")], false),
        (&[(ORIGIN, "https://evil.example")], false),
        (&[(CONTENT_ENCODING, "gzip")], false),
        (&[(CONTENT_TYPE, "application/octet-stream"), (CONTENT_ENCODING, "gzip")], false),
    ] {
        assert_eq!(Inference.check_content(&parts(headers)).is_ok(), is_good, "{headers:?}");
    }
}
