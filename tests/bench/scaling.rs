//! A step of load on a real cluster: how long until more replicas answer, and whether any request fails.
//! `cargo build --release && cargo run --release -p millstream-tests --bin bench-scaling`
//!
//! One replica takes 4 calls of 100 ms at a time, so more than 4 answers within 95 ms are the work of two replicas, and
//! more than 8 of three. That is what counts as "answers"; when a replica came into the routes is printed beside it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context as _, Result};
use millstream_tests::{Cluster, Echo, UpOptions};
use serde_json::{Value, json};

const CALLERS: usize = 12;
const SLOTS: usize = 4;
/// A little less than a call takes: one slot gives at most one answer within it.
const WINDOW: Duration = Duration::from_millis(95);
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(5);

/// What one run found: seconds from the step on.
struct Found {
    routed: [Option<f64>; 2],
    answers: [Option<f64>; 2],
    answered: usize,
    failed: usize,
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() -> Result<()> {
    let runs: usize = env::args().nth(1).map_or(Ok(3), |text| text.parse()).context("how many runs?")?;
    println!("1 → {CALLERS} concurrent calls of 100 ms, min 1, max 3, target 2, default delays; {runs} runs");
    println!("| run | 2nd / 3rd replica in the routes | 2nd / 3rd replica answers | answered | failed |");
    println!("| --- | --- | --- | --- | --- |");
    let mut worst: f64 = 0.0;
    let mut failed = 0;
    for run in 1..=runs {
        let found = measure()?;
        let text = |times: [Option<f64>; 2]| {
            times.map(|time| time.map_or("never".to_owned(), |time| format!("{time:.2} s"))).join(" / ")
        };
        println!(
            "| {run} | {} | {} | {} | {} |",
            text(found.routed),
            text(found.answers),
            found.answered,
            found.failed
        );
        worst = found.answers.iter().fold(worst, |worst, time| worst.max(time.unwrap_or(f64::INFINITY)));
        failed += found.failed;
    }
    println!("\nslowest: {worst:.2} s (goal: under 1 s); failed requests: {failed} (goal: none)");
    println!("peers, measured on another day with the same load: Ray Serve 46.3 / 46.6 s with its defaults,");
    println!("3.3 / 3.4 s with the smallest delays it takes");
    let result = json!({"slowest_s": worst, "failed": failed});
    println!("{}", serde_json::to_string::<Value>(&result)?);
    Ok(())
}

fn measure() -> Result<Found> {
    let pipeline = Echo::new("step")
        .deployment("delay = \"100ms\"\nmax_ongoing_requests = 4")
        .deployment("autoscaling = { min_replicas = 1, max_replicas = 3, target_ongoing_requests = 2 }");
    let mut cluster = Cluster::up(&UpOptions::new().pipeline(&pipeline))?;
    cluster.wait_ready();
    let cluster = &cluster;
    let (end, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let answers = Mutex::new(Vec::new());
    let routed = Mutex::new([None; 2]);
    let call = || {
        while !end.load(Ordering::Relaxed) {
            match cluster.post("/step", &json!({"text": "x"})) {
                Ok((200, _)) => answers.lock().map(|mut answers| answers.push(Instant::now())).unwrap_or(()),
                _ => _ = failed.fetch_add(1, Ordering::Relaxed),
            }
        }
    };
    let start = thread::scope(|scope| -> Result<Instant> {
        scope.spawn(call);
        thread::sleep(BEFORE);
        let start = Instant::now();
        for _ in 1..CALLERS {
            scope.spawn(call);
        }
        while start.elapsed() < AFTER {
            let count = num_routed(cluster)?;
            if let Ok(mut routed) = routed.lock() {
                for (index, time) in routed.iter_mut().enumerate() {
                    if count >= index + 2 && time.is_none() {
                        *time = Some(start.elapsed().as_secs_f64());
                    }
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
        end.store(true, Ordering::Relaxed);
        Ok(start)
    })?;
    let mut answers = answers.into_inner().unwrap_or_default();
    answers.sort();
    let beyond = |slots: usize| {
        let within = |pair: &&[Instant]| pair[slots].duration_since(pair[0]) < WINDOW && pair[0] > start;
        let first = answers.windows(slots + 1).find(|pair| within(pair));
        first.map(|pair| pair[slots].duration_since(start).as_secs_f64())
    };
    Ok(Found {
        routed: routed.into_inner().unwrap_or_default(),
        answers: [beyond(SLOTS), beyond(2 * SLOTS)],
        answered: answers.len(),
        failed: failed.into_inner(),
    })
}

/// Replicas that the ingress sends to.
fn num_routed(cluster: &Cluster) -> Result<usize> {
    let routes: Value = cluster.http().get(cluster.url("/-/routes")).send()?.json()?;
    Ok(count_replicas(&routes))
}

/// Entries of every list that is called `replicas`, wherever it stands.
fn count_replicas(value: &Value) -> usize {
    match value {
        Value::Object(map) => {
            let inner = |(key, value): (&String, &Value)| match value {
                Value::Array(list) if key == "replicas" => list.len(),
                Value::Number(count) if key == "replicas" => {
                    count.as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
                }
                _ => count_replicas(value),
            };
            map.iter().map(inner).sum()
        }
        Value::Array(list) => list.iter().map(count_replicas).sum(),
        _ => 0,
    }
}
