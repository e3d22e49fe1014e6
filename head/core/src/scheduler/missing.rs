//! What is missing on a node that cannot take a replica, in people's words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most models of devices that a reason names.
const MAX_MODELS: usize = 4;

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
pub enum MissingResource {
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

impl MissingResource {
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
}

impl Missing {
    /// What kind of thing it is.
    #[must_use]
    pub fn lack(&self) -> MissingResource {
        match self {
            Self::Cpu { .. } => MissingResource::Cpu,
            Self::Memory { .. } => MissingResource::Memory,
            Self::Label { .. } => MissingResource::Label,
            Self::ReplicasPerNode { .. } => MissingResource::ReplicasPerNode,
            Self::NoGpu | Self::GpuShare { .. } | Self::WholeGpus { .. } => MissingResource::Gpu,
            Self::Accelerator { .. } => MissingResource::Accelerator,
            Self::GpuMemory { .. } => MissingResource::GpuMemory,
        }
    }

    /// A device of these models is asked for, and there are only those.
    pub(super) fn accelerator(wanted: Vec<String>, found: impl IntoIterator<Item = String>) -> Self {
        let mut named = Vec::new();
        found.into_iter().for_each(|model| name_model(&mut named, model));
        Self::Accelerator { wanted, found: named }
    }

    /// Whether another node lacks the same thing, perhaps less or more of it.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Label { key, found, .. }, Self::Label { key: other_key, found: other_found, .. }) => {
                key == other_key && found.is_some() == other_found.is_some()
            }
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Takes in what another node lacks of the same thing: of amounts the most that is free counts.
    pub(super) fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Cpu { free_milli, .. }, Self::Cpu { free_milli: other, .. }) => {
                *free_milli = (*free_milli).max(*other);
            }
            (Self::GpuShare { free_milli, .. }, Self::GpuShare { free_milli: other, .. }) => {
                *free_milli = (*free_milli).max(*other);
            }
            (Self::WholeGpus { free, .. }, Self::WholeGpus { free: other, .. }) => {
                *free = (*free).max(*other);
            }
            (Self::Memory { free_bytes, .. }, Self::Memory { free_bytes: other, .. })
            | (Self::GpuMemory { free_bytes, .. }, Self::GpuMemory { free_bytes: other, .. }) => {
                *free_bytes = (*free_bytes).max(*other);
            }
            (Self::Accelerator { found, .. }, Self::Accelerator { found: other, .. }) => {
                other.iter().for_each(|model| name_model(found, model.clone()));
            }
            _ => {}
        }
    }

    /// In words: what one node lacks, or what several do.
    pub(super) fn words(&self, nodes: Nodes) -> Words<'_> {
        Words { missing: self, nodes }
    }
}

/// Names a model once, and only so many of them.
fn name_model(named: &mut Vec<String>, model: String) {
    if named.len() < MAX_MODELS && !named.contains(&model) {
        named.push(model);
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words(Nodes::One).fmt(f)
    }
}

/// Whether a reason is about one node or about several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nodes {
    One,
    Several,
}

/// What is missing, in words.
pub(super) struct Words<'a> {
    missing: &'a Missing,
    nodes: Nodes,
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (most, has) = match self.nodes {
            Nodes::One => ("", "has"),
            Nodes::Several => ("at most ", "they have"),
        };
        match self.missing {
            Missing::Cpu { wanted_milli, free_milli } => {
                let (wanted, free) = (Thousandths(*wanted_milli), Thousandths(*free_milli));
                write!(f, "needs {wanted} cores, {most}{free} free")
            }
            Missing::Memory { wanted_bytes, free_bytes } => {
                write!(f, "needs {} of memory, {most}{} free", Bytes(*wanted_bytes), Bytes(*free_bytes))
            }
            Missing::Label { key, wanted, found: None } => {
                write!(f, "needs label `{key}={wanted}`, {has} no `{key}`")
            }
            Missing::Label { key, wanted, found: Some(found) } => match self.nodes {
                Nodes::One => write!(f, "needs label `{key}={wanted}`, has `{key}={found}`"),
                Nodes::Several => write!(f, "needs label `{key}={wanted}`, they have another `{key}`"),
            },
            Missing::ReplicasPerNode { max } => {
                write!(f, "{has} the {max} replicas that `max_replicas_per_node` allows")
            }
            Missing::NoGpu => write!(f, "needs a GPU, {has} none"),
            Missing::Accelerator { wanted, found } => {
                write!(f, "needs a GPU of `{}`, {has} `{}`", wanted.join("` or `"), found.join("`, `"))
            }
            Missing::GpuShare { wanted_milli, free_milli } => {
                let (wanted, free) = (Thousandths((*wanted_milli).into()), Thousandths((*free_milli).into()));
                write!(f, "needs {wanted} of one GPU, at most {free} of one is free")
            }
            Missing::WholeGpus { wanted, free } => write!(f, "needs {wanted} whole GPUs, {most}{free} free"),
            Missing::GpuMemory { wanted_bytes, free_bytes } => {
                write!(f, "needs {} of GPU memory, {most}{} free", Bytes(*wanted_bytes), Bytes(*free_bytes))
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
