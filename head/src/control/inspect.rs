//! The head from inside, for whoever looks for an error: versions, alarm, routes, series, stages. Changes nothing; no secrets,
//! no hashes of any, and nothing of requests.

use millstream_core::model::{PipelineRoute, State};
use millstream_core::present::series::CAPACITY;
use millstream_pipelines::Name;
use millstream_proto::inspection::{DeploymentRouteView, Inspection, RouteView, VariantView, WorkerVersion};
use millstream_proto::series::Series;
use millstream_proto::stage::StageTraffic;

use super::{Error, deploy};
use crate::clock::unix_ms;
use crate::leadership::Term;

/// The head itself.
pub(crate) async fn inspect(term: &Term) -> Result<Inspection, Error> {
    let shown = term.snapshot().await?;
    let State { nodes, settling, alarm, routes, .. } = shown.snapshot().state();
    let mut workers: Vec<_> = nodes
        .values()
        .map(|node| WorkerVersion { node: node.name.clone(), version: node.version.clone() })
        .collect();
    workers.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(Inspection {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: term.cluster_id.clone(),
        leader: term.host.name.clone(),
        at_ms: unix_ms(),
        started_at_ms: term.host.history.started_unix_ms,
        settling: !settling.is_over,
        alarm: *alarm,
        workers,
        routes: routes.pipelines.iter().map(|route| view(route)).collect(),
    })
}

fn view(route: &PipelineRoute) -> RouteView {
    let variants = route.variants.iter().map(|variant| VariantView {
        revision: variant.revision.stored.number,
        permille: variant.permille,
        shadow_permille: variant.shadow_permille,
    });
    let deployments = route.deployments.iter().map(|deployment| DeploymentRouteView {
        deployment: deployment.deployment.to_string(),
        replicas: deployment.replicas.iter().map(|replica| replica.replica.to_string()).collect(),
    });
    RouteView {
        pipeline: route.name.to_string(),
        variants: variants.collect(),
        deployments: deployments.collect(),
    }
}

/// The last hour's numbers of everything.
pub(crate) fn series(term: &Term, since_s: u32, step_s: u32) -> Series {
    let history = &term.host.history;
    let (since, step) = (u64::from(since_s).clamp(1, CAPACITY), u64::from(step_s).max(1));
    let rings = history.rings.lock();
    rings.shown(rings.range(since, step), step, history.started_unix_ms, |_| true)
}

/// How a pipeline's stages do.
pub(crate) fn stages(term: &Term, name: &Name) -> Result<Vec<StageTraffic>, Error> {
    deploy::get(&term.catalog.desired(), name, None)?;
    Ok(term.host.stages.lock().of(name, term.host.clock.now()))
}
