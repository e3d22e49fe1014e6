//! What the `cluster` command asks, over gRPC. Who asks a head that does not lead is told who does.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use millstream_core::desired::scale::ScaleRequest as Bounds;
use millstream_pipelines::FullName;
use millstream_proto::token::Role;
use millstream_proto::v1::control_service_server::ControlService;
use millstream_proto::v1::{
    ChangeNodeRequest, ChangeNodeResponse, CreateKeyRequest, CreateTokenRequest, DeleteKeyRequest,
    DeleteKeyResponse, DeleteRequest, DeleteResponse, DeleteTokenRequest, DeleteTokenResponse, DeployRequest,
    DeployResponse, DeployedPipeline, ExplainRequest, ExplainResponse, ExportStateRequest,
    ExportStateResponse, GetRevisionRequest, GetRevisionResponse, GetSeriesRequest, GetSeriesResponse,
    GetStagesRequest, GetStagesResponse, GetTraceRequest, GetTraceResponse, GetUsageRequest,
    GetUsageResponse, InspectRequest, InspectResponse, KeptRevision, KeyResponse, ListHeadsRequest,
    ListHeadsResponse, ListKeysRequest, ListKeysResponse, ListPipelinesRequest, ListPipelinesResponse,
    ListRevisionsRequest, ListRevisionsResponse, ListTokensRequest, ListTokensResponse, ListTracesRequest,
    ListTracesResponse, PlanDefragRequest, PlanDefragResponse, PlanDeployResponse, RemoveNodeRequest,
    RemoveNodeResponse, RolloutRequest, RolloutResponse, ScaleRequest, ScaleResponse, SetKeyRequest,
    SetRolloutRequest, ShutdownRequest, ShutdownResponse, StatusRequest, StatusResponse, StepDownRequest,
    StepDownResponse, StoredPipeline, TokenResponse, UndoRolloutRequest,
};
use serde::Serialize;
use tonic::{Request, Response, Status};

use super::requests::{name, node_request, texts};
use crate::catalog::Takeover;
use crate::control::cluster::{self, StatusWatch};
use crate::control::deploy;
use crate::control::{Error, inspect, keys, nodes, rollout, scale, tokens, traces, usage};
use crate::leadership::{Leadership, Roll, Term};
use crate::snapshots::Shown;
use crate::traces::TraceFilter;

/// Serves `millstream.v1.ControlService`.
pub(crate) struct ControlServer {
    pub(crate) leadership: Leadership,
    pub(crate) roll: Arc<Roll>,
}

impl ControlServer {
    fn term(&self) -> Result<Arc<Term>, Status> {
        Ok(self.leadership.term()?)
    }
}

#[tonic::async_trait]
impl ControlService for ControlServer {
    type WatchStatusStream = BoxStream<'static, Result<StatusResponse, Status>>;

    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<DeployResponse>, Status> {
        let term = self.term()?;
        let (texts, mode) = texts(request.into_inner())?;
        let candidates = deploy::compile_all(texts).await?;
        let deployed = deploy::deploy(&term, &candidates, Takeover { mode, expected: None }).await?;
        let pipelines = deployed.into_iter().map(|deployed| {
            let deploy::Deployed { name, revision, changed } = deployed;
            DeployedPipeline { name: name.to_string(), revision, changed }
        });
        Ok(Response::new(DeployResponse { pipelines: pipelines.collect() }))
    }

    async fn plan_deploy(
        &self,
        request: Request<DeployRequest>,
    ) -> Result<Response<PlanDeployResponse>, Status> {
        let term = self.term()?;
        let (texts, mode) = texts(request.into_inner())?;
        let plans = deploy::plan(&term, deploy::compile_all(texts).await?, mode).await?;
        Ok(Response::new(PlanDeployResponse { json: to_json(&plans)? }))
    }

    async fn promote_rollout(
        &self,
        request: Request<RolloutRequest>,
    ) -> Result<Response<RolloutResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let revision = rollout::promote(&*self.term()?, &name).await?;
        Ok(Response::new(RolloutResponse { revision, ..RolloutResponse::default() }))
    }

    async fn set_rollout(
        &self,
        request: Request<SetRolloutRequest>,
    ) -> Result<Response<RolloutResponse>, Status> {
        let SetRolloutRequest { name: of, permille } = request.into_inner();
        let revision = rollout::set_part(&*self.term()?, &name(&of)?, permille).await?;
        Ok(Response::new(RolloutResponse { revision, ..RolloutResponse::default() }))
    }

    async fn list_revisions(
        &self,
        request: Request<ListRevisionsRequest>,
    ) -> Result<Response<ListRevisionsResponse>, Status> {
        let desired = self.term()?.catalog.desired();
        let kept = deploy::history(&desired, &name(&request.into_inner().pipeline)?)?;
        let kept = kept.map(|stored| KeptRevision {
            revision: stored.number,
            file_name: stored.file_name.clone(),
            deployed_at_ms: stored.created_at_ms,
            // There is nobody else yet who may.
            by: "admin".to_owned(),
        });
        Ok(Response::new(ListRevisionsResponse { revisions: kept.collect() }))
    }

    async fn abort_rollout(
        &self,
        request: Request<RolloutRequest>,
    ) -> Result<Response<RolloutResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let revision = rollout::abort(&*self.term()?, &name, None).await?;
        Ok(Response::new(RolloutResponse { revision, ..RolloutResponse::default() }))
    }

    async fn undo_rollout(
        &self,
        request: Request<UndoRolloutRequest>,
    ) -> Result<Response<RolloutResponse>, Status> {
        let UndoRolloutRequest { name: of, to_revision } = request.into_inner();
        let back = rollout::undo(&*self.term()?, &name(&of)?, to_revision).await?;
        let rollout::Back { revision, text_of, warning } = back;
        Ok(Response::new(RolloutResponse { revision, text_of, warning: warning.unwrap_or_default() }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let ExplainRequest { target, since_ms } = request.into_inner();
        let events = cluster::explain(&*self.term()?, &target, since_ms);
        Ok(Response::new(ExplainResponse { json: to_json(&events)? }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        deploy::delete(&*self.term()?, name).await?;
        Ok(Response::new(DeleteResponse {}))
    }

    async fn scale(&self, request: Request<ScaleRequest>) -> Result<Response<ScaleResponse>, Status> {
        let ScaleRequest { deployment, min_replicas, max_replicas, reset } = request.into_inner();
        let name: FullName = deployment.parse().map_err(|_| {
            let detail = format!("`{deployment}` is not a deployment; write it as PIPELINE/DEPLOYMENT");
            Error::NotFound(detail)
        })?;
        let bounds = if reset { Bounds::Reset } else { Bounds::Bounds(min_replicas, max_replicas) };
        let scaled = scale::scale(&*self.term()?, &name, bounds).await?;
        let scale::Scaled { min_replicas, max_replicas, changed } = scaled;
        Ok(Response::new(ScaleResponse { min_replicas, max_replicas, changed }))
    }

    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<KeyResponse>, Status> {
        let CreateKeyRequest { name, sha256, settings } = request.into_inner();
        let settings = settings.unwrap_or_default().into();
        let key = keys::create(&*self.term()?, &name, &sha256, &settings).await?;
        Ok(Response::new(KeyResponse { json: to_json(&key)? }))
    }

    async fn set_key(&self, request: Request<SetKeyRequest>) -> Result<Response<KeyResponse>, Status> {
        let SetKeyRequest { name, settings } = request.into_inner();
        let key = keys::set(&*self.term()?, &name, &settings.unwrap_or_default().into()).await?;
        Ok(Response::new(KeyResponse { json: to_json(&key)? }))
    }

    async fn delete_key(
        &self,
        request: Request<DeleteKeyRequest>,
    ) -> Result<Response<DeleteKeyResponse>, Status> {
        keys::delete(&*self.term()?, &request.into_inner().name).await?;
        Ok(Response::new(DeleteKeyResponse {}))
    }

    async fn list_keys(&self, _: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let json = to_json(&keys::list(&self.term()?.catalog.desired()))?;
        Ok(Response::new(ListKeysResponse { json }))
    }

    async fn get_usage(
        &self,
        request: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        let GetUsageRequest { last_ms, by } = request.into_inner();
        let term = self.term()?;
        // Hundreds of thousands of rows, where there are many keys.
        let read = move || to_json(&usage::report(&term, Some(usage::ago(last_ms)), Some(&by))?);
        let json = tokio::task::spawn_blocking(read).await;
        let json = json.map_err(|_| Error::Internal("summing up usage failed"))??;
        Ok(Response::new(GetUsageResponse { json }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<TokenResponse>, Status> {
        let CreateTokenRequest { name, sha256, role, ttl_ms } = request.into_inner();
        let role = match role.as_str() {
            "viewer" => Role::Viewer,
            other => {
                return Err(
                    Error::Invalid(format!("`{other}` is not the role of a token; give `viewer`")).into()
                );
            }
        };
        let ttl = ttl_ms.map(Duration::from_millis);
        let token = tokens::create(&*self.term()?, &name, &sha256, role, ttl).await?;
        Ok(Response::new(TokenResponse { json: to_json(&token)? }))
    }

    async fn delete_token(
        &self,
        request: Request<DeleteTokenRequest>,
    ) -> Result<Response<DeleteTokenResponse>, Status> {
        tokens::delete(&*self.term()?, &request.into_inner().name).await?;
        Ok(Response::new(DeleteTokenResponse {}))
    }

    async fn list_tokens(
        &self,
        _: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        let json = to_json(&tokens::list(&self.term()?.catalog.desired()))?;
        Ok(Response::new(ListTokensResponse { json }))
    }

    async fn get_trace(
        &self,
        request: Request<GetTraceRequest>,
    ) -> Result<Response<GetTraceResponse>, Status> {
        let trace = traces::find(&self.term()?.host, &request.into_inner().id)?;
        Ok(Response::new(GetTraceResponse { json: to_json(&*trace)? }))
    }

    async fn list_traces(
        &self,
        request: Request<ListTracesRequest>,
    ) -> Result<Response<ListTracesResponse>, Status> {
        let ListTracesRequest { pipeline, limit, with_spans } = request.into_inner();
        let pipeline = Some(pipeline).filter(|pipeline| !pipeline.is_empty());
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let filter = TraceFilter { pipeline, kept: None };
        let host = &self.term()?.host;
        let json = match with_spans {
            true => to_json(&traces::whole(host, &filter, limit).iter().map(|it| &**it).collect::<Vec<_>>())?,
            false => to_json(&traces::list(host, &filter, limit))?,
        };
        Ok(Response::new(ListTracesResponse { json }))
    }

    async fn get_series(
        &self,
        request: Request<GetSeriesRequest>,
    ) -> Result<Response<GetSeriesResponse>, Status> {
        let GetSeriesRequest { since_s, step_s } = request.into_inner();
        let term = self.term()?;
        // Millions of numbers, where there are many deployments.
        let json = tokio::task::spawn_blocking(move || to_json(&inspect::series(&term, since_s, step_s)));
        let json = json.await.map_err(|_| Error::Internal("reading the series failed"))??;
        Ok(Response::new(GetSeriesResponse { json }))
    }

    async fn get_stages(
        &self,
        request: Request<GetStagesRequest>,
    ) -> Result<Response<GetStagesResponse>, Status> {
        let stages = inspect::stages(&*self.term()?, &name(&request.into_inner().pipeline)?)?;
        Ok(Response::new(GetStagesResponse { json: to_json(&stages)? }))
    }

    async fn inspect(&self, _: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let inspection = inspect::inspect(&*self.term()?).await?;
        Ok(Response::new(InspectResponse { json: to_json(&inspection)? }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let shown = self.term()?.snapshot().await.map_err(Error::from)?;
        Ok(Response::new(response(&shown)))
    }

    async fn watch_status(
        &self,
        _: Request<StatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let watch = StatusWatch::new(self.leadership.clone());
        let statuses = stream::unfold(watch, async |mut watch| {
            let shown = watch.next().await?;
            Some((shown.map(|shown| response(&shown)).map_err(Status::from), watch))
        });
        Ok(Response::new(statuses.boxed()))
    }

    async fn list_pipelines(
        &self,
        _: Request<ListPipelinesRequest>,
    ) -> Result<Response<ListPipelinesResponse>, Status> {
        let desired = self.term()?.catalog.desired();
        let pipelines = deploy::list(&desired).map(|(name, stored)| StoredPipeline {
            name: name.to_string(),
            revision: stored.number,
            file_name: stored.file_name.clone(),
            source: stored.source.clone(),
        });
        Ok(Response::new(ListPipelinesResponse { pipelines: pipelines.collect() }))
    }

    async fn get_revision(
        &self,
        request: Request<GetRevisionRequest>,
    ) -> Result<Response<GetRevisionResponse>, Status> {
        let GetRevisionRequest { pipeline, revision } = request.into_inner();
        let name = name(&pipeline)?;
        let desired = self.term()?.catalog.desired();
        let number = Some(revision).filter(|number| *number > 0);
        let stored = deploy::get(&desired, &name, number)?;
        Ok(Response::new(GetRevisionResponse {
            pipeline: Some(StoredPipeline {
                name: name.to_string(),
                revision: stored.number,
                file_name: stored.file_name.clone(),
                source: stored.source.clone(),
            }),
            source_dir: stored.source_dir.clone(),
            deployed_at_ms: stored.created_at_ms,
        }))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        let drain = Duration::from_millis(request.into_inner().drain_ms);
        cluster::shut_down(&*self.term()?, drain).await?;
        Ok(Response::new(ShutdownResponse {}))
    }

    async fn list_heads(&self, _: Request<ListHeadsRequest>) -> Result<Response<ListHeadsResponse>, Status> {
        let json = to_json(&cluster::heads(&self.roll).await?)?;
        Ok(Response::new(ListHeadsResponse { json }))
    }

    async fn export_state(
        &self,
        _: Request<ExportStateRequest>,
    ) -> Result<Response<ExportStateResponse>, Status> {
        let state = cluster::export_state(&*self.term()?).await?;
        Ok(Response::new(ExportStateResponse { state }))
    }

    async fn step_down(&self, _: Request<StepDownRequest>) -> Result<Response<StepDownResponse>, Status> {
        let term = self.term()?;
        cluster::step_down(&term, &self.roll).await?;
        Ok(Response::new(StepDownResponse { epoch: term.epoch }))
    }

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> Result<Response<RemoveNodeResponse>, Status> {
        let id = nodes::remove(&*self.term()?, request.into_inner().node).await?;
        Ok(Response::new(RemoveNodeResponse { node_id: id.to_string() }))
    }

    async fn change_node(
        &self,
        request: Request<ChangeNodeRequest>,
    ) -> Result<Response<ChangeNodeResponse>, Status> {
        let request = request.into_inner();
        let asked = node_request(request.change())?;
        let nodes::Changed { node, changed } = nodes::change(&*self.term()?, &request.node, asked).await?;
        Ok(Response::new(ChangeNodeResponse { node, changed }))
    }

    async fn plan_defrag(
        &self,
        _: Request<PlanDefragRequest>,
    ) -> Result<Response<PlanDefragResponse>, Status> {
        let plan = cluster::plan_defrag(&*self.term()?).await?;
        Ok(Response::new(PlanDefragResponse { json: to_json(&plan)? }))
    }
}

/// What travels as JSON: one form for the command, REST and scripts.
fn to_json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|_| Error::Internal("an answer could not be written as JSON"))
}

fn response(shown: &Shown) -> StatusResponse {
    StatusResponse { json: shown.json().to_string() }
}
