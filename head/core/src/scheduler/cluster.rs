//! The nodes while places are sought: what each has free, and for each demand what every node would lose by it,
//! computed once and again only for the nodes that changed. One decision is then a walk over an array.

use millstream_pipelines::FullName;

use super::choose::{self, Candidate};
use super::fit::{Device, Fit, Mode, Slot, Wants};
use super::shortage::Shortage;
use super::waste::{self, Lens};
use super::workload::{Kind, Workload};
use super::{Node, Request, Share, WHOLE_DEVICE, World};

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

/// Equal demands, and what they would do to each node.
#[derive(Debug)]
struct Class<'a> {
    wants: Wants<'a>,
    /// By node: the version of it that was looked at, and what was found.
    looks: Vec<(u32, Option<Fit>)>,
}

/// What a request is to the cluster: indices of its class and of its deployment's counts.
#[derive(Debug, Clone, Copy)]
struct Known {
    class: usize,
    like: usize,
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
            let known = self.known(request, mode);
            let mut best: Option<(K, usize)> = None;
            for slot in 0..self.slots.len() {
                let Some(candidate) = self.candidate(known, slot) else { continue };
                let rank = rank(&candidate);
                if best.as_ref().is_none_or(|(lowest, _)| rank < *lowest) {
                    best = Some((rank, slot));
                }
            }
            best.map(|(_, slot)| self.book(known, slot))
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

    /// What the nodes lack for a replica that none of them can take. O(nodes).
    pub(super) fn shortage(&mut self, request: &'a Request) -> Shortage {
        let known = self.known(request, Mode::least(request));
        let (wants, likes) = (&self.classes[known.class].wants, &self.likes[known.like].1);
        Shortage::of(self.slots.len(), |index, missing| {
            let slot = &self.slots[index];
            wants.missing(slot, &self.devices[slot.devices.clone()], likes[index], missing);
            &slot.node.name
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

    fn known(&mut self, request: &'a Request, mode: Mode) -> Known {
        Known { class: self.class(request, mode), like: self.like(&request.deployment) }
    }

    fn class(&mut self, request: &'a Request, mode: Mode) -> usize {
        let demand = &request.demand;
        let known = |class: &Class<'_>| class.wants.mode == mode && class.wants.demand == demand;
        if let Some(index) = self.classes.iter().position(known) {
            return index;
        }
        let wants = Wants::new(demand, mode, &self.models);
        self.classes.push(Class { wants, looks: vec![(0, None); self.slots.len()] });
        self.classes.len() - 1
    }

    fn candidate(&mut self, known: Known, index: usize) -> Option<Candidate> {
        let slot = &self.slots[index];
        let devices = &self.devices[slot.devices.clone()];
        let Class { wants, looks } = &mut self.classes[known.class];
        if looks[index].0 != slot.version {
            let lens = slot.lens.map(|lens| &self.lenses[lens].1);
            looks[index] = (slot.version, wants.fit(slot, devices, lens));
        }
        let fit = looks[index].1?;
        let num_like = self.likes[known.like].1[index];
        if wants.demand.max_replicas_per_node.is_some_and(|max| num_like >= max) {
            return None;
        }
        let pressed = wants.gpus.map_or(0, |gpus| {
            let total = i64::try_from(gpus.total()).unwrap_or(i64::MAX);
            self.pressure[devices[fit.device].model].saturating_mul(total)
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

    fn book(&mut self, known: Known, index: usize) -> Place<'a> {
        let Class { wants, looks } = &self.classes[known.class];
        let slot = &mut self.slots[index];
        slot.free_cpu_milli -= wants.demand.cpu_milli;
        slot.free_memory_bytes -= wants.demand.memory_bytes;
        slot.num_replicas += 1;
        let mut shares = Vec::new();
        if let (Some(gpus), Some(fit)) = (wants.gpus, looks[index].1) {
            // From the device that was chosen on: whole ones are taken in their order.
            for device in &mut self.devices[slot.devices.clone()][fit.device..] {
                if wants.is_served_by(device, gpus) && shares.len() < gpus.count as usize {
                    device.free_milli -= gpus.milli;
                    device.free_memory_bytes -= wants.demand.gpu_memory_bytes;
                    self.free_by_model[device.model] -= u64::from(gpus.milli);
                    shares.push(Share { index: device.index, milli: gpus.milli });
                }
            }
        }
        let node = slot.node;
        self.likes[known.like].1[index] += 1;
        self.refresh(index);
        if !shares.is_empty() {
            self.update_pressure();
        }
        Place { slot: index, node, gpus: shares }
    }
}

fn count_whole(devices: &[Device]) -> u32 {
    devices.iter().map(|device| u32::from(device.free_milli == WHOLE_DEVICE)).sum()
}
