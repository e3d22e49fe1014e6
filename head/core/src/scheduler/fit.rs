//! What is missing on a node that cannot take a replica.

use std::fmt;

use millstream_pipelines::{Demand, Device, GpuDemand};
use serde::{Deserialize, Serialize};

use super::workload::Gpus;
use super::{FreeDevice, Node, Request};

/// One thing that a node lacks for a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// Too few cores are free.
    Cpu {
        /// Thousandths of cores asked for.
        wanted_milli: u64,
        /// Thousandths free.
        free_milli: u64,
    },
    /// Too little memory is free.
    Memory {
        /// Bytes asked for.
        wanted_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// A label is not there, or has another value.
    Label {
        /// The label.
        key: String,
        /// The value asked for.
        wanted: String,
        /// The node's value.
        found: Option<String>,
    },
    /// It has as many replicas of the deployment as one node may have.
    ReplicasPerNode {
        /// The limit.
        max: u32,
    },
    /// It has no device.
    NoGpu,
    /// None of its devices is of an accepted model.
    Accelerator {
        /// The accepted models.
        wanted: Vec<String>,
        /// The models there are.
        found: Vec<String>,
    },
    /// No device has that share (and its memory) free.
    GpuShare {
        /// Thousandths of one device asked for.
        wanted_milli: u32,
        /// The largest free share.
        free_milli: u32,
    },
    /// Too few devices are wholly free.
    WholeGpus {
        /// Devices asked for.
        wanted: u32,
        /// Devices free.
        free: u32,
    },
    /// Devices have the share, but none has the memory free.
    GpuMemory {
        /// Bytes asked for on each device.
        wanted_bytes: u64,
        /// The most that a device with the share has free.
        free_bytes: u64,
    },
}

/// What kind of thing is missing, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lack {
    /// Cores.
    Cpu,
    /// Memory.
    Memory,
    /// A device, or a share of one.
    Gpu,
    /// Memory on a device.
    GpuMemory,
    /// A device of an accepted model.
    Accelerator,
    /// A label.
    Label,
    /// Room below `max_replicas_per_node`.
    ReplicasPerNode,
    /// Any node at all that takes replicas.
    Node,
}

impl Lack {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Cpu,
        Self::Memory,
        Self::Gpu,
        Self::GpuMemory,
        Self::Accelerator,
        Self::Label,
        Self::ReplicasPerNode,
        Self::Node,
    ];

    /// As it stands in labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Gpu => "gpu",
            Self::GpuMemory => "gpu_memory",
            Self::Accelerator => "accelerator",
            Self::Label => "label",
            Self::ReplicasPerNode => "replicas_per_node",
            Self::Node => "node",
        }
    }

    /// What the node that comes nearest lacks first: the one with the fewest things missing.
    #[must_use]
    pub fn of(reasons: &[(String, Vec<Missing>)]) -> Self {
        let nearest = reasons.iter().map(|(_, missing)| missing).min_by_key(|missing| missing.len());
        nearest.and_then(|missing| missing.first()).map_or(Self::Node, Missing::lack)
    }
}

impl Missing {
    /// What kind of thing it is.
    #[must_use]
    pub fn lack(&self) -> Lack {
        match self {
            Self::Cpu { .. } => Lack::Cpu,
            Self::Memory { .. } => Lack::Memory,
            Self::Label { .. } => Lack::Label,
            Self::ReplicasPerNode { .. } => Lack::ReplicasPerNode,
            Self::NoGpu | Self::GpuShare { .. } | Self::WholeGpus { .. } => Lack::Gpu,
            Self::Accelerator { .. } => Lack::Accelerator,
            Self::GpuMemory { .. } => Lack::GpuMemory,
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { wanted_milli, free_milli } => {
                write!(f, "needs {} cores, {} free", Thousandths(*wanted_milli), Thousandths(*free_milli))
            }
            Self::Memory { wanted_bytes, free_bytes } => {
                write!(f, "needs {} of memory, {} free", Bytes(*wanted_bytes), Bytes(*free_bytes))
            }
            Self::Label { key, wanted, found: None } => {
                write!(f, "needs label `{key}={wanted}`, has no `{key}`")
            }
            Self::Label { key, wanted, found: Some(found) } => {
                write!(f, "needs label `{key}={wanted}`, has `{key}={found}`")
            }
            Self::ReplicasPerNode { max } => {
                write!(f, "has the {max} replicas that `max_replicas_per_node` allows")
            }
            Self::NoGpu => write!(f, "needs a GPU, has none"),
            Self::Accelerator { wanted, found } => {
                write!(f, "needs a GPU of `{}`, has `{}`", wanted.join("` or `"), found.join("`, `"))
            }
            Self::GpuShare { wanted_milli, free_milli } => {
                let (wanted, free) = (Thousandths((*wanted_milli).into()), Thousandths((*free_milli).into()));
                write!(f, "needs {wanted} of one GPU, at most {free} of one is free")
            }
            Self::WholeGpus { wanted, free } => write!(f, "needs {wanted} whole GPUs, {free} free"),
            Self::GpuMemory { wanted_bytes, free_bytes } => {
                write!(f, "needs {} of GPU memory, {} free", Bytes(*wanted_bytes), Bytes(*free_bytes))
            }
        }
    }
}

/// Thousandths, printed as a decimal number.
struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        let digits = format!("{rest:03}");
        match digits.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            digits => write!(f, "{whole}.{digits}"),
        }
    }
}

/// Bytes in the largest unit that leaves a number above one, with one decimal.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(size, _)| self.0 >= *size) {
            Some((size, unit)) if self.0.is_multiple_of(*size) => write!(f, "{}{unit}", self.0 / size),
            Some((size, unit)) => write!(f, "{}.{}{unit}", self.0 / size, self.0 % size * 10 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Where a replica's numbers would be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// With its GPU demand.
    Gpu,
    /// Without.
    Cpu,
}

impl Mode {
    /// The modes that a request accepts, the preferred one first.
    pub(super) fn accepted(request: &Request) -> &'static [Self] {
        match (request.device, request.demand.gpus) {
            (Device::Cpu, _) | (_, GpuDemand::None) => &[Self::Cpu],
            (Device::Gpu, _) => &[Self::Gpu],
            (Device::Auto, _) => &[Self::Gpu, Self::Cpu],
        }
    }
}

/// Everything that the node lacks for the request; empty when it fits.
pub(super) fn missing(node: &Node, request: &Request) -> Vec<Missing> {
    let mut all = Vec::new();
    missing_without_gpus(node, request, |missing| all.push(missing));
    if !Mode::accepted(request).contains(&Mode::Cpu) {
        all.extend(missing_gpus(node, &request.demand));
    }
    all
}

fn missing_without_gpus(node: &Node, request: &Request, mut report: impl FnMut(Missing)) {
    let demand = &request.demand;
    if demand.cpu_milli > node.free_cpu_milli {
        report(Missing::Cpu { wanted_milli: demand.cpu_milli, free_milli: node.free_cpu_milli });
    }
    if demand.memory_bytes > node.free_memory_bytes {
        report(Missing::Memory { wanted_bytes: demand.memory_bytes, free_bytes: node.free_memory_bytes });
    }
    for (key, wanted) in &demand.labels {
        let found = node.labels.get(key);
        if found != Some(wanted) {
            report(Missing::Label { key: key.clone(), wanted: wanted.clone(), found: found.cloned() });
        }
    }
    let there = node.replicas.get(&request.deployment).copied().unwrap_or(0);
    if let Some(max) = demand.max_replicas_per_node
        && there >= max
    {
        report(Missing::ReplicasPerNode { max });
    }
}

/// Whether one of these models (any, when there are none) is a device's. People write `A100` where a driver says `NVIDIA
/// A100-SXM4-80GB`: whole words of its name are enough, in any case of letters.
pub(super) fn accepts_model(accepted: &[String], model: &str) -> bool {
    accepted.is_empty() || accepted.iter().any(|wanted| is_model(wanted, model))
}

fn is_model(wanted: &str, model: &str) -> bool {
    let is_word_end = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    let (wanted, model) = (wanted.as_bytes(), model.as_bytes());
    !wanted.is_empty()
        && model.windows(wanted.len()).enumerate().any(|(at, window)| {
            window.eq_ignore_ascii_case(wanted)
                && is_word_end(at.checked_sub(1).and_then(|before| model.get(before)))
                && is_word_end(model.get(at + wanted.len()))
        })
}

/// Devices of a model that the demand accepts.
fn accepted<'a>(node: &'a Node, demand: &'a Demand) -> impl Iterator<Item = &'a FreeDevice> {
    node.devices.iter().filter(|device| accepts_model(&demand.accelerators, &device.model))
}

fn missing_gpus(node: &Node, demand: &Demand) -> Option<Missing> {
    let Gpus { count: needed, milli: needed_milli } = Gpus::of(demand.gpus)?;
    if node.devices.is_empty() {
        return Some(Missing::NoGpu);
    }
    let with_share = || accepted(node, demand).filter(|device| device.free_milli >= needed_milli);
    let with_memory = with_share().filter(|device| device.free_memory_bytes >= demand.gpu_memory_bytes);
    if with_memory.count() >= needed as usize {
        return None;
    }
    if accepted(node, demand).next().is_none() {
        let found = node.devices.iter().map(|device| device.model.clone()).collect();
        return Some(Missing::Accelerator { wanted: demand.accelerators.clone(), found });
    }
    let free = u32::try_from(with_share().count()).unwrap_or(u32::MAX);
    if free >= needed {
        let free_bytes = with_share().map(|device| device.free_memory_bytes).max().unwrap_or(0);
        return Some(Missing::GpuMemory { wanted_bytes: demand.gpu_memory_bytes, free_bytes });
    }
    Some(match demand.gpus {
        GpuDemand::Whole(wanted) => Missing::WholeGpus { wanted, free },
        _ => {
            let free_milli = accepted(node, demand).map(|device| device.free_milli).max().unwrap_or(0);
            Missing::GpuShare { wanted_milli: needed_milli, free_milli }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_accepted_by_whole_words_of_its_name() {
        let table = [
            ("H200", "NVIDIA H200", true),
            ("nvidia h200", "NVIDIA H200", true),
            ("A100", "NVIDIA A100-SXM4-80GB", true),
            ("A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB", true),
            ("A10", "NVIDIA A100-SXM4-80GB", false),
            ("V100", "V100M16", false),
            ("V100M16", "V100M16", true),
            ("H100 NVL", "NVIDIA H100 NVL", true),
            ("NVIDIA H200", "H200", false),
            ("", "H200", false),
        ];
        for (wanted, model, expected) in table {
            assert_eq!(accepts_model(&[wanted.to_owned()], model), expected, "{wanted} {model}");
        }
        assert!(accepts_model(&[], "T4"));
    }
}
