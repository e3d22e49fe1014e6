use std::collections::BTreeSet;

use millstream_pipelines::GpuDemand;
use proptest::prelude::*;

use super::*;
use crate::scheduler::FreeDevice;
use crate::testing::demand;

/// A node whose devices hold these shares, one replica each; names of replicas are `NODE-NUMBER`.
fn occupied(name: &str, cores: u64, devices: &[&[u32]]) -> Occupied {
    let mut tenants = Vec::new();
    let mut free = Vec::new();
    for (index, shares) in (0..).zip(devices) {
        for &milli in *shares {
            let gpus = if milli == 1000 { GpuDemand::Whole(1) } else { GpuDemand::Share(milli) };
            tenants.push(Tenant {
                replica: ReplicaId::new(format!("{name}-{}", tenants.len())),
                deployment: format!("p/{name}-{}", tenants.len()).parse().unwrap(),
                demand: Demand { gpus, memory_bytes: 0, gpu_memory_bytes: 1 << 20, ..demand(1000) },
                gpus: vec![Share { index, milli }],
            });
        }
        free.push(FreeDevice {
            index,
            model: "A100".into(),
            free_milli: 1000 - shares.iter().sum::<u32>(),
            free_memory_bytes: (1 << 30) - (shares.len() as u64) * (1 << 20),
        });
    }
    let node = Node {
        id: NodeId::new(name),
        name: name.into(),
        labels: [].into(),
        free_cpu_milli: cores * 1000,
        free_memory_bytes: 0,
        devices: free,
        replicas: tenants.iter().map(|tenant| (tenant.deployment.clone(), 1)).collect(),
    };
    Occupied { node, tenants }
}

fn lines_of(plan: &Plan) -> Vec<String> {
    let seat = |seat: &Seat| format!("{}/{}", seat.node, seat.index);
    let moves = plan.moves.iter().map(|m| format!("{} {} > {}", m.replica, seat(&m.from), seat(&m.to)));
    moves.chain(plan.freed.iter().map(|freed| format!("free {}", seat(freed)))).collect()
}

#[test]
fn moves_by_table() {
    let none: [&str; 0] = [];
    // Two halves become one whole; the least share moves.
    let two = [occupied("a", 4, &[&[500]]), occupied("b", 4, &[&[400]])];
    assert_eq!(lines_of(&defrag(&two)), ["b-0 b/0 > a/0", "free b/0"]);
    // On one node as well.
    assert_eq!(lines_of(&defrag(&[occupied("a", 1, &[&[500], &[500]])])), ["a-0 a/0 > a/1", "free a/0"]);
    // Nothing goes to a device that is free, and nothing fits elsewhere.
    assert_eq!(lines_of(&defrag(&[occupied("a", 4, &[&[500], &[], &[600]])])), none);
    // The new place must have the cores while both run.
    assert_eq!(lines_of(&defrag(&[occupied("a", 0, &[&[500]]), occupied("b", 0, &[&[400]])])), none);
    // All of a device moves, or none of it.
    let three = [occupied("a", 4, &[&[300, 300]]), occupied("b", 4, &[&[700]]), occupied("c", 4, &[&[800]])];
    assert_eq!(lines_of(&defrag(&three)), none);
    // Whole devices stay.
    assert_eq!(lines_of(&defrag(&[occupied("a", 4, &[&[1000]]), occupied("b", 4, &[&[100]])])), none);
}

#[test]
fn what_a_demand_asks_for_holds_at_the_new_place() {
    let pair = || [occupied("a", 4, &[&[500]]), occupied("b", 4, &[&[400]])];
    let edits: [fn(&mut [Occupied; 2]); 5] = [
        |nodes| nodes.iter_mut().for_each(|n| n.tenants[0].demand.accelerators = vec!["H100".into()]),
        |nodes| nodes.iter_mut().for_each(|n| n.tenants[0].demand.gpu_memory_bytes = 2 << 30),
        |nodes| nodes.iter_mut().for_each(|n| n.tenants[0].demand.memory_bytes = 1),
        |nodes| {
            for (node, zone) in nodes.iter_mut().zip(["eu", "us"]) {
                node.node.labels = [("zone".to_owned(), zone.to_owned())].into();
                node.tenants[0].demand.labels = node.node.labels.clone();
            }
        },
        // Replicas of one deployment stay apart.
        |nodes| {
            for node in nodes {
                node.tenants[0].deployment = "p/one".parse().unwrap();
                node.node.replicas = [("p/one".parse().unwrap(), 1)].into();
            }
        },
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        let mut nodes = pair();
        edit(&mut nodes);
        assert_eq!(defrag(&nodes), Plan::default(), "edit {index}");
    }
    // One that may not move keeps its device.
    let mut nodes = pair();
    nodes[0].tenants.clear();
    assert_eq!(lines_of(&defrag(&nodes)), ["b-0 b/0 > a/0", "free b/0"]);
    nodes[1].tenants.clear();
    assert_eq!(defrag(&nodes), Plan::default());
}

fn num_free(nodes: &[Occupied]) -> usize {
    nodes.iter().flat_map(|o| &o.node.devices).filter(|device| device.free_milli == 1000).count()
}

/// Makes a move as the cluster would: start there, stop here. Panics where that takes more than is free.
fn make(nodes: &mut [Occupied], made: &Move) {
    let place = |nodes: &[Occupied], seat: &Seat| {
        let n = nodes.iter().position(|o| o.node.id == seat.node).unwrap();
        (n, nodes[n].node.devices.iter().position(|device| device.index == seat.index).unwrap())
    };
    let (from, to) = (place(nodes, &made.from), place(nodes, &made.to));
    let at = nodes[from.0].tenants.iter().position(|tenant| tenant.replica == made.replica).unwrap();
    let tenant = nodes[from.0].tenants.remove(at);
    let target = &mut nodes[to.0].node;
    assert!(target.devices[to.1].free_milli < 1000, "moves to a free device");
    target.free_cpu_milli = target.free_cpu_milli.checked_sub(tenant.demand.cpu_milli).unwrap();
    target.devices[to.1].free_milli = target.devices[to.1].free_milli.checked_sub(made.milli).unwrap();
    nodes[from.0].node.free_cpu_milli += tenant.demand.cpu_milli;
    nodes[from.0].node.devices[from.1].free_milli += made.milli;
    nodes[to.0]
        .tenants
        .push(Tenant { gpus: vec![Share { index: made.to.index, milli: made.milli }], ..tenant });
}

fn any_nodes() -> impl Strategy<Value = Vec<Occupied>> {
    let device = prop::collection::vec(prop_oneof![50..700u32, Just(1000)], 0..4).prop_map(|shares| {
        let mut left = 1000;
        let fits = |share: &u32| {
            let fits = *share <= left;
            left -= if fits { *share } else { 0 };
            fits
        };
        shares.into_iter().filter(fits).collect::<Vec<_>>()
    });
    prop::collection::vec((0..6u64, prop::collection::vec(device, 0..5)), 0..6).prop_map(|nodes| {
        let build = |(index, (cores, devices)): (usize, (u64, Vec<Vec<u32>>))| {
            let devices: Vec<&[u32]> = devices.iter().map(Vec::as_slice).collect();
            occupied(&format!("n{index}"), cores, &devices)
        };
        nodes.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #[test]
    fn every_step_fits_each_freed_device_is_one_more_and_nothing_moves_twice(nodes in any_nodes()) {
        let plan = defrag(&nodes);
        let mut after = nodes.clone();
        for made in &plan.moves {
            make(&mut after, made);
        }
        prop_assert_eq!(num_free(&after), num_free(&nodes) + plan.freed.len());
        prop_assert_eq!(plan.moves.is_empty(), plan.freed.is_empty());
        let moved: BTreeSet<_> = plan.moves.iter().map(|made| &made.replica).collect();
        prop_assert_eq!(moved.len(), plan.moves.len());
        for freed in &plan.freed {
            let node = after.iter().find(|o| o.node.id == freed.node).unwrap();
            prop_assert!(node.node.devices.iter().any(|d| d.index == freed.index && d.free_milli == 1000));
        }
    }
}
