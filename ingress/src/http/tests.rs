//! A real listener with an API of the tests' own beside the pipelines' one, and with a gRPC service: what is theirs, and what is done for
//! all alike.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use millstream_connect::{Authority, Secret};
use millstream_pipelines::Plan;
use millstream_proto::call::{self, CallRequest, PendingCall, ReplicaClient};
use millstream_proto::endpoint::Endpoint;
use millstream_proto::v1::route_service_server::{RouteService, RouteServiceServer};
use millstream_proto::{NodeId, ReplicaId, RequestId, Value, v1};
use tonic::Status;
use tonic::service::Routes as GrpcRoutes;

use super::*;
use crate::capture::Captures;
use crate::limits::HttpLimits;
use crate::metrics::RequestMeter;
use crate::model::StreamPart;
use crate::protocol::{Asked, Exchange, Form, Last, PipelineProtocol, Problem, Protocol, Target, Told};
use crate::routes::{Revisions, Routes};
use crate::trace::{TraceConfig, Traces};
use crate::transport::{LocalWorker, Transports};

mod grpc;

/// Lines: the first is the name of what is called, `@` and a version after it; the others are fields, as `name=text`. The name
/// may also be in the path, and `text` in the first line asks for parts.
struct LineProtocol;

struct LineExchange {
    name: String,
    version: Option<u64>,
    fields: Vec<(String, String)>,
    form: Form,
}

impl Protocol for LineProtocol {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[]
    }

    fn takes(&self, path: &str) -> bool {
        path.starts_with("/lines")
    }

    fn methods(&self, _: &str) -> &'static str {
        "POST, PUT"
    }

    fn target<'r>(&self, head: &'r Parts) -> Option<Target<'r>> {
        let name = head.uri.path().strip_prefix("/lines/")?;
        Some(Target::Named { name, version: None })
    }

    fn check_content(&self, _: &Parts) -> Result<(), Problem> {
        Ok(())
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let text = std::str::from_utf8(&body).map_err(|_| Problem::malformed("no text"))?;
        let mut lines = text.lines();
        let first = lines.next().ok_or_else(|| Problem::malformed("no line"))?;
        let (first, form) = match first.strip_prefix("parts of ") {
            Some(first) => (first, Form::Parts),
            None => (first, Form::Whole),
        };
        let (name, version) = first.split_once('@').unwrap_or((first, ""));
        let fields = lines.filter_map(|line| line.split_once('='));
        Ok(Box::new(LineExchange {
            name: name.to_owned(),
            version: version.parse().ok(),
            fields: fields.map(|(name, text)| (name.to_owned(), text.to_owned())).collect(),
            form,
        }))
    }

    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        let mut response = Response::new(format!("no: {}", problem.detail()).into_bytes().into());
        *response.status_mut() = problem.status();
        response
    }
}

impl Exchange for LineExchange {
    fn target(&self) -> Option<Target<'_>> {
        Some(Target::Named { name: &self.name, version: self.version })
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        let field = |(name, text): &(String, String)| (name.as_str().into(), Value::from(text.as_str()));
        let request = plan.check_request(self.fields.iter().map(field).collect())?;
        Ok(Asked { fields: request.fields, num_values: request.num_values, form: self.form })
    }

    fn answer(&mut self, value: &Value, _: Told<'_>) -> Response<Last> {
        Response::new(self.last(&serde_json::to_string(value).unwrap()))
    }

    fn stream_headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))])
    }

    fn part(&mut self, part: &StreamPart, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(format!("{}+{}\n", part.field, part.text).as_bytes());
    }

    fn keep_alive(&self) -> Bytes {
        Bytes::from_static(b"\n")
    }

    fn end(&mut self, outcome: Result<&Value, &Problem>, _: Told<'_>) -> Last {
        self.last(outcome.map_or("no", |_| "yes"))
    }
}

impl LineExchange {
    fn last(&self, text: &str) -> Last {
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-called"),
            HeaderValue::from_str(&self.name).unwrap(),
        )]);
        Last { trailers: Some(Box::new(trailers)), ..Bytes::from(format!("{text}\n")).into() }
    }
}

/// Answers its inputs; a prompt comes back in two parts.
struct EchoReplicas;

impl ReplicaClient for EchoReplicas {
    fn call(&self, _: &ReplicaId, request: CallRequest) -> PendingCall {
        let (reply, pending) = call::channel(request.parts());
        if request.inputs.get("prompt").is_some() {
            reply.delta(Value::map([("text", Value::from("one "))]));
            reply.delta(Value::map([("text", Value::from("two"))]));
        }
        reply.finish(Ok(request.inputs));
        pending
    }
}

struct SourceService;

#[tonic::async_trait]
impl RouteService for SourceService {
    type SessionStream = futures_util::stream::Empty<Result<v1::RouteMessage, Status>>;

    async fn session(
        &self,
        _: tonic::Request<tonic::Streaming<v1::IngressMessage>>,
    ) -> Result<tonic::Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn get_source(
        &self,
        request: tonic::Request<v1::GetSourceRequest>,
    ) -> Result<tonic::Response<v1::GetSourceResponse>, Status> {
        let file_name = request.into_inner().pipeline;
        Ok(tonic::Response::new(v1::GetSourceResponse { file_name, source: String::new() }))
    }
}

const PIPELINE: &str = r#"
name = "p"
route = "/p"

[request]
text = "text"

[deployments.echo]
engine = "echo"

[deployments.signed]
engine = "echo"
signature = { inputs = { x = "f32[2]" } }

[deployments.writer]
task = "generate"
model = "m"

[stages.answer]
use = "echo"
inputs = { text = "request.text" }

[response]
text = "answer.text"
"#;

static PROTOCOLS: &[&dyn Protocol] = &[&LineProtocol, &PipelineProtocol];

/// The key with the secret `mk_NAME`.
fn key(name: &str, tenant: u32) -> v1::ApiKey {
    use sha2::Digest as _;
    let sha256 = Bytes::copy_from_slice(&sha2::Sha256::digest(format!("mk_{name}")));
    v1::ApiKey { name: name.to_owned(), sha256, tenant, weight: 1, ..Default::default() }
}

/// One that may do everything, one that may call a single deployment, and one that may call once in 1,000 seconds.
fn keys() -> Vec<v1::ApiKey> {
    let writer = v1::ApiKey { models: vec!["p/writer".to_owned()], ..key("writer", 2) };
    let once = v1::ApiKey { rate_per_s: 0.001, burst: 1, ..key("once", 3) };
    vec![key("good", 1), writer, once]
}

fn node() -> NodeId {
    NodeId::new("n-1")
}

/// The routes of an edge that has not heard of any.
fn no_routes() -> Routes {
    let local = LocalWorker { node_id: node(), client: Arc::new(EchoReplicas) };
    let transports = Transports::new(Some(local), Secret::new(Authority::Member, "token"), None);
    Routes::new(transports, Captures::new("captures".into()))
}

/// An edge with both APIs and a service; requests need a key where `require_key`.
fn serve(require_key: bool) -> (SocketAddr, Server) {
    let (node, routes) = (node(), no_routes());
    let plan = Arc::new(Plan::compile("p.toml", PIPELINE).unwrap());
    let deployments = plan.deployments().keys().map(|name| v1::DeploymentRoute {
        deployment: name.to_string(),
        replicas: vec![v1::ReplicaRoute {
            replica_id: format!("{name}-1"),
            node_id: node.to_string(),
            address: "127.0.0.1:1".to_owned(),
            revision: 7,
            serves: vec![7],
            answers: Vec::new(),
        }],
        ..Default::default()
    });
    let table = v1::RouteTable {
        version: Some(v1::TableVersion { epoch: 1, number: 1 }),
        pipelines: vec![v1::PipelineRoute {
            name: "p".to_owned(),
            variants: vec![v1::Variant { revision: 7, permille: 1000, shadow_permille: 0 }],
            deployments: deployments.collect(),
        }],
        keys: keys(),
        num_ingresses: 1,
    };
    routes.apply(&table, &Revisions::of("p", 7, plan));
    serve_routes(routes, require_key)
}

fn serve_routes(routes: Routes, require_key: bool) -> (SocketAddr, Server) {
    let limits = HttpLimits::default();
    let edge = Edge {
        protocols: PROTOCOLS,
        services: Services::new(GrpcRoutes::new(RouteServiceServer::new(SourceService))),
        routes: Arc::new(routes),
        bytes: ByteBudget::new(limits.request.max_bytes_under_way),
        limits,
        entry: EntryRules { own_site_only: false, require_key, mcp_origins: Vec::new() },
        responses: None,
        guards: Arc::default(),
        shadows: Shadows::default(),
        log: RequestLog::new(millstream_clock::now()),
        traces: Traces::new(TraceConfig::default(), "test".to_owned()).0,
        unrouted: RequestMeter::of_none(),
    };
    let listener = millstream_listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    (address, start(listener, None, Arc::new(edge)))
}

/// The answer to a POST over HTTP/2.
async fn send(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response<hyper::body::Incoming> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    client.send_request(request).await.unwrap()
}

/// Its status, headers, body and trailers.
async fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (StatusCode, HeaderMap, String, Option<HeaderMap>) {
    let (head, body) = send(address, path, headers, body).await.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    (head.status, head.headers, text, trailers)
}

#[tokio::test]
async fn an_api_says_what_its_requests_call_and_how_their_answers_look() {
    let (address, _server) = serve(false);
    let table = [
        // A pipeline by its name, and a deployment by its full one.
        ("/lines", "p\ntext=hello", 200, "{\"text\":\"hello\"}\n"),
        ("/lines", "p/echo\nany=thing", 200, "{\"any\":\"thing\"}\n"),
        ("/lines", "p/echo@7\nany=thing", 200, "{\"any\":\"thing\"}\n"),
        ("/lines/p/echo", "\na=b", 200, "{\"a\":\"b\"}\n"),
        ("/lines", "parts of p/writer\nprompt=x", 200, "text+one \ntext+two\nyes\n"),
        // Errors have its form, wherever they are found.
        (
            "/lines",
            "p/echo@8\nany=thing",
            404,
            "no: the request asks for a revision that takes no requests; revision 7 does",
        ),
        (
            "/lines",
            "p/nothing",
            404,
            "no: no pipeline or deployment has the name `p/nothing`; `GET /-/routes` lists those there are",
        ),
        (
            "/lines/nothing",
            "",
            404,
            "no: no pipeline or deployment has the name `nothing`; `GET /-/routes` lists those there are",
        ),
        ("/lines", "", 400, "no: no line"),
        ("/lines", "p/signed\nx=text", 422, "no: the fields of the request do not fit; see `errors`"),
        ("/lines", "parts of p\nno=text", 422, "no: the fields of the request do not fit; see `errors`"),
    ];
    for (path, body, status, expected) in table {
        let (found, headers, text, trailers) = post(address, path, &[], body).await;
        assert_eq!((found.as_u16(), text.as_str()), (status, expected), "{path} {body}");
        assert!(headers.contains_key("x-request-id"), "{path} {body}");
        assert_eq!(headers.contains_key("x-revision"), status == 200, "{path} {body}");
        assert_eq!(trailers.is_some_and(|trailers| trailers.contains_key("x-called")), status == 200);
    }
    // The other API is where it was.
    let json = [("content-type", "application/json")];
    let (status, _, text, _) = post(address, "/p", &json, r#"{"text": "hello"}"#).await;
    assert_eq!((status.as_u16(), text.as_str()), (200, "{\"text\":\"hello\"}\n"));
    let (status, headers, _, _) = post(address, "/p", &json, "{}").await;
    assert_eq!(
        (status.as_u16(), &headers["content-type"]),
        (422, &HeaderValue::from_static("application/problem+json"))
    );
}

#[tokio::test]
async fn keys_and_deadlines_are_alike_for_all_apis() {
    let (address, _server) = serve(true);
    let (status, headers, text, _) = post(address, "/lines", &[], "p/nothing").await;
    assert_eq!((status.as_u16(), &headers["www-authenticate"]), (401, &HeaderValue::from_static("Bearer")));
    assert!(text.starts_with("no: an API key is needed"), "{text}");
    let good = ("x-api-key", "mk_good");
    assert_eq!(post(address, "/lines", &[good], "p\ntext=hello").await.0, 200);
    let (status, _, text, _) =
        post(address, "/lines", &[good, ("x-request-timeout", "soon")], "p\ntext=hello").await;
    assert_eq!(status, 400);
    assert!(text.starts_with("no: header `x-request-timeout` is `soon`"), "{text}");
}

#[tokio::test]
async fn until_the_keys_are_known_nobody_is_told_that_theirs_is_wrong() {
    let (address, _server) = serve_routes(no_routes(), true);
    let good = ("x-api-key", "mk_good");
    assert_eq!(post(address, "/lines", &[good], "p\ntext=hello").await.0, 503);
    let routes = reqwest::Client::new().get(format!("http://{address}/-/routes")).header(good.0, good.1);
    assert_eq!(routes.send().await.unwrap().status(), 503);
    let grpc = send(address, "/no.Service/Method", &[("content-type", "application/grpc"), good], "").await;
    assert_eq!(grpc.headers()["grpc-status"], "14");
}
