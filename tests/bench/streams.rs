//! What a chat stream costs: a simulated model behind `/v1/chat/completions` at 64 streams of 100 tokens per second, what 2,000 open
//! streams hold, and what 1,000 replicas of such a model do. Beside it routers in front of a plain axum server that streams at the same
//! pace, in turn, where they are installed:
//!
//! ```text
//! python3 tests/bench/peers/streams.py                                     # installs the routers, builds, and runs this
//! target/dist/bench-streams [ROUNDS] [--smg PROGRAM] [--vllm-router PROGRAM]
//! ```
//!
//! CPU time is of the server's process: of ours, ingress and simulated engine together; of a router, the router alone.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use millstream_tests::chat_client::{ChatClient, Streamed};
use millstream_tests::echo_client::quantile;
use millstream_tests::{Cluster, Node, UpOptions, eventually, model_stand_in};
use serde_json::{Map, Value, json};

const NUM_STREAMS: usize = 64;
const NUM_TOKENS: usize = 100;
/// Streams of each connection in a round.
const STREAMS_EACH: usize = 3;
const NUM_OPEN: usize = 2_000;
const NUM_REPLICAS: usize = 1_000;
/// For the connections of both ends.
const MAX_DESCRIPTORS: u32 = 10_000;

/// Two simulated models at the stand-in's pace.
const MODELS: &str = r#"
name = "chat"
[deployments.sim]
engine = "sim"
batch = { max_size = 256 }
sim = { first_token = { base = "20ms" }, next_token = { base = "10ms" } }
[deployments.slow]
engine = "sim"
batch = { max_size = 4096 }
sim = { first_token = { base = "20ms" }, next_token = { base = "1s" }, kv_tokens = 16_000_000 }
"#;

/// A server under test, and what was measured of it.
struct Server {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
    models: [&'static str; 2],
    /// Seconds to the first token over what was set.
    added: Vec<f64>,
    cpu_s: f64,
    num_tokens: usize,
    open_mib: f64,
}

/// A process that ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let after = |flag: &str| arguments.iter().position(|it| it == flag).and_then(|at| arguments.get(at + 1));
    if let Some(file) = after("--stand-in") {
        return model_stand_in::serve(Path::new(file));
    }
    let rounds = arguments.first().and_then(|number| number.parse().ok()).unwrap_or(5);
    let cluster = Cluster::up(&UpOptions::new().pipeline(MODELS).max_descriptors(MAX_DESCRIPTORS))?;
    let mut cluster = cluster;
    cluster.wait_ready();
    let (stand_in, stand_in_address) = start_stand_in()?;
    let ours = cluster.leader.endpoints()["ingress"].as_str().context("no ingress address")?.parse()?;
    let pid = u32::try_from(cluster.leader.pid().as_raw_nonzero().get())?;
    let mut servers = vec![
        server("Millstream, with its engine", ours, pid, ["chat/sim", "chat/slow"]),
        server("the axum stand-in itself", stand_in_address, stand_in.0.id(), ["sim", "slow"]),
    ];
    let mut routers = Vec::new();
    for (name, flag) in [("SMG", "--smg"), ("vllm-router", "--vllm-router")] {
        if let Some(program) = after(flag) {
            let (router, address) = start_router(flag, program, stand_in_address)?;
            servers.push(server(name, address, router.0.id(), ["sim", "slow"]));
            routers.push(router);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&mut servers, rounds))?;
    report(&mut servers);
    drop((cluster, routers));
    measure_replicas()
}

fn server(name: &'static str, address: SocketAddr, pid: u32, models: [&'static str; 2]) -> Server {
    Server { name, address, pid, models, added: vec![], cpu_s: 0.0, num_tokens: 0, open_mib: f64::NAN }
}

fn start_stand_in() -> Result<(Process, SocketAddr)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("address");
    let child =
        Command::new(env::current_exe()?).arg("--stand-in").arg(&file).stdin(Stdio::null()).spawn()?;
    let address = eventually("the stand-in listens", || fs::read_to_string(&file).ok()?.parse().ok());
    Ok((Process(child), address))
}

/// Starts a router in front of the stand-in; returns once it passes a request on.
fn start_router(flag: &str, program: &str, model: SocketAddr) -> Result<(Process, SocketAddr)> {
    let [port, metrics] = [free_port()?, free_port()?];
    let mut command = Command::new(program);
    if flag == "--smg" {
        command.arg("launch");
    }
    command.args(["--host", "127.0.0.1", "--policy", "round_robin", "--prometheus-host", "127.0.0.1"]);
    command.args(["--port", &port.to_string(), "--prometheus-port", &metrics.to_string()]);
    command.args(["--worker-urls", &format!("http://{model}"), "--max-concurrent-requests", "8192"]);
    command.args(["--log-level", if flag == "--smg" { "error" } else { "critical" }]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let process = Process(child);
    let url = format!("http://127.0.0.1:{port}/v1/chat/completions");
    let body = json!({"model": "sim", "stream": true, "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]});
    let client = reqwest::blocking::Client::new();
    eventually("the router passes requests on", || {
        client.post(&url).json(&body).send().ok().filter(|answer| answer.status() == 200).map(drop)
    });
    Ok((process, SocketAddr::from(([127, 0, 0, 1], port))))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn measure(servers: &mut [Server], rounds: usize) -> Result<()> {
    // The first round warms up.
    for round in 0..=rounds {
        for server in &mut *servers {
            let before = cpu_s(server.pid)?;
            let streams = run_streams(server).await.context(server.name)?;
            if round > 0 {
                server.cpu_s += cpu_s(server.pid)? - before;
                server.num_tokens += streams.iter().map(|stream| stream.num_tokens).sum::<usize>();
                let added = |stream: &Streamed| {
                    stream.first_token.as_secs_f64() - model_stand_in::FIRST_TOKEN.as_secs_f64()
                };
                server.added.extend(streams.iter().map(added));
            }
        }
    }
    for server in servers {
        server.open_mib = open_streams(server).await.context(server.name)?;
    }
    Ok(())
}

/// All streams of a round; they begin spread over the time of a stream.
async fn run_streams(server: &Server) -> Result<Vec<Streamed>> {
    let all = model_stand_in::NEXT_TOKEN * u32::try_from(NUM_TOKENS)?;
    let streams = (0..NUM_STREAMS).map(async |number| {
        let mut client = ChatClient::connect(server.address, server.models[0], NUM_TOKENS).await?;
        tokio::time::sleep(all * u32::try_from(number)? / u32::try_from(NUM_STREAMS)?).await;
        let mut streamed = Vec::new();
        for _ in 0..STREAMS_EACH {
            streamed.push(client.stream().await?);
        }
        anyhow::Ok(streamed)
    });
    let mut all = Vec::new();
    for streams in futures_util::future::join_all(streams).await {
        all.extend(streams?);
    }
    // Several tokens may have come in one event.
    ensure!(all.iter().all(|stream| stream.num_tokens <= NUM_TOKENS && stream.num_tokens > NUM_TOKENS / 2));
    all.iter_mut().for_each(|stream| stream.num_tokens = NUM_TOKENS);
    Ok(all)
}

/// What the server's process holds for so many streams that are under way, in MiB.
async fn open_streams(server: &Server) -> Result<f64> {
    let before = Node::pss_mib_of(server.pid);
    let mut open = Vec::new();
    for _ in 0..NUM_OPEN {
        open.push(ChatClient::connect(server.address, server.models[1], 100).await?);
    }
    let begun = futures_util::future::join_all(open.iter_mut().map(ChatClient::begin)).await;
    begun.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(Node::pss_mib_of(server.pid) - before)
}

/// CPU time of a process, in seconds.
fn cpu_s(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may have spaces: state, then numbers; user and system time are the 14th and 15th of all.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 tokens")]
fn report(servers: &mut [Server]) {
    println!(
        "{NUM_STREAMS} streams of 100 tokens per second; added: time to the first token over the 20 ms that are set"
    );
    println!(
        "goals: added p50 at most 150 µs, p99 at most 1,000 µs; 12 µs of CPU a token; 100 MiB for {NUM_OPEN} streams"
    );
    println!(
        "| server | added p50 µs | p99 µs | CPU µs per token | streams per core | MiB for {NUM_OPEN} open streams |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let mut result = Map::new();
    for server in servers {
        server.added.sort_by(f64::total_cmp);
        let (p50, p99) = (quantile(&server.added, 50), quantile(&server.added, 99));
        let cpu_us = server.cpu_s * 1e6 / server.num_tokens as f64;
        let per_core = 1e6 / (cpu_us * 100.0);
        let open = server.open_mib;
        println!("| {} | {p50:.0} | {p99:.0} | {cpu_us:.1} | {per_core:.0} | {open:.0} |", server.name);
        result.insert(
            server.name.into(),
            json!({"added_p50_us": p50, "added_p99_us": p99, "cpu_us_per_token": cpu_us, "streams_per_core": per_core, "open_mib": open}),
        );
    }
    println!("{}", Value::Object(result));
}

/// What many replicas of a simulated model hold in one process, and what they compute while nobody calls.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
#[expect(clippy::cast_precision_loss, reason = "a thousand")]
fn measure_replicas() -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--empty"]).max_descriptors(MAX_DESCRIPTORS))?;
    cluster.wait_ready();
    let pid = u32::try_from(cluster.leader.pid().as_raw_nonzero().get())?;
    let deploy = |number: usize| {
        let text = format!(
            "name = \"many\"\n[deployments.sim]\nengine = \"sim\"\ncpus = 0.001\nmemory = \"1MiB\"\nreplicas = {number}\n"
        );
        cluster.deploy(&text, &["--timeout", "300s"])
    };
    deploy(1)?;
    let before = Node::pss_mib_of(pid);
    deploy(NUM_REPLICAS)?;
    eventually("all replicas are ready", || {
        (cluster.deployment("many/sim")["replicas_ready"] == NUM_REPLICAS).then_some(())
    });
    std::thread::sleep(Duration::from_secs(5));
    let (held, cpu) = (Node::pss_mib_of(pid) - before, cpu_s(pid)?);
    std::thread::sleep(Duration::from_secs(10));
    let idle = (cpu_s(pid)? - cpu) / 10.0;
    println!(
        "{NUM_REPLICAS} replicas in one process: {held:.0} MiB, {:.0} KiB each; idle, they take {:.1}% of a core",
        held * 1024.0 / NUM_REPLICAS as f64,
        idle * 100.0
    );
    Ok(())
}
