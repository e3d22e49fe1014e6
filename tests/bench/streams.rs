//! What a chat stream costs: a simulated model behind `/v1/chat/completions` at 64 streams of 100 tokens per second, what 2,000 open
//! streams hold, and what 1,000 replicas of such a model do. Beside it routers in front of a plain axum server that streams at the same
//! pace, in turn, where they are installed:
//!
//! ```text
//! python3 tests/bench/peers/streams.py                                     # installs the routers, builds, and runs this
//! target/dist/bench-streams [ROUNDS] [--quick] [--smg PROGRAM] [--vllm-router PROGRAM]
//! ```
//!
//! CPU time is of the server's process: of ours, ingress and simulated engine together; of a router, the router alone. `--quick` is to
//! see that all of it runs: its figures say nothing.

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use millstream_tests::chat_client::{ChatClient, Streamed};
use millstream_tests::echo_client::{OwnServer, address_file, quantile, start_own};
use millstream_tests::{
    Cluster, UpOptions, allow_descriptors, cpu_s_of, eventually, model_stand_in, pss_mib_of,
};
use serde_json::{Map, Value, json};

const STAND_IN: &str = "--stand-in";
const NUM_STREAMS: usize = 64;
const NUM_TOKENS: usize = 100;
/// Streams of each connection in a round.
const STREAMS_EACH: usize = 2;
/// A router has two sockets for each stream.
const MAX_DESCRIPTORS: u64 = 10_000;
/// Longest time until a router passes requests on.
const MAX_START: Duration = Duration::from_secs(30);
/// Longest time that one part of the measuring may take.
const MAX_TIME: Duration = Duration::from_secs(60);

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

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    num_open: usize,
    num_replicas: usize,
    /// Time in which idle replicas are watched.
    idle: Duration,
}

const FULL: Size = Size { rounds: 4, num_open: 2_000, num_replicas: 1_000, idle: Duration::from_secs(10) };
const QUICK: Size = Size { rounds: 1, num_open: 200, num_replicas: 50, idle: Duration::from_secs(2) };

/// A server under test, and what was measured of it.
struct Server {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
    /// The model of the streams whose pace is measured, and of those that stay open.
    models: [&'static str; 2],
    /// Seconds to the first token over what was set.
    added: Vec<f64>,
    cpu_s: f64,
    num_tokens: usize,
    open_mib: f64,
    /// Why it is measured no further.
    fault: Option<String>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let after = |flag: &str| arguments.iter().position(|it| it == flag).and_then(|at| arguments.get(at + 1));
    if let Some(file) = address_file(STAND_IN) {
        return model_stand_in::serve(Path::new(&file));
    }
    let mut size = if arguments.iter().any(|it| it == "--quick") { QUICK } else { FULL };
    if let Some(rounds) = arguments.first().and_then(|number| number.parse().ok()) {
        size.rounds = rounds;
    }
    // The servers are processes that this one starts.
    allow_descriptors(MAX_DESCRIPTORS)?;
    let mut cluster = Cluster::up(&UpOptions::new().pipeline(MODELS))?;
    cluster.wait_ready();
    let (stand_in, stand_in_address) = start_own(STAND_IN)?;
    let ours = cluster.ingress()?;
    let mut servers = vec![
        server("Millstream, with its engine", ours, cluster.leader.pid_number(), ["chat/sim", "chat/slow"]),
        server("the axum stand-in itself", stand_in_address, stand_in.pid(), ["sim", "sim"]),
    ];
    let mut routers = Vec::new();
    for (name, flag) in [("SMG", "--smg"), ("vllm-router", "--vllm-router")] {
        if let Some(program) = after(flag) {
            let (router, address) = start_router(flag, program, stand_in_address)?;
            let fault = wait_for_router(address).err().map(|error| error.to_string());
            servers.push(Server { fault, ..server(name, address, router.pid(), ["sim", "sim"]) });
            routers.push(router);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&mut servers, size))?;
    report(&mut servers, size);
    drop((cluster, routers));
    measure_replicas(size)?;
    ensure!(
        servers.iter().all(|server| server.fault.is_none()),
        "not all servers could be measured, see above"
    );
    Ok(())
}

fn server(name: &'static str, address: SocketAddr, pid: u32, models: [&'static str; 2]) -> Server {
    Server {
        name,
        address,
        pid,
        models,
        added: vec![],
        cpu_s: 0.0,
        num_tokens: 0,
        open_mib: f64::NAN,
        fault: None,
    }
}

/// Starts a router in front of the stand-in.
fn start_router(flag: &str, program: &str, model: SocketAddr) -> Result<(OwnServer, SocketAddr)> {
    let [port, metrics] = [free_port()?, free_port()?];
    let mut command = Command::new(program);
    if flag == "--smg" {
        command.arg("launch");
    }
    command.args(["--host", "127.0.0.1", "--policy", "round_robin", "--prometheus-host", "127.0.0.1"]);
    command.args(["--port", &port.to_string(), "--prometheus-port", &metrics.to_string()]);
    command.args(["--worker-urls", &format!("http://{model}"), "--max-concurrent-requests", "8192"]);
    command.args(["--log-level", if flag == "--smg" { "error" } else { "critical" }]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.with_context(|| format!("starting `{program}`"))?;
    Ok((child.into(), SocketAddr::from(([127, 0, 0, 1], port))))
}

/// Waits until a router passes a request on.
fn wait_for_router(address: SocketAddr) -> Result<()> {
    let url = format!("http://{address}/v1/chat/completions");
    let body = json!({"model": "sim", "stream": true, "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]});
    let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(5)).build()?;
    let start = Instant::now();
    loop {
        let fault = match client.post(&url).json(&body).send() {
            Ok(answer) if answer.status() == 200 => return Ok(()),
            Ok(answer) => answer.status().to_string(),
            Err(error) => error.to_string(),
        };
        ensure!(start.elapsed() < MAX_START, "it passes no request on: {fault}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn measure(servers: &mut [Server], size: Size) -> Result<()> {
    // The first round warms up.
    for round in 0..=size.rounds {
        for server in servers.iter_mut().filter(|server| server.fault.is_none()) {
            let before = cpu_s_of(server.pid)?;
            let streams = match in_time(run_streams(server)).await {
                Ok(streams) => streams,
                Err(error) => {
                    server.fault = Some(format!("{error:#}"));
                    continue;
                }
            };
            if round > 0 {
                server.cpu_s += cpu_s_of(server.pid)? - before;
                server.num_tokens += streams.iter().map(|stream| stream.num_tokens).sum::<usize>();
                let set = model_stand_in::FIRST_TOKEN.as_secs_f64();
                server.added.extend(streams.iter().map(|stream| stream.first_token.as_secs_f64() - set));
            }
        }
    }
    for server in servers.iter_mut().filter(|server| server.fault.is_none()) {
        match in_time(open_streams(server, size.num_open)).await {
            Ok(mib) => server.open_mib = mib,
            Err(error) => server.fault = Some(format!("{error:#}")),
        }
    }
    Ok(())
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(MAX_TIME, work).await.with_context(|| format!("not over after {MAX_TIME:?}"))?
}

/// All streams of a round; they begin spread over the time of a stream.
async fn run_streams(server: &Server) -> Result<Vec<Streamed>> {
    let all = model_stand_in::NEXT_TOKEN * u32::try_from(NUM_TOKENS)?;
    let streams = (0..NUM_STREAMS).map(async |number| {
        let mut client = ChatClient::connect(server.address, server.models[0], NUM_TOKENS).await?;
        tokio::time::sleep(all * u32::try_from(number)? / u32::try_from(NUM_STREAMS)?).await;
        let mut streamed = Vec::new();
        for round in 0..STREAMS_EACH {
            streamed.push(client.stream().await?);
            tokio::time::sleep(pause(number * STREAMS_EACH + round)).await;
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

/// After a stream: somebody who asks again does not know when the model takes its steps. At once, each would ask while the tokens of all
/// streams go out.
fn pause(stream: usize) -> Duration {
    // By the golden ratio: spread evenly over a step.
    #[expect(clippy::cast_precision_loss, reason = "a few hundred streams")]
    let part = (stream as f64 * 0.618_034).fract();
    model_stand_in::NEXT_TOKEN.mul_f64(1.0 + part)
}

/// What the server's process holds for so many streams that are under way, in MiB.
async fn open_streams(server: &Server, num_open: usize) -> Result<f64> {
    let before = pss_mib_of(server.pid);
    let mut open = Vec::new();
    for _ in 0..num_open {
        open.push(
            ChatClient::connect(server.address, server.models[1], model_stand_in::SLOW_FROM_TOKENS).await?,
        );
    }
    let begun = futures_util::future::join_all(open.iter_mut().map(ChatClient::begin)).await;
    begun.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(pss_mib_of(server.pid) - before)
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 tokens")]
impl Server {
    fn cpu_us_per_token(&self) -> f64 {
        self.cpu_s * 1e6 / self.num_tokens as f64
    }

    /// Streams of 100 tokens per second that a core serves.
    fn streams_per_core(&self) -> f64 {
        1e6 / (self.cpu_us_per_token() * 100.0)
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn report(servers: &mut [Server], size: Size) {
    println!(
        "{NUM_STREAMS} streams of 100 tokens per second; added: time to the first token over the 20 ms that are set\n"
    );
    let open = size.num_open;
    println!(
        "| server | added p50, µs | p99, µs | CPU per token, µs | streams per core | MiB for {open} open streams |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let mut result = Map::new();
    for server in &mut *servers {
        if let Some(fault) = &server.fault {
            println!("| {} | not measured: {} | | | | |", server.name, fault.replace('\n', " "));
            continue;
        }
        server.added.sort_by(f64::total_cmp);
        let (p50, p99) = (quantile(&server.added, 50), quantile(&server.added, 99));
        let (cpu_us, per_core, mib) = (server.cpu_us_per_token(), server.streams_per_core(), server.open_mib);
        println!("| {} | {p50:.0} | {p99:.0} | {cpu_us:.1} | {per_core:.0} | {mib:.0} |", server.name);
        result.insert(
            server.name.into(),
            json!({"added_p50_us": p50, "added_p99_us": p99, "cpu_us_per_token": cpu_us, "streams_per_core": per_core, "open_mib": mib}),
        );
    }
    println!("\n{}\n", Value::Object(result));
    report_goals(servers, size);
}

/// Our figures beside what is wanted of them.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn report_goals(servers: &[Server], size: Size) {
    let [ours, _, routers @ ..] = servers else { return };
    if ours.fault.is_some() {
        return;
    }
    let verdict = |is_met| if is_met { "met" } else { "missed" };
    println!("| goal | measured | wanted | |");
    println!("| --- | ---: | ---: | --- |");
    let open = format!("{} open streams, MiB", size.num_open);
    for (what, measured, most) in [
        ("added time to the first token, p50, µs", quantile(&ours.added, 50), 150.0),
        ("added time to the first token, p99, µs", quantile(&ours.added, 99), 1000.0),
        ("CPU per token, server and engine together, µs", ours.cpu_us_per_token(), 12.0),
        (open.as_str(), ours.open_mib, 100.0),
    ] {
        println!("| {what} | {measured:.1} | at most {most:.0} | {} |", verdict(measured <= most));
    }
    let measured = routers.iter().filter(|router| router.fault.is_none()).map(Server::streams_per_core);
    match measured.max_by(f64::total_cmp) {
        None => println!("| streams per core, beside the better router | no router was measured | | |"),
        Some(best) => {
            let ratio = ours.streams_per_core() / best;
            println!(
                "| streams per core, beside the better router | {ratio:.1}× | at least 2× | {} |",
                verdict(ratio >= 2.0)
            );
        }
    }
}

/// What many replicas of a simulated model hold in one process, and what they compute while nobody calls.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
#[expect(clippy::cast_precision_loss, reason = "a thousand")]
fn measure_replicas(size: Size) -> Result<()> {
    let mut cluster = Cluster::up(&UpOptions::new().args(&["--empty"]))?;
    cluster.wait_ready();
    let pid = cluster.leader.pid_number();
    let deploy = |number: usize| {
        let text = format!(
            "name = \"many\"\n[deployments.sim]\nengine = \"sim\"\ncpus = 0.001\nmemory = \"1MiB\"\nreplicas = {number}\n"
        );
        cluster.deploy(&text, &["--timeout", "300s"])
    };
    deploy(1)?;
    let (before, cpu_before, start) = (pss_mib_of(pid), cpu_s_of(pid)?, Instant::now());
    deploy(size.num_replicas)?;
    eventually("all replicas are ready", || {
        (cluster.deployment("many/sim")["ready_replicas"] == size.num_replicas).then_some(())
    });
    let (took, cpu_of_start) = (start.elapsed().as_secs_f64(), cpu_s_of(pid)? - cpu_before);
    std::thread::sleep(size.idle / 2);
    let (held, cpu) = (pss_mib_of(pid) - before, cpu_s_of(pid)?);
    std::thread::sleep(size.idle);
    let idle = (cpu_s_of(pid)? - cpu) / size.idle.as_secs_f64();
    let number = size.num_replicas;
    println!(
        "\n{number} replicas in one process: ready after {took:.1} s and {cpu_of_start:.1} s of CPU; {held:.0} MiB, {:.0} KiB each; idle, they take {:.1}% of a core",
        held * 1024.0 / number as f64,
        idle * 100.0
    );
    Ok(())
}
