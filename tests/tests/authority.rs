//! Who may call what: every method of every gRPC service and every HTTP route, called by those who may not.

use anyhow::{Context as _, Result};
use millstream_connect::{Authority, Secret, connect, dial, handshake};
use millstream_ingress::reference;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{FILE_DESCRIPTOR_SET, PUBLIC_FILE_DESCRIPTOR_SET};
use millstream_tests::{Cluster, Echo, UpOptions};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{self, Channel};
use tonic::{Code, Request, Status};

/// What may be called without any token. Requests have API keys, with `--require-api-key`.
/// Pages of the dashboard are the form to log in then.
const OPEN_ROUTES: [&str; 24] = [
    "/",
    "/-/healthz",
    "/-/readyz",
    "/-/site/{file}",
    "/assets/{*path}",
    "/cluster",
    "/deploy",
    "/docs",
    "/events",
    "/healthz",
    "/login",
    "/logout",
    "/metrics",
    "/ping",
    "/pipelines",
    "/pipelines/{name}",
    "/requests",
    "/requests/{id}",
    "/rollouts",
    "/scaling",
    "/scaling/{pipeline}/{deployment}",
    "/v2/health/live",
    "/v2/health/ready",
    "{route}/docs",
];

/// Methods of gRPC that may be called at an ingress that requires keys without one, beside health.
const OPEN_METHODS: [&str; 2] =
    ["/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady"];

/// The paths of the methods of a service.
fn methods(service: &str) -> Result<Vec<String>> {
    let mut files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?.file;
    files.extend(FileDescriptorSet::decode(PUBLIC_FILE_DESCRIPTOR_SET)?.file);
    let services =
        files.iter().flat_map(|file| file.service.iter().map(move |found| (file.package(), found)));
    let found = services.filter(|(_, found)| found.name() == service).flat_map(|(package, found)| {
        found.method.iter().map(move |method| format!("/{package}.{}/{}", found.name(), method.name()))
    });
    let found: Vec<String> = found.collect();
    anyhow::ensure!(!found.is_empty(), "there is no service `{service}`");
    Ok(found)
}

fn service_names() -> Result<Vec<String>> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?.file;
    Ok(files.into_iter().flat_map(|file| file.service).map(|service| service.name().to_owned()).collect())
}

/// How a call with an empty message ends.
async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = path.parse().map_err(|_| Status::internal("the path of a method"))?;
    client.unary(Request::new(()), path, tonic_prost::ProstCodec::<(), ()>::default()).await.map(drop)
}

async fn assert_refused(channel: &Channel, service: &str) -> Result<()> {
    for path in methods(service)? {
        let refused = call(channel, &path).await.expect_err(&path);
        assert_eq!(refused.code(), Code::Unauthenticated, "{path}: {refused}");
        let hint = if service == "ControlService" { "admin.token" } else { "join token" };
        assert!(refused.message().contains(hint), "{path}: {refused}");
    }
    Ok(())
}

/// Connections to an address as a stranger, as a process of the cluster and as its administrator.
struct Callers {
    stranger: Channel,
    member: Channel,
    admin: Result<Channel, transport::Error>,
}

impl Callers {
    async fn connect(cluster: &Cluster, address: &str) -> Result<Self> {
        let endpoint = transport::Endpoint::from_shared(format!("http://{address}"))?;
        Ok(Self {
            stranger: endpoint.connect().await?,
            member: connect(&endpoint, &secret(cluster, Authority::Member, "join.token")?).await?,
            admin: connect(&endpoint, &secret(cluster, Authority::Admin, "admin.token")?).await,
        })
    }
}

fn secret(cluster: &Cluster, authority: Authority, file: &str) -> Result<Secret> {
    let token = std::fs::read_to_string(cluster.leader.data_dir().join(file))?;
    Ok(Secret::new(authority, &token))
}

/// A worker's address for calls: a stranger is hung up on without a word, other tokens than the join token are refused.
async fn assert_takes_members_alone(cluster: &Cluster, address: &str) -> Result<()> {
    let greeting = [&b"MSLK\x01\0"[..], &[0; 10]].concat();
    for said in [&greeting[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stranger = tokio::net::TcpStream::connect(address).await?;
        stranger.write_all(said).await?;
        let mut heard = Vec::new();
        // What is not read when a connection is closed makes it end with an error.
        let _ = stranger.read_to_end(&mut heard).await;
        assert!(heard.is_empty(), "{heard:?}");
    }
    for other in [secret(cluster, Authority::Admin, "admin.token")?, Secret::new(Authority::Member, "wrong")]
    {
        let refused = dial(address, &other).await.expect_err("refused");
        assert!(matches!(refused, handshake::Error::Refused(_)), "{refused}");
    }
    let mut member = dial(address, &secret(cluster, Authority::Member, "join.token")?).await?;
    member.write_all(&greeting).await?;
    let mut heard = [0; 4];
    member.read_exact(&mut heard).await?;
    assert_eq!(&heard, b"MSLK");
    Ok(())
}

#[test]
fn every_service_refuses_whoever_has_not_proved_to_know_its_token() -> Result<()> {
    let mut cluster = Cluster::serving(&Echo::new("p"))?;
    let endpoints = cluster.leader.endpoints();
    let address = |key: &str| endpoints[key].as_str().map(ToOwned::to_owned).context("an address");
    let (control, worker) = (address("control")?, address("worker")?);
    let mut names = service_names()?;
    names.sort();
    assert_eq!(names, ["ControlService", "NodeService", "Pipelines", "RouteService"], "is the new one here?");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let head = Callers::connect(&cluster, &control).await?;
        let admin = head.admin?;
        assert_refused(&head.stranger, "ControlService").await?;
        assert_refused(&head.member, "ControlService").await?;
        for service in ["NodeService", "RouteService"] {
            assert_refused(&head.stranger, service).await?;
            assert_refused(&admin, service).await?;
        }
        assert_takes_members_alone(&cluster, &worker).await?;
        // Those who may are let in.
        call(&admin, "/millstream.v1.ControlService/Status").await?;
        let silent = call(&head.member, "/millstream.v1.NodeService/Session").await.unwrap_err();
        assert_eq!(silent.code(), Code::InvalidArgument, "{silent}");
        Ok(())
    })
}

#[test]
fn methods_at_the_ingress_need_a_key_where_keys_are_required() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--require-api-key"]).pipeline(&Echo::new("p")))?;
    cluster.wait_ready();
    let address = cluster.leader.endpoints()["ingress"].as_str().context("an address")?.to_owned();
    let mut paths = methods("GRPCInferenceService")?;
    paths.extend(methods("Pipelines")?);
    paths.push("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo".to_owned());
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let channel = transport::Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        for path in paths {
            let answer = call(&channel, &path).await.map_err(|status| status.code());
            let expected = if OPEN_METHODS.contains(&&*path) { Ok(()) } else { Err(Code::Unauthenticated) };
            assert_eq!(answer, expected, "{path}");
        }
        Ok(())
    })
}

fn header_of<'a>(answer: &'a reqwest::blocking::Response, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[test]
fn every_http_route_is_open_only_to_whom_its_declaration_names() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--require-api-key"]).pipeline(&Echo::new("p")))?;
    cluster.wait_ready();
    let endpoints = cluster.leader.endpoints();
    let base = |key: &str| format!("http://{}", endpoints[key].as_str().unwrap_or_default());
    let join_token = std::fs::read_to_string(cluster.leader.data_dir().join("join.token"))?;
    let routes: Vec<(String, Endpoint)> = [
        (base("ingress"), reference::endpoints()),
        (base("dashboard"), millstream_head::dashboard_endpoints()),
    ]
    .into_iter()
    .flat_map(|(base, routes)| routes.into_iter().map(move |route| (base.clone(), route)))
    .collect();
    let dashboard = base("dashboard");
    let mut open = Vec::new();
    for (base, route) in &routes {
        let mut path =
            route.path.replace("{route}", "/p").replace("{*path}", "app.js").replace("{file}", "docs.js");
        path = path.replace("{response_id}", "resp_p");
        for part in ["{pipeline}", "{name}", "{deployment}", "{id}", "{model}"] {
            path = path.replace(part, "p");
        }
        let url = format!("{base}{path}");
        for method in route.methods.split(", ") {
            let ask = || cluster.http().request(method.parse().unwrap(), &url).body("{}");
            let stranger = ask().send()?;
            let member = ask().bearer_auth(join_token.trim()).send()?;
            let expected = match (route.access, route.path) {
                (Access::Everybody, "/login") => 415,
                (Access::Everybody, _) => 200,
                _ => 401,
            };
            assert_eq!(stranger.status(), expected, "{method} {url}");
            assert_eq!(member.status(), expected, "{method} {url}");
            let is_page = header_of(&stranger, "content-type").starts_with("text/html") && method == "GET";
            let needs_token = is_page && *base == dashboard;
            assert!(!needs_token || stranger.text()?.contains("name=\"token\""), "{method} {url}: the form");
        }
        if route.access == Access::Everybody {
            open.push(route.path);
        }
    }
    open.sort_unstable();
    open.dedup();
    assert_eq!(open, OPEN_ROUTES, "whatever else is open must be open for a reason");
    let status: Value = cluster.rest("/api/status")?;
    assert_eq!(status["pipelines"][0]["name"], "p");
    Ok(())
}
