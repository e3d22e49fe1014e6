//! Placement as tables, and what must hold for any world and any demands.

use std::collections::BTreeMap;

use millstream_pipelines::{Demand, Device, FullName, GpuDemand, Name};
use millstream_status::NodeId;
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::{
    FreeDevice, GroupId, MissingResource, Node, Pending, Request, Share, Solution, Strategy, Workload, World,
    book, is_within_capacity,
};
use crate::testing::demand;

fn node(name: &str, cores: u64, gpus: u32) -> Node {
    let device =
        |index| FreeDevice { index, model: "A100".into(), free_milli: 1000, free_memory_bytes: 40 << 30 };
    Node {
        id: NodeId::new(name),
        name: name.into(),
        labels: BTreeMap::new(),
        free_cpu_milli: cores * 1000,
        free_memory_bytes: 64 << 30,
        devices: (0..gpus).map(device).collect(),
        replicas: BTreeMap::new(),
    }
}

fn request(deployment: &str, cores: u64, gpus: GpuDemand, strategy: Strategy) -> Request {
    let deployment =
        FullName { pipeline: "p".parse::<Name>().unwrap(), deployment: deployment.parse().unwrap() };
    let demand = Demand { gpus, ..demand(cores * 1000) };
    let device = if gpus == GpuDemand::None { Device::Cpu } else { Device::Gpu };
    Request { deployment, num_replicas: 1, demand, device, strategy, group: None }
}

/// Places with the requests themselves as the workload.
fn place(world: &World, requests: &[Request]) -> Solution {
    let demands = requests.iter().map(|request| (&request.demand, request.device, 1));
    super::place(world, &Workload::of(demands), requests)
}

/// Node names by request; `-` for pending.
fn places(nodes: &[Node], requests: &[Request]) -> Vec<String> {
    let world = World { nodes: nodes.to_vec() };
    let solution = place(&world, requests);
    assert!(is_within_capacity(&world, requests, &solution));
    let mut places = vec!["-".to_owned(); requests.len()];
    for placement in solution.placements {
        places[placement.request] = placement.node.to_string();
    }
    places
}

#[test]
fn larger_demands_go_first() {
    for strategy in [Strategy::Spread, Strategy::Pack] {
        let requests = ["a", "b", "c"].into_iter().zip([1, 1, 3]);
        let requests: Vec<_> =
            requests.map(|(name, cores)| request(name, cores, GpuDemand::None, strategy)).collect();
        assert_eq!(
            places(&[node("n1", 3, 0), node("n2", 2, 0)], &requests),
            ["n2", "n2", "n1"],
            "{strategy:?}"
        );
    }
}

#[test]
fn packing_fills_the_tighter_node_and_leaves_the_idle_one() {
    let requests = [
        request("a", 2, GpuDemand::Whole(2), Strategy::Pack),
        request("b", 1, GpuDemand::Whole(1), Strategy::Pack),
        request("b", 1, GpuDemand::Whole(1), Strategy::Pack),
    ];
    assert_eq!(places(&[node("n1", 6, 4), node("n2", 2, 10)], &requests), ["n1", "n1", "n1"]);
}

#[test]
fn a_limit_per_node_holds() {
    let mut one = request("a", 2, GpuDemand::None, Strategy::Pack);
    one.demand.max_replicas_per_node = Some(4);
    let requests = vec![one.clone(); 5];
    let packed = places(&[node("small", 20, 0), node("large", 21, 0)], &requests);
    assert_eq!(packed.iter().filter(|place| *place == "small").count(), 4);
    assert_eq!(packed.iter().filter(|place| *place == "large").count(), 1);
    let nine = vec![Request { strategy: Strategy::Spread, ..one }; 9];
    let spread = places(&[node("small", 20, 0), node("large", 21, 0)], &nine);
    assert_eq!(spread.iter().filter(|place| *place == "-").count(), 1);
}

#[test]
fn replicas_of_one_deployment_spread() {
    let requests = vec![request("a", 1, GpuDemand::None, Strategy::Spread); 4];
    let mut spread = places(&[node("n1", 64, 0), node("n2", 2, 0)], &requests);
    spread.sort();
    assert_eq!(spread, ["n1", "n1", "n2", "n2"]);
}

#[test]
fn cpu_work_keeps_away_from_devices_and_shares_fill_the_fullest_device() {
    let mut busy = node("gpu", 8, 2);
    busy.devices[1].free_milli = 600;
    let nodes = [busy, node("cpu", 8, 0)];
    let requests = [
        request("a", 1, GpuDemand::None, Strategy::Spread),
        request("b", 1, GpuDemand::Share(500), Strategy::Spread),
        request("c", 1, GpuDemand::Whole(1), Strategy::Spread),
    ];
    let solution = place(&World { nodes: nodes.to_vec() }, &requests);
    let got: Vec<_> = solution.placements.iter().map(|p| (p.node.as_str(), p.gpus.clone())).collect();
    let share = |index, milli| vec![Share { index, milli }];
    assert_eq!(got, [("cpu", vec![]), ("gpu", share(1, 500)), ("gpu", share(0, 1000))]);
}

#[test]
fn shares_add_exactly() {
    let requests = vec![request("a", 0, GpuDemand::Share(333), Strategy::Spread); 4];
    assert_eq!(places(&[node("n1", 1, 1)], &requests), ["n1", "n1", "n1", "-"]);
    let tenths = vec![request("a", 0, GpuDemand::Share(100), Strategy::Spread); 10];
    assert!(places(&[node("n1", 1, 1)], &tenths).iter().all(|place| place == "n1"));
}

#[test]
fn device_auto_takes_a_share_where_one_is_free_and_else_the_cpu() {
    let mut one = request("a", 1, GpuDemand::Share(600), Strategy::Spread);
    one.device = Device::Auto;
    let solution = place(&World { nodes: vec![node("cpu", 9, 0), node("gpu", 9, 1)] }, &[one.clone(), one]);
    let got: Vec<_> = solution.placements.iter().map(|p| (p.node.as_str(), p.gpus.len())).collect();
    assert_eq!(got, [("gpu", 1), ("cpu", 0)]);
}

#[test]
fn a_demand_of_nothing_fits_a_full_node() {
    assert_eq!(places(&[node("n1", 0, 0)], &[request("a", 0, GpuDemand::None, Strategy::Spread)]), ["n1"]);
}

#[test]
fn what_does_not_fit_says_what_is_missing_on_each_node() {
    let mut zone = node("b", 1, 1);
    zone.labels.insert("zone".into(), "us".into());
    zone.devices[0].free_memory_bytes = 1 << 30;
    let mut half = node("c", 8, 1);
    half.devices[0].free_milli = 250;
    half.labels.insert("zone".into(), "eu".into());
    let mut other = node("d", 8, 1);
    other.devices[0].model = "T4".into();
    other.labels.insert("zone".into(), "eu".into());
    let mut wanted = request("a", 2, GpuDemand::Share(500), Strategy::Spread);
    wanted.demand.memory_bytes = 65 << 30;
    wanted.demand.gpu_memory_bytes = 3 << 29;
    wanted.demand.labels.insert("zone".into(), "eu".into());
    wanted.demand.accelerators = vec!["a100".into()];
    let solution = place(&World { nodes: vec![node("a", 1, 0), zone, half, other] }, &[wanted]);
    assert_eq!(
        reasons(&solution.pending[0]),
        [
            "c: needs 65GiB of memory, 64GiB free; needs 0.5 of one GPU, at most 0.25 of one is free",
            "d: needs 65GiB of memory, 64GiB free; needs a GPU of `a100`, has `T4`",
            "a: needs 2 cores, 1 free; needs 65GiB of memory, 64GiB free; needs label `zone=eu`, has no `zone`; \
             needs a GPU, has none",
            "b: needs 2 cores, 1 free; needs 65GiB of memory, 64GiB free; needs label `zone=eu`, has `zone=us`; \
             needs 1.5GiB of GPU memory, 1GiB free",
        ]
    );
}

fn reasons(pending: &Pending) -> Vec<String> {
    pending.shortage.reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn nodes_that_lack_the_same_are_counted_and_the_nearest_ones_come_first() {
    let mut wanted = request("a", 4, GpuDemand::Whole(2), Strategy::Spread);
    wanted.demand.accelerators = vec!["A100".into()];
    wanted.demand.labels.insert("zone".into(), "a".into());
    wanted.num_replicas = 7;
    let zone = |node: Node, zone: &str| Node { labels: [("zone".into(), zone.into())].into(), ..node };
    let of_model = |mut node: Node, model: &str| {
        node.devices.iter_mut().for_each(|device| device.model = model.into());
        node
    };
    let mut nodes = vec![zone(node("last", 0, 0), "a")];
    for n in 0..10 {
        nodes.push(zone(node(&format!("full{n}"), n % 4, 2), "a"));
        nodes.push(zone(node(&format!("plain{n}"), 64, 0), "a"));
        nodes.push(zone(node(&format!("plain{n}x"), 64, 0), "a"));
        nodes.push(node(&format!("nowhere{n}"), 64, 1));
        nodes.push(zone(node(&format!("other{n}"), 64, 1), &format!("z{n}")));
        nodes.push(zone(of_model(node(&format!("t4{n}"), 4, 4), &format!("T{}", n % 7)), "a"));
        nodes.push(zone(node(&format!("both{n}"), 1, 0), "b"));
    }
    let solution = place(&World { nodes }, std::slice::from_ref(&wanted));
    let [pending] = &*solution.pending else { panic!("{:?}", solution.pending) };
    assert_eq!((pending.num_replicas, pending.lack), (7, MissingResource::Gpu));
    assert_eq!(
        reasons(pending),
        [
            "20 nodes: needs a GPU, they have none",
            "10 nodes: needs 4 cores, at most 3 free",
            "10 nodes: needs a GPU of `A100`, they have `T0`, `T1`, `T2`, `T3`",
            "10 nodes: needs label `zone=a`, they have no `zone`; needs 2 whole GPUs, at most 1 free",
            "10 nodes: needs label `zone=a`, they have another `zone`; needs 2 whole GPUs, at most 1 free",
            "11 nodes: more things are missing",
        ]
    );
}

#[test]
fn a_demand_that_has_no_place_leaves_its_like_pending_and_no_other() {
    let of = |name, cores, count| Request {
        num_replicas: count,
        ..request(name, cores, GpuDemand::None, Strategy::Spread)
    };
    let limited = |name, count| {
        let mut request = of(name, 1, count);
        request.demand.max_replicas_per_node = Some(1);
        request
    };
    let requests = [of("a", 3, 3), of("b", 3, 2), limited("c", 3), limited("d", 3), of("e", 1, 2)];
    let nodes = vec![node("n1", 6, 0), node("n2", 5, 0)];
    let solution = place(&World { nodes }, &requests);
    let placed =
        |request| solution.placements.iter().filter(|placement| placement.request == request).count();
    assert_eq!([placed(0), placed(1), placed(2), placed(3), placed(4)], [3, 0, 1, 1, 0]);
    let pending: Vec<_> = solution.pending.iter().map(|it| (it.request, it.num_replicas, it.lack)).collect();
    assert_eq!(pending, [1, 2, 3, 4].map(|request| (request, 2, MissingResource::Cpu)));
    assert_eq!(reasons(&solution.pending[0]), ["n1: needs 3 cores, 0 free", "n2: needs 3 cores, 2 free"]);
    let limit = "n2: has the 1 replicas that `max_replicas_per_node` allows";
    assert_eq!(reasons(&solution.pending[1]), ["n1: needs 1 cores, 0 free", limit]);
}

/// The same requests as one group.
fn group(name: &str, requests: impl IntoIterator<Item = Request>) -> Vec<Request> {
    let of = |request| Request { group: Some(GroupId(name.into())), ..request };
    requests.into_iter().map(of).collect()
}

#[test]
fn a_group_has_places_for_all_or_for_none() {
    let cores = |name, cores| request(name, cores, GpuDemand::None, Strategy::Spread);
    let pair = || group("p", [cores("a", 3), cores("b", 2)]);
    assert_eq!(places(&[node("n1", 3, 0), node("n2", 2, 0)], &pair()), ["n1", "n2"]);
    assert_eq!(places(&[node("n1", 3, 0), node("n2", 1, 0)], &pair()), ["-", "-"]);
    // What a group gave back goes to others, in the same solution.
    let mut requests = pair();
    requests.push(cores("c", 1));
    requests.extend(group("q", [cores("d", 2)]));
    assert_eq!(places(&[node("n1", 3, 0), node("n2", 1, 0)], &requests), ["-", "-", "n2", "n1"]);
}

#[test]
fn a_group_without_place_says_which_of_it_has_none() {
    let requests = group(
        "p",
        [
            request("a", 1, GpuDemand::Whole(1), Strategy::Spread),
            request("b", 9, GpuDemand::None, Strategy::Spread),
        ],
    );
    let solution = place(&World { nodes: vec![node("n1", 8, 1)] }, &requests);
    assert!(solution.placements.is_empty());
    let text = "all or nothing: the 2 replicas of `p` start together, and `p/b` has no place";
    let told = solution.pending.iter().map(|pending| {
        assert_eq!(
            (pending.blocked.as_ref().unwrap().to_string().as_str(), pending.lack),
            (text, MissingResource::Cpu)
        );
        (pending.request, reasons(pending))
    });
    assert_eq!(told.collect::<Vec<_>>(), [(0, vec![]), (1, vec!["n1: needs 9 cores, 7 free".to_owned()])]);
}

#[test]
fn all_that_is_of_the_deployment_without_place_says_what_is_missing() {
    let cores = |name, cores| request(name, cores, GpuDemand::None, Strategy::Spread);
    let more = Request { num_replicas: 3, ..cores("b", 2) };
    let requests = group("p", [cores("a", 4), cores("b", 2), more, cores("c", 1)]);
    let solution = place(&World { nodes: vec![node("n1", 8, 0)] }, &requests);
    let told: Vec<_> = solution.pending.iter().map(|it| (it.num_replicas, reasons(it).concat())).collect();
    let missing = "n1: needs 2 cores, 0 free".to_owned();
    assert_eq!(told, [(1, String::new()), (1, missing.clone()), (3, missing), (1, String::new())]);
    assert_eq!(solution.pending[0].blocked.as_ref().unwrap().size, 6);
}

/// One call of [`super::place`] with 5,000 replicas that fit nowhere, on 1,000 nodes. Optimised it takes about 5 ms.
#[test]
#[ignore = "measures time: cargo test --release -p millstream-core --lib -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn pending_replicas_cost_little() {
    let nodes = (0..1000).map(|n| node(&format!("n{n:04}"), 64, if n % 2 == 0 { 4 } else { 0 }));
    let world = World { nodes: nodes.collect() };
    for (what, gpus) in [("cores", GpuDemand::None), ("GPUs", GpuDemand::Whole(8))] {
        for (demands, step) in [("equal", 0), ("different", 1)] {
            let of = |d: u64| Request {
                num_replicas: 50,
                ..request(&format!("d{d}"), 100 + d * step, gpus, Strategy::Spread)
            };
            let requests: Vec<Request> = (0..100).map(of).collect();
            let start = std::time::Instant::now();
            let solution = place(&world, &requests);
            let took = start.elapsed();
            assert_eq!(num_answered(&solution), 5000);
            eprintln!("{demands} demands of 100 deployments for {what}: {took:?}");
        }
    }
}

#[test]
fn what_a_group_gave_back_is_not_taken_for_full() {
    let of = |name, cores, count| Request {
        num_replicas: count,
        ..request(name, cores, GpuDemand::None, Strategy::Spread)
    };
    let mut requests = group("p", [of("a", 4, 1), of("b", 2, 3)]);
    requests.push(of("c", 2, 3));
    let solution = place(&World { nodes: vec![node("n1", 8, 0)] }, &requests);
    assert_eq!(solution.placements.iter().map(|placement| placement.request).collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn shares_go_where_the_workload_loses_least() {
    // Quarters and halves come; a device with three quarters free is better used by a quarter than one with a half.
    let mut nodes = [node("n1", 64, 1), node("n2", 64, 1), node("n3", 64, 1)];
    nodes[0].devices[0].free_milli = 500;
    nodes[1].devices[0].free_milli = 750;
    let half = request("half", 1, GpuDemand::Share(500), Strategy::Pack);
    let quarter = request("quarter", 1, GpuDemand::Share(250), Strategy::Pack);
    assert_eq!(places(&nodes, &[half, quarter]), ["n1", "n2"]);
}

#[test]
fn cores_beside_devices_are_kept_for_the_demands_of_those_devices() {
    // Each GPU needs 8 cores: a replica without GPU goes where cores are left over, whatever the order of nodes.
    let nodes = [node("n1", 16, 2), node("n2", 24, 2)];
    let gpu = || request("gpu", 8, GpuDemand::Whole(1), Strategy::Pack);
    let requests = [gpu(), gpu(), gpu(), gpu(), request("cpu", 8, GpuDemand::None, Strategy::Pack)];
    let world = World { nodes: nodes.to_vec() };
    let workload = Workload::of(requests.iter().map(|request| (&request.demand, request.device, 1)));
    let solution = super::place(&world, &workload, &requests[4..]);
    assert_eq!(solution.placements[0].node.as_str(), "n2");
}

#[test]
fn models_that_others_cannot_do_without_are_left_to_them() {
    let mut rare = node("n1", 64, 1);
    rare.devices[0].model = "H100".into();
    let nodes = [rare, node("n2", 64, 4)];
    let any = request("any", 1, GpuDemand::Whole(1), Strategy::Pack);
    let mut picky = request("picky", 1, GpuDemand::Whole(1), Strategy::Pack);
    picky.demand.accelerators = vec!["h100".into()];
    assert_eq!(places(&nodes, &[any, picky]), ["n2", "n1"]);
}

#[test]
fn idle_nodes_are_used_last_when_packing() {
    let mut used = node("n2", 8, 0);
    used.replicas.insert("p/other".parse().unwrap(), 1);
    let one = request("a", 1, GpuDemand::None, Strategy::Pack);
    assert_eq!(places(&[node("n1", 4, 0), used.clone()], std::slice::from_ref(&one)), ["n2"]);
    // Apart from its like it goes the other way.
    assert_eq!(places(&[node("n1", 4, 0), used], &[Request { strategy: Strategy::Spread, ..one }]), ["n1"]);
}

fn any_node() -> impl proptest::strategy::Strategy<Value = Node> {
    (0..5u32, 0..6u64, 0..4u32, prop::collection::vec(0..=1000u32, 4)).prop_map(
        |(name, cores, gpus, free)| {
            let mut node = node(&format!("n{name}"), cores, gpus);
            for (device, free) in node.devices.iter_mut().zip(free) {
                device.free_milli = free;
            }
            node
        },
    )
}

fn any_request() -> impl proptest::strategy::Strategy<Value = Request> {
    let gpus = prop_oneof![
        Just(GpuDemand::None),
        (1..1000u32).prop_map(GpuDemand::Share),
        (1..4u32).prop_map(GpuDemand::Whole)
    ];
    let strategy = prop_oneof![Just(Strategy::Spread), Just(Strategy::Pack)];
    let device = prop_oneof![Just(Device::Gpu), Just(Device::Auto), Just(Device::Cpu)];
    (0..4u32, 0..4u64, gpus, strategy, device, prop::option::of(0..3u32), 0..30u64, 0..4usize).prop_map(
        |(name, cores, gpus, strategy, device, max, gib, num_replicas)| {
            let mut request = request(&format!("d{name}"), cores, gpus, strategy);
            request.num_replicas = num_replicas;
            request.device = device;
            request.demand.max_replicas_per_node = max;
            request.demand.gpu_memory_bytes = gib << 30;
            request.demand.memory_bytes = gib << 30;
            request
        },
    )
}

fn num_asked(requests: &[Request]) -> usize {
    requests.iter().map(|request| request.num_replicas).sum()
}

fn num_answered(solution: &Solution) -> usize {
    solution.placements.len() + solution.pending.iter().map(|pending| pending.num_replicas).sum::<usize>()
}

proptest! {
    #[test]
    fn capacity_is_never_exceeded_and_solving_again_changes_nothing(
        nodes in prop::collection::vec(any_node(), 0..6),
        requests in prop::collection::vec(any_request(), 0..20),
    ) {
        let mut nodes = nodes;
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes.dedup_by(|a, b| a.id == b.id);
        let world = World { nodes };
        let solution = place(&world, &requests);
        prop_assert!(is_within_capacity(&world, &requests, &solution));
        prop_assert_eq!(num_answered(&solution), num_asked(&requests));
        prop_assert!(solution.pending.iter().all(|p| p.num_replicas > 0));
        let says_why = |pending: &Pending| pending.shortage.reasons.iter().all(|reason| !reason.missing.is_empty());
        prop_assert!(world.nodes.len() > 5 || solution.pending.iter().all(says_why));
        let mut reversed = world.clone();
        reversed.nodes.reverse();
        prop_assert_eq!(&place(&reversed, &requests), &solution);
        let mut after = world;
        for placement in &solution.placements {
            let node = after.nodes.iter_mut().find(|node| node.id == placement.node).unwrap();
            book(node, &requests[placement.request], &placement.gpus);
        }
        let pending: Vec<_> = solution.pending.iter().map(|p| requests[p.request].clone()).collect();
        prop_assert!(place(&after, &pending).placements.is_empty());
        // As many requests of one replica each come to the same.
        let single = |(index, request): (usize, &Request)| {
            vec![(index, Request { num_replicas: 1, ..request.clone() }); request.num_replicas]
        };
        let (of, singles): (Vec<_>, Vec<_>) = requests.iter().enumerate().flat_map(single).unzip();
        let workload = Workload::of(requests.iter().map(|request| (&request.demand, request.device, 1)));
        let one_by_one = super::place(&reversed, &workload, &singles);
        let seats = |solution: &Solution, of: &dyn Fn(usize) -> usize| {
            solution.placements.iter().map(|p| (of(p.request), p.node.clone(), p.gpus.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(seats(&one_by_one, &|single| of[single]), seats(&solution, &|request| request));
    }

    #[test]
    fn groups_are_whole_and_those_without_place_leave_no_trace(
        nodes in prop::collection::vec(any_node(), 0..6),
        requests in prop::collection::vec((any_request(), 0..4u8), 0..20),
    ) {
        let mut nodes = nodes;
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes.dedup_by(|a, b| a.id == b.id);
        let world = World { nodes };
        let grouped = |(request, group): (Request, u8)| {
            // Some of each group, the others by themselves.
            Request { group: (group > 0).then(|| GroupId(group.to_string())), ..request }
        };
        let requests: Vec<Request> = requests.into_iter().map(grouped).collect();
        let workload = Workload::of(requests.iter().map(|request| (&request.demand, request.device, 1)));
        let solution = super::place(&world, &workload, &requests);
        prop_assert!(is_within_capacity(&world, &requests, &solution));
        prop_assert_eq!(num_answered(&solution), num_asked(&requests));
        for pending in &solution.pending {
            let group = &requests[pending.request].group;
            prop_assert_eq!(group.is_some(), pending.blocked.is_some());
            let member = |index: usize| group.is_some() && requests[index].group == *group;
            prop_assert!(!solution.placements.iter().any(|placement| member(placement.request)));
        }
        // Without the requests that have no place the others get the same ones.
        let placed = solution.placements.iter().map(|p| Request { num_replicas: 1, ..requests[p.request].clone() });
        let placed: Vec<Request> = placed.collect();
        let again = super::place(&world, &workload, &placed);
        let seats = |solution: &Solution| {
            solution.placements.iter().map(|p| (p.node.clone(), p.gpus.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(seats(&again), seats(&solution));
    }
}
