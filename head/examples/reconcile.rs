//! What it costs the head to look at a large cluster: time of one change, and memory taken on a tick when nothing
//! happens. `cargo run --release -p millstream-head --example reconcile`
//!
//! The clock is a number and the workers are values, as in the tests; what is timed is everything that the reconciler
//! does, on one thread, between an event and its commands: observe, scale, step, book, publish, and when to look again.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::{Duration, Instant};

use allocation_counter::measure;
use anyhow::{Context as _, Result, anyhow};
use millstream_head::Timing;
use millstream_head::autoscaler::Load;
use millstream_head::desired::change::{Candidate, Deployed, deploy};
use millstream_head::desired::{Compiled, Desired};
use millstream_head::reconcile::observe::{Event, Registration, Report, observe};
use millstream_head::reconcile::{Command, Leaving, Resources, SessionId, State, routes, scale, step, wake};
use millstream_pipelines::FullName;
use millstream_proto::status::ReplicaState;
use millstream_proto::{IngressId, NodeId, ReplicaId};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const CHANGES: usize = 200;

/// Milliseconds that this thread has run: others on the machine do not count.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64() * 1e3
}

struct Cluster {
    desired: Desired,
    state: State,
    timing: Timing,
    now: Duration,
}

impl Cluster {
    /// Pipelines of one deployment with ten replicas each; half of them may scale.
    fn new(nodes: usize, replicas: usize) -> Result<Self> {
        let mut desired = Desired::default();
        for index in 0..replicas / 10 {
            let max = 10 + 10 * (index % 2);
            let source = format!(
                "name = \"p{index}\"\n[deployments.model]\nengine = \"echo\"\ncpus = 0.1\n\
                 autoscaling = {{ min_replicas = 10, max_replicas = {max} }}\n"
            );
            let compiled = Compiled::from_text("p.toml", &source).map_err(|faults| anyhow!(faults))?;
            let name = compiled.name.clone();
            let candidate =
                Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled };
            if let Ok(Deployed::New(revision)) = deploy(&desired, candidate, 1) {
                desired.add(&name, revision);
            }
        }
        let state = State::new(1, Duration::ZERO);
        let mut cluster = Self { desired, state, timing: Timing::default(), now: Duration::from_secs(1000) };
        for index in 0..nodes {
            cluster.join(index);
        }
        let (id, session) = (IngressId::from("ingress"), SessionId(1));
        let (name, address) = ("i".into(), "i:1".into());
        cluster.see(Event::IngressJoined { id, session, name, address, pid: 1 });
        while cluster.look() > 0 {
            cluster.obey();
        }
        Ok(cluster)
    }

    fn join(&mut self, index: usize) {
        let resources = Resources { cpu_milli: 64_000, memory_bytes: 1 << 38, gpus: vec![] };
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
        self.see(Event::NodeJoined(SessionId(1), registration));
    }

    fn see(&mut self, event: Event) {
        observe(&mut self.state, &self.desired, event, self.now);
    }

    /// What the reconciler does after an event; gives the number of commands.
    fn look(&mut self) -> usize {
        let scaled = scale::scale(&mut self.state, &self.desired, self.now);
        self.book(&scaled);
        let decided = step(&self.desired, &self.state, &self.timing, self.now);
        self.book(&decided.commands);
        self.state.pending = decided.pending;
        self.state.take_census(decided.census, self.now);
        routes::publish(&mut self.state, &self.desired, &self.timing, self.now);
        std::hint::black_box(wake::next_look(&self.state, &self.desired, &self.timing, self.now));
        scaled.len() + decided.commands.len()
    }

    fn book(&mut self, commands: &[Command]) {
        for command in commands {
            self.state.carry_out(command, self.now);
        }
    }

    /// Every replica that starts gets ready, every one that stops is gone.
    fn obey(&mut self) {
        let replicas = self.state.nodes.iter().flat_map(|(node, state)| {
            state.replicas.iter().filter_map(|(id, replica)| {
                let state = match (replica.state, replica.leaving) {
                    (_, Some(Leaving::Stopping { .. })) => ReplicaState::Stopped,
                    (ReplicaState::Starting, _) => ReplicaState::Ready,
                    _ => return None,
                };
                Some((node.clone(), id.clone(), replica.deployment.clone(), state))
            })
        });
        for (node, id, deployment, state) in replicas.collect::<Vec<_>>() {
            self.report(node, id, deployment, state);
        }
    }

    fn report(&mut self, node: NodeId, id: ReplicaId, deployment: FullName, state: ReplicaState) {
        let (doing, error) = (String::new(), String::new());
        let report =
            Report { id, deployment, revision: 1, state, doing, error, pid: 1, restarts: 0, gpus: vec![] };
        self.see(Event::ReplicaChanged(node, SessionId(1), report));
    }

    fn num_replicas(&self) -> usize {
        self.state.nodes.values().map(|node| node.replicas.len()).sum()
    }

    /// Milliseconds of CPU from one replica's failure (or return) to all that follows.
    fn changes(&mut self) -> Result<Vec<f64>> {
        let (node, id, deployment) = self.some_replica().context("no replica")?;
        let mut times = Vec::new();
        for change in 0..CHANGES {
            self.now += Duration::from_millis(10);
            let state = if change % 2 == 0 { ReplicaState::Failed } else { ReplicaState::Ready };
            let start = cpu_ms();
            self.report(node.clone(), id.clone(), deployment.clone(), state);
            self.look();
            times.push(cpu_ms() - start);
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    fn some_replica(&self) -> Option<(NodeId, ReplicaId, FullName)> {
        let (node, state) = self.state.nodes.iter().find(|(_, node)| !node.replicas.is_empty())?;
        let (id, replica) = state.replicas.first_key_value()?;
        Some((node.clone(), id.clone(), replica.deployment.clone()))
    }

    /// What a tick does when nothing has happened: the time that was computed beforehand is looked at, at worst
    /// computed again, and scalers are asked whether theirs has come.
    fn idle_tick(&self) {
        let next = wake::next_look(&self.state, &self.desired, &self.timing, self.now);
        std::hint::black_box((next, self.state.next_scale()));
    }

    /// Requests at that many deployments, and what a tick makes of them.
    fn loaded_tick(&mut self, deployments: usize) {
        let loads = (0..deployments).filter_map(|index| {
            let name = format!("p{}/model", 2 * index + 1).parse().ok()?;
            Some((name, Load { ongoing: 3, queued: 0, arrived: 1 }))
        });
        let event = Event::Loaded(IngressId::from("ingress"), SessionId(1), loads.collect());
        self.see(event);
        std::hint::black_box(scale::scale(&mut self.state, &self.desired, self.now));
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() -> Result<()> {
    println!(
        "| nodes | replicas | one change p50 / p99 CPU ms | idle tick | its allocations | tick with 10 loaded deployments | its allocations |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut last = Value::Null;
    for (nodes, replicas) in [(10, 100), (100, 1_000), (1_000, 10_000)] {
        let mut cluster = Cluster::new(nodes, replicas)?;
        let times = cluster.changes()?;
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        while cluster.look() > 0 {
            cluster.obey();
        }
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
        last = json!({"change_p50_ms": p50, "change_p99_ms": p99, "idle_allocations": idle.count_total});
    }
    println!(
        "goals at 1,000 nodes and 10,000 replicas: one change under 10 ms, no allocation on an idle tick that grows"
    );
    println!("{}", serde_json::to_string(&last)?);
    Ok(())
}
