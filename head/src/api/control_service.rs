//! What the `cluster` command asks. A change is checked, stored, then handed to the reconciler; it never waits for the
//! cluster to follow.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use millstream_pipelines::Name;
use millstream_proto::v1::control_service_server::ControlService;
use millstream_proto::v1::{
    DeleteRequest, DeleteResponse, DeployRequest, DeployResponse, ListPipelinesRequest,
    ListPipelinesResponse, PlanDefragRequest, PlanDefragResponse, ShutdownRequest, ShutdownResponse,
    StatusRequest, StatusResponse, StoredPipeline,
};
use tonic::{Request, Response, Status};

use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::clock::unix_ms;
use crate::desired::catalog;
use crate::desired::change::{Candidate, Refusal};
use crate::desired::{Compiled, Desired};
use crate::reconcile::defrag;
use crate::shared::{Restarting, Shared};
use crate::store;

/// Longest text of a pipeline: it travels in every route table.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Longest drain that a shutdown may ask for.
const MAX_DRAIN: Duration = Duration::from_secs(3600);

/// Serves `millstream.v1.ControlService`.
pub(crate) struct ControlServer {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl ControlService for ControlServer {
    type WatchStatusStream = BoxStream<'static, Result<StatusResponse, Status>>;

    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<DeployResponse>, Status> {
        let DeployRequest { file_name, source, source_dir } = request.into_inner();
        if source.len() > MAX_SOURCE_BYTES {
            return Err(Status::invalid_argument(format!(
                "{file_name}: the file has {} bytes; {MAX_SOURCE_BYTES} are allowed",
                source.len()
            )));
        }
        let candidate = compile(file_name, source, source_dir).await?;
        let name = candidate.compiled.name.to_string();
        let deployed = self.shared.catalog.deploy(candidate, unix_ms()).await;
        let (revision, changed, desired) = deployed.map_err(|error| refused(&error))?;
        if changed {
            tracing::info!(pipeline = name, revision, "pipeline deployed");
            self.apply(desired).await?;
        }
        Ok(Response::new(DeployResponse { name, revision, changed }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let name: Name = request
            .into_inner()
            .name
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let desired = self.shared.catalog.delete(&name).await.map_err(|error| refused(&error))?;
        tracing::info!(pipeline = %name, "pipeline deleted");
        self.apply(desired).await?;
        Ok(Response::new(DeleteResponse {}))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        status(&self.shared).await.map(Response::new)
    }

    async fn watch_status(
        &self,
        _: Request<StatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        Ok(Response::new(watch(Arc::clone(&self.shared))))
    }

    async fn list_pipelines(
        &self,
        _: Request<ListPipelinesRequest>,
    ) -> Result<Response<ListPipelinesResponse>, Status> {
        let desired = self.shared.catalog.desired().await;
        let pipelines = desired.pipelines.iter().filter_map(|(name, pipeline)| {
            let stored = &pipeline.newest()?.stored;
            Some(StoredPipeline {
                name: name.to_string(),
                revision: stored.number,
                file_name: stored.file_name.clone(),
                source: stored.source.clone(),
            })
        });
        Ok(Response::new(ListPipelinesResponse { pipelines: pipelines.collect() }))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        let drain = Duration::from_millis(request.into_inner().drain_ms).min(MAX_DRAIN);
        self.shared.ask(|reply| ReconcilerMsg::Shutdown(drain, reply)).await.map_err(restarting)?;
        self.shared.stop.send_replace(Some(drain));
        Ok(Response::new(ShutdownResponse {}))
    }

    async fn plan_defrag(
        &self,
        _: Request<PlanDefragRequest>,
    ) -> Result<Response<PlanDefragResponse>, Status> {
        let state = self.shared.ask(ReconcilerMsg::Inspect).await.map_err(restarting)?;
        let desired = self.shared.catalog.desired().await;
        let (timing, now) = (self.shared.timing.clone(), self.shared.clock.now());
        // It may be long on a large cluster, and must not hold up the reconciler.
        let plan = tokio::task::spawn_blocking(move || defrag::plan(&desired, &state, &timing, now));
        let plan = plan.await.map_err(|_| Status::internal("finding the moves failed; please report it"))?;
        let json = serde_json::to_string(&plan).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(PlanDefragResponse { json }))
    }
}

impl ControlServer {
    /// Tells the reconciler what people ask for now. It is stored already: a reconciler that is being restarted reads
    /// it itself.
    async fn apply(&self, desired: Arc<Desired>) -> Result<(), Status> {
        match self.shared.ask(|reply| ReconcilerMsg::DesiredChanged(desired, reply)).await {
            Ok(()) | Err(Restarting) => Ok(()),
        }
    }
}

/// Compiles a text on a blocking thread: it may be long.
async fn compile(file_name: String, source: String, source_dir: String) -> Result<Candidate, Status> {
    let compiled = tokio::task::spawn_blocking(move || -> Result<_, String> {
        let compiled = Compiled::from_text(&file_name, &source)?;
        Ok(Candidate { file_name, source, source_dir, compiled })
    });
    match compiled.await {
        Ok(Ok(candidate)) => Ok(candidate),
        Ok(Err(faults)) => Err(Status::invalid_argument(faults)),
        Err(_) => Err(Status::internal("compiling this file made the compiler fail; please report the file")),
    }
}

fn refused(error: &catalog::Error) -> Status {
    let text = error.to_string();
    match error {
        catalog::Error::Refused(Refusal::Invalid(_)) => Status::invalid_argument(text),
        catalog::Error::Refused(Refusal::InUse(_)) => Status::failed_precondition(text),
        catalog::Error::Refused(Refusal::NotFound(_)) => Status::not_found(text),
        catalog::Error::Store(store::Error::Full) => Status::resource_exhausted(text),
        catalog::Error::Store(store::Error::Conflict { .. }) => Status::aborted(text),
        catalog::Error::Store(_) => Status::unavailable(text),
        catalog::Error::Unreadable { .. } => Status::internal(text),
    }
}

fn restarting(error: Restarting) -> Status {
    Status::unavailable(error.to_string())
}

async fn status(shared: &Shared) -> Result<StatusResponse, Status> {
    let status = shared.status().await.map_err(restarting)?;
    let json = serde_json::to_string(&status).map_err(|error| Status::internal(error.to_string()))?;
    Ok(StatusResponse { json })
}

/// The status now and at each change, not more often than the timing says; what looks the same is not sent again.
fn watch(shared: Arc<Shared>) -> BoxStream<'static, Result<StatusResponse, Status>> {
    let changes = shared.changes.subscribe();
    stream::unfold((shared, changes, None::<String>), async |(shared, mut changes, last)| {
        loop {
            if last.is_some() {
                tokio::select! {
                    () = shared.closing.cancelled() => return None,
                    () = tokio::time::sleep(shared.timing.status_interval) => {}
                }
                tokio::select! {
                    () = shared.closing.cancelled() => return None,
                    changed = changes.changed() => changed.ok()?,
                }
            }
            match status(&shared).await {
                Ok(status) if last.as_ref() == Some(&status.json) => {}
                Ok(status) => {
                    let json = Some(status.json.clone());
                    return Some((Ok(status), (shared, changes, json)));
                }
                // The reconciler is being restarted.
                Err(_) if last.is_some() => {}
                Err(error) => return Some((Err(error), (shared, changes, Some(String::new())))),
            }
        }
    })
    .boxed()
}
