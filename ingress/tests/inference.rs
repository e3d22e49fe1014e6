//! The Open Inference Protocol over HTTP, in front of a scripted replica.

use millstream_ingress::HttpLimits;
use serde_json::{Value, json};

use crate::common::{FakeWorker, Reaction, Setup, echo, table};

const HEADER_LENGTH: &str = "inference-header-content-length";

async fn setup() -> (FakeWorker, Setup) {
    let worker = FakeWorker::start(|_| Reaction::Echo);
    let setup = Setup::echo(&[("echo-1", worker.address)]).await;
    (worker, setup)
}

fn text() -> Value {
    json!({"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hello"]})
}

async fn post(setup: &Setup, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let response = setup.client.post(setup.url(path)).body(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn get(setup: &Setup, path: &str) -> (u16, Value) {
    let response = setup.client.get(setup.url(path)).send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
}

#[tokio::test]
async fn pipelines_and_deployments_are_models() {
    let (_worker, setup) = setup().await;
    let body = json!({"inputs": [text()]}).to_string();
    for path in ["echo", "echo/model", "echo%2Fmodel", "echo/versions/1", "echo%2fmodel/versions/1"] {
        let (status, answer) = post(&setup, &format!("/v2/models/{path}/infer"), body.clone()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let name = if path.contains("model") { "echo/model" } else { "echo" };
        assert_eq!((&answer["model_name"], &answer["model_version"]), (&json!(name), &json!("1")));
        assert_eq!(answer["outputs"][0], text(), "{path}");
        let (status, page) = get(&setup, &format!("/v2/models/{path}")).await;
        assert_eq!((status, &page["name"], &page["versions"]), (200, &json!(name), &json!(["1"])));
        assert_eq!(get(&setup, &format!("/v2/models/{path}/ready")).await, (200, Value::Null), "{path}");
    }
    let (_, page) = get(&setup, "/v2/models/echo").await;
    let input = |name: &str, datatype: &str| json!({"name": name, "datatype": datatype, "shape": [1]});
    assert_eq!(page["inputs"], json!([input("text", "BYTES"), input("count", "INT64")]));
    let (status, index) = post(&setup, "/v2/repository/index", "").await;
    let ready = |name: &str| json!({"name": name, "version": "1", "state": "READY", "reason": ""});
    assert_eq!((status, index), (200, json!([ready("echo"), ready("echo/model")])));
}

#[tokio::test]
async fn tensors_cross_in_binary() {
    let (worker, setup) = setup().await;
    // A few bytes go out with what stands before them, many by themselves.
    for size in [2, 100_000] {
        let parameters = json!({"binary_data_size": 4 * size});
        let tensor = json!({"name": "x", "datatype": "FP32", "shape": [size, 1], "parameters": parameters});
        let head = json!({"inputs": [tensor], "parameters": {"binary_data_output": true}}).to_string();
        let numbers = [0.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat().repeat(size / 2);
        let request = setup.client.post(setup.url("/v2/models/echo/model/infer"));
        let request = request.header(HEADER_LENGTH, head.len()).body([head.as_bytes(), &numbers].concat());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/octet-stream");
        let length: usize = response.headers()[HEADER_LENGTH].to_str().unwrap().parse().unwrap();
        let body = response.bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&body[..length]).unwrap();
        assert_eq!(answer["outputs"], json!([tensor]));
        assert!(body[length..] == numbers, "other numbers");
    }
    assert_eq!(worker.seen().request_ids.len(), 2);
}

#[tokio::test]
async fn errors_are_in_the_protocols_form() {
    let (_worker, setup) = setup().await;
    let good = json!({"inputs": [text()]}).to_string();
    let wrong =
        json!({"inputs": [text(), {"name": "count", "datatype": "INT64", "shape": [1], "data": [10]}]});
    for (path, body, status, reason) in [
        ("/v2/models/nobody/infer", &*good, 404, "`nobody`"),
        ("/v2/models/echo/other/infer", &good, 404, "`echo/other`"),
        ("/v2/models/echo/versions/9/infer", &good, 404, "revision"),
        ("/v2/models/echo/versions/new/infer", &good, 404, "no version `new`"),
        ("/v2/models/echo%2Fmodel/versions/new/infer", &good, 404, "no version `new`"),
        ("/v2/models/echo/generate", &good, 405, "GET, HEAD"),
        ("/v2/nothing", &good, 404, "`/v2/nothing`"),
        ("/v2/models/echo/infer", "{", 400, "does not fit"),
        ("/v2/models/echo/infer", &wrong.to_string(), 400, "`count`: `10` is more than `9`"),
        ("/v2/models/echo/infer", &"a".repeat((4 << 20) + 1), 413, "`4MiB`"),
    ] {
        let (found, answer) = post(&setup, path, body.to_owned()).await;
        let error = answer["error"].as_str().unwrap();
        assert!(found == status && error.contains(reason), "{path}: {found} {error}");
    }
    let typed = setup.client.post(setup.url("/v2/models/echo/infer")).header("content-type", "text/plain");
    assert_eq!(typed.body(good).send().await.unwrap().status(), 415);
    for (path, status) in [
        ("/v2/models/nobody", 404),
        ("/v2/models/nobody/ready", 404),
        ("/v2/models/echo/versions/9", 404),
        ("/v2/models/echo/versions/new/ready", 404),
        ("/v2/models/echo/infer", 405),
    ] {
        let (found, answer) = get(&setup, path).await;
        assert!(found == status && answer["error"].is_string(), "{path}: {found} {answer}");
    }
}

#[tokio::test]
async fn a_model_without_replicas_is_not_ready() {
    let setup = Setup::of(table(1, echo(), "model", &[]), HttpLimits::default()).await;
    assert_eq!(get(&setup, "/v2/health/ready").await, (200, Value::Null));
    let (status, answer) = get(&setup, "/v2/models/echo/ready").await;
    assert_eq!((status, answer), (503, json!({"error": "no replica is ready of `echo/model`"})));
    let (_, index) = post(&setup, "/v2/repository/index", "").await;
    assert_eq!(index[0]["state"], json!("UNAVAILABLE"));
}
