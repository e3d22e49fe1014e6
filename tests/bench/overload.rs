//! Three times as many requests as there is room for, connections that do nothing, clients that leave.
//! `cargo build --release -p millstream -p millstream-tests --bins && target/release/bench-overload [SECONDS [BODY_BYTES…]]`
//!
//! One replica of an echo takes 8 calls of 10 ms at a time. For each size of body its capacity is measured first, in a
//! closed loop that keeps it full; then requests come at three times that for SECONDS (60 if not given). Each is sent
//! when it is due, whatever became of the others. The sizes are 17 bytes and 64 KiB (65536) if none is given; the
//! request and the answer are both that large. The program takes SECONDS and about 8 s for each size, and 15 s for the
//! connections and clients after the first size. Example: `290 17` overloads for 290 s with small bodies only.
//!
//! Memory is the PSS of the one process of the cluster: head, ingress and worker together. The peak is the largest of
//! the samples taken every 200 ms during the overload. The load generator is a process of its own on the same machine.
//! What it could not send for want of CPU shows in the row "sent, times capacity"; the rest of that column is then
//! easier to reach.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use millstream_tests::{Cluster, Echo, Node, UpOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SLOTS: usize = 8;
const CONNECTIONS: usize = 400;
const BODY_BYTES: [usize; 2] = [17, 64 << 10];
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
const TIMES_CAPACITY: f64 = 3.0;
const NUM_IDLE: usize = 2000;
const LEAVERS: usize = 30;

/// Where requests go, and the request with its body.
#[derive(Clone)]
struct Target {
    address: Arc<str>,
    request: Arc<[u8]>,
}

impl Target {
    /// A request whose body has that many bytes, at least those of an empty text.
    fn new(address: &str, body_bytes: usize) -> Self {
        const EMPTY: usize = r#"{"text": ""}"#.len();
        let body = format!(r#"{{"text": "{}"}}"#, "x".repeat(body_bytes.saturating_sub(EMPTY)));
        let length = body.len();
        let request = format!(
            "POST /echo HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Self { address: address.into(), request: request.into_bytes().into() }
    }
}

/// A connection that sends the same request again and again.
struct Caller {
    stream: TcpStream,
    request: Arc<[u8]>,
    buffer: Vec<u8>,
}

/// An answer, as far as it matters here.
#[derive(Debug, Clone, Copy)]
struct Answer {
    status: u16,
    has_retry_after: bool,
}

impl Caller {
    async fn connect(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(&*target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: target.request.clone(), buffer: Vec::with_capacity(4096) })
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
    took: Duration,
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
async fn capacity(target: &Target) -> Result<f64> {
    const SECONDS: u64 = 5;
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let mut callers = Vec::new();
    for _ in 0..2 * SLOTS {
        let (mut caller, stop, count) = (Caller::connect(target).await?, stop.clone(), count.clone());
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
async fn offer(target: &Target, rate_per_s: f64, duration: Duration) -> Result<Outcome> {
    let outcome = Arc::new(Outcome::default());
    let ticket = Arc::new(AtomicU64::new(0));
    let start = Instant::now() + Duration::from_millis(50);
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut caller, outcome, ticket) = (Caller::connect(target).await?, outcome.clone(), ticket.clone());
        let target = target.clone();
        callers.push(tokio::spawn(async move {
            loop {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                let number = ticket.fetch_add(1, Ordering::Relaxed) as f64;
                let due = Duration::from_secs_f64(number / rate_per_s);
                if due > duration || start.elapsed() > duration {
                    return;
                }
                tokio::time::sleep_until((start + due).into()).await;
                // A request that is sent late, for want of a free connection, counts from when it is sent: here the
                // time of a refusal matters, and the load generator's own backlog is no part of it.
                let sent = Instant::now();
                let answer = caller.call().await;
                if answer.is_err()
                    && let Ok(again) = Caller::connect(&target).await
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
    let outcome = Arc::into_inner(outcome).context("all callers have ended")?;
    Ok(Outcome { took: start.elapsed(), ..outcome })
}

/// Seconds until ten calls in a row take less than three times what they took before.
async fn until_normal(target: &Target, normal: Duration) -> Result<f64> {
    let start = Instant::now();
    let mut caller = Caller::connect(target).await?;
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

async fn single_call(target: &Target) -> Result<Duration> {
    let mut caller = Caller::connect(target).await?;
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
async fn leaving(target: &Target) -> Result<Vec<f64>> {
    let mut freed_ms = Vec::new();
    for _ in 0..LEAVERS {
        // Fills every place of the replica for 10 ms and the queue behind it, then leaves all of a sudden.
        let mut leavers = Vec::new();
        for _ in 0..SLOTS + 60 {
            let mut caller = Caller::connect(target).await?;
            caller.send().await?;
            leavers.push(caller);
        }
        let mut next = Caller::connect(target).await?;
        drop(leavers);
        let left = Instant::now();
        let answer = next.call().await?;
        ensure!(answer.status == 200, "the place was not free: {answer:?}");
        freed_ms.push((left.elapsed().as_secs_f64() * 1e3 - 10.0).max(0.0));
    }
    Ok(freed_ms)
}

/// An overload with bodies of one size.
struct Phase {
    body_bytes: usize,
    capacity: f64,
    outcome: Outcome,
    good_ms: [f64; 3],
    refused_ms: [f64; 3],
    recovery_s: f64,
    memory_mib: [f64; 3],
}

impl Phase {
    async fn measure(node: &Node, target: &Target, body_bytes: usize, duration: Duration) -> Result<Self> {
        let normal = single_call(target).await?;
        let capacity = capacity(target).await?;
        let before = node.pss_mib();
        let mut peak = before;
        let watch = async {
            loop {
                tokio::time::sleep(SAMPLE_EVERY).await;
                peak = node.pss_mib().max(peak);
            }
        };
        let outcome = tokio::select! {
            outcome = offer(target, TIMES_CAPACITY * capacity, duration) => outcome?,
            () = watch => unreachable!("memory is watched until the load ends"),
        };
        let recovery_s = until_normal(target, normal).await?;
        let good_ms = quantiles(&mut outcome.good_ms.lock());
        let refused_ms = quantiles(&mut outcome.refused_ms.lock());
        let after = node.pss_mib();
        let memory_mib = [before, peak.max(after), after];
        Ok(Self { body_bytes, capacity, outcome, good_ms, refused_ms, recovery_s, memory_mib })
    }

    /// Requests a second that got this answer, or were sent, as a multiple of the capacity.
    fn of_capacity(&self, count: u64) -> f64 {
        rate(count, self.outcome.took) / self.capacity
    }

    fn good(&self) -> u64 {
        self.outcome.good.load(Ordering::Relaxed)
    }

    fn refused(&self) -> u64 {
        self.outcome.refused.load(Ordering::Relaxed)
    }

    fn failed(&self) -> u64 {
        self.outcome.failed.load(Ordering::Relaxed)
    }

    fn sent(&self) -> u64 {
        self.good() + self.refused() + self.failed()
    }

    fn to_json(&self) -> Value {
        json!({
            "body_bytes": self.body_bytes, "capacity_per_s": self.capacity,
            "sent_ratio": self.of_capacity(self.sent()), "goodput_ratio": self.of_capacity(self.good()),
            "good": self.good(), "refused": self.refused(), "failed": self.failed(),
            "good_ms": self.good_ms, "refused_ms": self.refused_ms,
            "recovery_s": self.recovery_s, "memory_mib": self.memory_mib,
        })
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn print_phases(phases: &[Phase], seconds: u64) {
    let row = |what: &str, goal: &str, cell: &dyn Fn(&Phase) -> String| {
        let cells: Vec<_> = phases.iter().map(cell).collect();
        println!("| {what} | {} | {goal} |", cells.join(" | "));
    };
    let three = |values: [f64; 3]| format!("{:.1} / {:.1} / {:.0} ms", values[0], values[1], values[2]);
    row(&format!("three times capacity for {seconds} s"), "goal", &|phase| {
        format!("bodies of {} bytes", phase.body_bytes)
    });
    row("---", "---", &|_| "---".into());
    row("capacity, answers per second", "", &|phase| format!("{:.0}", phase.capacity));
    row("sent, times capacity", "3", &|phase| format!("{:.2}", phase.of_capacity(phase.sent())));
    row("goodput, of capacity", "at least 90%", &|phase| {
        format!("{:.1}%", 100.0 * phase.of_capacity(phase.good()))
    });
    row("answered", "", &|phase| phase.good().to_string());
    row("answered after, p50 / p99 / most", "", &|phase| three(phase.good_ms));
    row("refused", "", &|phase| phase.refused().to_string());
    row("refused after, p50 / p99 / most", "p99 50 ms", &|phase| three(phase.refused_ms));
    row("refusals without Retry-After", "none", &|phase| {
        phase.outcome.without_retry_after.load(Ordering::Relaxed).to_string()
    });
    row("failed otherwise", "none", &|phase| phase.failed().to_string());
    row("normal again after", "5 s", &|phase| format!("{:.2} s", phase.recovery_s));
    row("memory before / peak / after", "bounded", &|phase| {
        let [before, peak, after] = phase.memory_mib;
        format!("{before:.0} / {peak:.0} / {after:.0} MiB")
    });
}

/// Requests of others while connections are idle, and the memory that these take.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
async fn beside_idle_connections(node: &Node, target: &Target, capacity: f64) -> Result<f64> {
    let before = node.pss_mib();
    let idle = idle_connections(&target.address).await?;
    let probe = offer(target, 0.25 * capacity, Duration::from_secs(10)).await?;
    let taken = node.pss_mib() - before;
    drop(idle);
    let failed = probe.failed.into_inner() + probe.refused.into_inner();
    println!("| {NUM_IDLE} connections, idle or sending a byte a second | found | goal |");
    println!("| --- | --- | --- |");
    println!("| requests of others, failed | {failed} of {} | none |", failed + probe.good.into_inner());
    println!("| memory they take | {taken:.0} MiB | at most 64 MiB |");
    Ok(taken)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let seconds: u64 = args.next().map_or(Ok(60), |text| text.parse()).context("how many seconds?")?;
    let sizes: Result<Vec<usize>, _> = args.map(|text| text.parse()).collect();
    let sizes = sizes.context("how many bytes?")?;
    let sizes = if sizes.is_empty() { BODY_BYTES.to_vec() } else { sizes };
    let pipeline = Echo::new("echo").deployment("delay = \"10ms\"\nmax_ongoing_requests = 8");
    let mut cluster = Cluster::up(&UpOptions::new().pipeline(&pipeline))?;
    cluster.wait_ready();
    let url = cluster.url("/echo");
    let address = url.trim_start_matches("http://").trim_end_matches("/echo");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut phases: Vec<Phase> = Vec::new();
        let mut result = json!({});
        for body_bytes in sizes {
            let (node, target) = (&cluster.leader, Target::new(address, body_bytes));
            let phase = Phase::measure(node, &target, body_bytes, Duration::from_secs(seconds)).await?;
            // Before larger bodies come: memory that is given back later would hide what connections take.
            if phases.is_empty() {
                result["idle_memory_mib"] =
                    beside_idle_connections(node, &target, phase.capacity).await?.into();
                let [p50, p99, most] = quantiles(&mut leaving(&target).await?);
                println!("\nclients that leave, replica and queue full: the next call begins after {p50:.1} / {p99:.1} / {most:.1} ms (p50 / p99 / most; goal: 100 ms)\n");
                result["freed_p99_ms"] = p99.into();
            }
            phases.push(phase);
        }
        print_phases(&phases, seconds);
        result["phases"] = phases.iter().map(Phase::to_json).collect();
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
