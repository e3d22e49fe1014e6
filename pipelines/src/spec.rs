//! What a deployment is, once its table in the file is checked: what runs, on what, how many, within which limits.
//! The head places by it, the worker starts by it; it travels between them as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use millstream_values::DType;
use serde::{Deserialize, Serialize};

use crate::{DeclaredInputs, Name, RedactedPath};

mod engine;

pub use self::engine::{AnswerTokens, Echo, EngineKind, EngineSettings, FirstToken, NextToken, Sim};

/// A deployment's settings, all ranges checked and all defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    /// Its name in the pipeline.
    pub name: Name,
    /// What it does, which decides its inputs and outputs.
    pub task: Task,
    /// What runs it.
    pub engine: EngineKind,
    /// The model; `None` only for engines without one.
    pub model: Option<ModelRef>,
    /// Where its numbers are computed.
    pub device: Device,
    /// What one replica needs of a node.
    pub demand: Demand,
    /// How calls run together.
    pub batch: Batch,
    /// Batches that run at a time in a replica; `None` for one on each of its threads.
    #[serde(default)]
    pub lanes: Option<u32>,
    /// How many replicas.
    pub autoscaling: Autoscaling,
    /// Bounds on requests and times.
    pub limits: Limits,
    /// Settings of an engine that runs no model.
    #[serde(default)]
    pub engine_settings: Option<EngineSettings>,
    /// What the file says of its inputs.
    #[serde(flatten)]
    pub inputs: DeclaredInputs,
}

impl DeploymentSpec {
    /// Whether `other` needs new replicas, or differs only in settings that apply in place: autoscaling, batching and
    /// limits.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> bool {
        let in_place = Self {
            autoscaling: other.autoscaling.clone(),
            batch: other.batch.clone(),
            limits: other.limits.clone(),
            ..self.clone()
        };
        in_place != *other
    }

    /// Settings of `engine = "echo"`.
    #[must_use]
    pub fn echo(&self) -> Option<&Echo> {
        match &self.engine_settings {
            Some(EngineSettings::Echo(echo)) => Some(echo),
            _ => None,
        }
    }

    /// Settings of `engine = "sim"`.
    #[must_use]
    pub fn sim(&self) -> Option<&Sim> {
        match &self.engine_settings {
            Some(EngineSettings::Sim(sim)) => Some(sim),
            _ => None,
        }
    }
}

/// What a deployment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// `texts` to a tensor `[n, d]`.
    Embed,
    /// `query, documents, keep` to `{items, scores, indices}`, best first.
    Rerank,
    /// `prompt` or `messages` to `{text, tokens, finish_reason}`.
    Generate,
    /// `texts` to `{labels, scores}`: the likeliest label of each, or with `top_k` so many.
    Classify,
    /// The model's inputs to a map of tensors by the model's output names.
    Tensor,
    /// Whatever the engine does: a map to a map.
    Custom,
}

impl Task {
    /// As it stands in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Rerank => "rerank",
            Self::Generate => "generate",
            Self::Classify => "classify",
            Self::Tensor => "tensor",
            Self::Custom => "custom",
        }
    }
}

/// Where a model is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelRef {
    /// `name@alias`, or `name` alone, which means `name@production`.
    Alias {
        /// Name in the model store.
        name: String,
        /// Alias such as `production`.
        alias: String,
    },
    /// `name:version`.
    Version {
        /// Name in the model store.
        name: String,
        /// Version, as it was given when the model was added.
        version: String,
    },
    /// `hf:org/repo@rev`; fetched only when downloads are allowed.
    Hub {
        /// `org/repo`.
        repo: String,
        /// Branch, tag or commit; `main` when left out.
        revision: String,
    },
    /// `file:path`: a folder or file; relative to the folder of the pipeline's file.
    File {
        /// The path as written.
        path: String,
    },
}

impl fmt::Display for ModelRef {
    /// As a file names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias { name, alias } => write!(f, "{name}@{alias}"),
            Self::Version { name, version } => write!(f, "{name}:{version}"),
            Self::Hub { repo, revision } => write!(f, "hf:{repo}@{revision}"),
            Self::File { path } => write!(f, "file:{path}"),
        }
    }
}

/// Where numbers are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// On the GPU share asked for; the default with `gpus > 0`.
    Gpu,
    /// On the CPU; the default with `gpus = 0`.
    Cpu,
    /// On a GPU share where a node has one free, else on the CPU.
    Auto,
}

/// What one replica needs of a node. Integers, so that sums are exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Thousandths of CPU cores.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// GPUs.
    pub gpus: GpuDemand,
    /// Bytes of device memory on each device; 0 means not asked for.
    pub gpu_memory_bytes: u64,
    /// Accepted accelerator models; empty means any.
    pub accelerators: Vec<String>,
    /// Labels that the node must carry.
    pub labels: BTreeMap<String, String>,
    /// At most this many replicas of the deployment on one node.
    pub max_replicas_per_node: Option<u32>,
}

/// GPUs for one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuDemand {
    /// None.
    None,
    /// A part of one device, in thousandths: 1 to 999.
    Share(u32),
    /// Whole devices: 1 or more.
    Whole(u32),
}

/// How the replicas of a pipeline are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Whether the first replicas of all its deployments start together or not at all.
    pub all_or_nothing: bool,
}

/// How a new revision of a pipeline takes over from the one that serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rollout {
    /// Parts of the requests, each larger than the one before, the last one all; empty for a trial and then all.
    pub steps: Vec<TrafficStep>,
    /// A new revision is taken back when 95% of its requests take longer and those of the old one do not; `None` for no bound.
    pub max_p95: Option<Duration>,
}

/// A part of the requests that a new revision gets for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficStep {
    /// Thousandths of the requests, 1 to 1000.
    pub permille: u16,
    /// How long, unless it is all of them.
    pub hold: Duration,
}

/// Which requests of a pipeline are kept with their answers, to be looked at and sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Thousandths of the requests, 1 to 1000.
    pub permille: u16,
    /// Bytes that they may take on disk, at each ingress.
    pub max_bytes: u64,
    /// What is left out of them.
    pub redact: Vec<RedactedPath>,
    /// URL of a receiver of CloudEvents that gets them; `None` keeps them on disk.
    pub sink: Option<String>,
}

/// In words, for whoever deploys it.
impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}% of the requests", f64::from(self.permille) / 10.0)?;
        match &self.sink {
            Some(url) => write!(f, ", sent to `{url}`")?,
            None => write!(f, ", at most {} on disk at each ingress", crate::format_bytes(self.max_bytes))?,
        }
        for (index, path) in self.redact.iter().enumerate() {
            write!(f, "{} `{path}`", if index == 0 { ", without" } else { "," })?;
        }
        Ok(())
    }
}

/// How calls run together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Most inputs in one batch, at least 1.
    pub max_size: u32,
    /// How long the first call waits for company while the engine is idle.
    pub max_wait: Duration,
    /// Most tokens in one batch of texts, padding counted; `None` for no bound.
    pub max_tokens: Option<u32>,
    /// Sizes at which a batch closes at once, ascending; empty for none.
    pub preferred_sizes: Vec<u32>,
    /// `batch = "auto"`: size and wait are chosen, within `max_size`, so that a call is answered in that time; `max_wait`
    /// and `preferred_sizes` play no part.
    pub target_latency: Option<Duration>,
}

/// What a file leaves out.
impl Default for Batch {
    fn default() -> Self {
        Self {
            max_size: 32,
            max_wait: Duration::ZERO,
            max_tokens: None,
            preferred_sizes: Vec::new(),
            target_latency: None,
        }
    }
}

/// When a call that is not answered yet goes to a second replica as well; the first answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hedge {
    /// After the time that so many percent of the deployment's recent calls took at most.
    Percentile(u8),
    /// After this time.
    After(Duration),
}

/// How many replicas, and what moves the number. Rules in order: bounds, smoothing, delays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Autoscaling {
    /// Fewest replicas; 0 allows scaling to zero.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// Ongoing requests per replica aimed at, above 0.
    pub target_ongoing_requests: f64,
    /// Window that ongoing requests are averaged over.
    pub look_back: Duration,
    /// How long more replicas must be wished for without a break.
    pub upscale_delay: Duration,
    /// How long fewer replicas must be wished for without a break.
    pub downscale_delay: Duration,
    /// How long the last replica may idle when `min_replicas` is 0.
    pub idle_timeout: Duration,
    /// Damps steps up, above 0.
    pub upscaling_factor: f64,
    /// Damps steps down, above 0.
    pub downscaling_factor: f64,
    /// How far ongoing requests may exceed what the target number of replicas aims at, as a part of it, before more
    /// are wished for; only while none waits.
    pub upscale_tolerance: f64,
}

/// One replica, whatever happens; what a file leaves out.
impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            min_replicas: 1,
            max_replicas: 1,
            target_ongoing_requests: 2.0,
            look_back: Duration::from_secs(2),
            upscale_delay: Duration::from_millis(500),
            downscale_delay: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            upscaling_factor: 1.0,
            downscaling_factor: 1.0,
            upscale_tolerance: 0.2,
        }
    }
}

/// Bounds on requests and times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Calls in one replica at a time, at least 1.
    pub max_ongoing_requests: u32,
    /// Calls that wait at the ingresses; `None` means 2 × replicas × `max_ongoing_requests`, at least 64.
    pub max_queued_requests: Option<u32>,
    /// How long a replica that stops may finish its calls.
    pub drain_timeout: Duration,
    /// How long a replica may take to become ready.
    pub start_timeout: Duration,
    /// How long a step of the engine may take before its replica counts as hung; `None` for what follows from its other steps.
    #[serde(default)]
    pub step_timeout: Option<Duration>,
    /// Replicas beyond the wanted number while a revision replaces another; with 0 one stops before another starts.
    pub max_surge: u32,
    /// Whether a call that has started may be run again elsewhere.
    pub idempotent: bool,
}

/// A tensor's type: `f32[42]`, `i64[?]`, `f32[?,384]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Sizes of the axes; `None` is any size (`?`).
    pub shape: Vec<Option<usize>>,
}

/// Whether answers of a stage are kept at the ingress, to answer equal calls of later requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// How long an answer may be used.
    pub ttl: Duration,
    /// Bytes that the kept answers may take, at each ingress and for each revision.
    pub max_bytes: u64,
    /// Who shares an answer.
    pub scope: CacheScope,
}

/// Who shares a kept answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheScope {
    /// Requests with the same API key; those without any are one group.
    #[default]
    Key,
    /// All requests.
    All,
}
