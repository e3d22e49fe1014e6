//! The nodes while places are sought: what each has free, and for each demand what every node would lose by it,
//! computed once and again only for the nodes that changed. One decision is then a walk over an array.

use std::borrow::Cow;

use millstream_pipelines::{Demand, FullName};

use super::fit::{Mode, accepts_model};
use super::waste::{self, Free, Lens};
use super::workload::{Gpus, Kind, Workload};
use super::{Node, Request, Share, WHOLE_DEVICE, World, choose};

/// Nodes that take replicas one after another.
#[derive(Debug)]
pub struct Cluster<'a> {
    workload: &'a Workload,
    slots: Vec<Slot<'a>>,
    /// Devices of all nodes; a slot says which are its own.
    devices: Vec<Device>,
    /// Names of models in lower case; a device has the index.
    models: Vec<String>,
    free_by_model: Vec<u64>,
    pressure: Vec<i64>,
    /// By the kinds of demands that a node serves.
    lenses: Vec<(Vec<bool>, Lens)>,
    classes: Vec<Class<'a>>,
    /// Replicas by node, of the deployments that were asked for.
    likes: Vec<(&'a FullName, Vec<u32>)>,
}

/// A node.
#[derive(Debug)]
struct Slot<'a> {
    node: &'a Node,
    free_cpu_milli: u64,
    free_memory_bytes: u64,
    devices: std::ops::Range<usize>,
    gpu_milli: u64,
    num_whole: u32,
    num_replicas: u32,
    /// Index of its lens; none without devices.
    lens: Option<usize>,
    /// What the workload cannot use of it.
    waste: i64,
    /// Grows with each change.
    version: u32,
}

#[derive(Debug, Clone, Copy)]
struct Device {
    index: u32,
    model: usize,
    free_milli: u32,
    free_memory_bytes: u64,
}

/// Equal demands, and what they would do to each node.
#[derive(Debug)]
struct Class<'a> {
    demand: &'a Demand,
    mode: Mode,
    gpus: Option<Gpus>,
    /// By model.
    accepts: Vec<bool>,
    /// By node: the version of it that was looked at, and what was found.
    looks: Vec<(u32, Option<Fit>)>,
}

/// How a replica would fit a node.
#[derive(Debug, Clone, Copy)]
struct Fit {
    /// How much the waste grows.
    growth: i64,
    /// The device it takes a share of, or the first of the whole ones.
    device: usize,
    /// What stays free on the devices that it takes.
    left_milli: u32,
}

/// A node that a replica fits, with what there is to weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// How much the GPU grows that the workload could not use, and what others could use alone; in fixed point.
    pub growth: i64,
    /// Replicas of the deployment there.
    pub num_like: u32,
    /// Replicas of all deployments there.
    pub num_replicas: u32,
    /// What stays free on the devices that it takes, in thousandths.
    pub left_on_devices_milli: u32,
    /// What is free on all its devices before.
    pub free_gpu_milli: u64,
    /// Cores that are free before.
    pub free_cpu_milli: u64,
}

/// Where [`Cluster`] has put a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    pub(super) slot: usize,
    /// The node.
    pub node: &'a Node,
    /// Its devices' parts; empty on the CPU.
    pub gpus: Vec<Share>,
}

impl<'a> Cluster<'a> {
    /// The nodes of a world, ordered by name. O(devices).
    #[must_use]
    pub fn new(world: &'a World, workload: &'a Workload) -> Self {
        let mut nodes: Vec<&Node> = world.nodes.iter().collect();
        nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let mut cluster = Self {
            workload,
            slots: Vec::with_capacity(nodes.len()),
            devices: Vec::new(),
            models: Vec::new(),
            free_by_model: Vec::new(),
            pressure: Vec::new(),
            lenses: Vec::new(),
            classes: Vec::new(),
            likes: Vec::new(),
        };
        nodes.into_iter().for_each(|node| cluster.add(node));
        cluster.update_pressure();
        cluster
    }

    /// Finds the best place for a replica and books it.
    pub fn place(&mut self, request: &'a Request) -> Option<Place<'a>> {
        self.place_by(request, |candidate| choose::score(request, candidate))
    }

    /// Books the place with the lowest rank; of equal ones the first. For comparing policies.
    pub fn place_by<K: Ord>(
        &mut self,
        request: &'a Request,
        mut rank: impl FnMut(&Candidate) -> K,
    ) -> Option<Place<'a>> {
        Mode::accepted(request).iter().find_map(|&mode| {
            let class = self.class(request, mode);
            let like = self.like(&request.deployment);
            let mut best: Option<(K, usize)> = None;
            for slot in 0..self.slots.len() {
                let Some(candidate) = self.candidate((class, like), slot, request) else { continue };
                let rank = rank(&candidate);
                if best.as_ref().is_none_or(|(lowest, _)| rank < *lowest) {
                    best = Some((rank, slot));
                }
            }
            best.map(|(_, slot)| self.book((class, like), slot))
        })
    }

    /// Takes a replica away again that was placed here.
    pub(super) fn take_back(&mut self, request: &'a Request, place: &Place<'a>) {
        let like = self.like(&request.deployment);
        self.likes[like].1[place.slot] -= 1;
        let slot = &mut self.slots[place.slot];
        slot.free_cpu_milli += request.demand.cpu_milli;
        slot.free_memory_bytes += request.demand.memory_bytes;
        slot.num_replicas -= 1;
        for share in &place.gpus {
            let of_slot = &mut self.devices[slot.devices.clone()];
            if let Some(device) = of_slot.iter_mut().find(|device| device.index == share.index) {
                device.free_milli += share.milli;
                device.free_memory_bytes += request.demand.gpu_memory_bytes;
                self.free_by_model[device.model] += u64::from(share.milli);
            }
        }
        self.refresh(place.slot);
        self.update_pressure();
    }

    /// The nodes as they are now, by name: for reasons.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Cow<'a, Node>> {
        self.slots.iter().enumerate().map(|(index, slot)| {
            // One that was never given anything here is as it was.
            if slot.version == 1 {
                return Cow::Borrowed(slot.node);
            }
            let mut node = slot.node.clone();
            node.free_cpu_milli = slot.free_cpu_milli;
            node.free_memory_bytes = slot.free_memory_bytes;
            for (device, now) in node.devices.iter_mut().zip(&self.devices[slot.devices.clone()]) {
                device.free_milli = now.free_milli;
                device.free_memory_bytes = now.free_memory_bytes;
            }
            for (deployment, counts) in self.likes.iter().filter(|(_, counts)| counts[index] > 0) {
                node.replicas.insert((*deployment).clone(), counts[index]);
            }
            Cow::Owned(node)
        })
    }

    fn add(&mut self, node: &'a Node) {
        let first = self.devices.len();
        for device in &node.devices {
            let model = self.model(&device.model);
            self.free_by_model[model] += u64::from(device.free_milli);
            self.devices.push(Device {
                index: device.index,
                model,
                free_milli: device.free_milli,
                free_memory_bytes: device.free_memory_bytes,
            });
        }
        let devices = first..self.devices.len();
        let lens = (!devices.is_empty()).then(|| self.lens(node, devices.clone()));
        self.slots.push(Slot {
            node,
            free_cpu_milli: node.free_cpu_milli,
            free_memory_bytes: node.free_memory_bytes,
            devices,
            gpu_milli: 0,
            num_whole: 0,
            num_replicas: node.num_replicas(),
            lens,
            waste: 0,
            version: 0,
        });
        self.refresh(self.slots.len() - 1);
    }

    fn model(&mut self, name: &str) -> usize {
        // Nodes have few models, and mostly that of the node before.
        if let Some(index) = self.models.iter().rposition(|model| model.eq_ignore_ascii_case(name)) {
            return index;
        }
        self.models.push(name.to_ascii_lowercase());
        self.free_by_model.push(0);
        self.models.len() - 1
    }

    fn lens(&mut self, node: &'a Node, devices: std::ops::Range<usize>) -> usize {
        let mut models: Vec<usize> = self.devices[devices].iter().map(|device| device.model).collect();
        models.dedup();
        let serves = |kind: &Kind| {
            kind.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
                && (kind.accelerators.is_empty()
                    || models.iter().any(|model| kind.accepts(&self.models[*model])))
        };
        let serves: Vec<bool> = self.workload.kinds().iter().map(serves).collect();
        if let Some(index) = self.lenses.iter().position(|(known, _)| *known == serves) {
            return index;
        }
        let lens = Lens::new(self.workload, &serves);
        self.lenses.push((serves, lens));
        self.lenses.len() - 1
    }

    /// Computes again what depends on what a node has free.
    fn refresh(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let devices = &self.devices[slot.devices.clone()];
        slot.gpu_milli = devices.iter().map(|device| u64::from(device.free_milli)).sum();
        slot.num_whole = count_whole(devices);
        slot.version += 1;
        if let Some(lens) = slot.lens {
            let lens = &self.lenses[lens].1;
            let row = lens.row(slot.free_cpu_milli);
            let of_devices: i64 = devices.iter().map(|device| lens.device(row, device.free_milli)).sum();
            slot.waste = lens.node(row, slot.free()) + of_devices;
        }
    }

    fn update_pressure(&mut self) {
        self.pressure = waste::pressure(self.workload, &self.models, &self.free_by_model);
    }

    fn class(&mut self, request: &'a Request, mode: Mode) -> usize {
        let demand = &request.demand;
        let known = |class: &Class<'_>| class.mode == mode && class.demand == demand;
        if let Some(index) = self.classes.iter().position(known) {
            return index;
        }
        let accepts = |model: &String| accepts_model(&demand.accelerators, model);
        self.classes.push(Class {
            demand,
            mode,
            gpus: Gpus::of(demand.gpus).filter(|_| mode == Mode::Gpu),
            accepts: self.models.iter().map(accepts).collect(),
            looks: vec![(0, None); self.slots.len()],
        });
        self.classes.len() - 1
    }

    fn candidate(
        &mut self,
        (class, like): (usize, usize),
        index: usize,
        request: &Request,
    ) -> Option<Candidate> {
        let slot = &self.slots[index];
        let (version, known) = self.classes[class].looks[index];
        let fit = if version == slot.version {
            known
        } else {
            let fit = self.look(&self.classes[class], slot);
            self.classes[class].looks[index] = (slot.version, fit);
            fit
        }?;
        let class = &self.classes[class];
        let num_like = self.likes[like].1[index];
        if request.demand.max_replicas_per_node.is_some_and(|max| num_like >= max) {
            return None;
        }
        let pressed = class.gpus.map_or(0, |gpus| {
            let total = i64::try_from(gpus.total()).unwrap_or(i64::MAX);
            self.pressure[self.devices[fit.device].model].saturating_mul(total)
        });
        Some(Candidate {
            growth: fit.growth.saturating_add(pressed),
            num_like,
            num_replicas: slot.num_replicas,
            left_on_devices_milli: fit.left_milli,
            free_gpu_milli: slot.gpu_milli,
            free_cpu_milli: slot.free_cpu_milli,
        })
    }

    /// The index of a deployment's counts.
    fn like(&mut self, deployment: &'a FullName) -> usize {
        if let Some(index) = self.likes.iter().position(|(known, _)| *known == deployment) {
            return index;
        }
        let count = |slot: &Slot<'_>| slot.node.replicas.get(deployment).copied().unwrap_or(0);
        self.likes.push((deployment, self.slots.iter().map(count).collect()));
        self.likes.len() - 1
    }

    /// Whether the demand fits the node, and what it costs on its best devices.
    fn look(&self, class: &Class<'_>, slot: &Slot<'_>) -> Option<Fit> {
        let demand = class.demand;
        let cpu_milli = slot.free_cpu_milli.checked_sub(demand.cpu_milli)?;
        let has = |(key, value): (&String, &String)| slot.node.labels.get(key) == Some(value);
        if demand.memory_bytes > slot.free_memory_bytes || !demand.labels.iter().all(has) {
            return None;
        }
        let devices = &self.devices[slot.devices.clone()];
        let first = slot.devices.start;
        let Some(gpus) = class.gpus else {
            let growth = slot.lens.map_or(0, |lens| {
                let lens = &self.lenses[lens].1;
                let row = lens.row(cpu_milli);
                let of_devices: i64 = devices.iter().map(|device| lens.device(row, device.free_milli)).sum();
                lens.node(row, Free { cpu_milli, ..slot.free() }) + of_devices - slot.waste
            });
            return Some(Fit { growth, device: first, left_milli: 0 });
        };
        let serves = |device: &Device| {
            class.accepts[device.model]
                && device.free_milli >= gpus.milli
                && device.free_memory_bytes >= demand.gpu_memory_bytes
        };
        let lens = &self.lenses[slot.lens?].1;
        let row = lens.row(cpu_milli);
        let of_devices: i64 = devices.iter().map(|device| lens.device(row, device.free_milli)).sum();
        let gpu_milli = slot.gpu_milli.saturating_sub(gpus.total());
        // What a device's part changes by, and the whole devices that it takes.
        let change = |device: &Device| {
            lens.device(row, device.free_milli - gpus.milli) - lens.device(row, device.free_milli)
        };
        let taken = |device: &Device| u32::from(device.free_milli == WHOLE_DEVICE);
        let growth = |change: i64, taken: u32| {
            let free = Free { cpu_milli, gpu_milli, num_whole: slot.num_whole - taken };
            lens.node(row, free) + of_devices + change - slot.waste
        };
        let mut able = devices.iter().enumerate().filter(|(_, device)| serves(device));
        if gpus.count > 1 {
            let able: Vec<_> = able.take(gpus.count as usize).collect();
            let (at, _) = able.first().filter(|_| able.len() == gpus.count as usize)?;
            let all_changes = able.iter().map(|(_, device)| change(device)).sum();
            let all_taken = able.iter().map(|(_, device)| taken(device)).sum();
            return Some(Fit { growth: growth(all_changes, all_taken), device: first + at, left_milli: 0 });
        }
        // Devices that are as full as one before cost the same.
        let mut seen = u128::default();
        let costed = able.by_ref().filter_map(|(at, device)| {
            let bit = 1u128 << (device.free_milli * 128 / (WHOLE_DEVICE + 1));
            let repeats = seen & bit != 0 && devices[..at].iter().any(|before| same(before, device));
            seen |= bit;
            (!repeats).then(|| (growth(change(device), taken(device)), device.free_milli, at))
        });
        let (growth, free_milli, at) = costed.min()?;
        Some(Fit { growth, device: first + at, left_milli: free_milli - gpus.milli })
    }

    fn book(&mut self, (class, like): (usize, usize), index: usize) -> Place<'a> {
        let class = &self.classes[class];
        let slot = &mut self.slots[index];
        let demand = class.demand;
        slot.free_cpu_milli -= demand.cpu_milli;
        slot.free_memory_bytes -= demand.memory_bytes;
        slot.num_replicas += 1;
        let mut shares = Vec::new();
        if let (Some(gpus), Some(fit)) = (class.gpus, class.looks[index].1) {
            // From the device that was chosen on: whole ones are taken in their order.
            for device in &mut self.devices[fit.device..slot.devices.end] {
                let serves = class.accepts[device.model]
                    && device.free_milli >= gpus.milli
                    && device.free_memory_bytes >= demand.gpu_memory_bytes;
                if serves && shares.len() < gpus.count as usize {
                    device.free_milli -= gpus.milli;
                    device.free_memory_bytes -= demand.gpu_memory_bytes;
                    self.free_by_model[device.model] -= u64::from(gpus.milli);
                    shares.push(Share { index: device.index, milli: gpus.milli });
                }
            }
        }
        let node = slot.node;
        self.likes[like].1[index] += 1;
        self.refresh(index);
        if !shares.is_empty() {
            self.update_pressure();
        }
        Place { slot: index, node, gpus: shares }
    }
}

impl Slot<'_> {
    fn free(&self) -> Free {
        Free { cpu_milli: self.free_cpu_milli, gpu_milli: self.gpu_milli, num_whole: self.num_whole }
    }
}

fn count_whole(devices: &[Device]) -> u32 {
    devices.iter().map(|device| u32::from(device.free_milli == WHOLE_DEVICE)).sum()
}

/// Whether two devices are the same but for their index.
fn same(a: &Device, b: &Device) -> bool {
    (a.model, a.free_milli, a.free_memory_bytes) == (b.model, b.free_milli, b.free_memory_bytes)
}
