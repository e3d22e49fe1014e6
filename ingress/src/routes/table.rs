//! The route table: a snapshot that requests read without a lock, and how a new one is put in force.
//!
//! Deployments outlive tables (their queues and counts go on). A request keeps the pipeline that it started with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use millstream_pipelines::{FullName, Name};
use millstream_proto::v1;
use millstream_proto::{NodeId, ReplicaId};
use tokio::sync::Notify;

use super::aliases::{ByName, aliases_of};
use super::load::{DeploymentLoads, Endings, loads_of};
use super::pipeline::{Pipeline, Route};
use super::planned::{Planned, permille, plans_of};
use super::revisions::Revisions;
use crate::cache::StageCache;
use crate::capture::Captures;
use crate::dispatch::{Deployment, DeploymentSettings, NewRoute, NewTarget, StartFailure};
use crate::keys::{Book, Keys};
use crate::model::TrafficShare;
use crate::transport::Transports;

impl Route {
    /// `variants` is not empty.
    fn new(variants: &[Variant]) -> Self {
        let share = |variant: &Variant| TrafficShare {
            revision: variant.pipeline.revision,
            permille: variant.permille,
        };
        let shadow = variants.iter().position(|variant| variant.shadow_permille > 0);
        Self {
            variants: variants.iter().map(|variant| variant.pipeline.clone()).collect(),
            shares: variants.iter().map(share).collect(),
            shadow: shadow.map(|index| (index, variants[index].shadow_permille)),
        }
    }
}

/// A revision and its part of the requests.
#[derive(Clone)]
struct Variant {
    pipeline: Arc<Pipeline>,
    permille: u16,
    shadow_permille: u16,
}

/// One version of what this ingress serves.
pub(crate) struct RouteTable {
    /// Which one it is.
    pub version: v1::TableVersion,
    /// When it was kept, in milliseconds since the Unix epoch, if it is one that was read from the data directory.
    pub kept_unix_ms: Option<u64>,
    /// By HTTP path.
    pub by_path: HashMap<Box<str>, Arc<Route>>,
    /// By name.
    pub by_name: BTreeMap<Name, Arc<Route>>,
    /// What requests may call by name: pipelines that have a route, and deployments by their full names.
    pub callable: ByName,
    /// The same by other names that clients may give them (`[serving] aliases`).
    pub aliases: ByName,
    /// The API keys.
    pub keys: Keys,
    /// The largest body that a pipeline's file allows; 0 where none says it.
    pub max_body: u64,
    /// Every deployment that has replicas or is called, those of other pipelines included.
    deployments: BTreeMap<FullName, Arc<Deployment>>,
}

impl RouteTable {
    /// The revision of that pipeline and number.
    fn find(&self, name: &Name, revision: u64) -> Option<&Arc<Pipeline>> {
        let route = self.by_name.get(name)?;
        route.variants.iter().find(|pipeline| pipeline.revision == revision)
    }

    /// What a request calls by that name: a name of its own goes before an alias.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.callable.get(name).or_else(|| self.aliases.get(name))
    }

    /// All names with what they call, aliases as well.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &Arc<Route>)> {
        self.callable.iter().chain(&self.aliases).map(|(name, route)| (&**name, route))
    }

    /// The route that there is, where there is just one.
    pub(crate) fn only_route(&self) -> Option<&Arc<Route>> {
        self.by_path.values().next().filter(|_| self.by_path.len() == 1)
    }
}

/// Holds the table in force and makes the next one. Only the route watch changes it.
pub(crate) struct Routes {
    current: ArcSwapOption<RouteTable>,
    transports: Transports,
    captures: Captures,
    queue_formed: Arc<Notify>,
    hears_head: AtomicBool,
    /// What keys have used.
    book: Arc<Book>,
}

impl Routes {
    /// No table yet.
    pub(crate) fn new(transports: Transports, captures: Captures) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            transports,
            captures,
            queue_formed: Arc::new(Notify::new()),
            hears_head: AtomicBool::new(false),
            book: Arc::default(),
        }
    }

    /// The table in force; `None` until the head has been heard once, or its last words were read.
    pub(crate) fn current(&self) -> arc_swap::Guard<Option<Arc<RouteTable>>> {
        self.current.load()
    }

    /// Whether there is a session with the head that leads.
    pub(crate) fn hears_head(&self) -> bool {
        self.hears_head.load(Ordering::Relaxed)
    }

    /// The head has welcomed this ingress.
    pub(super) fn head_is_heard(&self) {
        self.hears_head.store(true, Ordering::Relaxed);
    }

    /// The session with the head is over.
    pub(super) fn head_is_lost(&self) {
        self.hears_head.store(false, Ordering::Relaxed);
    }

    /// What keys have used and the head has not stored.
    pub(crate) fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// Told when a queue starts to form.
    pub(crate) fn queue_formed(&self) -> &Notify {
        &self.queue_formed
    }

    /// Requests under way and waiting, by deployment.
    pub(crate) fn loads(&self) -> DeploymentLoads {
        self.current.load().as_ref().map(|table| loads_of(table.deployments.values())).unwrap_or_default()
    }

    /// How calls and requests ended since this was last asked.
    pub(crate) fn take_endings(&self) -> Endings {
        self.current
            .load()
            .as_ref()
            .map(|table| Endings::take(table.deployments.values(), &table.by_name))
            .unwrap_or_default()
    }

    /// Puts a table in force: when this returns, no call is bound to a replica that it does not name. `revisions` has
    /// been asked for all that it names.
    pub(crate) fn apply(&self, table: &v1::RouteTable, revisions: &Revisions) {
        self.put_in_force(table, revisions, None);
    }

    /// The same with one that was kept at that time: there is no head.
    pub(super) fn apply_kept(&self, table: &v1::RouteTable, revisions: &Revisions, kept_unix_ms: u64) {
        self.put_in_force(table, revisions, Some(kept_unix_ms));
    }

    fn put_in_force(&self, table: &v1::RouteTable, revisions: &Revisions, kept_unix_ms: Option<u64>) {
        let old = self.current.load_full();
        let plans = plans_of(table, revisions, |name| old.as_ref()?.by_name.get(name));
        let mut deployments = self.deployments_of(table, &plans, old.as_deref());
        let mut by_name = BTreeMap::new();
        let mut callable = HashMap::new();
        let mut by_path: HashMap<Box<str>, Vec<Variant>> = HashMap::new();
        for (name, plans) in plans {
            let variants: Vec<_> =
                plans.into_iter().map(|plan| self.variant(&mut deployments, plan, old.as_deref())).collect();
            for variant in &variants {
                let Some(path) = variant.pipeline.plan.route() else { continue };
                let there = by_path.entry(path.into()).or_default();
                if let Some(other) = there.iter().find(|there| *there.pipeline.plan.name() != name) {
                    let other = other.pipeline.plan.name();
                    tracing::error!(pipeline = %name, %other, path, "two pipelines have one route, the later one serves");
                    there.retain(|there| *there.pipeline.plan.name() == name);
                }
                there.push(variant.clone());
            }
            callable.extend(self.deployments_by_name(&mut deployments, &variants, old.as_deref()));
            if !variants.is_empty() {
                let route = Arc::new(Route::new(&variants));
                if variants.iter().any(|variant| variant.pipeline.plan.route().is_some()) {
                    callable.insert(name.as_str().into(), route.clone());
                }
                by_name.insert(name, route);
            }
        }
        let aliases = aliases_of(&by_name, &callable);
        let by_path = by_path.into_iter().map(|(path, variants)| (path, Arc::new(Route::new(&variants))));
        let (version, by_path) = (table.version.unwrap_or_default(), by_path.collect());
        let max_body = callable.values().flat_map(|route| &route.variants);
        let max_body = max_body.filter_map(|pipeline| pipeline.plan.max_body()).max().unwrap_or(0);
        let keys = Keys::of(table, old.as_deref().map(|old| &old.keys), &self.book);
        self.current.store(Some(Arc::new(RouteTable {
            version,
            kept_unix_ms,
            by_path,
            by_name,
            callable,
            aliases,
            keys,
            max_body,
            deployments,
        })));
    }

    /// Routes to the deployments that these revisions of a pipeline declare, each called by itself.
    fn deployments_by_name(
        &self,
        deployments: &mut BTreeMap<FullName, Arc<Deployment>>,
        variants: &[Variant],
        old: Option<&RouteTable>,
    ) -> Vec<(Box<str>, Arc<Route>)> {
        let mut found: BTreeMap<FullName, Vec<Variant>> = BTreeMap::new();
        for Variant { pipeline, permille, .. } in variants {
            for spec in pipeline.plan.deployments().values() {
                let name = FullName { pipeline: pipeline.plan.name().clone(), deployment: spec.name.clone() };
                let known = || {
                    let route = old?.callable.get(&*name.to_string())?;
                    let known = route.variants.iter().find(|known| known.revision == pipeline.revision)?;
                    Some(known.plan.clone())
                };
                let plan = known().unwrap_or_else(|| Arc::new(pipeline.plan.of_deployment(spec)));
                let deployment = self.deployment(deployments, &name, old);
                let alone = Arc::new(pipeline.deployment(plan, deployment));
                let variant = Variant { pipeline: alone, permille: *permille, shadow_permille: 0 };
                found.entry(name).or_default().push(variant);
            }
        }
        let route = |(name, variants): (FullName, Vec<Variant>)| {
            (name.to_string().into(), Arc::new(Route::new(&variants)))
        };
        found.into_iter().map(route).collect()
    }

    fn variant(
        &self,
        deployments: &mut BTreeMap<FullName, Arc<Deployment>>,
        planned: Planned,
        old: Option<&RouteTable>,
    ) -> Variant {
        let Planned { plan, revision, permille, shadow_permille } = planned;
        let targets = plan.targets().iter();
        let targets = targets.map(|target| self.deployment(deployments, target, old)).collect();
        let known = old.and_then(|old| old.find(plan.name(), revision));
        let counts = known.map(|known| known.counts.clone()).unwrap_or_default();
        let caches = known.map_or_else(|| StageCache::of(&plan), |known| known.caches.clone());
        let pipeline = Pipeline::new(plan, revision, targets, caches, counts).captured_by(&self.captures);
        let pipeline = Arc::new(pipeline);
        Variant { pipeline, permille, shadow_permille }
    }

    /// Updates every deployment that the table knows, and empties those that it no longer knows.
    fn deployments_of(
        &self,
        table: &v1::RouteTable,
        plans: &BTreeMap<Name, Vec<Planned>>,
        old: Option<&RouteTable>,
    ) -> BTreeMap<FullName, Arc<Deployment>> {
        let mut deployments = BTreeMap::new();
        let mut addresses = HashSet::new();
        for route in &table.pipelines {
            let share = |variant: &v1::Variant| TrafficShare {
                revision: variant.revision,
                permille: permille(variant.permille),
            };
            let shares: Vec<_> = route.variants.iter().map(share).collect();
            for deployment in &route.deployments {
                let Ok(full_name) = format!("{}/{}", route.name, deployment.deployment).parse::<FullName>()
                else {
                    tracing::warn!(
                        pipeline = route.name,
                        deployment = deployment.deployment,
                        "a route's name is not a name"
                    );
                    continue;
                };
                // The settings of the revision that serves; those of the newest where it has no such deployment.
                let specs = plans.get(&full_name.pipeline).into_iter().flatten();
                let spec = specs
                    .filter_map(|planned| planned.plan.deployments().get(&full_name.deployment))
                    .map(DeploymentSettings::from)
                    .next();
                let replicas =
                    deployment.replicas.iter().map(|replica| self.new_target(replica)).collect::<Vec<_>>();
                addresses.extend(replicas.iter().map(|replica| replica.address.clone()));
                let num_ingresses = table.num_ingresses;
                self.deployment(&mut deployments, &full_name, old).update(NewRoute {
                    settings: spec,
                    replicas,
                    start_failure: start_failure(deployment),
                    shares: &shares,
                    num_ingresses,
                });
            }
        }
        for (name, deployment) in old.into_iter().flat_map(|old| &old.deployments) {
            if !deployments.contains_key(name) {
                deployment.update(NewRoute::none(table.num_ingresses));
            }
        }
        self.transports.retain(&addresses);
        deployments
    }

    fn new_target(&self, replica: &v1::ReplicaRoute) -> NewTarget {
        let node_id = NodeId::new(&*replica.node_id);
        let address: Arc<str> = replica.address.as_str().into();
        let (client, locality) = self.transports.client(&node_id, &address);
        NewTarget {
            id: ReplicaId::new(&*replica.replica_id),
            address,
            locality,
            revision: replica.revision,
            serves: replica.serves.iter().copied().collect(),
            answers: replica.answers.iter().copied().collect(),
            client,
        }
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

fn start_failure(route: &v1::DeploymentRoute) -> Option<StartFailure> {
    match route.start_failure() {
        v1::StartFailure::Unspecified => None,
        v1::StartFailure::Replicas => Some(StartFailure::Replicas),
        v1::StartFailure::Mismatch => Some(StartFailure::Mismatch),
    }
}
