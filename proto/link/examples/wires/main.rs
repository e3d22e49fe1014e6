//! Calls between two processes over this crate's frames, beside gRPC with one HTTP/2 stream for each call and a codec of raw
//! bytes: what decided between them (docs/decisions/0008-calls-have-their-own-frames.md).
//!
//! Both ends are in this process, each on a runtime with one thread, so that CPU is what both ends take together.
//!
//! ```text
//! cargo run --profile dist -p millstream-link --example wires
//! ```
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and takes time")]

mod frames;
mod grpc;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Payload of a small call and of its answer.
const SMALL_BYTES: usize = 64;
const LARGE_BYTES: usize = 60 << 20;
const RUN_TIME: Duration = Duration::from_secs(3);
const NUM_STREAMS: usize = 1_000;
const PARTS_PER_S: u32 = 50;

/// Where the two ends meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    Unix,
    Tcp,
}

type Done = Pin<Box<dyn Future<Output = Result<usize>> + Send>>;

/// A way to make calls.
pub(crate) trait Calls: Send + Sync {
    /// A call that is answered with what it says; returns the answer's length.
    fn echo(&self, payload: bytes::Bytes) -> Done;
    /// A call that is answered with so many parts a second, until it is dropped.
    fn stream(&self) -> Done;
}

/// CPU time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[derive(Debug, Default)]
struct Measured {
    num_calls: usize,
    p50: Duration,
    p99: Duration,
    per_s: f64,
    cpu_us: f64,
}

/// Calls of so many callers at a time, for a while.
async fn measure(calls: Arc<dyn Calls>, num_callers: usize) -> Result<Measured> {
    let (began, cpu_before) = (Instant::now(), cpu());
    let callers: Vec<_> = (0..num_callers)
        .map(|_| {
            let calls = calls.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while began.elapsed() < RUN_TIME {
                    let start = Instant::now();
                    anyhow::ensure!(calls.echo(vec![7; SMALL_BYTES].into()).await? == SMALL_BYTES, "an echo");
                    times.push(start.elapsed());
                }
                Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    let (took, cpu) = (began.elapsed(), cpu() - cpu_before);
    times.sort();
    Ok(Measured {
        num_calls: times.len(),
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        per_s: times.len() as f64 / took.as_secs_f64(),
        cpu_us: cpu.as_secs_f64() * 1e6 / times.len() as f64,
    })
}

/// The same beside a caller that sends large payloads without a pause.
async fn beside_large(calls: Arc<dyn Calls>) -> Result<(Measured, usize)> {
    let stop = Arc::new(AtomicBool::new(false));
    let large = tokio::spawn({
        let (calls, stop) = (calls.clone(), stop.clone());
        async move {
            let payload = bytes::Bytes::from(vec![7; LARGE_BYTES]);
            let mut num = 0;
            while !stop.load(Ordering::Relaxed) {
                anyhow::ensure!(calls.echo(payload.clone()).await? == LARGE_BYTES, "a large echo");
                num += 1;
            }
            Ok(num)
        }
    });
    let measured = measure(calls, 1).await?;
    stop.store(true, Ordering::Relaxed);
    Ok((measured, large.await??))
}

/// The same beside many streams, and the share of a core that these take.
async fn beside_streams(calls: Arc<dyn Calls>) -> Result<(Measured, f64)> {
    let streams: Vec<_> = (0..NUM_STREAMS).map(|_| tokio::spawn(calls.stream())).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (began, cpu_before) = (Instant::now(), cpu());
    tokio::time::sleep(RUN_TIME).await;
    let cores = (cpu() - cpu_before).as_secs_f64() / began.elapsed().as_secs_f64();
    let measured = measure(calls, 1).await?;
    streams.iter().for_each(tokio::task::JoinHandle::abort);
    Ok((measured, cores))
}

fn one_thread() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn main() -> Result<()> {
    println!(
        "| wire | socket | one caller: p50, p99 µs | 40 callers: calls/s, CPU µs a call | p99 µs beside 60 MiB payloads (their MiB/s) | \
         1,000 streams at {PARTS_PER_S} parts a second: cores, p99 µs of an echo |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for socket in [Socket::Unix, Socket::Tcp] {
        for wire in ["gRPC", "frames"] {
            let (here, there) = (one_thread()?, one_thread()?);
            let folder = tempfile::tempdir()?;
            let calls: Arc<dyn Calls> = match wire {
                "gRPC" => Arc::new(grpc::connect(socket, folder.path(), &here, &there)?),
                _ => Arc::new(frames::connect(socket, folder.path(), &here, &there)?),
            };
            let run = here.spawn(async move {
                measure(calls.clone(), 1).await?;
                let one = measure(calls.clone(), 1).await?;
                let many = measure(calls.clone(), 40).await?;
                let (large, num_large) = beside_large(calls.clone()).await?;
                let (streams, cores) = beside_streams(calls).await?;
                anyhow::Ok((one, many, large, num_large, streams, cores))
            });
            let (one, many, large, num_large, streams, cores) = here.block_on(run)??;
            let mib_per_s = (num_large * 2 * (LARGE_BYTES >> 20)) as f64 / RUN_TIME.as_secs_f64();
            println!(
                "| {wire} | {socket:?} | {:.0}, {:.0} | {:.0}, {:.1} | {:.0} ({mib_per_s:.0}) | {cores:.2}, {:.0} |",
                us(one.p50),
                us(one.p99),
                many.per_s,
                many.cpu_us,
                us(large.p99),
                us(streams.p99),
            );
            anyhow::ensure!(one.num_calls > 100, "too few calls to say anything");
            there.shutdown_background();
            here.shutdown_background();
        }
    }
    Ok(())
}
