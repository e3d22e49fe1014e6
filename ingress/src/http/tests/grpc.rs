//! Services over gRPC: behind the same listener and keys, with errors as statuses.

use millstream_proto::v1::route_service_client::RouteServiceClient;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;

#[tokio::test]
async fn grpc_services_stand_behind_the_same_listener_and_keys() {
    let (address, _server) = serve(true);
    let endpoint = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
    let check = tonic::Request::new(HealthCheckRequest::default());
    let health = HealthClient::new(endpoint.connect().await.unwrap()).check(check).await.unwrap();
    assert_eq!(health.into_inner().status, 1, "it serves");
    let mut client = RouteServiceClient::new(endpoint.connect().await.unwrap());
    let ask = |key: Option<&'static str>| {
        let mut request = tonic::Request::new(v1::GetSourceRequest { pipeline: "x".to_owned(), revision: 1 });
        if let Some(key) = key {
            request.metadata_mut().insert("authorization", key.parse().unwrap());
        }
        request
    };
    for key in [None, Some("Bearer mk_bad")] {
        assert_eq!(client.get_source(ask(key)).await.unwrap_err().code(), Code::Unauthenticated, "{key:?}");
    }
    let answer = client.get_source(ask(Some("Bearer mk_good"))).await.unwrap();
    assert!(answer.metadata().contains_key("x-request-id"));
    assert_eq!(answer.into_inner().file_name, "x");
    // A call that no service answers ends with its head, as clients want it.
    let long = format!("/{}/Method", "a".repeat(9000));
    for (path, key, code) in [
        ("/no.Service/Method", "mk_good", "12"),
        ("/no.Service/Method", "mk_bad", "16"),
        (&long, "mk_good", "3"),
    ] {
        let headers = [("content-type", "application/grpc"), ("x-api-key", key)];
        let response = send(address, path, &headers, "").await;
        let found = (response.status(), response.headers()["grpc-status"].to_str().unwrap());
        assert_eq!(found, (StatusCode::OK, code));
        assert!(hyper::body::Body::is_end_stream(response.body()), "{code}");
    }
}

/// A client of the services that an ingress has itself.
async fn channel(address: SocketAddr) -> tonic::transport::Channel {
    let endpoint = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

fn with_key<T>(message: T) -> tonic::Request<T> {
    with("mk_good", message)
}

fn with<T>(secret: &'static str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-api-key", secret.parse().unwrap());
    request
}

/// Runs with an empty prompt.
fn run_request(pipeline: &str) -> v1::RunRequest {
    let json = Bytes::from_static(br#"{"prompt": "x"}"#);
    v1::RunRequest { pipeline: pipeline.to_owned(), input: Some(v1::run_request::Input::Json(json)) }
}

#[tokio::test]
async fn a_key_calls_and_sees_what_it_is_for() {
    use millstream_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
    use millstream_proto::inference::{
        ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
        ModelStatisticsRequest, RepositoryIndexRequest,
    };
    use v1::pipelines_client::PipelinesClient;
    let (address, _server) = serve(true);
    let channel = channel(address).await;
    let mut runs = PipelinesClient::new(channel.clone());
    let mut infers = GrpcInferenceServiceClient::new(channel);
    let writer = "mk_writer";
    runs.run(with(writer, run_request("p/writer"))).await.unwrap();
    runs.run_stream(with(writer, run_request("p/writer"))).await.unwrap();
    // What it may not call is not there for it.
    for name in ["p", "/p", "p/echo", "p/signed"] {
        let told = runs.run(with(writer, run_request(name))).await.unwrap_err();
        assert_eq!(told.code(), Code::NotFound, "{name}");
        assert!(told.message().starts_with("no pipeline"), "{told}");
        let told = runs.run_stream(with(writer, run_request(name))).await.unwrap_err();
        assert_eq!(told.code(), Code::NotFound, "{name}");
    }
    for (name, is_there) in [("p", false), ("p/echo", false), ("p/writer", true)] {
        let found = |code: Result<(), Status>| code.map_err(|status| status.code());
        let expected = if is_there { Ok(()) } else { Err(Code::NotFound) };
        let (name, version) = (name.to_owned(), String::new());
        let metadata = ModelMetadataRequest { name: name.clone(), version: version.clone() };
        assert_eq!(found(infers.model_metadata(with(writer, metadata)).await.map(drop)), expected, "{name}");
        let config = ModelConfigRequest { name: name.clone(), version: version.clone() };
        assert_eq!(found(infers.model_config(with(writer, config)).await.map(drop)), expected, "{name}");
        let counted = ModelStatisticsRequest { name: name.clone(), version: version.clone() };
        assert_eq!(found(infers.model_statistics(with(writer, counted)).await.map(drop)), expected, "{name}");
        let ready = ModelReadyRequest { name: name.clone(), version };
        assert_eq!(infers.model_ready(with(writer, ready)).await.unwrap().into_inner().ready, is_there);
        let infer = ModelInferRequest { model_name: name.clone(), ..Default::default() };
        let told = infers.model_infer(with(writer, infer.clone())).await;
        assert_eq!(found(told.map(drop)), expected, "{name}");
        let stream = with(writer, tokio_stream::iter([infer]));
        let told = infers.model_stream_infer(stream).await.unwrap().into_inner().message().await.unwrap();
        assert_eq!(told.unwrap().error_message.starts_with("no pipeline"), !is_there, "{name}");
    }
    let index = infers.repository_index(with(writer, RepositoryIndexRequest::default())).await.unwrap();
    let names: Vec<_> = index.into_inner().models.into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["p/writer"]);
    let all = infers.model_statistics(with(writer, ModelStatisticsRequest::default())).await.unwrap();
    assert_eq!(all.into_inner().model_stats.len(), 1);
}

#[tokio::test]
async fn a_refusal_says_its_reason_in_metadata() {
    use millstream_proto::inference::ModelInferRequest;
    use millstream_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
    use v1::pipelines_client::PipelinesClient;
    let (address, _server) = serve(true);
    let channel = channel(address).await;
    let mut runs = PipelinesClient::new(channel.clone());
    let mut infers = GrpcInferenceServiceClient::new(channel);
    let once = "mk_once";
    runs.run(with(once, run_request("p/writer"))).await.unwrap();
    let infer = ModelInferRequest { model_name: "p".to_owned(), ..Default::default() };
    for refused in [
        runs.run(with(once, run_request("p/writer"))).await.unwrap_err(),
        runs.run_stream(with(once, run_request("p/writer"))).await.unwrap_err(),
        infers.model_infer(with(once, infer.clone())).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let told = |name: &str| refused.metadata().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(told("x-millstream-refused"), Some("quota"), "{refused:?}");
        let wait: u64 = told("retry-after").and_then(|seconds| seconds.parse().ok()).unwrap();
        assert_eq!(told("retry-after-ms"), Some(&*(wait * 1000).to_string()));
    }
    // In a stream each request is answered by itself, without metadata.
    let stream = with(once, tokio_stream::iter([infer]));
    let told = infers.model_stream_infer(stream).await.unwrap().into_inner().message().await.unwrap();
    assert!(told.unwrap().error_message.contains("rate"), "the key's limit");
}

#[tokio::test]
async fn pipelines_are_called_over_grpc() {
    use v1::pipelines_client::PipelinesClient;
    use v1::{RunRequest, run_request, run_response, run_stream_response};
    let (address, _server) = serve(true);
    let mut client = PipelinesClient::new(channel(address).await);
    let json = |pipeline: &str, json: &'static str| RunRequest {
        pipeline: pipeline.to_owned(),
        input: Some(run_request::Input::Json(Bytes::from_static(json.as_bytes()))),
    };
    for pipeline in ["p", "/p"] {
        let answer = client.run(with_key(json(pipeline, r#"{"text": "hello"}"#))).await.unwrap();
        assert!(answer.metadata().contains_key("x-request-id"));
        let answer = answer.into_inner();
        let expected = run_response::Output::Json(Bytes::from_static(b"{\"text\":\"hello\"}"));
        assert_eq!((answer.output, answer.revision), (Some(expected), 7));
    }
    let text = v1::PipelineValue { kind: Some(v1::pipeline_value::Kind::Text("hello".to_owned())) };
    let fields = v1::Fields { fields: [("text".to_owned(), text)].into() };
    let typed =
        RunRequest { pipeline: "p".to_owned(), input: Some(run_request::Input::Fields(fields.clone())) };
    let answer = client.run(with_key(typed)).await.unwrap().into_inner();
    let map = v1::PipelineValue { kind: Some(v1::pipeline_value::Kind::Map(fields)) };
    assert_eq!(answer.output, Some(run_response::Output::Value(map)));

    let mut parts =
        client.run_stream(with_key(json("p/writer", r#"{"prompt": "x"}"#))).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        told.push(match part.body.unwrap() {
            run_stream_response::Body::Delta(delta) => format!("{}+{}", delta.field, delta.text),
            run_stream_response::Body::Response(_) => "whole".to_owned(),
        });
    }
    assert_eq!(told, ["text+one ", "text+two", "whole"]);

    for (request, code, reason) in [
        (tonic::Request::new(json("p", "{}")), Code::Unauthenticated, "an API key is needed"),
        (with_key(json("nobody", "{}")), Code::NotFound, "`nobody`"),
        (with_key(json("/nobody", "{}")), Code::NotFound, "`/nobody`"),
        (with_key(json("", "{}")), Code::InvalidArgument, "`pipeline` is missing"),
        (with_key(json("p", "{}")), Code::InvalidArgument, "`text`: the field is missing"),
        (with_key(json("p", "{")), Code::InvalidArgument, ""),
    ] {
        let refused = client.run(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(reason), "{refused}");
    }
    assert_eq!(client.run_stream(json("p", "{}")).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn tensors_are_inferred_over_grpc_alone_and_in_streams() {
    use millstream_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
    use millstream_proto::inference::model_infer_request::InferInputTensor;
    use millstream_proto::inference::{
        ModelInferRequest, ModelReadyRequest, ServerLiveRequest, ServerMetadataRequest,
    };
    let (address, _server) = serve(true);
    let channel = channel(address).await;
    let mut client = GrpcInferenceServiceClient::new(channel.clone());
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live, "without a key");
    let refused = client.server_metadata(ServerMetadataRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    for (name, expected) in [("p", true), ("nobody", false)] {
        let ready = ModelReadyRequest { name: name.to_owned(), version: "7".to_owned() };
        assert_eq!(client.model_ready(with_key(ready)).await.unwrap().into_inner().ready, expected, "{name}");
    }
    let request = |model: &str, size: usize| {
        let shape = vec![i64::try_from(size).unwrap()];
        let input = InferInputTensor {
            name: "x".to_owned(),
            datatype: "UINT8".to_owned(),
            shape,
            ..Default::default()
        };
        let raw_input_contents = vec![Bytes::from(vec![7; size])];
        ModelInferRequest {
            model_name: model.to_owned(),
            inputs: vec![input],
            raw_input_contents,
            ..Default::default()
        }
    };
    assert_eq!(client.model_infer(request("p/echo", 1)).await.unwrap_err().code(), Code::Unauthenticated);
    // In one frame, and in many.
    for size in [0, 3, 1 << 20] {
        let answer = client.model_infer(with_key(request("p/echo", size))).await.unwrap().into_inner();
        assert_eq!(answer.raw_output_contents[0], vec![7; size], "{size}");
    }
    let refused = client.model_infer(with_key(request("p/echo", 5 << 20))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");

    let requests =
        [request("p/echo", 3), request("nobody", 3), request("p/echo", 1 << 20), request("p/echo", 1)];
    let stream = |requests: Vec<ModelInferRequest>| with_key(tokio_stream::iter(requests));
    let mut answers = client.model_stream_infer(stream(requests.to_vec())).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let size =
            answer.infer_response.and_then(|response| Some(response.raw_output_contents.first()?.len()));
        sizes.push(size.ok_or(answer.error_message));
    }
    assert_eq!(sizes.len(), 4);
    assert_eq!((&sizes[0], &sizes[2], &sizes[3]), (&Ok(3), &Ok(1 << 20), &Ok(1)));
    assert!(sizes[1].as_ref().unwrap_err().contains("`nobody`"), "{sizes:?}");
    let unkeyed = client.model_stream_infer(tokio_stream::iter(Vec::new())).await.unwrap_err();
    assert_eq!(unkeyed.code(), Code::Unauthenticated);
    let mut huge =
        client.model_stream_infer(stream(vec![request("p/echo", 5 << 20)])).await.unwrap().into_inner();
    assert_eq!(huge.message().await.unwrap_err().code(), Code::ResourceExhausted);

    let headers = [("content-type", "application/grpc"), ("x-api-key", "mk_good")];
    for (method, body, code) in [
        ("RepositoryModelLoad", "\0\0\0\0\0", "12"),
        ("ModelInfer", "\u{1}\0\0\0\0", "12"),
        ("ModelInfer", "\0\0\0\0", "3"),
        ("ModelInfer", "\0\0\0\u{1}\0hello", "3"),
        ("ModelInfer", "\0\u{7f}\0\0\0hello", "8"),
        ("ModelConfig", "\0\u{1}\0\0\0hello", "8"),
        ("ModelConfig", "\0\0\0\0\u{5}hello", "3"),
    ] {
        let response =
            send(address, &format!("/inference.GRPCInferenceService/{method}"), &headers, body).await;
        let found = response.headers().get("grpc-status").unwrap_or_else(|| panic!("{method} {body:?}"));
        assert_eq!(found, code, "{method} {body:?}");
    }
}

#[tokio::test]
async fn services_are_told_by_reflection() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let (address, _server) = serve(false);
    let mut client = ServerReflectionClient::new(channel(address).await);
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("inference.GRPCInferenceService".to_owned())),
        ask(MessageRequest::FileContainingSymbol("millstream.v1.Pipelines".to_owned())),
        ask(MessageRequest::FileContainingSymbol("millstream.v1.ControlService".to_owned())),
    ];
    let mut answers =
        client.server_reflection_info(tokio_stream::iter(questions)).await.unwrap().into_inner();
    let mut next = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = next().await else { panic!("a list") };
    let names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    for name in ["grpc.health.v1.Health", "inference.GRPCInferenceService", "millstream.v1.Pipelines"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("Control")), "{names:?}");
    for _ in 0..2 {
        assert!(matches!(next().await, MessageResponse::FileDescriptorResponse(_)));
    }
}
