//! What happens in a run, as data drawn from the seed: the cluster, and what people and misfortune do to it when. A run
//! follows its script alone, so that a script can be made smaller while it still fails.

use std::time::Duration;

use millstream_core::desired::{Mode, NodeRequest};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::checks::Capacity;
use crate::clock::Host;
use crate::network::Latency;
use crate::pipelines::{Change, Scaling};

/// How long a canary that fails every call may stand. It gets more than one request a second here, and of 200
/// outcomes that count twenty failures are enough.
pub(crate) const CONVICTED_WITHIN: Duration = Duration::from_secs(30);

/// Between requests, at least and at most.
pub(crate) const CALM_REQUESTS_MS: (u64, u64) = (50, 700);

/// Deploys in a script.
const MAX_DEPLOYS: usize = 12;

/// What kind of misfortune a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// People change things, nothing breaks: no request may fail.
    Calm,
    /// Connections break, stall, part.
    Network,
    /// Nodes, replicas and ingresses die, pause, leave.
    Deaths,
    /// Heads die, pause, are replaced while they believe to lead; clocks jump.
    Heads,
    /// All of it.
    Storm,
    /// A canary stands for long, answers well, and then fails everything; heads may die or pause meanwhile.
    LongCanary,
}

/// Whether all that is asked for has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It has, also with one node dead and every pipeline there twice.
    Enough,
    /// It may not: replicas wait for places, and nothing may be booked twice.
    Tight,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Deploy {
        pipeline: usize,
        change: Change,
        mode: Mode,
    },
    Delete {
        pipeline: usize,
    },
    /// Fewest and most replicas of a deployment, beside the file; `None`: as the file says.
    Scale {
        pipeline: usize,
        pick: usize,
        bounds: Option<(u32, u32)>,
    },
    /// How the wanted revision takes over, as people say when they deploy it or later.
    SetMode {
        pipeline: usize,
        mode: Mode,
    },
    Promote {
        pipeline: usize,
    },
    Abort {
        pipeline: usize,
    },
    /// People cordon or drain a node, in place of the one that they did before, or take it back.
    Node {
        worker: usize,
        request: NodeRequest,
    },
    /// The replicas of the revision that is a canary fail every call from now on.
    TurnBad {
        pipeline: usize,
    },
    CrashReplica {
        worker: usize,
        pick: usize,
    },
    /// The worker's process dies; `power`: with its machine, so that peers learn of it by silence; `wipe`: its disk is
    /// lost, so that it comes back as another node.
    KillWorker {
        worker: usize,
        power: bool,
        wipe: bool,
        down: Option<Duration>,
    },
    LeaveWorker {
        worker: usize,
        down: Duration,
    },
    Pause {
        host: Host,
        lasts: Duration,
    },
    KillIngress {
        ingress: usize,
        down: Duration,
    },
    CrashHead {
        down: Duration,
    },
    /// Another head begins a term; the old one goes on for a while.
    TakeOver {
        paused: bool,
        overlap: Duration,
    },
    JumpClock {
        by: Duration,
    },
    Break {
        a: Host,
        b: Host,
    },
    Stall {
        a: Host,
        b: Host,
        lasts: Duration,
    },
    Partition {
        a: Host,
        b: Host,
        lasts: Duration,
    },
}

/// A run's cluster and script.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) room: Room,
    pub(crate) nodes: Vec<Capacity>,
    pub(crate) num_ingresses: usize,
    pub(crate) num_pipelines: usize,
    pub(crate) latency: Latency,
    pub(crate) scaling: Scaling,
    pub(crate) failing_calls: u32,
    /// Between requests, at least and at most, in milliseconds.
    pub(crate) request_gap_ms: (u64, u64),
    /// When the script is over and everything heals.
    pub(crate) ends_at: Duration,
    pub(crate) script: Vec<(Duration, Op)>,
}

impl Scenario {
    pub(crate) fn draw(seed: u64) -> Self {
        let rng = &mut SmallRng::seed_from_u64(seed);
        if rng.random_ratio(1, 12) {
            return Self::long_canary(seed, rng);
        }
        use Weather::{Calm, Deaths, Heads, Network, Storm};
        let weather = [Calm, Network, Deaths, Heads, Storm][rng.random_range(0..5)];
        let room = if rng.random_ratio(1, 8) { Room::Tight } else { Room::Enough };
        let num_nodes = if room == Room::Tight { 3 } else { rng.random_range(4..=5) };
        let cpu_milli = if room == Room::Tight { 1_200 } else { 4_000 };
        let capacity = Capacity { cpu_milli, num_gpus: 1 };
        let num_ingresses = rng.random_range(1..=2);
        let num_pipelines = rng.random_range(1..=2);
        let ms = Duration::from_millis;
        let usual = ms(rng.random_range(1..=20));
        let late = matches!(weather, Network | Storm);
        let auto = room == Room::Enough && rng.random_ratio(1, 3);
        // Two late messages and a heartbeat's interval between them are not yet a silent node.
        let latency = Latency { usual, one_in: if late { 40 } else { 0 }, tail: ms(900) };
        let ends_at = Duration::from_secs(rng.random_range(30..=70));
        let draw = Draw { weather, auto, num_nodes, num_ingresses, num_pipelines };
        let mut script: Vec<_> = (0..num_pipelines)
            .map(|pipeline| (ms(10), Op::Deploy { pipeline, change: Change::InPlace, mode: Mode::Rolling }))
            .collect();
        // The first revision gets ready before it is changed.
        let mut at = ms(rng.random_range(6_000..10_000));
        let mut num_deploys = 1;
        while at < ends_at {
            let op = if rng.random_range(0..100) < 40 { draw.wish(rng) } else { draw.fault(rng) };
            if op.is_some() || num_deploys < MAX_DEPLOYS {
                num_deploys += usize::from(op.is_none());
                script.push((at, op.unwrap_or_else(|| draw.change(rng))));
            }
            at += ms(rng.random_range(20..6_000));
        }
        Self {
            seed,
            weather,
            room,
            nodes: vec![capacity; num_nodes],
            num_ingresses,
            num_pipelines,
            latency,
            scaling: if auto { Scaling::Auto } else { Scaling::Fixed },
            failing_calls: if weather == Storm { 5 } else { 0 },
            request_gap_ms: CALM_REQUESTS_MS,
            ends_at,
            script,
        }
    }
}

impl Scenario {
    fn long_canary(seed: u64, rng: &mut SmallRng) -> Self {
        let ms = Duration::from_millis;
        let pipeline = 0;
        let mode = Mode::Canary { permille: rng.random_range(300..=500) };
        let turns_bad_at = ms(rng.random_range(30_000..60_000));
        let num_nodes = 4;
        let mut script = vec![
            (ms(10), Op::Deploy { pipeline, change: Change::InPlace, mode: Mode::Rolling }),
            // Another task: no replica of the revision before can answer in the canary's place.
            (ms(8_000), Op::Deploy { pipeline, change: Change::Task, mode }),
            (turns_bad_at, Op::TurnBad { pipeline }),
        ];
        if rng.random() {
            let weather = Weather::LongCanary;
            let draw = Draw { weather, auto: false, num_nodes, num_ingresses: 1, num_pipelines: 1 };
            let at = turns_bad_at - ms(3_000) + ms(rng.random_range(0..6_000));
            script.push((at, draw.head_fault(rng)));
            script.sort_by_key(|(at, _)| *at);
        }
        Self {
            seed,
            weather: Weather::LongCanary,
            room: Room::Enough,
            nodes: vec![Capacity { cpu_milli: 4_000, num_gpus: 1 }; num_nodes],
            num_ingresses: rng.random_range(1..=2),
            num_pipelines: 1,
            latency: Latency { usual: ms(rng.random_range(1..=20)), one_in: 0, tail: ms(900) },
            scaling: Scaling::Fixed,
            failing_calls: 0,
            // What a single replica can bear.
            request_gap_ms: (150, 350),
            ends_at: turns_bad_at + CONVICTED_WITHIN,
            script,
        }
    }

    /// Whether nothing befalls the heads.
    pub(crate) fn leaves_heads_alone(&self) -> bool {
        let befalls = |op: &Op| {
            matches!(op, Op::CrashHead { .. } | Op::TakeOver { .. } | Op::Pause { .. } | Op::JumpClock { .. })
        };
        !self.script.iter().any(|(_, op)| befalls(op))
    }
}

/// What a script is drawn from.
struct Draw {
    weather: Weather,
    auto: bool,
    num_nodes: usize,
    num_ingresses: usize,
    num_pipelines: usize,
}

impl Draw {
    fn pipeline(&self, rng: &mut SmallRng) -> usize {
        rng.random_range(0..self.num_pipelines)
    }

    fn worker(&self, rng: &mut SmallRng) -> usize {
        rng.random_range(0..self.num_nodes)
    }

    fn change(&self, rng: &mut SmallRng) -> Op {
        use Change::{Bad, Broken, Count, Fewer, InPlace, More, Restart, Task};
        // With as few requests as here, a bad revision may take over before enough of them failed.
        let bad = if self.weather == Weather::Calm { Restart } else { Bad };
        let changes = [InPlace, Count, Count, Restart, Restart, bad, bad, Task, Broken, More, Fewer];
        let change = changes[rng.random_range(0..changes.len())];
        let mode = if rng.random_ratio(1, 4) { Self::mode(rng) } else { Mode::Rolling };
        Op::Deploy { pipeline: self.pipeline(rng), change, mode }
    }

    fn mode(rng: &mut SmallRng) -> Mode {
        let permille = [50, 300, 500, 1000][rng.random_range(0..4)];
        if rng.random_ratio(1, 3) { Mode::Shadow { permille } } else { Mode::Canary { permille } }
    }

    /// What people want.
    fn wish(&self, rng: &mut SmallRng) -> Option<Op> {
        let pipeline = self.pipeline(rng);
        match rng.random_range(0..18) {
            14 => Some(Op::Node { worker: self.worker(rng), request: NodeRequest::Cordon }),
            15 | 16 => Some(Op::Node { worker: self.worker(rng), request: NodeRequest::Drain }),
            17 => Some(Op::Node { worker: self.worker(rng), request: NodeRequest::Uncordon }),
            0 => Some(Op::Delete { pipeline }),
            1 | 2 => Some(Op::Scale { pipeline, pick: rng.random_range(0..2), bounds: self.bounds(rng) }),
            3 | 4 => Some(Op::Promote { pipeline }),
            5 | 6 => Some(Op::Abort { pipeline }),
            7 if rng.random() => Some(Op::SetMode { pipeline, mode: Self::mode(rng) }),
            _ => None,
        }
    }

    fn bounds(&self, rng: &mut SmallRng) -> Option<(u32, u32)> {
        let most = rng.random_range(1..=4);
        let fewest = if self.auto && rng.random() { rng.random_range(0..=1) } else { most };
        rng.random_ratio(3, 4).then_some((fewest, most))
    }

    fn fault(&self, rng: &mut SmallRng) -> Option<Op> {
        let weather = match self.weather {
            Weather::Storm => [Weather::Network, Weather::Deaths, Weather::Heads][rng.random_range(0..3)],
            weather => weather,
        };
        match weather {
            Weather::Network => Some(self.network_fault(rng)),
            Weather::Deaths => Some(self.death(rng)),
            Weather::Heads => Some(self.head_fault(rng)),
            Weather::Calm | Weather::Storm | Weather::LongCanary => None,
        }
    }

    fn network_fault(&self, rng: &mut SmallRng) -> Op {
        let worker = Host::Worker(self.worker(rng));
        let ingress = Host::Ingress(rng.random_range(0..self.num_ingresses));
        let head = Host::Head(rng.random_range(0..2));
        let (a, b) = [(head, worker), (head, ingress), (ingress, worker)][rng.random_range(0..3)];
        let lasts = span(rng, 200, 25_000);
        match rng.random_range(0..4) {
            0 | 1 => Op::Break { a, b },
            2 => Op::Stall { a, b, lasts },
            _ => Op::Partition { a, b, lasts },
        }
    }

    fn death(&self, rng: &mut SmallRng) -> Op {
        let worker = self.worker(rng);
        match rng.random_range(0..10) {
            0..=3 => Op::CrashReplica { worker, pick: rng.random_range(0..8) },
            4 | 5 => {
                let down = rng.random_ratio(2, 3).then(|| span(rng, 100, 30_000));
                let wipe = down.is_some() && rng.random_ratio(1, 4);
                Op::KillWorker { worker, power: rng.random(), wipe, down }
            }
            6 => Op::LeaveWorker { worker, down: span(rng, 500, 10_000) },
            7 => Op::Pause { host: Host::Worker(worker), lasts: span(rng, 500, 40_000) },
            8 => {
                let host = Host::Ingress(rng.random_range(0..self.num_ingresses));
                Op::Pause { host, lasts: span(rng, 500, 15_000) }
            }
            _ => {
                let ingress = rng.random_range(0..self.num_ingresses);
                Op::KillIngress { ingress, down: span(rng, 100, 5_000) }
            }
        }
    }

    fn head_fault(&self, rng: &mut SmallRng) -> Op {
        match rng.random_range(0..10) {
            0..=3 => Op::CrashHead { down: span(rng, 50, 12_000) },
            4..=6 => Op::TakeOver { paused: rng.random(), overlap: span(rng, 500, 12_000) },
            7 | 8 => Op::Pause { host: Host::Head(0), lasts: span(rng, 500, 30_000) },
            _ => Op::JumpClock { by: span(rng, 1_000, 60_000) },
        }
    }
}

/// A time between bounds in milliseconds; short ones are as likely as long ones.
fn span(rng: &mut SmallRng, from: u64, to: u64) -> Duration {
    let to = if rng.random() { to } else { from + (to - from) / 8 };
    Duration::from_millis(rng.random_range(from..=to))
}
