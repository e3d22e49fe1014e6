//! The route table: a snapshot that requests read without a lock, and how a new one is put in force.
//!
//! Deployments outlive tables (their queues and counts go on); plans are compiled once per revision. A request keeps
//! the pipeline that it started with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use millstream_pipelines::{Faults, FullName, Name, Plan};
use millstream_proto::v1;
use millstream_proto::{NodeId, ReplicaId};
use tokio::sync::Notify;

use super::load::{DeploymentLoads, loads_of};
use crate::dispatch::{Deployment, DeploymentSettings, NewTarget};
use crate::metrics::RequestMeter;
use crate::transport::Transports;

/// A pipeline, ready to take requests.
pub(crate) struct Pipeline {
    /// Its compiled form.
    pub plan: Arc<Plan>,
    /// The revision that it was compiled from.
    pub revision: u64,
    /// What its stages call; [`millstream_pipelines::StageCall::target`] indexes it.
    pub targets: Box<[Arc<Deployment>]>,
    /// Counts its requests.
    pub meter: RequestMeter,
}

/// One version of what this ingress serves.
pub(crate) struct RouteTable {
    /// The head's number of it.
    pub version: u64,
    /// By HTTP path.
    pub by_path: HashMap<Box<str>, Arc<Pipeline>>,
    /// By name.
    pub by_name: BTreeMap<Name, Arc<Pipeline>>,
    /// Every deployment that has replicas or is called, those of other pipelines included.
    deployments: BTreeMap<FullName, Arc<Deployment>>,
}

/// Holds the table in force and makes the next one. Only the route watch changes it.
pub(crate) struct Routes {
    current: ArcSwapOption<RouteTable>,
    transports: Transports,
    queue_formed: Arc<Notify>,
}

impl Routes {
    /// No table yet.
    pub(crate) fn new(transports: Transports) -> Self {
        Self { current: ArcSwapOption::empty(), transports, queue_formed: Arc::new(Notify::new()) }
    }

    /// The table in force; `None` until the head has been heard once.
    pub(crate) fn current(&self) -> arc_swap::Guard<Option<Arc<RouteTable>>> {
        self.current.load()
    }

    /// Told when a queue starts to form.
    pub(crate) fn queue_formed(&self) -> &Notify {
        &self.queue_formed
    }

    /// Requests under way and waiting, by deployment.
    pub(crate) fn loads(&self) -> DeploymentLoads {
        self.current.load().as_ref().map(|table| loads_of(table.deployments.values())).unwrap_or_default()
    }

    /// Puts a table in force: when this returns, no call is bound to a replica that it does not name.
    pub(crate) async fn apply(&self, table: v1::RouteTable) {
        let old = self.current.load_full();
        let plans = plans_of(&table, old.as_deref()).await;
        let mut deployments = self.deployments_of(&table, &plans, old.as_deref());
        let mut by_name = BTreeMap::new();
        let mut by_path: HashMap<Box<str>, Arc<Pipeline>> = HashMap::new();
        for (name, (plan, revision)) in plans {
            let targets = plan.targets().iter();
            let targets =
                targets.map(|target| self.deployment(&mut deployments, target, old.as_deref())).collect();
            let meter = RequestMeter::of(name.as_str());
            let pipeline = Arc::new(Pipeline { plan, revision, targets, meter });
            if let Some(path) = pipeline.plan.route() {
                let taken = by_path.insert(path.into(), pipeline.clone());
                if let Some(other) = taken {
                    let other = other.plan.name().clone();
                    tracing::error!(pipeline = %name, %other, path, "two pipelines have one route, the later one serves");
                }
            }
            by_name.insert(name, pipeline);
        }
        let version = table.version;
        self.current.store(Some(Arc::new(RouteTable { version, by_path, by_name, deployments })));
    }

    /// Updates every deployment that the table knows, and empties those that it no longer knows.
    fn deployments_of(
        &self,
        table: &v1::RouteTable,
        plans: &BTreeMap<Name, (Arc<Plan>, u64)>,
        old: Option<&RouteTable>,
    ) -> BTreeMap<FullName, Arc<Deployment>> {
        let mut deployments = BTreeMap::new();
        let mut addresses = HashSet::new();
        for route in &table.pipelines {
            for deployment in &route.deployments {
                let Ok(full_name) = format!("{}/{}", route.name, deployment.deployment).parse::<FullName>()
                else {
                    tracing::warn!(
                        pipeline = route.name,
                        deployment = deployment.deployment,
                        "a route's name is no name"
                    );
                    continue;
                };
                let spec = plans.get(&full_name.pipeline).and_then(|(plan, _)| {
                    plan.deployments().get(&full_name.deployment).map(DeploymentSettings::from)
                });
                let replicas =
                    deployment.replicas.iter().map(|replica| self.new_target(replica)).collect::<Vec<_>>();
                addresses.extend(replicas.iter().map(|replica| replica.address.clone()));
                self.deployment(&mut deployments, &full_name, old).update(spec, replicas);
            }
        }
        for (name, deployment) in old.into_iter().flat_map(|old| &old.deployments) {
            if !deployments.contains_key(name) {
                deployment.update(None, Vec::new());
            }
        }
        self.transports.retain(&addresses);
        deployments
    }

    fn new_target(&self, replica: &v1::ReplicaRoute) -> NewTarget {
        let node_id = NodeId::new(&*replica.node_id);
        let address: Arc<str> = replica.address.as_str().into();
        let (client, locality) = self.transports.client(&node_id, &address);
        NewTarget { id: ReplicaId::new(&*replica.replica_id), node_id, address, locality, client }
    }

    /// The deployment of that name: the one there was, else a new one that waits for replicas.
    fn deployment(
        &self,
        deployments: &mut BTreeMap<FullName, Arc<Deployment>>,
        name: &FullName,
        old: Option<&RouteTable>,
    ) -> Arc<Deployment> {
        let known = || old.and_then(|old| old.deployments.get(name).cloned());
        let fresh = || Deployment::new(name.clone(), self.queue_formed.clone());
        deployments.entry(name.clone()).or_insert_with(|| known().unwrap_or_else(fresh)).clone()
    }
}

/// The plan and revision that each pipeline of the table serves: compiled once per revision; where a text does not
/// compile, the one before.
async fn plans_of(table: &v1::RouteTable, old: Option<&RouteTable>) -> BTreeMap<Name, (Arc<Plan>, u64)> {
    let mut plans = BTreeMap::new();
    for route in &table.pipelines {
        let Ok(name) = route.name.parse::<Name>() else {
            tracing::warn!(pipeline = route.name, "a pipeline's name is no name");
            continue;
        };
        let before = old.and_then(|old| old.by_name.get(&name));
        let before = before.map(|pipeline| (pipeline.plan.clone(), pipeline.revision));
        if let Some(same) = before.clone().filter(|(_, revision)| *revision == route.revision) {
            plans.insert(name, same);
            continue;
        }
        match compile(&route.file_name, &route.source).await {
            Ok(plan) => {
                plans.insert(name, (Arc::new(plan), route.revision));
            }
            Err(faults) => {
                let revision = route.revision;
                tracing::error!(pipeline = %name, revision, error = %faults, "a plan does not compile, the one before serves on");
                if let Some(before) = before {
                    plans.insert(name, before);
                }
            }
        }
    }
    plans
}

/// Compiles off the threads that serve requests.
async fn compile(file_name: &str, source: &str) -> Result<Plan, Faults> {
    let (file_name, source) = (file_name.to_owned(), source.to_owned());
    let compiled = tokio::task::spawn_blocking(move || Plan::compile(&file_name, &source)).await;
    compiled.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
