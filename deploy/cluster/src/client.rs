//! Calls to the head, with the admin token, and answers as failures with exit codes.

use std::fs;
use std::time::Duration;

use millstream_proto::defrag::DefragPlan;
use millstream_proto::deploy_plan::DeployPlan;
use millstream_proto::event::Event;
use millstream_proto::key::KeyStatus;
use millstream_proto::status::ClusterStatus;
use millstream_proto::v1;
use millstream_proto::v1::control_service_client::ControlServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::cli::Global;
use crate::data_dir::DataDir;
use crate::exit::Failure;

/// Where a head listens unless somebody says otherwise.
const DEFAULT_CONTROL: &str = "127.0.0.1:7400";

/// How long a head may take to answer the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to the head of a cluster.
pub(crate) struct Client {
    address: String,
    service: ControlServiceClient<InterceptedService<Channel, Bearer>>,
}

/// Puts the admin token on every call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Client {
    /// Connects to the cluster that the flags mean.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let data_dir = DataDir::of(global)?;
        let address = match &global.cluster {
            Some(address) => address.clone(),
            None => data_dir
                .endpoints()?
                .map_or_else(|| DEFAULT_CONTROL.to_owned(), |endpoints| endpoints.control),
        };
        let token_file = global.token_file.clone().unwrap_or_else(|| data_dir.token_file());
        let token = fs::read_to_string(&token_file);
        let client = Self::connect_to(&address, token.as_deref().unwrap_or_default().trim()).await?;
        if token.is_err() {
            return Err(Failure::refused(format!(
                "a cluster listens on `{address}`, but its admin token is not in `{}`; name the data directory of its \
                 `cluster up` with --data-dir, or the token's file with --token-file",
                token_file.display()
            )));
        }
        Ok(client)
    }

    /// Connects to a head whose token is known.
    pub(crate) async fn connect_to(address: &str, token: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| Failure::usage(format!("`{address}` is not an address; write it as HOST:PORT")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|_| {
            Failure::unreachable(format!(
                "no cluster answers on `{address}`; start one with `cluster up`, or name another with --cluster or --data-dir"
            ))
        })?;
        let bearer = format!("Bearer {token}")
            .parse()
            .map_err(|_| Failure::usage("the admin token's file holds characters that no token has"))?;
        let service = ControlServiceClient::with_interceptor(channel, Bearer(bearer));
        Ok(Self { address: address.to_owned(), service })
    }

    /// Stores a pipeline.
    pub(crate) async fn deploy(&mut self, request: v1::DeployRequest) -> Result<v1::DeployResponse, Failure> {
        let answer = self.service.deploy(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// What deploying would do.
    pub(crate) async fn plan_deploy(&mut self, request: v1::DeployRequest) -> Result<DeployPlan, Failure> {
        let answer = self.service.plan_deploy(request).await.map_err(|status| self.failure(&status))?;
        parse(&answer.into_inner().json)
    }

    /// Lets a canary or a shadow take over; gives its revision.
    pub(crate) async fn promote_rollout(&mut self, name: &str) -> Result<u64, Failure> {
        let answer = self.service.promote_rollout(v1::RolloutRequest { name: name.to_owned() }).await;
        answer.map(|answer| answer.into_inner().revision).map_err(|status| self.failure(&status))
    }

    /// Takes back the revision that takes over; gives the one that serves.
    pub(crate) async fn abort_rollout(&mut self, name: &str) -> Result<u64, Failure> {
        let answer = self.service.abort_rollout(v1::RolloutRequest { name: name.to_owned() }).await;
        answer.map(|answer| answer.into_inner().revision).map_err(|status| self.failure(&status))
    }

    /// Goes back to an earlier revision; gives the one that is wanted now.
    pub(crate) async fn undo_rollout(&mut self, name: &str, to: Option<u64>) -> Result<u64, Failure> {
        let request = v1::UndoRolloutRequest { name: name.to_owned(), to_revision: to };
        let answer = self.service.undo_rollout(request).await;
        answer.map(|answer| answer.into_inner().revision).map_err(|status| self.failure(&status))
    }

    /// What was decided lately about a target.
    pub(crate) async fn explain(&mut self, target: &str, since_ms: u64) -> Result<Vec<Event>, Failure> {
        let request = v1::ExplainRequest { target: target.to_owned(), since_ms };
        let answer = self.service.explain(request).await.map_err(|status| self.failure(&status))?;
        parse(&answer.into_inner().json)
    }

    /// Removes a pipeline.
    pub(crate) async fn delete(&mut self, name: &str) -> Result<(), Failure> {
        let answer = self.service.delete(v1::DeleteRequest { name: name.to_owned() }).await;
        answer.map(|_| ()).map_err(|status| self.failure(&status))
    }

    /// Sets a deployment's bounds; gives those in force.
    pub(crate) async fn scale(&mut self, request: v1::ScaleRequest) -> Result<v1::ScaleResponse, Failure> {
        let answer = self.service.scale(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// Makes an API key.
    pub(crate) async fn create_key(&mut self, request: v1::CreateKeyRequest) -> Result<KeyStatus, Failure> {
        let answer = self.service.create_key(request).await.map_err(|status| self.key_failure(&status))?;
        parse(&answer.into_inner().json)
    }

    /// Changes an API key.
    pub(crate) async fn set_key(&mut self, request: v1::SetKeyRequest) -> Result<KeyStatus, Failure> {
        let answer = self.service.set_key(request).await.map_err(|status| self.key_failure(&status))?;
        parse(&answer.into_inner().json)
    }

    /// Deletes an API key.
    pub(crate) async fn delete_key(&mut self, name: &str) -> Result<(), Failure> {
        let answer = self.service.delete_key(v1::DeleteKeyRequest { name: name.to_owned() }).await;
        answer.map(|_| ()).map_err(|status| self.key_failure(&status))
    }

    /// The API keys.
    pub(crate) async fn keys(&mut self) -> Result<Vec<KeyStatus>, Failure> {
        let answer = self.service.list_keys(v1::ListKeysRequest {}).await;
        let json = answer.map_err(|status| self.key_failure(&status))?.into_inner().json;
        parse(&json)
    }

    /// The cluster as it is now.
    pub(crate) async fn status(&mut self) -> Result<ClusterStatus, Failure> {
        let answer =
            self.service.status(v1::StatusRequest {}).await.map_err(|status| self.failure(&status))?;
        parse_status(&answer.into_inner())
    }

    /// The cluster as it is now, and again at each change.
    pub(crate) async fn watch_status(&mut self) -> Result<StatusWatch, Failure> {
        let answer =
            self.service.watch_status(v1::StatusRequest {}).await.map_err(|status| self.failure(&status))?;
        Ok(StatusWatch { stream: answer.into_inner() })
    }

    /// The stored pipelines.
    pub(crate) async fn pipelines(&mut self) -> Result<Vec<v1::StoredPipeline>, Failure> {
        let answer = self.service.list_pipelines(v1::ListPipelinesRequest {}).await;
        answer.map(|answer| answer.into_inner().pipelines).map_err(|status| self.failure(&status))
    }

    /// Asks the whole cluster to stop.
    pub(crate) async fn shutdown(&mut self, drain: Duration) -> Result<(), Failure> {
        let drain_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        let answer = self.service.shutdown(v1::ShutdownRequest { drain_ms }).await;
        answer.map(|_| ()).map_err(|status| self.failure(&status))
    }

    /// Which moves would make whole GPUs free.
    pub(crate) async fn plan_defrag(&mut self) -> Result<DefragPlan, Failure> {
        let answer = self.service.plan_defrag(v1::PlanDefragRequest {}).await;
        let json = answer.map_err(|status| self.failure(&status))?.into_inner().json;
        parse(&json)
    }

    /// The address it is connected to.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where no file is involved, what is invalid are arguments.
    fn key_failure(&self, status: &Status) -> Failure {
        match status.code() {
            Code::InvalidArgument => Failure::usage(status.message()),
            _ => self.failure(status),
        }
    }

    fn failure(&self, status: &Status) -> Failure {
        let message = status.message();
        match status.code() {
            Code::Unauthenticated => Failure::refused(format!(
                "the cluster on `{}` does not accept this admin token; name its data directory with --data-dir, or \
                 the token's file with --token-file",
                self.address
            )),
            Code::InvalidArgument => Failure::invalid(message),
            Code::NotFound | Code::Aborted | Code::AlreadyExists | Code::FailedPrecondition => {
                Failure::refused(message)
            }
            Code::Unavailable => {
                Failure::unreachable(format!("the cluster on `{}` does not answer: {message}", self.address))
            }
            _ => Failure::failed(message),
        }
    }
}

/// Statuses as they change.
pub(crate) struct StatusWatch {
    stream: Streaming<v1::StatusResponse>,
}

impl StatusWatch {
    /// The next status; `None` when the head has gone.
    pub(crate) async fn next(&mut self) -> Result<Option<ClusterStatus>, Failure> {
        match self.stream.message().await {
            Ok(Some(answer)) => parse_status(&answer).map(Some),
            Ok(None) => Ok(None),
            Err(status) if status.code() == Code::Unavailable || status.code() == Code::Cancelled => Ok(None),
            Err(status) => Err(Failure::failed(status.message())),
        }
    }
}

fn parse_status(answer: &v1::StatusResponse) -> Result<ClusterStatus, Failure> {
    parse(&answer.json)
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| {
        Failure::failed(format!("the cluster speaks another version of this command's language: {error}"))
    })
}
