//! Three times as many requests as there is room for, connections that do nothing, clients that leave.
//! `cargo build --release && cargo run --release -p millstream-tests --bin bench-overload [-- SECONDS]`
//!
//! One replica of an echo takes 8 calls of 10 ms at a time. Its capacity is measured first, in a closed loop that keeps it
//! full; then requests come at three times that, each when it is due whatever became of the others.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, Echo, UpOptions};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SLOTS: usize = 8;
const CONNECTIONS: usize = 400;
const TIMES_CAPACITY: f64 = 3.0;
const NUM_IDLE: usize = 2000;
const LEAVERS: usize = 30;

/// A connection that sends the same request again and again.
struct Caller {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// An answer, as far as it matters here.
#[derive(Debug, Clone, Copy)]
struct Answer {
    status: u16,
    has_retry_after: bool,
}

impl Caller {
    async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let body = r#"{"text": "hello"}"#;
        let length = body.len();
        let request = format!(
            "POST /echo HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Ok(Self { stream, request: request.into_bytes(), buffer: Vec::with_capacity(4096) })
    }

    async fn send(&mut self) -> Result<()> {
        Ok(self.stream.write_all(&self.request).await?)
    }

    async fn receive(&mut self) -> Result<Answer> {
        self.buffer.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
            let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end])?.to_ascii_lowercase();
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
            let length: usize = field("content-length: ").context("a response without a length")?.parse()?;
            while self.buffer.len() < end + 4 + length {
                ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
            }
            let status = head.split(' ').nth(1).context("no status")?.parse()?;
            return Ok(Answer { status, has_retry_after: field("retry-after: ").is_some() });
        }
    }

    async fn call(&mut self) -> Result<Answer> {
        self.send().await?;
        self.receive().await
    }
}

/// What came of a load.
#[derive(Default)]
struct Outcome {
    good: AtomicU64,
    refused: AtomicU64,
    without_retry_after: AtomicU64,
    failed: AtomicU64,
    good_ms: Mutex<Vec<f64>>,
    refused_ms: Mutex<Vec<f64>>,
}

impl Outcome {
    fn count(&self, answer: Option<Answer>, took: Duration) {
        let ms = took.as_secs_f64() * 1e3;
        match answer {
            Some(Answer { status: 200, .. }) => {
                self.good.fetch_add(1, Ordering::Relaxed);
                self.good_ms.lock().push(ms);
            }
            Some(Answer { status: 503 | 429, has_retry_after }) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                self.without_retry_after.fetch_add(u64::from(!has_retry_after), Ordering::Relaxed);
                self.refused_ms.lock().push(ms);
            }
            _ => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// Answers a second with every place of the replica taken all the time, and as many waiting.
async fn capacity(address: &str) -> Result<f64> {
    const SECONDS: u64 = 5;
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let mut callers = Vec::new();
    for _ in 0..2 * SLOTS {
        let (mut caller, stop, count) = (Caller::connect(address).await?, stop.clone(), count.clone());
        callers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if matches!(caller.call().await, Ok(Answer { status: 200, .. })) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, start) = (count.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let answered = count.load(Ordering::Relaxed) - before;
    let rate = rate(answered, start.elapsed());
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await?;
    }
    Ok(rate)
}

/// Sends at a rate, each request when it is due, for some time.
async fn offer(address: &str, rate_per_s: f64, duration: Duration) -> Result<Outcome> {
    let outcome = Arc::new(Outcome::default());
    let ticket = Arc::new(AtomicU64::new(0));
    let start = Instant::now() + Duration::from_millis(50);
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut caller, outcome, ticket) =
            (Caller::connect(address).await?, outcome.clone(), ticket.clone());
        let address = address.to_owned();
        callers.push(tokio::spawn(async move {
            loop {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                let number = ticket.fetch_add(1, Ordering::Relaxed) as f64;
                let due = Duration::from_secs_f64(number / rate_per_s);
                if due > duration {
                    return;
                }
                tokio::time::sleep_until((start + due).into()).await;
                // A request that is sent late, for want of a free connection, counts from when it is sent: here the
                // time of a refusal matters, and the load generator's own backlog is no part of it.
                let sent = Instant::now();
                let answer = caller.call().await;
                if answer.is_err()
                    && let Ok(again) = Caller::connect(&address).await
                {
                    caller = again;
                }
                outcome.count(answer.ok(), sent.elapsed());
            }
        }));
    }
    for caller in callers {
        caller.await?;
    }
    Arc::into_inner(outcome).context("all callers have ended")
}

/// Seconds until ten calls in a row take less than three times what they took before.
async fn until_normal(address: &str, normal: Duration) -> Result<f64> {
    let start = Instant::now();
    let mut caller = Caller::connect(address).await?;
    let mut since = start;
    let mut in_a_row = 0;
    while in_a_row < 10 {
        let sent = Instant::now();
        let answer = caller.call().await?;
        if answer.status == 200 && sent.elapsed() < 3 * normal {
            in_a_row += 1;
        } else {
            in_a_row = 0;
            since = Instant::now();
        }
    }
    Ok(since.duration_since(start).as_secs_f64())
}

async fn single_call(address: &str) -> Result<Duration> {
    let mut caller = Caller::connect(address).await?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let sent = Instant::now();
        caller.call().await?;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    Ok(times[25])
}

/// How long after a client has left its place is somebody else's: the only place of a replica, and the last one of the
/// queue before it. Milliseconds.
async fn leaving(address: &str) -> Result<Vec<f64>> {
    let mut freed_ms = Vec::new();
    for _ in 0..LEAVERS {
        // Fills every place of the replica for 10 ms and the queue behind it, then leaves all of a sudden.
        let mut leavers = Vec::new();
        for _ in 0..SLOTS + 60 {
            let mut caller = Caller::connect(address).await?;
            caller.send().await?;
            leavers.push(caller);
        }
        let mut next = Caller::connect(address).await?;
        drop(leavers);
        let left = Instant::now();
        let answer = next.call().await?;
        ensure!(answer.status == 200, "the place was not free: {answer:?}");
        freed_ms.push((left.elapsed().as_secs_f64() * 1e3 - 10.0).max(0.0));
    }
    Ok(freed_ms)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() -> Result<()> {
    let seconds: u64 = env::args().nth(1).map_or(Ok(60), |text| text.parse()).context("how many seconds?")?;
    let pipeline = Echo::new("echo").deployment("delay = \"10ms\"\nmax_ongoing_requests = 8");
    let mut cluster = Cluster::up(&UpOptions::new().pipeline(&pipeline))?;
    cluster.wait_ready();
    let url = cluster.url("/echo");
    let address = url.trim_start_matches("http://").trim_end_matches("/echo").to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let normal = single_call(&address).await?;
        let capacity = capacity(&address).await?;
        let before = cluster.leader.pss_mib();
        let outcome = offer(&address, TIMES_CAPACITY * capacity, Duration::from_secs(seconds)).await?;
        let recovery_s = until_normal(&address, normal).await?;
        let after = cluster.leader.pss_mib();
        let goodput = rate(outcome.good.load(Ordering::Relaxed), Duration::from_secs(seconds));
        let (mut good_ms, mut refused_ms) =
            (outcome.good_ms.into_inner(), outcome.refused_ms.into_inner());
        let [_, good_p99, _] = quantiles(&mut good_ms);
        let [refused_p50, refused_p99, refused_max] = quantiles(&mut refused_ms);
        println!("| three times capacity for {seconds} s | found | goal |");
        println!("| --- | --- | --- |");
        println!("| capacity, answers per second | {capacity:.0} | |");
        println!("| goodput, of capacity | {:.1}% | at least 90% |", 100.0 * goodput / capacity);
        println!("| answered, p99 | {good_p99:.0} ms | |");
        println!("| refused after, p50 / p99 / most | {refused_p50:.1} / {refused_p99:.1} / {refused_max:.0} ms | 50 ms |");
        println!("| refusals without Retry-After | {} of {} | none |", outcome.without_retry_after.into_inner(), outcome.refused.into_inner());
        println!("| failed otherwise | {} | none |", outcome.failed.into_inner());
        println!("| normal again after | {recovery_s:.2} s | 5 s |");
        println!("| memory before / after | {before:.0} / {after:.0} MiB | bounded |");

        let idle = idle_connections(&address).await?;
        let probe = offer(&address, 0.25 * capacity, Duration::from_secs(10)).await?;
        let with_idle = cluster.leader.pss_mib();
        println!("\n| {NUM_IDLE} connections, idle or sending a byte a second | found | goal |");
        println!("| --- | --- | --- |");
        println!("| requests of others, failed | {} of {} | none |", probe.failed.into_inner() + probe.refused.into_inner(), probe.good.into_inner());
        println!("| memory they take | {:.0} MiB | at most 64 MiB |", with_idle - after);
        drop(idle);

        let mut freed_ms = leaving(&address).await?;
        let [p50, p99, most] = quantiles(&mut freed_ms);
        println!("\nclients that leave, replica and queue full: the next call begins after {p50:.1} / {p99:.1} / {most:.1} ms (p50 / p99 / most; goal: 100 ms)");
        let result = json!({
            "capacity_per_s": capacity, "goodput_ratio": goodput / capacity, "refused_p99_ms": refused_p99,
            "recovery_s": recovery_s, "memory_mib": [before, after], "idle_memory_mib": with_idle - after,
            "freed_p99_ms": p99,
        });
        println!("{result}");
        Ok(())
    })
}

/// Connections that say nothing, and as many that send a byte of a head each second.
async fn idle_connections(address: &str) -> Result<tokio::task::JoinSet<()>> {
    let mut idle = tokio::task::JoinSet::new();
    for number in 0..NUM_IDLE {
        let mut stream = TcpStream::connect(address).await?;
        idle.spawn(async move {
            for byte in b"POST /echo HTTP/1.1\r\nhost: x\r\n".iter().cycle() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if number % 2 == 0 && stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(idle)
}

/// Median, 99th percentile and the most; zeros of nothing.
fn quantiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values.get((values.len() * part / 100).min(values.len().saturating_sub(1)));
    [50, 99, 100].map(|part| at(part).copied().unwrap_or_default())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
