//! What the public APIs cost, in ratios of one run: `/v1/embeddings` beside the route of a pipeline with the same model, the Open Inference
//! Protocol over gRPC beside a bare tonic service, large tensors over HTTP, API keys, and the look-up of the API that a path belongs to.
//!
//! ```text
//! cargo build --release -p millstream -p millstream-tests --bins && target/release/bench-protocols [ROUNDS]
//! ```
//!
//! Each server has a process of its own. Those that are compared take turns, in another order each round, so that a machine that drifts
//! drifts for all.

use std::hint::black_box;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;
use std::{env, fmt, iter};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use millstream_ingress::measured::endpoints_for;
use millstream_tests::echo_client::{self, address_file, call_at, connect, start_own};
use millstream_tests::inference_client::{BinaryCaller, GrpcCaller};
use millstream_tests::{Cluster, UpOptions, cpu_s_of, eventually, tonic_echo};
use serde_json::json;

const TONIC: &str = "--tonic";
/// Rounds, unless the first argument says otherwise.
const ROUNDS: usize = 10;
const ROW: usize = 42;
/// Floats of 8 MiB.
const TENSOR: usize = 2 << 20;
/// Callers of small calls, and the connections that those over gRPC share.
const NUM_CALLERS: usize = 32;
const NUM_CHANNELS: usize = 4;
/// Answers of Triton per second in the same echo over HTTP, 40 callers (docs/benchmarks.md); of another day, so only for scale.
const TRITON_PER_S: f64 = 5_378.0;

const PIPELINES: [&str; 2] = [
    r#"
name = "mirror"
route = "/mirror"
max_body = "16MiB"
[request]
x = "f32[?]"
[deployments.mirror]
engine = "echo"
max_ongoing_requests = 64
[stages.same]
use = "mirror"
inputs = { x = "request.x" }
[response]
x = "same.x"
"#,
    r#"
name = "texts"
route = "/texts"
[request]
texts = "text[]"
[deployments.mini]
task = "embed"
model = "mini-embedder@production"
[stages.embedded]
use = "mini"
inputs = { texts = "request.texts" }
[response]
vectors = "embedded"
"#,
];

/// Who calls, one call after the other.
enum Caller {
    Grpc(Box<GrpcCaller>),
    Binary(BinaryCaller),
    Json { connection: SendRequest<Full<Bytes>>, path: &'static str, key: Option<String>, body: Bytes },
}

impl Caller {
    async fn call(&mut self) -> Result<()> {
        match self {
            Self::Grpc(caller) => caller.call().await,
            Self::Binary(caller) => caller.call().await,
            Self::Json { connection, path, key, body } => {
                call_at(connection, path, key.as_deref(), body).await.map(drop)
            }
        }
    }
}

/// One of those that take turns.
struct Contestant {
    name: String,
    /// The server's process.
    pid: u32,
    callers: Vec<Caller>,
    calls_each: usize,
    num_calls: f64,
    elapsed_s: f64,
    cpu_s: f64,
}

impl Contestant {
    fn new(name: impl Into<String>, pid: u32, callers: Vec<Caller>, calls_each: usize) -> Self {
        Self { name: name.into(), pid, callers, calls_each, num_calls: 0.0, elapsed_s: 0.0, cpu_s: 0.0 }
    }

    fn per_s(&self) -> f64 {
        self.num_calls / self.elapsed_s
    }

    fn us(&self) -> f64 {
        self.elapsed_s * 1e6 / self.num_calls
    }

    fn cpu_us(&self) -> f64 {
        self.cpu_s * 1e6 / self.num_calls
    }

    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 calls")]
    async fn turn(&mut self) -> Result<()> {
        let (start, cpu_s) = (Instant::now(), cpu_s_of(self.pid)?);
        let calls_each = self.calls_each;
        let calling = self.callers.drain(..).map(|mut caller| {
            tokio::spawn(async move {
                for _ in 0..calls_each {
                    caller.call().await?;
                }
                anyhow::Ok(caller)
            })
        });
        let calling: Vec<_> = calling.collect();
        for caller in calling {
            self.callers.push(caller.await??);
        }
        self.elapsed_s += start.elapsed().as_secs_f64();
        self.cpu_s += cpu_s_of(self.pid)? - cpu_s;
        self.num_calls += (self.callers.len() * calls_each) as f64;
        Ok(())
    }
}

/// What was found, beside what it should be.
struct Found {
    what: String,
    value: f64,
    goal: Goal,
}

#[derive(Clone, Copy)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// None was set.
    Open,
}

impl Found {
    fn new(what: impl Into<String>, value: f64, goal: Goal) -> Self {
        Self { what: what.into(), value, goal }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::AtMost(most) => write!(f, "at most {most}"),
            Self::Open => f.write_str("none"),
        }
    }
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::Open => true,
        }
    }
}

/// The cluster under test.
struct Ours {
    cluster: Cluster,
    address: SocketAddr,
    pid: u32,
}

fn main() -> Result<()> {
    if let Some(file) = address_file(TONIC) {
        return tonic_echo::serve(Path::new(&file));
    }
    let rounds = env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let echo = millstream_tests::root().join("pipelines/examples/echo.toml");
    let options = PIPELINES.iter().fold(UpOptions::new().file(echo), |options, text| options.pipeline(text));
    let mut cluster = Cluster::up(&options)?;
    cluster.wait_ready();
    let (address, pid) = (cluster.ingress()?, cluster.leader.pid_number());
    let ours = Ours { cluster, address, pid };
    let (tonic, tonic_address) = start_own(TONIC)?;
    let keys = ours.keys()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut found = runtime.block_on(async {
        let mut found = vec![embeddings(&ours, 1, rounds).await?, embeddings(&ours, 32, rounds).await?];
        found.extend(rows(&ours, tonic.pid(), tonic_address, rounds).await?);
        found.extend(tensors(&ours, tonic.pid(), tonic_address, rounds).await?);
        found.extend(calls_with_keys(&ours, keys, rounds).await?);
        anyhow::Ok(found)
    })?;
    found.extend(look_up()?);
    summary(&found);
    Ok(())
}

/// Has all take turns; the first round warms up.
async fn in_turns(contestants: &mut [Contestant], rounds: usize) -> Result<()> {
    for round in 0..=rounds {
        // Neither always first, nor always after the same one.
        let step = if round % 2 == 0 { 1 } else { contestants.len() - 1 };
        for place in 0..contestants.len() {
            let at = (round + place * step) % contestants.len();
            let contestant = &mut contestants[at];
            contestant.turn().await.with_context(|| contestant.name.clone())?;
        }
        if round == 0 {
            for contestant in &mut *contestants {
                (contestant.num_calls, contestant.elapsed_s, contestant.cpu_s) = (0.0, 0.0, 0.0);
            }
        }
    }
    Ok(())
}

/// The same texts to the same deployment, by the pipeline's route and by OpenAI's.
async fn embeddings(ours: &Ours, num_texts: usize, rounds: usize) -> Result<Found> {
    let texts = vec!["Bread needs flour, water, salt and yeast, and a warm place to rise."; num_texts];
    let openai = json!({"model": "texts/mini", "input": texts, "encoding_format": "base64"});
    let route = json!({"texts": texts});
    let mut contestants = Vec::new();
    for (name, path, body) in
        [("pipeline route", "/texts", route), ("/v1/embeddings", "/v1/embeddings", openai)]
    {
        let caller = json_caller(ours.address, path, None, body.to_string().into()).await?;
        contestants.push(Contestant::new(name, ours.pid, vec![caller], 2_000 / (4 + num_texts)));
    }
    in_turns(&mut contestants, rounds).await?;
    let what = format!("embeddings of {num_texts} texts, one caller, base64 beside the route's JSON");
    report(&what, &contestants);
    let ratio = contestants[1].us() / contestants[0].us();
    Ok(Found::new(format!("{what}: time"), ratio, Goal::AtMost(1.05)))
}

/// Rows over gRPC.
async fn rows(ours: &Ours, tonic: u32, tonic_address: SocketAddr, rounds: usize) -> Result<[Found; 2]> {
    let mut contestants = Vec::new();
    for (name, pid, address) in [("bare tonic", tonic, tonic_address), ("Millstream", ours.pid, ours.address)]
    {
        let mut callers = Vec::new();
        for _ in 0..NUM_CHANNELS {
            let caller = GrpcCaller::connect(address, "mirror", ROW).await?;
            callers.extend((1..NUM_CALLERS / NUM_CHANNELS).map(|_| Caller::Grpc(Box::new(caller.share()))));
            callers.push(Caller::Grpc(Box::new(caller)));
        }
        contestants.push(Contestant::new(name, pid, callers, 250));
    }
    in_turns(&mut contestants, rounds).await?;
    let what = format!("rows of {ROW} floats over gRPC, {NUM_CALLERS} callers");
    report(&what, &contestants);
    let [bare, ours] = [contestants[0].per_s(), contestants[1].per_s()];
    Ok([
        Found::new(format!("{what}: throughput, of bare tonic's"), ours / bare, Goal::AtLeast(0.6)),
        Found::new(
            format!("{what}: throughput, of Triton's on another day over HTTP"),
            ours / TRITON_PER_S,
            Goal::AtLeast(4.0),
        ),
    ])
}

/// Tensors of 8 MiB, one at a time.
async fn tensors(ours: &Ours, tonic: u32, tonic_address: SocketAddr, rounds: usize) -> Result<[Found; 2]> {
    let bare = Caller::Grpc(Box::new(GrpcCaller::connect(tonic_address, "mirror", TENSOR).await?));
    let grpc = Caller::Grpc(Box::new(GrpcCaller::connect(ours.address, "mirror", TENSOR).await?));
    let http = Caller::Binary(BinaryCaller::connect(ours.address, "mirror", TENSOR).await?);
    let mut contestants = [
        Contestant::new("bare tonic", tonic, vec![bare], 20),
        Contestant::new("Millstream, gRPC", ours.pid, vec![grpc], 20),
        Contestant::new("Millstream, HTTP", ours.pid, vec![http], 20),
    ];
    in_turns(&mut contestants, rounds).await?;
    let what = "tensors of 8 MiB, one caller";
    report(what, &contestants);
    let [bare, grpc, http] = contestants;
    // Each byte is counted once, though it comes in and goes out.
    let gb_per_s = f64::from(8 << 20) / 1e3 / http.cpu_us();
    Ok([
        Found::new(format!("{what}, HTTP: GB per second of the server's CPU"), gb_per_s, Goal::AtLeast(1.5)),
        Found::new(
            format!("{what}, gRPC: throughput, of bare tonic's"),
            grpc.per_s() / bare.per_s(),
            Goal::AtLeast(0.9),
        ),
    ])
}

/// The echo's route with and without API keys.
async fn calls_with_keys(ours: &Ours, keys: [String; 2], rounds: usize) -> Result<Vec<Found>> {
    let [plain, limited] = keys.map(Some);
    let mut contestants = Vec::new();
    for (name, key) in
        [("without a key", None), ("with a key", plain), ("with a key that has limits", limited)]
    {
        let mut callers = Vec::new();
        for _ in 0..NUM_CALLERS {
            callers.push(json_caller(ours.address, "/echo", key.clone(), echo_client::body()).await?);
        }
        contestants.push(Contestant::new(name, ours.pid, callers, 250));
    }
    in_turns(&mut contestants, rounds).await?;
    report(&format!("echo of {ROW} floats over HTTP, {NUM_CALLERS} callers"), &contestants);
    let without = contestants[0].cpu_us();
    let more = |it: &Contestant| {
        let what = format!("echo {}: CPU of the server beside none, of a call", it.name);
        Found::new(what, it.cpu_us() / without, Goal::Open)
    };
    Ok(contestants[1..].iter().map(more).collect())
}

async fn json_caller(
    address: SocketAddr,
    path: &'static str,
    key: Option<String>,
    body: Bytes,
) -> Result<Caller> {
    let mut caller = Caller::Json { connection: connect(address).await?, path, key, body };
    // A connection whose first request is long in coming is ended.
    caller.call().await?;
    Ok(caller)
}

impl Ours {
    /// The secrets of a key without limits, and of one with limits that no run meets.
    fn keys(&self) -> Result<[String; 2]> {
        let limits = ["--rate", "1000000", "--concurrency", "1000"];
        Ok([self.key(&["plain"])?, self.key(&[&["limited"], &limits[..]].concat())?])
    }

    /// Makes a key; returns once the ingress knows it.
    fn key(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cluster.command(&[&["key", "create"], arguments].concat());
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let secret = String::from_utf8(output.stdout)?.trim().to_owned();
        let routes = self.cluster.url("/-/routes");
        eventually("the ingress knows the key", || {
            let answer = self.cluster.http().get(&routes).header("x-api-key", &secret).send().ok()?;
            (answer.status() == 200).then_some(())
        });
        Ok(secret)
    }
}

/// What a pipeline's call pays for APIs that it does not use: each of them is asked whether the path is its own.
fn look_up() -> Result<Vec<Found>> {
    const NUM_CALLS: u32 = 1_000_000;
    let look_up = |path: &str| {
        let request = hyper::Request::post(path).header("content-type", "application/json").body(())?;
        let (head, ()) = request.into_parts();
        let start = Instant::now();
        let heads = iter::repeat_n(&head, NUM_CALLS as usize);
        let found = heads.filter(|head| !endpoints_for(black_box(head)).is_empty()).count();
        let ns = start.elapsed().as_secs_f64() * 1e9 / f64::from(NUM_CALLS);
        ensure!(found == NUM_CALLS as usize, "no API for {path}");
        Ok(Found::new(format!("which API answers {path}: ns of every call"), ns, Goal::AtMost(2_000.0)))
    };
    ["/echo", "/teams/search/ranking/answers"].into_iter().map(look_up).collect()
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn report(what: &str, contestants: &[Contestant]) {
    println!("{what}\n\n| server | calls/s | µs a call | CPU of the server a call, µs |");
    println!("| --- | ---: | ---: | ---: |");
    for it in contestants {
        println!("| {} | {:.0} | {:.1} | {:.1} |", it.name, it.per_s(), it.us(), it.cpu_us());
    }
    println!();
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn summary(found: &[Found]) {
    println!("| ratio | found | goal | |\n| --- | ---: | --- | --- |");
    for Found { what, value, goal } in found {
        println!("| {what} | {value:.3} | {goal} | {} |", if goal.is_met(*value) { "" } else { "missed" });
    }
    let json = found
        .iter()
        .map(|Found { what, value, goal }| json!({"what": what, "found": value, "goal": goal.to_string()}));
    println!("{}", json.collect::<serde_json::Value>());
}
