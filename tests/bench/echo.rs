//! What the framework costs: an echo pipeline beside a bare axum echo, on one machine in one run, and what an idle
//! cluster holds. `cargo build --profile dist -p millstream -p millstream-tests --bins && target/dist/bench-echo`
//!
//! It fails when a call costs more than [`MAX_RATIO`] times the bare server's: the one gate on speed, a ratio of one run.
//!
//! Both servers run in processes of their own (this program starts itself for the axum one) and answer the same 42
//! floats. One keep-alive connection each at a time, closed loop, rounds in turn, so that a machine that drifts drifts for both. A second cluster
//! answers over TLS, and is asked on connections of one request as well.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use millstream_test_support::{Authority, ClientConfig, Resumption};
use millstream_tests::echo_client::{call, connect, connect_over_tls, quantile, start_axum};
use millstream_tests::{Cluster, UpOptions, axum_echo, echo_client};
use serde_json::{Value, json};

const ROUNDS: usize = 20;
const REQUESTS_PER_ROUND: usize = 1_000;
/// Calls of each connection before those that count.
const WARM_UP: usize = 300;
/// Connections of one request.
const CONNECTIONS: usize = 500;
/// Most that the median call may take, in times of the bare server's. Measured: 1.05 to 1.4 (docs/benchmarks.md).
const MAX_RATIO: f64 = 1.8;

fn main() -> Result<()> {
    if let Some(file) = echo_client::axum_file() {
        return axum_echo::serve(Path::new(&file));
    }
    let start = Instant::now();
    let echo = millstream_tests::root().join("pipelines/examples/echo.toml");
    let mut cluster = Cluster::up(&UpOptions::new().file(&echo))?;
    cluster.wait_ready();
    let ready = start.elapsed();
    let idle = cluster.leader.pss_mib();
    let (axum, axum_address) = start_axum()?;
    let (authority, folder) = (Authority::new("bench"), tempfile::tempdir()?);
    let (certificate, key) = authority.issue().write(folder.path())?;
    let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
    let flags = ["--tls-cert", &certificate, "--tls-key", &key];
    let mut secure = Cluster::up(&UpOptions::new().file(&echo).args(&flags))?;
    secure.wait_ready();
    let servers = Servers {
        floor: axum_address,
        ours: cluster.ingress()?,
        secure: secure.ingress()?,
        client: authority.client(&["http/1.1"]),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let [floor, ours, over_tls] = runtime.block_on(measure(&servers))?;
    let loaded = cluster.leader.pss_mib();
    report(&floor, &ours, ready, idle, loaded);
    let full = authority.client(&["http/1.1"]);
    let connections = runtime.block_on(measure_connections(&servers, &full))?;
    report_tls(&ours, &over_tls, &connections);
    drop(axum);
    let ratio = quantile(&ours, 50) / quantile(&floor, 50);
    ensure!(ratio <= MAX_RATIO, "a call costs {ratio:.2} times the bare server's, more than {MAX_RATIO}");
    Ok(())
}

/// What is measured.
struct Servers {
    floor: SocketAddr,
    ours: SocketAddr,
    secure: SocketAddr,
    /// What is spoken to the last one.
    client: Arc<ClientConfig>,
}

/// Latencies in seconds of all servers, measured in turn, sorted. A connection stays on the core that it came to first, which makes as
/// much of a difference as a framework does: so each round has new ones.
async fn measure(servers: &Servers) -> Result<[Vec<f64>; 3]> {
    let body = echo_client::body();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let secure = connect_over_tls(servers.secure, servers.client.clone()).await?;
        let mut connections = [connect(servers.floor).await?, connect(servers.ours).await?, secure];
        for (connection, times) in connections.iter_mut().zip(&mut times) {
            for _ in 0..WARM_UP {
                call(connection, &body).await?;
            }
            for _ in 0..REQUESTS_PER_ROUND {
                times.push(call(connection, &body).await?);
            }
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    Ok(times)
}

/// Seconds of a connection with its only request, sorted: in clear text, over TLS with a session that is resumed, and with a new one.
async fn measure_connections(servers: &Servers, fresh: &ClientConfig) -> Result<[Vec<f64>; 3]> {
    let body = echo_client::body();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..CONNECTIONS {
        let start = Instant::now();
        call(&mut connect(servers.ours).await?, &body).await?;
        times[0].push(start.elapsed().as_secs_f64());
        let mut new = fresh.clone();
        new.resumption = Resumption::disabled();
        for (times, client) in times[1..].iter_mut().zip([servers.client.clone(), Arc::new(new)]) {
            let start = Instant::now();
            call(&mut connect_over_tls(servers.secure, client).await?, &body).await?;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    Ok(times)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn report(floor: &[f64], ours: &[f64], ready: Duration, idle: f64, loaded: f64) {
    println!("echo of 42 floats, one connection, {} requests each", floor.len());
    println!("| server | p50 µs | p95 µs | p99 µs |\n| --- | --- | --- | --- |");
    for (name, times) in [("bare axum", floor), ("millstream", ours)] {
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} |",
            quantile(times, 50),
            quantile(times, 95),
            quantile(times, 99)
        );
    }
    println!("p50 ratio: {:.2} (goal: at most 1.5)", quantile(ours, 50) / quantile(floor, 50));
    println!("`cluster up` to ready: {:.0} ms (goal: under 1 s)", ready.as_secs_f64() * 1e3);
    println!("memory (PSS): {idle:.1} MiB idle, {loaded:.1} MiB after the load (goal: under 50)");
    let result = json!({
        "p50_us": {"axum": quantile(floor, 50), "millstream": quantile(ours, 50)},
        "ratio": quantile(ours, 50) / quantile(floor, 50),
        "ready_ms": ready.as_secs_f64() * 1e3, "idle_mib": idle,
    });
    println!("{}", serde_json::to_string::<Value>(&result).unwrap_or_default());
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn report_tls(clear: &[f64], over_tls: &[f64], connections: &[Vec<f64>; 3]) {
    let rate = |times: &[f64]| times.len() as f64 / times.iter().sum::<f64>();
    println!("| the same over | requests/s | p50 µs | p99 µs |\n| --- | --- | --- | --- |");
    for (name, times) in [("clear text", clear), ("TLS 1.3", over_tls)] {
        println!("| {name} | {:.0} | {:.1} | {:.1} |", rate(times), quantile(times, 50), quantile(times, 99));
    }
    println!("p50 over TLS: {:.2} times clear text", quantile(over_tls, 50) / quantile(clear, 50));
    println!("| connection and one request | p50 µs |\n| --- | --- |");
    for (name, times) in ["clear text", "TLS, resumed", "TLS, new (EC key)"].iter().zip(connections) {
        println!("| {name} | {:.0} |", quantile(times, 50));
    }
}
