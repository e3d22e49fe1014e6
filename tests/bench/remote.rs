//! What it costs that ingress and worker are processes of their own: an echo pipeline in one process, in two over a Unix socket
//! and in two over TCP, beside a bare axum echo, on one machine in one run.
//!
//! ```text
//! cargo build --profile dist -p millstream -p millstream-tests --bins && target/dist/bench-remote
//! ```
//!
//! All servers run in processes of their own and answer the same 42 floats. Keep-alive connections, closed loop, rounds in turn, so
//! that a machine that drifts drifts for all.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_tests::echo_client::{self, call, connect, quantile, start_axum};
use millstream_tests::{Cluster, UpOptions, axum_echo};
use serde_json::{Map, Value, json};

const ROUNDS: usize = 8;
const ROUND_TIME: Duration = Duration::from_millis(600);
const NUM_CALLERS: usize = 40;

/// How calls go from ingress to worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    OneProcess,
    UnixSocket,
    Tcp,
}

/// A server under test, and what was measured of it.
struct Server {
    name: &'static str,
    address: SocketAddr,
    /// Seconds of each call of a lone caller.
    times: Vec<f64>,
    /// Calls of all rounds of many callers.
    num_calls: usize,
    _cluster: Option<Cluster>,
}

fn main() -> Result<()> {
    if let Some(file) = echo_client::axum_file() {
        return axum_echo::serve(Path::new(&file));
    }
    let (_axum, address) = start_axum()?;
    let server =
        |name, address, cluster| Server { name, address, times: vec![], num_calls: 0, _cluster: cluster };
    let mut servers = vec![server("bare axum", address, None)];
    for (name, way) in [
        ("one process", Way::OneProcess),
        ("two processes, Unix socket", Way::UnixSocket),
        ("two processes, TCP", Way::Tcp),
    ] {
        let (cluster, address) = bring_up(way)?;
        servers.push(server(name, address, Some(cluster)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&mut servers))?;
    report(&mut servers);
    Ok(())
}

fn bring_up(way: Way) -> Result<(Cluster, SocketAddr)> {
    let echo = fs::read_to_string(millstream_tests::root().join("pipelines/examples/echo.toml"))?;
    let cluster = if way == Way::OneProcess {
        Cluster::up(&UpOptions::new())?
    } else {
        let mut cluster = Cluster::up(&UpOptions::new().args(&["--roles", "head,ingress"]))?;
        cluster.join("worker", &["--roles", "worker"])?;
        cluster
    };
    if way == Way::Tcp {
        // Without the socket in the folder of the user's processes, the ingress takes the address.
        let sockets = fs::read_dir(cluster.folder().join("millstream"))?.flatten();
        for file in sockets.filter(|file| file.path().extension().is_some_and(|end| end == "sock")) {
            fs::remove_file(file.path())?;
        }
    }
    cluster.deploy(&echo, &[])?;
    let address = cluster.ingress()?;
    Ok((cluster, address))
}

async fn measure(servers: &mut [Server]) -> Result<()> {
    let body = echo_client::body();
    let mut lone = Vec::new();
    let mut many = Vec::new();
    for server in &mut *servers {
        let mut connection = connect(server.address).await?;
        for _ in 0..2_000 {
            call(&mut connection, &body).await?;
        }
        lone.push(connection);
        let mut connections = Vec::new();
        for _ in 0..NUM_CALLERS {
            connections.push(connect(server.address).await?);
        }
        many.push(connections);
    }
    for _ in 0..ROUNDS {
        for (at, server) in servers.iter_mut().enumerate() {
            let until = Instant::now() + ROUND_TIME;
            while Instant::now() < until {
                server.times.push(call(&mut lone[at], &body).await?);
            }
            let until = Instant::now() + ROUND_TIME;
            let callers = many[at].iter_mut().map(async |connection| {
                let mut num_calls = 0;
                while Instant::now() < until {
                    call(connection, &body).await?;
                    num_calls += 1;
                }
                anyhow::Ok(num_calls)
            });
            for num_calls in futures_util::future::join_all(callers).await {
                server.num_calls += num_calls?;
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 calls")]
fn report(servers: &mut [Server]) {
    let time = (ROUND_TIME * u32::try_from(ROUNDS).unwrap_or_default()).as_secs_f64();
    println!(
        "echo of 42 floats; goals: at most 60 µs above one process over a Unix socket, 80 µs over TCP; 0.6 of axum's calls a second"
    );
    println!(
        "| server | one caller: p50, p99 µs | above one process | {NUM_CALLERS} callers: calls a second | of bare axum's |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let per_s = |server: &Server| server.num_calls as f64 / time;
    let axum = per_s(&servers[0]);
    servers.iter_mut().for_each(|server| server.times.sort_by(f64::total_cmp));
    let one = quantile(&servers[1].times, 50);
    let mut result = Map::new();
    for server in servers {
        let (p50, p99) = (quantile(&server.times, 50), quantile(&server.times, 99));
        println!(
            "| {} | {p50:.0}, {p99:.0} | {:+.0} µs | {:.0} | {:.2} |",
            server.name,
            p50 - one,
            per_s(server),
            per_s(server) / axum
        );
        result.insert(server.name.into(), json!({"p50_us": p50, "p99_us": p99, "per_s": per_s(server)}));
    }
    println!("{}", Value::Object(result));
}
