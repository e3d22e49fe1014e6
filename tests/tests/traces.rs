//! Where the time of a request goes: kept at the head for people, and sent to a collector by OTLP. The collector here is a
//! receiver written against the protocol's own crate, over gRPC and over HTTP.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use millstream_tests::{Cluster, Echo, UpOptions, eventually};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

/// What has come.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn take(&self, request: ExportTraceServiceRequest) {
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// Takes traces over gRPC until the test ends.
    fn over_grpc(&self) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let service = TraceServiceServer::new(self.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let routes = tonic::service::Routes::new(service);
                axum::serve(listener, routes.into_axum_router()).await.unwrap();
            });
        });
        Ok(address)
    }

    /// Takes traces over HTTP until the test ends: one request a connection.
    fn over_http(&self) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let collector = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length, mut head) = (String::new(), 0, String::new());
                while reader.read_line(&mut line).unwrap() > 2 {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head += &std::mem::take(&mut line);
                }
                assert!(head.starts_with("POST /v1/traces "), "{head}");
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                collector.take(ExportTraceServiceRequest::decode(&*body).unwrap());
                let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Ok(address)
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.take(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// An attribute as a text.
fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Two stages one after the other, the first of a model that forms batches.
const TWO_STAGES: &str = r#"name = "two"
route = "/two"
[request]
texts = "text[]"
[deployments.embedder]
task = "embed"
model = "mini-embedder@production"
[deployments.echo]
engine = "echo"
[stages.vectors]
use = "embedder"
inputs = { texts = "request.texts" }
[stages.out]
use = "echo"
inputs = { n = "vectors|length" }
[response]
n = "out.n"
"#;

#[test]
fn a_collector_gets_one_whole_trace_a_request_across_two_processes() -> Result<()> {
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::default();
        let address = if protocol == "grpc" { collector.over_grpc()? } else { collector.over_http()? };
        let endpoint = format!("http://{address}");
        let flags = ["--roles", "head,ingress", "--otlp-endpoint", &endpoint, "--otlp-protocol", protocol];
        let mut cluster = Cluster::up(&UpOptions::new().args(&flags).args(&["--empty"]))?;
        cluster.join("other", &[])?;
        cluster.deploy(TWO_STAGES, &[])?;
        // The client has sampled its trace.
        let headers =
            [("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01")), ("x-request-id", "seen".to_owned())];
        let mut request = cluster.http().post(cluster.url("/two")).json(&json!({"texts": ["secret words"]}));
        for (name, value) in &headers {
            request = request.header(*name, value);
        }
        assert_eq!(request.send()?.status(), 200);
        let spans = eventually("the whole trace has come", || {
            let spans = collector.spans();
            (spans.len() >= 9).then_some(spans)
        });
        assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "one trace: {spans:?}");
        let by_id: BTreeMap<_, _> = spans.iter().map(|span| (span.span_id.clone(), span)).collect();
        let path = |span: &Span| {
            let (mut names, mut at) = (Vec::new(), Some(span));
            while let Some(span) = at {
                names.push(attribute(span, "millstream.span").unwrap_or_default());
                at = by_id.get(&span.parent_span_id).copied();
            }
            names.reverse();
            names.join("/")
        };
        let mut paths: Vec<_> = spans.iter().map(path).collect();
        paths.sort();
        let expected = [
            "request",
            "request/stage",
            "request/stage",
            "request/stage/queue",
            "request/stage/queue",
            "request/stage/try",
            "request/stage/try",
            "request/stage/try/batch",
            "request/stage/try/run",
        ];
        assert_eq!(paths, expected, "{protocol}");
        let root = spans.iter().find(|span| path(span) == "request").context("a root")?;
        assert_eq!(hex(&root.parent_span_id), "00f067aa0ba902b7", "the client's span goes on");
        assert_eq!(attribute(root, "gen_ai.operation.name").as_deref(), Some("invoke_workflow"));
        let stage = spans.iter().find(|span| span.name == "vectors").context("a stage")?;
        assert_eq!(attribute(stage, "gen_ai.operation.name").as_deref(), Some("embeddings"));
        for span in &spans {
            let parent = by_id.get(&span.parent_span_id);
            assert!(parent.is_none_or(|parent| {
                span.start_time_unix_nano >= parent.start_time_unix_nano
                    && span.end_time_unix_nano <= parent.end_time_unix_nano + 2_000
            }));
            assert!(!format!("{span:?}").contains("secret words"), "contents are never traced");
        }
        // What people see is the same.
        let shown = eventually("the head has it", || cluster.rest("/api/requests/seen").ok());
        assert_eq!(shown["spans"].as_array().map(Vec::len), Some(9), "{shown}");
        assert_eq!(shown["trace_id"], TRACE);
        let text = String::from_utf8(cluster.command(&["trace", "seen"]).stdout)?;
        for part in ["POST /two", "  vectors", "    queue", "      run", TRACE] {
            assert!(text.contains(part), "`{part}` is not in\n{text}");
        }
    }
    Ok(())
}

/// A model whose calls wait for company.
const COMPANY: &str = r#"name = "company"
route = "/company"
[request]
text = "text"
[deployments.embedder]
task = "embed"
model = "mini-embedder@production"
batch = { max_size = 3, max_wait = "5s" }
[stages.vectors]
use = "embedder"
inputs = { texts = "[request.text]" }
[response]
n = "vectors|length"
"#;

#[test]
fn the_run_of_a_batch_names_the_calls_of_other_requests() -> Result<()> {
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.over_grpc()?);
    let flags = ["--roles", "head,ingress", "--otlp-endpoint", &endpoint, "--empty"];
    let mut cluster = Cluster::up(&UpOptions::new().args(&flags))?;
    cluster.join("other", &[])?;
    cluster.deploy(COMPANY, &[])?;
    let trace = |number: usize| TRACE.replacen('4', &number.to_string(), 1);
    std::thread::scope(|scope| {
        for number in 1..=3 {
            let parent = format!("00-{}-00f067aa0ba902b7-01", trace(number));
            let asked = cluster.http().post(cluster.url("/company")).header("traceparent", parent);
            scope.spawn(move || asked.json(&json!({"text": "x"})).send().unwrap());
        }
    });
    let spans = eventually("all traces have come", || {
        let spans = collector.spans();
        (spans.iter().filter(|span| span.name == "run").count() == 3).then_some(spans)
    });
    let tries: BTreeMap<_, _> = spans
        .iter()
        .filter(|span| attribute(span, "millstream.span").as_deref() == Some("try"))
        .map(|span| (span.span_id.clone(), hex(&span.trace_id)))
        .collect();
    for number in 1..=3 {
        let own = trace(number);
        let is_run = |span: &&Span| span.name == "run" && hex(&span.trace_id) == own;
        let run = spans.iter().find(is_run).context("a run")?;
        assert_eq!(attribute(run, "millstream.batch.size").as_deref(), Some("3"));
        let tokens =
            attribute(run, "gen_ai.usage.input_tokens").and_then(|tokens| tokens.parse::<u32>().ok());
        assert!(tokens.is_some_and(|tokens| tokens > 0), "{run:?}");
        let linked: Vec<_> = run.links.iter().map(|link| tries.get(&link.span_id)).collect();
        let mut others: Vec<_> = (1..=3).filter(|&other| other != number).map(trace).collect();
        others.sort();
        let mut found: Vec<_> = linked.into_iter().map(|trace| trace.cloned().unwrap_or_default()).collect();
        found.sort();
        assert_eq!(found, others);
    }
    Ok(())
}

#[test]
fn what_failed_is_kept_and_the_rest_in_samples_without_any_collector() -> Result<()> {
    let failing = Echo::new("p").deployment("fail_ratio = 0.5").to_string();
    let cluster = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    cluster.deploy(&failing, &[])?;
    let mut failed = Vec::new();
    for number in 0..20 {
        let id = format!("r{number}");
        let asked = cluster.http().post(cluster.url("/p")).header("x-request-id", &id);
        if asked.json(&json!({"text": "x"})).send()?.status().is_server_error() {
            failed.push(id);
        }
    }
    let listed = |kept: &str| -> Result<Vec<Value>> {
        let requests = cluster.rest(&format!("/api/requests?pipeline=p&status={kept}"))?["requests"].clone();
        Ok(requests.as_array().cloned().unwrap_or_default())
    };
    assert!(!failed.is_empty());
    eventually("all failures are there", || (listed("failed").ok()?.len() == failed.len()).then_some(()));
    assert!(listed("sample")?.len() < 20, "a sample of the rest");
    let table = String::from_utf8(cluster.command(&["trace", "--pipeline", "p"]).stdout)?;
    assert!(table.contains("REQUEST") && table.contains("sample"), "{table}");
    let unknown = cluster.command(&["trace", "nobody"]);
    assert_eq!(unknown.status.code(), Some(5), "{unknown:?}");
    let unknown = cluster.rest("/api/requests/nobody").unwrap_err().to_string();
    assert!(unknown.contains("404"), "{unknown}");
    Ok(())
}

#[test]
fn a_collector_that_is_away_costs_no_request() -> Result<()> {
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint = format!("http://{nobody}");
    let flags = ["--otlp-endpoint", &endpoint, "--trace-sample", "100%"];
    let mut cluster = Cluster::up(&UpOptions::new().args(&flags).pipeline(&Echo::new("p")))?;
    cluster.wait_ready();
    for _ in 0..50 {
        assert_eq!(cluster.post("/p", &json!({"text": "x"}))?.0, 200);
    }
    let wrong =
        millstream_tests::run_cluster(&["up", "--otlp-endpoint", "https://collector:4317", "--empty"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there is no TLS"), "{wrong:?}");
    Ok(())
}
