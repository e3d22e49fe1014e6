//! What the framework costs: an echo pipeline beside a bare axum echo, on one machine in one run, and what an idle
//! cluster holds. `cargo build --profile dist -p millstream -p millstream-tests --bins && target/dist/bench-echo`
//!
//! It fails when a call costs more than [`MAX_RATIO`] times the bare server's: the one gate on speed, a ratio of one run.
//!
//! Both servers run in processes of their own (this program starts itself for the axum one) and answer the same 42
//! floats. One keep-alive connection each, closed loop, rounds in turn, so that a machine that drifts drifts for both.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use millstream_tests::echo_client::{call, connect, quantile, start_axum};
use millstream_tests::{Cluster, UpOptions, axum_echo, echo_client};
use serde_json::{Value, json};

const ROUNDS: usize = 10;
const REQUESTS_PER_ROUND: usize = 2_000;
const WARM_UP: usize = 2_000;
/// Most that the median call may take, in times of the bare server's. Measured: 1.05 to 1.4 (docs/benchmarks.md).
const MAX_RATIO: f64 = 1.8;

fn main() -> Result<()> {
    if let Some(file) = echo_client::axum_file() {
        return axum_echo::serve(Path::new(&file));
    }
    let start = Instant::now();
    let echo = millstream_tests::root().join("pipelines/examples/echo.toml");
    let mut cluster = Cluster::up(&UpOptions::new().file(echo))?;
    cluster.wait_ready();
    let ready = start.elapsed();
    let idle = cluster.leader.pss_mib();
    let (axum, axum_address) = start_axum()?;
    let ours_address = cluster.ingress()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (floor, ours) = runtime.block_on(measure(axum_address, ours_address))?;
    let loaded = cluster.leader.pss_mib();
    drop(axum);
    report(&floor, &ours, ready, idle, loaded);
    let ratio = quantile(&ours, 50) / quantile(&floor, 50);
    ensure!(ratio <= MAX_RATIO, "a call costs {ratio:.2} times the bare server's, more than {MAX_RATIO}");
    Ok(())
}

/// Latencies in seconds of both servers, measured in turn.
async fn measure(floor: SocketAddr, ours: SocketAddr) -> Result<(Vec<f64>, Vec<f64>)> {
    let body = echo_client::body();
    let mut connections = [connect(floor).await?, connect(ours).await?];
    let mut times = [Vec::new(), Vec::new()];
    for connection in &mut connections {
        for _ in 0..WARM_UP {
            call(connection, &body).await?;
        }
    }
    for _ in 0..ROUNDS {
        for (connection, times) in connections.iter_mut().zip(&mut times) {
            for _ in 0..REQUESTS_PER_ROUND {
                times.push(call(connection, &body).await?);
            }
        }
    }
    let [mut floor, mut ours] = times;
    floor.sort_by(f64::total_cmp);
    ours.sort_by(f64::total_cmp);
    Ok((floor, ours))
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
