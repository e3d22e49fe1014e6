//! Any history of a cluster ends in what was asked for.

use proptest::prelude::*;

use super::*;

/// Things that may happen, in any order.
#[derive(Debug, Clone)]
enum Happening {
    Deploy(u32, u64),
    Delete,
    Join(u8),
    Leave(u8),
    Ready(usize),
    Fail(usize),
    Stop(usize),
    Ack,
    Pass(f64),
}

fn happening() -> impl proptest::strategy::Strategy<Value = Happening> {
    prop_oneof![
        (1..4u32, 1..4u64).prop_map(|(replicas, version)| Happening::Deploy(replicas, version)),
        Just(Happening::Delete),
        (0..3u8).prop_map(Happening::Join),
        (0..3u8).prop_map(Happening::Leave),
        (0..8usize).prop_map(Happening::Ready),
        (0..8usize).prop_map(Happening::Fail),
        (0..8usize).prop_map(Happening::Stop),
        Just(Happening::Ack),
        (0.0..20.0f64).prop_map(Happening::Pass),
    ]
}

fn happen(cluster: &mut Cluster, happening: &Happening) {
    let nth = |cluster: &Cluster, n: usize| {
        let connected = cluster.state.nodes.values().filter(|node| node.session.is_some());
        connected.flat_map(|node| node.replicas.keys()).nth(n).map(ToString::to_string)
    };
    match *happening {
        Happening::Deploy(replicas, version) => cluster.deploy("p", &[model(replicas, version)]),
        Happening::Delete => cluster.desired.remove(&name("p"), 1),
        Happening::Join(n) => {
            let id = format!("n{n}");
            let node = cluster.state.nodes.get(&NodeId::from(id.as_str()));
            let there: Vec<_> = node
                .into_iter()
                .flat_map(|node| node.replicas.iter().map(|(id, r)| as_report(id, r)))
                .collect();
            cluster.join_with(&id, 1, 0, there);
        }
        Happening::Leave(n) => {
            let id = format!("n{n}");
            if cluster.state.nodes.get(&NodeId::from(id.as_str())).is_some_and(|node| node.session.is_some())
            {
                cluster.leave(&id);
            }
        }
        Happening::Ready(n) | Happening::Fail(n) | Happening::Stop(n) => {
            let state = match happening {
                Happening::Ready(_) => ReplicaState::Ready,
                Happening::Fail(_) => ReplicaState::Failed,
                _ => ReplicaState::Stopped,
            };
            if let Some(replica) = nth(cluster, n) {
                cluster.set(&replica, state);
            }
        }
        Happening::Ack => cluster.confirm(),
        Happening::Pass(seconds) => cluster.pass(seconds),
    }
}

proptest! {
    /// Whatever happens: passes come to an end, nothing more is decided before the reconciler asks to be woken (which
    /// `settle` checks), nodes are never overbooked; and once
    /// nothing bad happens any more, what people ask for comes about.
    #[test]
    fn any_history_ends_in_what_was_asked(happenings in prop::collection::vec(happening(), 0..40)) {
        let mut cluster = Cluster::new();
        cluster.join_ingress();
        for happening in &happenings {
            happen(&mut cluster, happening);
            cluster.settle();
            for node in cluster.state.nodes.values() {
                let booked: u64 = node.replicas.values().map(|replica| replica.booking.cpu_milli).sum();
                prop_assert!(booked <= node.resources.cpu_milli);
            }
        }
        for n in 0..3 {
            happen(&mut cluster, &Happening::Join(n));
        }
        cluster.deploy("p", &[model(3, 9)]);
        for _ in 0..4 {
            cluster.obey();
            cluster.pass(5.0);
            for (id, _) in cluster.state.nodes.values().flat_map(|n| &n.replicas).map(|(id, r)| (id.to_string(), r.state))
                .collect::<Vec<_>>() {
                if cluster.find(&id).2.state == ReplicaState::Failed {
                    cluster.set(&id, ReplicaState::Ready);
                }
            }
        }
        cluster.obey();
        let status = cluster.status();
        prop_assert_eq!(status.pipelines[0].state, PipelineState::Ready);
        prop_assert_eq!(status.pipelines[0].serving_revision, Some(cluster.desired.pipelines[&name("p")].wanted));
        prop_assert_eq!(cluster.routed("p").len(), 3);
        let num_replicas: usize = cluster.state.nodes.values().map(|node| node.replicas.len()).sum();
        prop_assert_eq!(num_replicas, 3);
    }
}
