//! What the `cluster` command asks. A change is checked, stored, then handed to the reconciler; it never waits for the
//! cluster to follow.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use millstream_core::desired::change::{Candidate, Refusal};
use millstream_core::desired::{Compiled, Mode, Pipeline, scale};
use millstream_core::present::explain::Subject;
use millstream_core::present::snapshot::Version;
use millstream_core::reconcile::NotRemovable;
use millstream_pipelines::{FullName, Name};
use millstream_proto::event::Decision;
use millstream_proto::v1::control_service_server::ControlService;
use millstream_proto::v1::{
    CreateKeyRequest, DeleteKeyRequest, DeleteKeyResponse, DeleteRequest, DeleteResponse, DeployRequest,
    DeployResponse, ExplainRequest, ExplainResponse, KeyResponse, ListKeysRequest, ListKeysResponse,
    ListPipelinesRequest, ListPipelinesResponse, PlanDefragRequest, PlanDefragResponse, PlanDeployResponse,
    RemoveNodeRequest, RemoveNodeResponse, RolloutRequest, RolloutResponse, ScaleRequest, ScaleResponse,
    SetKeyRequest, ShutdownRequest, ShutdownResponse, StatusRequest, StatusResponse, StoredPipeline,
    UndoRolloutRequest,
};
use serde::Serialize;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{keys, rollouts};
use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::catalog;
use crate::shared::{Restarting, Shared};
use crate::snapshots::Shown;
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
        let (candidate, mode) = candidate(request.into_inner()).await?;
        let name = candidate.compiled.name.to_string();
        let (revision, changed) = rollouts::deploy(&self.shared, candidate, mode).await?;
        Ok(Response::new(DeployResponse { name, revision, changed }))
    }

    async fn plan_deploy(
        &self,
        request: Request<DeployRequest>,
    ) -> Result<Response<PlanDeployResponse>, Status> {
        let (candidate, mode) = candidate(request.into_inner()).await?;
        let json = rollouts::plan(&self.shared, candidate, mode).await?;
        Ok(Response::new(PlanDeployResponse { json }))
    }

    async fn promote_rollout(
        &self,
        request: Request<RolloutRequest>,
    ) -> Result<Response<RolloutResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let revision = rollouts::promote(&self.shared, &name).await?;
        Ok(Response::new(RolloutResponse { revision }))
    }

    async fn abort_rollout(
        &self,
        request: Request<RolloutRequest>,
    ) -> Result<Response<RolloutResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let revision = rollouts::abort(&self.shared, &name).await?;
        Ok(Response::new(RolloutResponse { revision }))
    }

    async fn undo_rollout(
        &self,
        request: Request<UndoRolloutRequest>,
    ) -> Result<Response<RolloutResponse>, Status> {
        let UndoRolloutRequest { name: of, to_revision } = request.into_inner();
        let revision = rollouts::undo(&self.shared, &name(&of)?, to_revision).await?;
        Ok(Response::new(RolloutResponse { revision }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let json = rollouts::explain(&self.shared, &request.into_inner())?;
        Ok(Response::new(ExplainResponse { json }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let desired = self.shared.catalog.delete(&name).await.map_err(|error| refused(&error))?;
        tracing::info!(pipeline = %name, "pipeline deleted");
        self.shared.events.note(Subject::Pipeline(name), Decision::Deleted);
        rollouts::apply(&self.shared, desired).await;
        Ok(Response::new(DeleteResponse {}))
    }

    async fn scale(&self, request: Request<ScaleRequest>) -> Result<Response<ScaleResponse>, Status> {
        let ScaleRequest { deployment, min_replicas, max_replicas, reset } = request.into_inner();
        let name: FullName = deployment.parse().map_err(|_| {
            Status::not_found(format!("`{deployment}` is no deployment; write it as PIPELINE/DEPLOYMENT"))
        })?;
        let request = match reset {
            true => scale::ScaleRequest::Reset,
            false => scale::ScaleRequest::Bounds(min_replicas, max_replicas),
        };
        let scaled = self.shared.catalog.scale(&name, request).await;
        let (changed, desired) = scaled.map_err(|error| refused(&error))?;
        let wanted = desired.pipelines.get(&name.pipeline).and_then(Pipeline::wanted);
        let settings = wanted.and_then(|wanted| wanted.spec(&name.deployment)).cloned();
        let (min_replicas, max_replicas) =
            settings.map_or((0, 0), |spec| (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas));
        if changed {
            tracing::info!(deployment = %name, min_replicas, max_replicas, "bounds on replicas changed");
            rollouts::apply(&self.shared, desired).await;
        }
        Ok(Response::new(ScaleResponse { min_replicas, max_replicas, changed }))
    }

    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<KeyResponse>, Status> {
        let json = keys::create(&self.shared, request.into_inner()).await?;
        Ok(Response::new(KeyResponse { json }))
    }

    async fn set_key(&self, request: Request<SetKeyRequest>) -> Result<Response<KeyResponse>, Status> {
        let json = keys::set(&self.shared, request.into_inner()).await?;
        Ok(Response::new(KeyResponse { json }))
    }

    async fn delete_key(
        &self,
        request: Request<DeleteKeyRequest>,
    ) -> Result<Response<DeleteKeyResponse>, Status> {
        keys::delete(&self.shared, &request.into_inner().name).await?;
        Ok(Response::new(DeleteKeyResponse {}))
    }

    async fn list_keys(&self, _: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let json = keys::list(&self.shared).await?;
        Ok(Response::new(ListKeysResponse { json }))
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
        let desired = self.shared.catalog.desired();
        let pipelines = desired.pipelines.iter().filter_map(|(name, pipeline)| {
            let stored = &pipeline.wanted()?.stored;
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

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> Result<Response<RemoveNodeResponse>, Status> {
        let node = request.into_inner().node;
        let removed = self.shared.ask(|reply| ReconcilerMsg::RemoveNode(node, reply)).await;
        match removed.map_err(restarting)? {
            Ok(id) => Ok(Response::new(RemoveNodeResponse { node_id: id.to_string() })),
            Err(error @ NotRemovable::Unknown(_)) => Err(Status::not_found(error.to_string())),
            Err(error) => Err(Status::failed_precondition(error.to_string())),
        }
    }

    async fn plan_defrag(
        &self,
        _: Request<PlanDefragRequest>,
    ) -> Result<Response<PlanDefragResponse>, Status> {
        let shown = self.shared.snapshot().await.map_err(restarting)?;
        // It may be long on a large cluster.
        let plan = tokio::task::spawn_blocking(move || shown.snapshot().defrag_plan());
        let plan = plan.await.map_err(|_| Status::internal("finding the moves failed; please report it"))?;
        Ok(Response::new(PlanDefragResponse { json: to_json(&plan)? }))
    }
}

fn name(text: &str) -> Result<Name, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

/// Checks what is to be deployed, and how it is to take over.
async fn candidate(request: DeployRequest) -> Result<(Candidate, Mode), Status> {
    let DeployRequest { file_name, source, source_dir, beside } = request;
    if source.len() > MAX_SOURCE_BYTES {
        return Err(Status::invalid_argument(format!(
            "{file_name}: the file has {} bytes; {MAX_SOURCE_BYTES} are allowed",
            source.len()
        )));
    }
    let mode = rollouts::mode(beside)?;
    Ok((compile(file_name, source, source_dir).await?, mode))
}

/// Compiles a text on a blocking thread: it may be long.
pub(crate) async fn compile(
    file_name: String,
    source: String,
    source_dir: String,
) -> Result<Candidate, Status> {
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

pub(crate) fn refused(error: &catalog::Error) -> Status {
    let text = error.to_string();
    match error {
        catalog::Error::Refused(Refusal::Invalid(_)) => Status::invalid_argument(text),
        catalog::Error::Refused(Refusal::InUse(_) | Refusal::NotNow(_) | Refusal::Bounds(_)) => {
            Status::failed_precondition(text)
        }
        catalog::Error::Refused(Refusal::NotFound(_) | Refusal::NoDeployment(_) | Refusal::NoKey(_)) => {
            Status::not_found(text)
        }
        catalog::Error::Refused(Refusal::KeyExists(_)) => Status::already_exists(text),
        catalog::Error::Store(store::Error::Full) => Status::resource_exhausted(text),
        catalog::Error::Store(store::Error::Conflict { .. }) => Status::aborted(text),
        catalog::Error::Store(store::Error::TooLarge { .. }) => Status::invalid_argument(text),
        catalog::Error::Store(_) => Status::unavailable(text),
        catalog::Error::Unreadable { .. } => Status::internal(text),
    }
}

pub(crate) fn restarting(error: Restarting) -> Status {
    Status::unavailable(error.to_string())
}

async fn status(shared: &Shared) -> Result<StatusResponse, Status> {
    Ok(response(&*shared.snapshot().await.map_err(restarting)?))
}

/// What travels as JSON: one form for the command, REST and scripts.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Status> {
    serde_json::to_string(value).map_err(|error| Status::internal(error.to_string()))
}

fn response(shown: &Shown) -> StatusResponse {
    StatusResponse { json: shown.json().to_string() }
}

/// What a watch has sent so far.
struct Watch {
    shared: Arc<Shared>,
    versions: watch::Receiver<Version>,
    /// The version of the last status, zeros for an error; `None` before the first.
    sent: Option<Version>,
}

/// The status now and at each change, not more often than the timing says.
fn watch(shared: Arc<Shared>) -> BoxStream<'static, Result<StatusResponse, Status>> {
    let versions = shared.snapshots.versions();
    stream::unfold(Watch { shared, versions, sent: None }, async |mut watch| {
        loop {
            if watch.sent.is_some() {
                tokio::select! {
                    () = watch.shared.closing.cancelled() => return None,
                    changed = watch.versions.changed() => changed.ok()?,
                }
            }
            let version = *watch.versions.borrow_and_update();
            let shown = match watch.sent {
                Some(_) => watch.shared.snapshot_of(version).await,
                None => watch.shared.snapshot().await,
            };
            match shown {
                Ok(shown) if watch.sent != Some(shown.snapshot().version) => {
                    watch.sent = Some(shown.snapshot().version);
                    return Some((Ok(response(&shown)), watch));
                }
                // The reconciler is being restarted.
                Err(error) if watch.sent.is_none() => {
                    watch.sent = Some(Version::default());
                    return Some((Err(restarting(error)), watch));
                }
                _ => {}
            }
        }
    })
    .boxed()
}
