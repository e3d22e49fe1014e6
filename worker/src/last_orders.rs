//! The last orders of a head, kept on disk: a worker that starts and reaches no head runs what they say. They are what the head
//! has started here and not stopped; whether a replica runs or fails is not kept.
//!
//! Once a head has been heard they are no longer run: it was told that nothing runs here, and orders what is to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use millstream_kept::{Keeper, Kept, KeptFile};
use millstream_proto::v1;
use prost::Message as _;

use crate::order::Order;

/// How long a head may take to answer a worker that starts, before the worker runs its last orders.
pub(crate) const HEAD_WAIT: Duration = Duration::from_secs(1);

/// What the file is called, and holds.
const KIND: &str = "orders";

/// Where the cluster's heads are, as the worker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadPlace {
    /// One is in this process: without it there is no worker either.
    ThisProcess {
        /// The id of its cluster, if it leads already.
        cluster_id: Option<String>,
    },
    /// In other processes. The worker belongs to the cluster that it joins first, and no other can have it until `cluster_id` is
    /// deleted from the data directory. It keeps its last orders there, and runs them when it starts and reaches no head.
    Elsewhere,
}

/// See the module.
pub(crate) struct LastOrders {
    wanted: BTreeMap<String, v1::StartReplica>,
    /// No head has been heard since they were read.
    are_of_file: bool,
    /// How old they are, then.
    age: Duration,
    /// What ran here when the node registered last.
    registered: BTreeSet<String>,
    keeper: Keeper,
}

impl LastOrders {
    /// Reads those of a cluster, with the epoch of the head that was obeyed last; a node that has joined none has none.
    pub(crate) fn load(data_dir: &Path, cluster_id: Option<&str>) -> (Self, u64) {
        let file = KeptFile::new(data_dir, KIND);
        let kept = cluster_id.and_then(|id| file.load(id));
        let (read, age) = kept.and_then(|kept| read(&file, &kept)).unwrap_or_default();
        let wanted = read.replicas.into_iter().map(|start| (start.replica_id.clone(), start)).collect();
        let keeper = Keeper::start(file);
        (Self { wanted, are_of_file: true, age, registered: BTreeSet::new(), keeper }, read.epoch)
    }

    /// What is to be run although no head is there: the first time, what was read; then nothing more.
    pub(crate) fn take_up(&mut self) -> Vec<Order> {
        if !std::mem::take(&mut self.are_of_file) {
            return Vec::new();
        }
        let order = |start: &v1::StartReplica| {
            let replica_id = &*start.replica_id;
            let log = |error: &_| tracing::warn!(replica_id, %error, "a kept order cannot be read; left out");
            Order::try_from(start.clone()).inspect_err(log).ok()
        };
        let orders: Vec<Order> = self.wanted.values().filter_map(order).collect();
        if !orders.is_empty() {
            let (replicas, age_s) = (orders.len(), self.age.as_secs());
            tracing::warn!(
                replicas,
                age_s,
                "no head answers: the last orders are run, from the data directory"
            );
        }
        orders
    }

    /// The node is about to register with these replicas.
    pub(crate) fn registers(&mut self, replicas: &[v1::ReplicaReport]) {
        self.registered = replicas.iter().map(|report| report.replica_id.clone()).collect();
    }

    /// A head has accepted the node. Where it has not run its last orders, they are void: the head was told so.
    pub(crate) fn head_is_heard(&mut self) {
        if std::mem::take(&mut self.are_of_file) {
            let running = &self.registered;
            self.wanted.retain(|id, _| running.contains(id));
        }
    }

    /// The head wants a replica here.
    pub(crate) fn start(&mut self, start: v1::StartReplica) {
        self.wanted.insert(start.replica_id.clone(), start);
    }

    /// The head no longer wants it.
    pub(crate) fn stop(&mut self, replica_id: &str) {
        self.wanted.remove(replica_id);
    }

    /// Keeps them as they are now; returns at once.
    pub(crate) fn keep(&self, cluster_id: &str, epoch: u64) {
        let kept = v1::KeptOrders { epoch, replicas: self.wanted.values().cloned().collect() };
        self.keeper.keep(cluster_id, kept.encode_to_vec());
    }
}

fn read(file: &KeptFile, kept: &Kept) -> Option<(v1::KeptOrders, Duration)> {
    let orders = v1::KeptOrders::decode(&*kept.content);
    let orders = orders.inspect_err(|error| file.warn(&error.to_string())).ok()?;
    Some((orders, kept.age()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{echo_spec, start};

    const CLUSTER: Option<&str> = Some("c-1");

    fn ids(orders: &[Order]) -> Vec<&str> {
        orders.iter().map(|order| order.id.as_str()).collect()
    }

    /// A folder in which a worker has kept `a` and `b`.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let replicas = vec![start("a", &echo_spec("model")), start("b", &echo_spec("model"))];
        let kept = v1::KeptOrders { epoch: 7, replicas };
        KeptFile::new(folder.path(), KIND).write("c-1", &kept.encode_to_vec()).unwrap();
        folder
    }

    #[tokio::test]
    async fn they_are_run_once_and_not_after_a_head_was_heard() {
        let folder = folder();
        let (mut orders, epoch) = LastOrders::load(folder.path(), CLUSTER);
        assert_eq!((epoch, ids(&orders.take_up())), (7, vec!["a", "b"]));
        assert!(orders.take_up().is_empty());
        orders.head_is_heard();
        assert_eq!(orders.wanted.len(), 2, "they run, and the head adopts them");
        let (mut orders, _) = LastOrders::load(folder.path(), CLUSTER);
        orders.registers(&[v1::ReplicaReport { replica_id: "b".into(), ..Default::default() }]);
        orders.head_is_heard();
        assert!(orders.take_up().is_empty());
        assert_eq!(orders.wanted.keys().collect::<Vec<_>>(), ["b"], "a link that was started again");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_left_out() {
        let folder = folder();
        for cluster_id in [None, Some("c-2")] {
            let (mut orders, epoch) = LastOrders::load(folder.path(), cluster_id);
            assert_eq!((epoch, orders.take_up().len()), (0, 0), "{cluster_id:?}");
        }
        let file = KeptFile::new(folder.path(), KIND);
        file.write("c-1", b"not a message").unwrap();
        assert!(LastOrders::load(folder.path(), CLUSTER).0.take_up().is_empty());
        let unreadable = v1::StartReplica { spec_json: "{}".into(), ..start("a", &echo_spec("model")) };
        let kept = v1::KeptOrders { epoch: 7, replicas: vec![unreadable, start("b", &echo_spec("model"))] };
        file.write("c-1", &kept.encode_to_vec()).unwrap();
        assert_eq!(ids(&LastOrders::load(folder.path(), CLUSTER).0.take_up()), ["b"]);
        std::fs::write(file.path(), "").unwrap();
        assert!(LastOrders::load(folder.path(), CLUSTER).0.take_up().is_empty());
    }

    #[tokio::test]
    async fn what_the_head_changes_is_kept() {
        let folder = folder();
        let (mut orders, _) = LastOrders::load(folder.path(), CLUSTER);
        orders.take_up();
        orders.stop("a");
        orders.start(start("c", &echo_spec("model")));
        orders.keep("c-1", 8);
        let kept = || {
            let (mut orders, epoch) = LastOrders::load(folder.path(), CLUSTER);
            let orders = orders.take_up();
            (epoch, ids(&orders).join(" "))
        };
        let written = async || (kept() == (8, "b c".to_owned())).then_some(());
        millstream_test_support::until("they are written", written).await;
    }
}
