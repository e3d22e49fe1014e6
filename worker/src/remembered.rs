//! What a node knows of its cluster, and still knows after a restart: the cluster's id, the highest epoch that it has obeyed, and
//! the last orders. All of it is in its data directory.

use std::io;
use std::path::PathBuf;

use millstream_kept::{cluster_id_file, load_cluster_id, write_private};
use millstream_proto::v1;

use crate::epoch::{EpochGate, Verdict};
use crate::identity;
use crate::last_orders::{HeadPlace, LastOrders};
use crate::order::Order;

/// See the module.
pub(crate) struct Remembered {
    data_dir: PathBuf,
    /// The cluster that this node belongs to, once it does.
    cluster_id: Option<String>,
    gate: EpochGate,
    /// Kept where the heads are elsewhere.
    orders: Option<LastOrders>,
}

impl Remembered {
    /// What the data directory has; needs a runtime.
    pub(crate) fn load(place: &HeadPlace, data_dir: PathBuf) -> io::Result<Self> {
        let mut gate = EpochGate::new(identity::load_epoch(&data_dir)?);
        let (own, keeps_orders) = match place {
            HeadPlace::ThisProcess { cluster_id } => (cluster_id.clone(), false),
            HeadPlace::Elsewhere => (None, true),
        };
        // The cluster of this process's own head counts; without one, that which the node joined before.
        let cluster_id = own.map_or_else(|| load_cluster_id(&data_dir), |own| Ok(Some(own)))?;
        let orders = keeps_orders.then(|| {
            let (orders, epoch) = LastOrders::load(&data_dir, cluster_id.as_deref());
            gate.admit(epoch);
            orders
        });
        Ok(Self { data_dir, cluster_id, gate, orders })
    }

    /// The cluster that this node belongs to, once it does.
    pub(crate) fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The highest epoch that was obeyed.
    pub(crate) fn epoch(&self) -> u64 {
        self.gate.highest()
    }

    /// Joins the head's cluster for good, unless the node belongs to another one.
    pub(crate) async fn enter(&mut self, cluster_id: &str) -> Result<(), String> {
        match &self.cluster_id {
            Some(mine) if mine == cluster_id => Ok(()),
            Some(_) => Err(format!(
                "it leads another cluster than the one that this node belongs to; to move the node, delete `{}` and \
                 start the worker again, or give it another --data-dir",
                cluster_id_file(&self.data_dir).display()
            )),
            None => {
                self.cluster_id = Some(cluster_id.to_owned());
                self.remember("cluster's id", cluster_id_file(&self.data_dir), cluster_id).await;
                Ok(())
            }
        }
    }

    /// Judges the epoch of a message; a newer one is on disk before the first order of it is obeyed.
    pub(crate) async fn admit(&mut self, epoch: u64) -> Verdict {
        let verdict = self.gate.admit(epoch);
        if verdict == Verdict::Newer {
            let file = identity::epoch_file(&self.data_dir);
            self.remember("epoch", file, &self.gate.highest().to_string()).await;
        }
        verdict
    }

    /// Why a head of an older epoch is not obeyed.
    pub(crate) fn why_older(&self, epoch: u64) -> String {
        format!(
            "its epoch {epoch} is older than {}, which this node has obeyed; if the cluster's store was put back, delete `{}` and \
             start the worker again",
            self.epoch(),
            identity::epoch_file(&self.data_dir).display()
        )
    }

    /// What is to be run although no head is there.
    pub(crate) fn take_up_orders(&mut self) -> Vec<Order> {
        self.orders.as_mut().map(LastOrders::take_up).unwrap_or_default()
    }

    /// The node is about to register with these replicas.
    pub(crate) fn registers(&mut self, replicas: &[v1::ReplicaReport]) {
        if let Some(orders) = &mut self.orders {
            orders.registers(replicas);
        }
    }

    /// Changes the last orders, and keeps them.
    pub(crate) fn change_orders(&mut self, change: impl FnOnce(&mut LastOrders)) {
        if let (Some(orders), Some(cluster_id)) = (&mut self.orders, &self.cluster_id) {
            change(orders);
            orders.keep(cluster_id, self.gate.highest());
        }
    }

    /// Keeps a value; returns once it is on disk.
    async fn remember(&self, what: &str, file: PathBuf, value: &str) {
        let text = value.to_owned();
        let stored = tokio::task::spawn_blocking(move || write_private(&file, &text)).await;
        if let Ok(Err(error)) = stored {
            tracing::error!(%error, value, "cannot keep the {what} on disk; it holds until this process ends");
        }
    }
}
