//! A cluster whose clock is a number and whose workers are values, around the reconciler of production; and what a change of it
//! costs.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use anyhow::{Context as _, Result, anyhow, ensure};
use millstream_core::Timing;
use millstream_core::autoscaler::Load;
use millstream_core::desired::change::{Candidate, Deployed, deploy};
use millstream_core::desired::rollout::set_mode;
use millstream_core::desired::{Compiled, Desired, Mode};
use millstream_core::model::{Device, Leaving, NodeEntry, Replica, Resources, SessionId, State};
use millstream_core::model::{Observation, Registration, Report};
use millstream_core::reconcile::{Effect, Event, Reconciler, Start};
use millstream_core::rollout::{Outcomes, Phase, Tally};
use millstream_pipelines::Name;
use millstream_status::status::ReplicaState;
use millstream_status::{IngressId, NodeId, ReplicaId};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const CHANGES: usize = 200;
/// Most time on the clock for a row of the second table; it has at least one repetition however long that takes.
const ROW_TIME: Duration = Duration::from_secs(3);
const SESSION: SessionId = SessionId(1);

/// Milliseconds that this thread has run: others on the machine do not count.
pub(crate) fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64() * 1e3
}

/// What one change cost.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Cost {
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

pub(crate) struct Cluster {
    desired: Desired,
    pub(crate) head: Reconciler,
    pub(crate) now: Duration,
    counts_memory: bool,
}

impl Cluster {
    /// Pipelines of one deployment with ten replicas each; half of them may scale. With GPUs, each replica asks for a
    /// quarter of a device, or for half of one.
    pub(crate) fn new(nodes: usize, replicas: usize, gpus: u32) -> Result<Self> {
        let start =
            Start { epoch: 1, settle_until: Duration::ZERO, began_at: Duration::ZERO, members: [].into() };
        let desired = Desired::default();
        let head = Reconciler::new(start, Arc::new(desired.clone()), Timing::default());
        let now = Duration::from_secs(1000);
        let mut cluster = Self { desired, head, now, counts_memory: false };
        for index in 0..replicas / 10 {
            let max = 10 + 10 * (index % 2);
            let share = if index % 4 == 0 { "gpus = 0.5" } else { "gpus = 0.25" };
            let share = if gpus > 0 { share } else { "" };
            let scaling = format!("autoscaling = {{ min_replicas = 10, max_replicas = {max} }}");
            cluster.deploy(&format!("p{index}"), &format!("cpus = 0.1\n{share}\n{scaling}"))?;
        }
        cluster.ask();
        for index in 0..nodes {
            cluster.join(index, gpus);
        }
        let id = IngressId::from("ingress");
        let (name, entrance) = ("i".into(), "i:1".into());
        cluster.see(Observation::IngressJoined { id, session: SESSION, name, entrance, pid: 1 });
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
    pub(crate) fn ask_for_too_much(&mut self, replicas: usize) -> Result<()> {
        for index in 0..replicas / 10 {
            let scaling = "autoscaling = { min_replicas = 10, max_replicas = 10 }";
            self.deploy(&format!("large{index}"), &format!("cpus = 100\n{scaling}"))?;
        }
        self.ask();
        self.settle();
        let pending: u32 = self.state().unplaced.values().flat_map(|lacks| lacks.values()).sum();
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
        self.see(Observation::NodeJoined(SESSION, registration));
    }

    /// Tells the head what people ask for.
    fn ask(&mut self) {
        self.desired.generation += 1;
        self.head.handle(Event::Desired(Arc::new(self.desired.clone())), self.now);
    }

    fn state(&self) -> &State {
        self.head.state()
    }

    fn see(&mut self, observation: Observation) {
        black_box(self.head.handle(observation.into(), self.now));
    }

    fn is_due(&self) -> bool {
        self.head.next_wake().is_some_and(|at| at <= self.now)
    }

    /// One look; returns the number of commands.
    fn look(&mut self) -> usize {
        let effects = self.head.handle(Event::Wake, self.now);
        effects.iter().filter(|effect| matches!(effect, Effect::Command(_))).count()
    }

    /// Looks until nothing more follows; the ingress confirms each new table. Returns looks and commands.
    fn look_until_calm(&mut self) -> [usize; 2] {
        let [mut looks, mut commands] = [0; 2];
        while self.is_due() {
            let version = self.state().routes.version;
            commands += self.look();
            looks += 1;
            let newer = self.state().routes.version;
            if newer > version {
                self.see(Observation::Acked(IngressId::from("ingress"), SESSION, newer));
            }
        }
        [looks, commands]
    }

    /// Every replica that starts gets ready, every one that stops is gone; until all is calm.
    pub(crate) fn settle(&mut self) {
        self.look_until_calm();
        while self.obey() {
            self.look_until_calm();
        }
    }

    /// Workers do as they were told; returns whether there was anything to do.
    fn obey(&mut self) -> bool {
        let replicas = self.state().nodes.iter().flat_map(|(node, state)| {
            state.replicas.iter().filter_map(|(id, replica)| {
                let state = match (replica.state, replica.leaving) {
                    (_, Some(Leaving::Stopping { .. })) => ReplicaState::Stopped,
                    (ReplicaState::Starting, _) => ReplicaState::Ready,
                    _ => return None,
                };
                Some(Observation::ReplicaChanged(
                    node.clone(),
                    SESSION,
                    Report { state, ..report(id, replica) },
                ))
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
        let nodes: Vec<_> = self.state().nodes.keys().cloned().collect();
        for node in nodes {
            self.see(Observation::Heartbeat(node, SESSION, [].into()));
        }
    }

    pub(crate) fn num_replicas(&self) -> usize {
        self.state().nodes.values().map(|node| node.replicas.len()).sum()
    }

    /// The first replica fails, or is ready again.
    fn flip(&self) -> Result<Observation> {
        let (node, replicas) = self.occupied(0).context("no replica")?;
        let report = replicas.into_iter().next().context("no replica")?;
        let is_ready = report.state == ReplicaState::Ready;
        let state = if is_ready { ReplicaState::Failed } else { ReplicaState::Ready };
        Ok(Observation::ReplicaChanged(node, SESSION, Report { state, ..report }))
    }

    /// A node that has replicas, another one for each number, and what runs there.
    fn occupied(&self, number: usize) -> Option<(NodeId, Vec<Report>)> {
        let occupied = || self.state().nodes.iter().filter(|(_, node)| !node.replicas.is_empty());
        let (id, node) = occupied().nth(number % occupied().count().max(1))?;
        Some((id.clone(), node.replicas.iter().map(|(id, replica)| report(id, replica)).collect()))
    }

    /// Milliseconds of CPU from one replica's failure (or return) to the end of the look after it.
    pub(crate) fn looks(&mut self) -> Result<Vec<f64>> {
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
    fn follow(&mut self, event: Observation) -> Cost {
        let numbered = self.state().last_replica;
        let [mut looks, mut commands] = [0; 2];
        let cost = self.cost(|cluster| {
            cluster.see(event);
            [looks, commands] = cluster.look_until_calm();
        });
        Cost { looks, commands, placed: self.state().last_replica - numbered, ..cost }
    }

    pub(crate) fn fail_or_return(&mut self, _number: usize) -> Result<Cost> {
        let event = self.flip()?;
        Ok(self.follow(event))
    }

    /// A worker dials again without one of its replicas: that one is lost, the scheduler places another one, which
    /// gets ready.
    pub(crate) fn replace(&mut self, number: usize) -> Result<Cost> {
        let (id, mut replicas) = self.occupied(number).context("no replica")?;
        replicas.pop();
        let node = &self.state().nodes[&id];
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
        let lost = self.follow(Observation::NodeJoined(SESSION, registration));
        let (node, started) = self.starting().context("nothing was placed")?;
        let takes_gpus = self.state().nodes[&node].resources.gpus.is_empty() == started.gpus.is_empty();
        let ready = Report { state: ReplicaState::Ready, ..started };
        let cost = lost.and(self.follow(Observation::ReplicaChanged(node, SESSION, ready)));
        ensure!(cost.placed == 1 && self.num_replicas() == before, "{} replicas were placed", cost.placed);
        ensure!(takes_gpus && self.starting().is_none(), "the new replica is not ready, or has no share");
        Ok(cost)
    }

    fn starting(&self) -> Option<(NodeId, Report)> {
        self.state().nodes.iter().find_map(|(node, state)| {
            let is_starting = |(_, replica): &(_, &Replica)| replica.state == ReplicaState::Starting;
            let (id, replica) = state.replicas.iter().find(is_starting)?;
            Some((node.clone(), report(id, replica)))
        })
    }

    /// A pipeline with 100 replicas is asked for, each with a share of a device where there are devices: all looks up to
    /// the orders to start them. Afterwards it is deleted.
    pub(crate) fn place_100(&mut self, number: usize) -> Result<Cost> {
        let has_gpus = self.state().nodes.values().any(|node| !node.resources.gpus.is_empty());
        let share = if has_gpus { "gpus = 0.25" } else { "" };
        let scaling = "autoscaling = { min_replicas = 100, max_replicas = 100 }";
        let name = format!("burst{number}");
        self.deploy(&name, &format!("cpus = 0.1\n{share}\n{scaling}"))?;
        let numbered = self.state().last_replica;
        let [mut looks, mut commands] = [0; 2];
        let cost = self.cost(|cluster| {
            cluster.ask();
            [looks, commands] = cluster.look_until_calm();
        });
        let placed = self.state().last_replica - numbered;
        ensure!(placed == 100, "{placed} of 100 replicas were placed");
        self.settle();
        self.desired.remove(&name.parse()?, 1);
        self.ask();
        self.settle();
        Ok(Cost { looks, commands, placed, ..cost })
    }

    /// Makes a change once to count what it allocates, repeats it as often as time allows, and prints a row of what it
    /// cost.
    #[expect(clippy::print_stdout, reason = "a benchmark prints")]
    pub(crate) fn row(&mut self, what: &str, change: fn(&mut Self, usize) -> Result<Cost>) -> Result<Value> {
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

    /// What nodes say in a second: so many requests on each replica.
    pub(crate) fn heartbeats(&self, ongoing: u64) -> Vec<Event> {
        let beat = |(id, node): (&NodeId, &NodeEntry)| {
            let ongoing = node.replicas.keys().map(|replica| (replica.clone(), ongoing)).collect();
            Event::Observed(Observation::Heartbeat(id.clone(), SESSION, ongoing))
        };
        self.state().nodes.iter().map(beat).collect()
    }

    /// A second in which nothing happens but that: the events, and wake-ups when they are due.
    pub(crate) fn idle_second(&mut self, heartbeats: Vec<Event>) {
        for heartbeat in heartbeats {
            self.head.handle(heartbeat, self.now);
            while self.is_due() {
                self.look();
            }
        }
    }

    /// Milliseconds that each heartbeat of ten seconds took, 1,000 of them a second, all with news, with so many snapshots a second:
    /// none; 1, which the metrics of a head take; 10, the most, with however many watchers. Each is taken between heartbeats,
    /// as a message of its own, and held until the next one; what is made of it is made elsewhere.
    pub(crate) fn heartbeat_times(&mut self, snapshots_per_s: usize) -> Vec<f64> {
        let mut times = Vec::new();
        let mut shown = None;
        for second in 0..10 {
            self.now += Duration::from_secs(1);
            for (index, heartbeat) in self.heartbeats(second % 3).into_iter().enumerate() {
                if snapshots_per_s > 0 && index % (1_000 / snapshots_per_s) == 0 {
                    shown = Some(self.head.snapshot(self.now));
                }
                let start = cpu_ms();
                self.head.handle(heartbeat, self.now);
                while self.is_due() {
                    self.look();
                }
                times.push(cpu_ms() - start);
            }
        }
        black_box(shown);
        times.sort_by(f64::total_cmp);
        times
    }

    /// Requests at that many deployments, and what a wake-up makes of them.
    pub(crate) fn loaded(&mut self, deployments: usize) {
        let loads = (0..deployments).filter_map(|index| {
            let name = format!("p{}/model", 2 * index + 1).parse().ok()?;
            Some((name, Load { ongoing: 3, queued: 0, arrived: 1 }))
        });
        let loaded = Observation::Loaded(IngressId::from("ingress"), SESSION, loads.collect());
        self.see(loaded);
        self.look();
    }

    /// A second of a canary of `p0`: 12 ingresses report ten times each; the reconciler is woken when it asks to be.
    pub(crate) fn canary_second(&mut self) -> f64 {
        let ingresses: Vec<_> = (0..12).map(|index| IngressId::from(format!("i{index}").as_str())).collect();
        let mut cpu = 0.0;
        for _ in 0..10 {
            self.now += Duration::from_millis(100);
            for id in &ingresses {
                let outcomes = Outcomes { answered: 10, failed: 0 };
                let tally = || Tally { requests: outcomes, ..Tally::default() };
                let pipeline: Name = "p0".parse().expect("a valid name");
                let counted = [((pipeline.clone(), 1), tally()), ((pipeline, 2), tally())].into();
                let counted = Observation::Counted(id.clone(), SESSION, counted);
                let start = cpu_ms();
                self.see(counted);
                if self.is_due() {
                    self.look();
                }
                cpu += cpu_ms() - start;
            }
        }
        self.beat();
        cpu
    }

    /// Puts revision 2 of `p0` beside the first one, with twelve ingresses.
    pub(crate) fn begin_canary(&mut self) -> Result<()> {
        for index in 0..12 {
            let id = IngressId::from(format!("i{index}").as_str());
            let (name, entrance) = (id.to_string(), format!("{id}:1").into());
            self.see(Observation::IngressJoined { id, session: SESSION, name, entrance, pid: 1 });
        }
        self.deploy("p0", "cpus = 0.11\nautoscaling = { min_replicas = 10, max_replicas = 10 }")?;
        set_mode(&mut self.desired, &"p0".parse()?, Mode::Canary { permille: 100 })?;
        self.ask();
        self.settle();
        let rollout = self.state().rollouts.values().next().context("no rollout is under way")?;
        ensure!(rollout.phase == Phase::Trial, "the canary is in {:?}", rollout.phase);
        Ok(())
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
        restarts: replica.starts.restarts,
        is_unloadable: false,
        gpus: replica.gpus.clone(),
        signature: None,
    }
}
