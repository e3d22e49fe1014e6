//! Whether a replica fits a node: what it would cost there, or what is missing.

use std::ops::Range;

use millstream_pipelines::{Demand, Device as RunsOn, GpuDemand};

use super::gpus::{Gpus, accepts_model};
use super::missing::Missing;
use super::waste::{Free, Lens};
use super::{Node, Request, WHOLE_DEVICE};

/// A node while places are sought.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    pub(super) node: &'a Node,
    pub(super) free_cpu_milli: u64,
    pub(super) free_memory_bytes: u64,
    pub(super) devices: Range<usize>,
    pub(super) gpu_milli: u64,
    pub(super) num_whole: u32,
    pub(super) num_replicas: u32,
    /// Index of its lens; none without devices.
    pub(super) lens: Option<usize>,
    /// What the workload cannot use of it.
    pub(super) waste: i64,
    /// Grows with each change.
    pub(super) version: u32,
}

impl Slot<'_> {
    pub(super) fn free(&self) -> Free {
        Free { cpu_milli: self.free_cpu_milli, gpu_milli: self.gpu_milli, num_whole: self.num_whole }
    }
}

/// A device while places are sought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Device {
    pub(super) index: u32,
    pub(super) model: usize,
    pub(super) free_milli: u32,
    pub(super) free_memory_bytes: u64,
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
            (RunsOn::Cpu, _) | (_, GpuDemand::None) => &[Self::Cpu],
            (RunsOn::Gpu, _) => &[Self::Gpu],
            (RunsOn::Auto, _) => &[Self::Gpu, Self::Cpu],
        }
    }

    /// The one that asks for least.
    pub(super) fn least(request: &Request) -> Self {
        if Self::accepted(request).contains(&Self::Cpu) { Self::Cpu } else { Self::Gpu }
    }
}

/// A demand in one mode, beside the models of devices that there are.
#[derive(Debug)]
pub(super) struct Wants<'a> {
    pub(super) demand: &'a Demand,
    pub(super) mode: Mode,
    pub(super) gpus: Option<Gpus>,
    /// By model.
    accepts: Vec<bool>,
}

/// How a replica would fit a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// How much the waste grows.
    pub(super) growth: i64,
    /// The device of the node that it takes a share of, or the first of the whole ones.
    pub(super) device: usize,
    /// What stays free on the devices that it takes.
    pub(super) left_milli: u32,
}

impl<'a> Wants<'a> {
    pub(super) fn new(demand: &'a Demand, mode: Mode, models: &[String]) -> Self {
        Self {
            demand,
            mode,
            gpus: Gpus::of(demand.gpus).filter(|_| mode == Mode::Gpu),
            accepts: models.iter().map(|model| accepts_model(&demand.accelerators, model)).collect(),
        }
    }

    /// Whether a device has what is asked of each.
    pub(super) fn is_served_by(&self, device: &Device, gpus: Gpus) -> bool {
        self.accepts[device.model]
            && device.free_milli >= gpus.milli
            && device.free_memory_bytes >= self.demand.gpu_memory_bytes
    }

    /// Whether the demand fits the node, and what it costs on its best devices.
    pub(super) fn fit(&self, slot: &Slot<'_>, devices: &[Device], lens: Option<&Lens>) -> Option<Fit> {
        let demand = self.demand;
        let cpu_milli = slot.free_cpu_milli.checked_sub(demand.cpu_milli)?;
        let has = |(key, value): (&String, &String)| slot.node.labels.get(key) == Some(value);
        if demand.memory_bytes > slot.free_memory_bytes || !demand.labels.iter().all(has) {
            return None;
        }
        let before = |lens: &Lens, row| -> i64 {
            let of_devices: i64 = devices.iter().map(|device| lens.device(row, device.free_milli)).sum();
            of_devices - slot.waste
        };
        let Some(gpus) = self.gpus else {
            let growth = lens.map_or(0, |lens| {
                let row = lens.row(cpu_milli);
                lens.node(row, Free { cpu_milli, ..slot.free() }) + before(lens, row)
            });
            return Some(Fit { growth, device: 0, left_milli: 0 });
        };
        let lens = lens?;
        let row = lens.row(cpu_milli);
        let before = before(lens, row);
        let gpu_milli = slot.gpu_milli.saturating_sub(gpus.total());
        // What a device's part changes by, and the whole devices that it takes.
        let change = |device: &Device| {
            lens.device(row, device.free_milli - gpus.milli) - lens.device(row, device.free_milli)
        };
        let taken = |device: &Device| u32::from(device.free_milli == WHOLE_DEVICE);
        let growth = |change: i64, taken: u32| {
            let free = Free { cpu_milli, gpu_milli, num_whole: slot.num_whole - taken };
            lens.node(row, free) + before + change
        };
        let mut able = devices.iter().enumerate().filter(|(_, device)| self.is_served_by(device, gpus));
        if gpus.count > 1 {
            let able: Vec<_> = able.take(gpus.count as usize).collect();
            let (device, _) = *able.first().filter(|_| able.len() == gpus.count as usize)?;
            let all_changes = able.iter().map(|(_, device)| change(device)).sum();
            let all_taken = able.iter().map(|(_, device)| taken(device)).sum();
            return Some(Fit { growth: growth(all_changes, all_taken), device, left_milli: 0 });
        }
        // Devices that are as full as one before cost the same.
        let mut seen = u128::default();
        let costed = able.by_ref().filter_map(|(at, device)| {
            let bit = 1u128 << (device.free_milli * 128 / (WHOLE_DEVICE + 1));
            let repeats = seen & bit != 0 && devices[..at].iter().any(|before| same(before, device));
            seen |= bit;
            (!repeats).then(|| (growth(change(device), taken(device)), device.free_milli, at))
        });
        let (growth, free_milli, device) = costed.min()?;
        Some(Fit { growth, device, left_milli: free_milli - gpus.milli })
    }

    /// Adds everything that the node lacks; nothing when the demand fits. `num_like` replicas of the deployment are on
    /// it.
    pub(super) fn missing(
        &self,
        slot: &Slot<'_>,
        devices: &[Device],
        num_like: u32,
        missing: &mut Vec<Missing>,
    ) {
        let demand = self.demand;
        if demand.cpu_milli > slot.free_cpu_milli {
            let (wanted_milli, free_milli) = (demand.cpu_milli, slot.free_cpu_milli);
            missing.push(Missing::Cpu { wanted_milli, free_milli });
        }
        if demand.memory_bytes > slot.free_memory_bytes {
            let (wanted_bytes, free_bytes) = (demand.memory_bytes, slot.free_memory_bytes);
            missing.push(Missing::Memory { wanted_bytes, free_bytes });
        }
        for (key, wanted) in &demand.labels {
            let found = slot.node.labels.get(key);
            if found != Some(wanted) {
                let (key, wanted, found) = (key.clone(), wanted.clone(), found.cloned());
                missing.push(Missing::Label { key, wanted, found });
            }
        }
        if let Some(max) = demand.max_replicas_per_node
            && num_like >= max
        {
            missing.push(Missing::ReplicasPerNode { max });
        }
        missing.extend(self.missing_gpus(slot, devices));
    }

    fn missing_gpus(&self, slot: &Slot<'_>, devices: &[Device]) -> Option<Missing> {
        let gpus = self.gpus?;
        if devices.is_empty() {
            return Some(Missing::NoGpu);
        }
        let accepted = || devices.iter().filter(|device| self.accepts[device.model]);
        let with_share = || accepted().filter(|device| device.free_milli >= gpus.milli);
        if devices.iter().filter(|device| self.is_served_by(device, gpus)).count() >= gpus.count as usize {
            return None;
        }
        if accepted().next().is_none() {
            let found = slot.node.devices.iter().map(|device| device.model.clone());
            return Some(Missing::accelerator(self.demand.accelerators.clone(), found));
        }
        let free = u32::try_from(with_share().count()).unwrap_or(u32::MAX);
        if free >= gpus.count {
            let free_bytes = with_share().map(|device| device.free_memory_bytes).max().unwrap_or(0);
            return Some(Missing::GpuMemory { wanted_bytes: self.demand.gpu_memory_bytes, free_bytes });
        }
        Some(match self.demand.gpus {
            GpuDemand::Whole(wanted) => Missing::WholeGpus { wanted, free },
            _ => {
                let free_milli = accepted().map(|device| device.free_milli).max().unwrap_or(0);
                Missing::GpuShare { wanted_milli: gpus.milli, free_milli }
            }
        })
    }
}

/// Whether two devices are the same but for their index.
fn same(a: &Device, b: &Device) -> bool {
    (a.model, a.free_milli, a.free_memory_bytes) == (b.model, b.free_milli, b.free_memory_bytes)
}
