//! What it costs the head to look at a large cluster, and to follow one change in it.
//! `cargo run --release -p millstream-core --example reconcile` (about a minute of CPU)
//!
//! The clock is a number and the workers are values, as in the tests. Everything runs on one thread, and the times are
//! CPU times of that thread.
//!
//! The first table has three sizes of cluster. It shows one look after one replica has failed or returned, and what a
//! tick costs when nothing has happened. No replica is placed there.
//!
//! The second table has one size and a row for each kind of change. A row counts everything that the reconciler does
//! from the first event until nothing more follows: each event is folded into the state; each look scales, decides,
//! books commands, makes their events, builds the route table and computes when to look again. The one ingress
//! confirms each new table, and that causes a look as well. Example: a replica is lost (look, with a start command),
//! the start is booked (look), the table without the replica is confirmed (the same look), the successor gets ready
//! (look), the table with it is confirmed (look). A real head may join looks that are due at the same time; a cluster
//! with more ingresses has more looks. The program fails if a row that says "placed" placed nothing.
//!
//! Not measured: encoding the route table (the encoder is private to the head) and sending it to each ingress,
//! encoding and sending commands, storing events, log lines, heartbeats, metrics, the status pages, and the actor's
//! mailbox. The row "building one route table" says what a part of the rows above it costs. Allocations and the peak
//! of memory are counted in a repetition of their own, because counting takes time.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use anyhow::{Context as _, Result, anyhow, ensure};
use millstream_core::Timing;
use millstream_core::autoscaler::Load;
use millstream_core::desired::change::{Candidate, Deployed, deploy};
use millstream_core::desired::{Compiled, Desired};
use millstream_core::present::explain::{event_of, pending_events};
use millstream_core::reconcile::observe::{Event, Registration, Report, observe};
use millstream_core::reconcile::{
    Command, Device, Leaving, Replica, Resources, SessionId, State, routes, scale, step, wake,
};
use millstream_status::status::ReplicaState;
use millstream_status::{IngressId, NodeId, ReplicaId};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const CHANGES: usize = 200;
/// Most time on the clock for a row of the second table; it has at least one repetition however long that takes.
const ROW_TIME: Duration = Duration::from_secs(3);
const SESSION: SessionId = SessionId(1);

/// Milliseconds that this thread has run: others on the machine do not count.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64() * 1e3
}

/// What one change cost.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    cpu_ms: f64,
    looks: usize,
    commands: usize,
    placed: u64,
    allocations: u64,
    peak_bytes: u64,
}

impl Cost {
    fn and(self, next: Self) -> Self {
        Self {
            cpu_ms: self.cpu_ms + next.cpu_ms,
            looks: self.looks + next.looks,
            commands: self.commands + next.commands,
            placed: self.placed + next.placed,
            allocations: self.allocations + next.allocations,
            peak_bytes: self.peak_bytes.max(next.peak_bytes),
        }
    }
}

struct Cluster {
    desired: Desired,
    state: State,
    timing: Timing,
    now: Duration,
    counts_memory: bool,
}

impl Cluster {
    /// Pipelines of one deployment with ten replicas each; half of them may scale. With GPUs, each replica asks for a
    /// quarter of a device, or for half of one.
    fn new(nodes: usize, replicas: usize, gpus: u32) -> Result<Self> {
        let state = State::new(1, Duration::ZERO);
        let (desired, timing) = (Desired::default(), Timing::default());
        let now = Duration::from_secs(1000);
        let mut cluster = Self { desired, state, timing, now, counts_memory: false };
        for index in 0..replicas / 10 {
            let max = 10 + 10 * (index % 2);
            let share = if index % 4 == 0 { "gpus = 0.5" } else { "gpus = 0.25" };
            let share = if gpus > 0 { share } else { "" };
            let scaling = format!("autoscaling = {{ min_replicas = 10, max_replicas = {max} }}");
            cluster.deploy(&format!("p{index}"), &format!("cpus = 0.1\n{share}\n{scaling}"))?;
        }
        for index in 0..nodes {
            cluster.join(index, gpus);
        }
        let id = IngressId::from("ingress");
        let (name, address) = ("i".into(), "i:1".into());
        cluster.see(Event::IngressJoined { id, session: SESSION, name, address, pid: 1 });
        cluster.settle();
        let placed = cluster.num_replicas();
        ensure!(placed == replicas, "{placed} of {replicas} replicas were placed");
        Ok(cluster)
    }

    fn deploy(&mut self, name: &str, settings: &str) -> Result<()> {
        let source = format!("name = \"{name}\"\n[deployments.model]\nengine = \"echo\"\n{settings}\n");
        let compiled = Compiled::from_text("p.toml", &source).map_err(|faults| anyhow!(faults))?;
        let name = compiled.name.clone();
        let candidate = Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled };
        if let Ok(Deployed::New(revision)) = deploy(&self.desired, candidate, 1) {
            self.desired.add(&name, revision);
        }
        Ok(())
    }

    /// Adds deployments whose replicas are larger than any node.
    fn ask_for_too_much(&mut self, replicas: usize) -> Result<()> {
        for index in 0..replicas / 10 {
            let scaling = "autoscaling = { min_replicas = 10, max_replicas = 10 }";
            self.deploy(&format!("large{index}"), &format!("cpus = 100\n{scaling}"))?;
        }
        self.settle();
        let pending: u32 = self.state.unplaced.values().flat_map(|lacks| lacks.values()).sum();
        ensure!(pending as usize == replicas, "{pending} replicas are pending, not {replicas}");
        Ok(())
    }

    fn join(&mut self, index: usize, gpus: u32) {
        let gpus = (0..gpus).map(|index| Device { index, model: "H100".into(), memory_bytes: 80 << 30 });
        let resources = Resources { cpu_milli: 64_000, memory_bytes: 1 << 38, gpus: gpus.collect() };
        let id = NodeId::from(format!("n{index}").as_str());
        let registration = Registration {
            name: id.to_string(),
            address: format!("{id}:1"),
            id,
            pid: 1,
            version: String::new(),
            labels: [].into(),
            resources,
            replicas: vec![],
        };
        self.see(Event::NodeJoined(SESSION, registration));
    }

    fn see(&mut self, event: Event) {
        observe(&mut self.state, &self.desired, event, self.now);
    }

    /// What the reconciler does when it looks; gives the number of commands.
    fn look(&mut self) -> usize {
        let scaled = scale::scale(&mut self.state, &self.desired, self.now);
        self.book(&scaled);
        let decided = step(&self.desired, &self.state, &self.timing, self.now);
        self.book(&decided.commands);
        black_box(pending_events(&self.state.pending, &decided.pending));
        self.state.pending = decided.pending;
        self.state.unplaced = decided.unplaced;
        self.state.take_census(decided.census, self.now);
        routes::publish(&mut self.state, &self.desired, &self.timing, self.now);
        black_box(wake::next_look(&self.state, &self.desired, &self.timing, self.now));
        scaled.len() + decided.commands.len()
    }

    fn book(&mut self, commands: &[Command]) {
        for command in commands {
            black_box(event_of(command, &self.state));
            self.state.carry_out(command, self.now);
        }
    }

    /// Looks until nothing more follows; the ingress confirms each new table. Gives looks and commands.
    fn look_until_calm(&mut self) -> [usize; 2] {
        let [mut looks, mut commands] = [0; 2];
        loop {
            let version = self.state.routes.version;
            let follow = self.look();
            looks += 1;
            commands += follow;
            let is_new = self.state.routes.version > version;
            if is_new {
                let version = self.state.routes.version;
                self.see(Event::Acked(IngressId::from("ingress"), SESSION, version));
            }
            if follow == 0 && !is_new {
                return [looks, commands];
            }
        }
    }

    /// Every replica that starts gets ready, every one that stops is gone; until all is calm.
    fn settle(&mut self) {
        self.look_until_calm();
        while self.obey() {
            self.look_until_calm();
        }
    }

    /// Workers do as they were told; gives whether there was anything to do.
    fn obey(&mut self) -> bool {
        let replicas = self.state.nodes.iter().flat_map(|(node, state)| {
            state.replicas.iter().filter_map(|(id, replica)| {
                let state = match (replica.state, replica.leaving) {
                    (_, Some(Leaving::Stopping { .. })) => ReplicaState::Stopped,
                    (ReplicaState::Starting, _) => ReplicaState::Ready,
                    _ => return None,
                };
                Some(Event::ReplicaChanged(node.clone(), SESSION, Report { state, ..report(id, replica) }))
            })
        });
        let events: Vec<_> = replicas.collect();
        let has_any = !events.is_empty();
        for event in events {
            self.see(event);
        }
        has_any
    }

    /// All nodes say that they live.
    fn beat(&mut self) {
        let nodes: Vec<_> = self.state.nodes.keys().cloned().collect();
        for node in nodes {
            self.see(Event::Heartbeat(node, SESSION, [].into()));
        }
    }

    fn num_replicas(&self) -> usize {
        self.state.nodes.values().map(|node| node.replicas.len()).sum()
    }

    /// The first replica fails, or is ready again.
    fn flip(&self) -> Result<Event> {
        let (node, replicas) = self.occupied(0).context("no replica")?;
        let report = replicas.into_iter().next().context("no replica")?;
        let is_ready = report.state == ReplicaState::Ready;
        let state = if is_ready { ReplicaState::Failed } else { ReplicaState::Ready };
        Ok(Event::ReplicaChanged(node, SESSION, Report { state, ..report }))
    }

    /// A node that has replicas, another one for each number, and what runs there.
    fn occupied(&self, number: usize) -> Option<(NodeId, Vec<Report>)> {
        let occupied = || self.state.nodes.iter().filter(|(_, node)| !node.replicas.is_empty());
        let (id, node) = occupied().nth(number % occupied().count().max(1))?;
        Some((id.clone(), node.replicas.iter().map(|(id, replica)| report(id, replica)).collect()))
    }

    /// Milliseconds of CPU from one replica's failure (or return) to the end of the look after it.
    fn looks(&mut self) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for _ in 0..CHANGES {
            self.now += Duration::from_millis(10);
            let event = self.flip()?;
            let start = cpu_ms();
            self.see(event);
            self.look();
            times.push(cpu_ms() - start);
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    /// The cost of some work: its time, or what it allocates. Counting takes time, so that it is one or the other.
    fn cost(&mut self, work: impl FnOnce(&mut Self)) -> Cost {
        if self.counts_memory {
            let memory = measure(|| work(self));
            return Cost { allocations: memory.count_total, peak_bytes: memory.bytes_max, ..Cost::default() };
        }
        let start = cpu_ms();
        work(self);
        Cost { cpu_ms: cpu_ms() - start, ..Cost::default() }
    }

    /// One event and everything that follows from it.
    fn follow(&mut self, event: Event) -> Cost {
        let numbered = self.state.last_replica;
        let [mut looks, mut commands] = [0; 2];
        let cost = self.cost(|cluster| {
            cluster.see(event);
            [looks, commands] = cluster.look_until_calm();
        });
        Cost { looks, commands, placed: self.state.last_replica - numbered, ..cost }
    }

    fn fail_or_return(&mut self, _number: usize) -> Result<Cost> {
        let event = self.flip()?;
        Ok(self.follow(event))
    }

    /// A worker dials again without one of its replicas: that one is lost, the scheduler places another one, which
    /// gets ready.
    fn replace(&mut self, number: usize) -> Result<Cost> {
        let (id, mut replicas) = self.occupied(number).context("no replica")?;
        replicas.pop();
        let node = &self.state.nodes[&id];
        let registration = Registration {
            name: node.name.clone(),
            address: node.address.clone(),
            id,
            pid: 2,
            version: String::new(),
            labels: [].into(),
            resources: node.resources.clone(),
            replicas,
        };
        let before = self.num_replicas();
        let lost = self.follow(Event::NodeJoined(SESSION, registration));
        let (node, started) = self.starting().context("nothing was placed")?;
        let takes_gpus = self.state.nodes[&node].resources.gpus.is_empty() == started.gpus.is_empty();
        let ready = Report { state: ReplicaState::Ready, ..started };
        let cost = lost.and(self.follow(Event::ReplicaChanged(node, SESSION, ready)));
        ensure!(cost.placed == 1 && self.num_replicas() == before, "{} replicas were placed", cost.placed);
        ensure!(takes_gpus && self.starting().is_none(), "the new replica is not ready, or has no share");
        Ok(cost)
    }

    fn starting(&self) -> Option<(NodeId, Report)> {
        self.state.nodes.iter().find_map(|(node, state)| {
            let is_starting = |(_, replica): &(_, &Replica)| replica.state == ReplicaState::Starting;
            let (id, replica) = state.replicas.iter().find(is_starting)?;
            Some((node.clone(), report(id, replica)))
        })
    }

    /// Only the building of the next route table after a replica failed or came back.
    fn publish(&mut self, _number: usize) -> Result<Cost> {
        let event = self.flip()?;
        self.see(event);
        let mut table = None;
        let cost = self.cost(|cluster| {
            table = routes::publish(&mut cluster.state, &cluster.desired, &cluster.timing, cluster.now);
        });
        ensure!(table.is_some(), "the route table is as before");
        self.look_until_calm();
        Ok(cost)
    }

    /// Makes a change once to count what it allocates, repeats it as often as time allows, and prints a row of what it
    /// cost.
    #[expect(clippy::print_stdout, reason = "a benchmark prints")]
    fn row(&mut self, what: &str, change: fn(&mut Self, usize) -> Result<Cost>) -> Result<Value> {
        self.beat();
        self.counts_memory = true;
        let Cost { allocations, peak_bytes, .. } = change(self, 0)?;
        self.counts_memory = false;
        let start = Instant::now();
        let mut costs = Vec::new();
        while costs.is_empty() || costs.len() < CHANGES && start.elapsed() < ROW_TIME {
            self.now += Duration::from_millis(10);
            costs.push(change(self, costs.len() + 1)?);
        }
        costs.sort_by(|a, b| a.cpu_ms.total_cmp(&b.cpu_ms));
        let (count, median) = (costs.len(), costs[costs.len() / 2]);
        let p99_ms = costs[count * 99 / 100].cpu_ms;
        let Cost { cpu_ms, looks, commands, placed, .. } = median;
        let peak_mib = peak_bytes.div_ceil(1 << 20);
        println!(
            "| {what} | {cpu_ms:.1} / {p99_ms:.1} | {looks} | {commands} | {placed} | {allocations} | {peak_mib} | {count} |"
        );
        Ok(json!({"p50_ms": cpu_ms, "p99_ms": p99_ms, "placed": placed, "allocations": allocations}))
    }

    /// What a tick does when nothing has happened: the time that was computed beforehand is looked at, at worst
    /// computed again, and scalers are asked whether theirs has come.
    fn idle_tick(&self) {
        let next = wake::next_look(&self.state, &self.desired, &self.timing, self.now);
        black_box((next, self.state.next_scale()));
    }

    /// Requests at that many deployments, and what a tick makes of them.
    fn loaded_tick(&mut self, deployments: usize) {
        let loads = (0..deployments).filter_map(|index| {
            let name = format!("p{}/model", 2 * index + 1).parse().ok()?;
            Some((name, Load { ongoing: 3, queued: 0, arrived: 1 }))
        });
        let event = Event::Loaded(IngressId::from("ingress"), SESSION, loads.collect());
        self.see(event);
        black_box(scale::scale(&mut self.state, &self.desired, self.now));
    }
}

fn report(id: &ReplicaId, replica: &Replica) -> Report {
    Report {
        id: id.clone(),
        deployment: replica.deployment.clone(),
        revision: replica.revision,
        state: replica.state,
        doing: String::new(),
        error: String::new(),
        pid: 1,
        restarts: replica.restarts,
        gpus: replica.gpus.clone(),
    }
}

/// The first table: how looks and ticks grow with the cluster.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn sizes() -> Result<Value> {
    println!(
        "| nodes | replicas | one look after a replica failed or returned, CPU ms p50 / p99 | idle tick | its allocations | tick with 10 loaded deployments | its allocations |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut last = Value::Null;
    for (nodes, replicas) in [(10, 100), (100, 1_000), (1_000, 10_000)] {
        let mut cluster = Cluster::new(nodes, replicas, 0)?;
        let times = cluster.looks()?;
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        cluster.settle();
        cluster.idle_tick();
        let start = Instant::now();
        let idle = measure(|| cluster.idle_tick());
        let idle_us = start.elapsed().as_secs_f64() * 1e6;
        cluster.loaded_tick(10);
        cluster.now += Duration::from_millis(100);
        let start = Instant::now();
        let loaded = measure(|| cluster.loaded_tick(10));
        let loaded_us = start.elapsed().as_secs_f64() * 1e6;
        println!(
            "| {nodes} | {} | {p50:.2} / {p99:.2} | {idle_us:.0} µs | {} | {loaded_us:.0} µs | {} |",
            cluster.num_replicas(),
            idle.count_total,
            loaded.count_total,
        );
        last = json!({"p50_ms": p50, "p99_ms": p99, "idle_allocations": idle.count_total});
    }
    println!("goals at 1,000 nodes: one look under 10 ms, no allocation on an idle tick that grows");
    Ok(last)
}

/// The second table: kinds of changes at 1,000 nodes and 10,000 replicas.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn kinds() -> Result<[Value; 5]> {
    println!(
        "\n| one change at 1,000 nodes and 10,000 replicas, all that follows | CPU ms p50 / p99 | looks | commands | replicas placed | allocations | MiB at the peak | repetitions |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut cluster = Cluster::new(1_000, 10_000, 0)?;
    let fails = cluster.row("a replica fails, or comes back", Cluster::fail_or_return)?;
    let lost = cluster.row("a replica is lost, another is placed and gets ready", Cluster::replace)?;
    let publish = cluster.row("of these: building one route table, not encoded", Cluster::publish)?;
    let mut with_gpus = Cluster::new(1_000, 10_000, 4)?;
    let on_gpus = with_gpus.row("lost and placed, 4 GPUs a node, replicas with shares", Cluster::replace)?;
    drop(with_gpus);
    cluster.ask_for_too_much(5_000)?;
    let pending =
        cluster.row("lost and placed, 5,000 replicas pending that fit nowhere", Cluster::replace)?;
    Ok([fails, lost, publish, on_gpus, pending])
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() -> Result<()> {
    let look = sizes()?;
    let [fails, lost, publish, on_gpus, pending] = kinds()?;
    println!("p99 of fewer than 100 repetitions is the largest one");
    let result = json!({
        "look": look, "fail_or_return": fails, "replace": lost, "build_table": publish,
        "replace_gpus": on_gpus, "replace_pending": pending,
    });
    println!("{}", serde_json::to_string(&result)?);
    Ok(())
}
