//! What it costs the head to decide in a large cluster, and to follow one change in it.
//! `cargo run --release -p millstream-core --example reconcile` (about a minute of CPU)
//!
//! The clock is a number and the workers are values, as in the tests; the reconciler is the one of production, with its own
//! wake-ups. Everything runs on one thread, and the times are CPU times of that thread.
//!
//! The first table has three sizes of cluster: one look after one replica has failed or returned, a second in which nodes
//! only say that they live, and a wake-up while ten deployments have requests.
//!
//! The second table has one size and a row for each kind of change. A row counts everything that the reconciler does
//! from the first event until nothing more follows: each event is folded into the state; each look scales, decides,
//! books commands, makes their events, builds the route table and computes when to look again. The one ingress
//! confirms each new table. The program fails if a row that says "placed" placed nothing.
//!
//! The third table is a second of a canary: 12 ingresses report ten times each, and the cluster is judged by that.
//!
//! Not measured: encoding the route table and sending it to each ingress, encoding and sending commands, storing
//! events, log lines, metrics, the status pages, and the actor's mailbox. Allocations and the peak of memory are counted
//! in a repetition of their own, because counting takes time.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

mod cluster;

use allocation_counter::measure;
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;

use cluster::{Cluster, cpu_ms};

/// The first table: how looks grow with the cluster.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn sizes() -> Result<Value> {
    println!(
        "| nodes | replicas | one look after a replica failed or returned, CPU ms p50 / p99 | idle second: CPU ms, allocations | wake-up with 10 loaded deployments: CPU µs, allocations |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let mut last = Value::Null;
    for (nodes, replicas) in [(10, 100), (100, 1_000), (1_000, 10_000)] {
        let mut cluster = Cluster::new(nodes, replicas, 0)?;
        let times = cluster.looks()?;
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        cluster.settle();
        let (mut idle_ms, mut idle) = (0.0, 0);
        for _ in 0..10 {
            cluster.now += Duration::from_secs(1);
            let beats = cluster.heartbeats(0);
            let start = cpu_ms();
            cluster.idle_second(beats);
            idle_ms += (cpu_ms() - start) / 10.0;
        }
        for _ in 0..10 {
            cluster.now += Duration::from_secs(1);
            let beats = cluster.heartbeats(0);
            idle += measure(|| cluster.idle_second(beats)).count_total;
        }
        cluster.loaded(10);
        cluster.now += Duration::from_millis(100);
        let start = cpu_ms();
        let loaded = measure(|| cluster.loaded(10)).count_total;
        let loaded_us = (cpu_ms() - start) * 1e3;
        println!(
            "| {nodes} | {} | {p50:.2} / {p99:.2} | {idle_ms:.2}, {} | {loaded_us:.0}, {loaded} |",
            cluster.num_replicas(),
            idle / 10,
        );
        last = json!({"p50_ms": p50, "p99_ms": p99, "idle_ms_a_second": idle_ms, "idle_allocations": idle});
    }
    println!(
        "goals at 1,000 nodes: a change of state under 2 ms, an idle second under 1 ms without allocations"
    );
    Ok(last)
}

/// The second table: kinds of changes at 1,000 nodes and 10,000 replicas.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn kinds() -> Result<Value> {
    println!(
        "\n| one change at 1,000 nodes and 10,000 replicas, all that follows | CPU ms p50 / p99 | looks | commands | replicas placed | allocations | MiB at the peak | repetitions |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut cluster = Cluster::new(1_000, 10_000, 0)?;
    let fails = cluster.row("a replica fails, or comes back", Cluster::fail_or_return)?;
    let lost = cluster.row("a replica is lost, another is placed and gets ready", Cluster::replace)?;
    let mut with_gpus = Cluster::new(1_000, 10_000, 4)?;
    let on_gpus = with_gpus.row("lost and placed, 4 GPUs a node, replicas with shares", Cluster::replace)?;
    let placed = with_gpus.row("100 more replicas with shares are placed", Cluster::place_100)?;
    drop(with_gpus);
    println!("goal: 100 placed under 25 ms");
    cluster.ask_for_too_much(5_000)?;
    let pending =
        cluster.row("lost and placed, 5,000 replicas pending that fit nowhere", Cluster::replace)?;
    let (mut idle_ms, seconds) = (0.0, 10.0);
    for _ in 0..10 {
        cluster.now += Duration::from_secs(1);
        let beats = cluster.heartbeats(0);
        let start = cpu_ms();
        cluster.idle_second(beats);
        idle_ms += (cpu_ms() - start) / seconds;
    }
    let times = cluster.heartbeat_times(0);
    println!(
        "\n5,000 replicas pending: {idle_ms:.2} ms of CPU a second, a heartbeat {:.3} ms (p99); goals: under 50, under 10",
        times[times.len() * 99 / 100],
    );
    Ok(json!({"fail_or_return": fails, "replace": lost, "replace_gpus": on_gpus, "place_100": placed,
        "replace_pending": pending, "pending_ms_a_second": idle_ms}))
}

/// What it costs the reconciler that somebody looks: nothing of what is made of a snapshot is made by it.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn watched() -> Result<Value> {
    let mut cluster = Cluster::new(1_000, 10_000, 4)?;
    let p99 = |times: &[f64]| times[times.len() * 99 / 100] * 1e3;
    cluster.heartbeat_times(0);
    let [alone, unwatched, watched] = [0, 1, 10].map(|per_s| p99(&cluster.heartbeat_times(per_s)));
    let start = cpu_ms();
    let snapshot = cluster.head.snapshot(cluster.now);
    let taken = cpu_ms() - start;
    let status = snapshot.status("head");
    let status_ms = cpu_ms() - start - taken;
    println!(
        "\nan event at 1,000 nodes, p99: {unwatched:.1} µs while nobody watches, {watched:.1} µs while any number of people do ({:.2} times; goal: at most 1.2), {alone:.1} µs without the snapshot a second that metrics take; a snapshot takes {:.0} µs, a status of {} nodes made of it {status_ms:.1} ms of another thread",
        watched / unwatched,
        taken * 1e3,
        status.nodes.len(),
    );
    Ok(
        json!({"p99_us": unwatched, "p99_us_watched": watched, "p99_us_without_metrics": alone, "snapshot_us": taken * 1e3, "status_ms": status_ms}),
    )
}

/// A canary that many ingresses report of.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn canary() -> Result<Value> {
    let mut cluster = Cluster::new(1_000, 10_000, 0)?;
    cluster.begin_canary()?;
    let mut seconds: Vec<f64> = (0..10).map(|_| cluster.canary_second()).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    println!(
        "\na canary, 12 ingresses at 10 reports a second: {median:.1} ms of CPU a second; goal: under 100"
    );
    Ok(json!({"ms_a_second": median}))
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() -> Result<()> {
    let look = sizes()?;
    let changes = kinds()?;
    let watched = watched()?;
    let canary = canary()?;
    println!("p99 of fewer than 100 repetitions is the largest one");
    println!("{}", json!({"look": look, "changes": changes, "watched": watched, "canary": canary}));
    Ok(())
}
