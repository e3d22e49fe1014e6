//! The pipelines that scenarios deploy: settings that a seed draws, within bounds that a cluster can always hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::desired::Compiled;
use millstream_core::desired::change::Candidate;
use millstream_pipelines::{
    Autoscaling, Batch, Demand, DeploymentSpec, Device, Echo, EngineKind, GpuDemand, Limits, Name, Task,
};
use rand::Rng;
use rand::rngs::SmallRng;

/// What an echo's settings say of one whose replicas never get ready.
const NEVER: &str = "never starts";

/// Whether replicas of these settings never get ready.
pub(crate) fn never_starts(spec: &DeploymentSpec) -> bool {
    spec.echo().is_some_and(|echo| echo.crash_on.as_deref() == Some(NEVER))
}

/// Whether replicas of these settings get ready, and fail no calls.
pub(crate) fn is_sound(spec: &DeploymentSpec) -> bool {
    !never_starts(spec) && spec.echo().is_none_or(|echo| echo.fail_ratio <= 0.0)
}

/// Whether numbers of replicas follow the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scaling {
    /// People fix them.
    Fixed,
    /// They do, for some deployments.
    Auto,
}

/// One deployment's settings, as far as a scenario varies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    cpu_milli: u64,
    gpu_milli: Option<u32>,
    /// Fewest and most; they differ where the autoscaler decides.
    replicas: (u32, u32),
    max_ongoing: u32,
    max_surge: u32,
    /// Whether its calls take long, so that replicas drain for a while.
    slow: bool,
    tensor: bool,
    never_starts: bool,
    /// Part of the calls that fail, in thousandths.
    failing: u16,
}

/// A change to a pipeline's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Limits: they apply in place.
    InPlace,
    /// How many.
    Count,
    /// Something that takes new replicas.
    Restart,
    /// Another task: old and new replicas cannot answer the same calls.
    Task,
    /// Replicas that never get ready.
    Broken,
    /// Replicas that get ready, and fail calls.
    Bad,
    /// Another deployment.
    More,
    /// One deployment less, if there are two.
    Fewer,
}

/// A pipeline as it was deployed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    name: String,
    deployments: BTreeMap<String, Shape>,
    scaling: Scaling,
    /// Every deploy is another text.
    number: u64,
}

impl Draft {
    pub(crate) fn new(index: usize, shares: Option<[u32; 2]>, scaling: Scaling, rng: &mut SmallRng) -> Self {
        let name = ["alpha", "beta"][index % 2].to_owned();
        let mut deployments = BTreeMap::new();
        deployments.insert("first".to_owned(), Shape::draw(shares, scaling, rng));
        if rng.random() {
            deployments.insert("second".to_owned(), Shape::draw(None, scaling, rng));
        }
        Self { name, deployments, scaling, number: 0 }
    }

    pub(crate) fn name(&self) -> Name {
        name(&self.name)
    }

    /// Names of its deployments, and the most replicas that there is room for.
    pub(crate) fn deployments(&self) -> impl Iterator<Item = (Name, u32)> {
        self.deployments.iter().map(|(deployment, shape)| (name(deployment), shape.most()))
    }

    /// Whether all its replicas can start.
    pub(crate) fn is_sound(&self) -> bool {
        !self.deployments.values().any(|shape| shape.never_starts || shape.failing > 0)
    }

    pub(crate) fn change(&mut self, change: Change, rng: &mut SmallRng) {
        let index = rng.random_range(0..self.deployments.len());
        let shape = self.deployments.values_mut().nth(index);
        let shape = shape.expect("a draft has at least one deployment, and the index is below their number");
        // Whatever changes mends what is broken; the first revision is sound.
        shape.never_starts = change == Change::Broken && self.number > 0;
        shape.failing =
            if change == Change::Bad && self.number > 0 { rng.random_range(300..=1000) } else { 0 };
        match change {
            Change::InPlace => shape.max_ongoing = shape.draw_max_ongoing(rng),
            Change::Count => shape.replicas = shape.draw_count(self.scaling, rng),
            Change::Restart | Change::Broken | Change::Bad => {
                if change != Change::Restart {
                    // What has no replicas proves nothing before it takes over.
                    shape.replicas.0 = shape.replicas.0.max(1);
                }
                shape.cpu_milli = 100 * rng.random_range(1..=5);
                shape.max_surge = rng.random_range(1..=2);
            }
            Change::Task => shape.tensor = !shape.tensor,
            Change::More => {
                let second = Shape::draw(None, self.scaling, rng);
                self.deployments.entry("second".to_owned()).or_insert(second);
            }
            Change::Fewer => drop(self.deployments.remove("second")),
        }
    }

    /// Makes it one whose replicas can all start.
    pub(crate) fn mend(&mut self) {
        for shape in self.deployments.values_mut() {
            (shape.never_starts, shape.failing) = (false, 0);
        }
    }

    /// The text to deploy; it differs from every one before.
    pub(crate) fn candidate(&mut self) -> Candidate {
        self.number += 1;
        let specs = self.deployments.iter().map(|(deployment, shape)| {
            let spec = shape.spec(name(deployment));
            (spec.name.clone(), Arc::new(spec))
        });
        let compiled = Compiled {
            name: self.name(),
            route: Some(format!("/{}", self.name)),
            deployments: specs.collect(),
            aliases: [].into(),
            uses: [].into(),
            all_or_nothing: false,
            rollout: millstream_pipelines::Rollout::default(),
        };
        let file_name = format!("{}.toml", self.name);
        Candidate { file_name, source: self.number.to_string(), source_dir: "/".into(), compiled }
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("scenarios use valid names only")
}

impl Shape {
    fn draw(shares: Option<[u32; 2]>, scaling: Scaling, rng: &mut SmallRng) -> Self {
        let gpu_milli = shares.map(|shares| shares[rng.random_range(0..2)]);
        let mut shape = Self {
            cpu_milli: 100 * rng.random_range(1..=5),
            gpu_milli,
            replicas: (1, 1),
            max_ongoing: 0,
            max_surge: rng.random_range(1..=2),
            slow: rng.random_ratio(1, 3),
            tensor: false,
            never_starts: false,
            failing: 0,
        };
        shape.replicas = shape.draw_count(scaling, rng);
        shape.max_ongoing = shape.draw_max_ongoing(rng);
        shape
    }

    /// Enough for what clients send to a single replica.
    fn draw_max_ongoing(&self, rng: &mut SmallRng) -> u32 {
        rng.random_range(if self.slow { 12..=16 } else { 2..=8 })
    }

    /// The most replicas that there is room for.
    fn most(&self) -> u32 {
        if self.gpu_milli.is_some() { 2 } else { 4 }
    }

    fn draw_count(&self, scaling: Scaling, rng: &mut SmallRng) -> (u32, u32) {
        let most = self.most();
        if scaling == Scaling::Auto && rng.random() {
            return (rng.random_range(0..=1), most);
        }
        let count = rng.random_range(1..=most.min(3));
        (count, count)
    }

    fn spec(&self, name: Name) -> DeploymentSpec {
        let (min_replicas, max_replicas) = self.replicas;
        DeploymentSpec {
            name,
            task: if self.tensor { Task::Tensor } else { Task::Custom },
            engine: EngineKind::Echo,
            model: None,
            device: if self.gpu_milli.is_some() { Device::Gpu } else { Device::Cpu },
            demand: Demand {
                cpu_milli: self.cpu_milli,
                memory_bytes: 0,
                gpus: self.gpu_milli.map_or(GpuDemand::None, GpuDemand::Share),
                gpu_memory_bytes: 0,
                accelerators: vec![],
                labels: BTreeMap::new(),
                max_replicas_per_node: None,
            },
            batch: Batch { max_size: 1, ..Batch::default() },
            lanes: None,
            autoscaling: Autoscaling {
                min_replicas,
                max_replicas,
                downscale_delay: Duration::from_secs(6),
                idle_timeout: Duration::from_secs(8),
                ..Autoscaling::default()
            },
            limits: Limits {
                max_ongoing_requests: self.max_ongoing,
                max_queued_requests: None,
                drain_timeout: Duration::from_secs(5),
                start_timeout: Duration::from_secs(300),
                step_timeout: None,
                max_surge: self.max_surge,
                idempotent: true,
            },
            engine_settings: Some(
                Echo {
                    delay: Duration::from_millis(if self.slow { 2_000 } else { 200 }),
                    fail_ratio: f64::from(self.failing) / 1000.0,
                    crash_on: self.never_starts.then(|| NEVER.to_owned()),
                }
                .into(),
            ),
            inputs: Default::default(),
        }
    }
}
