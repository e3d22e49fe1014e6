//! Calls to the head that leads, by somebody who knows the admin token, with a deadline each, and answers as failures with exit codes.
//!
//! Two limits hold for each call. A head whose process is stopped or hangs does not answer the pings of its connection, and
//! is given up after a second (`connection.rs`). A head that lives and is slow has until the call's deadline.

mod address;
mod connection;
mod heads;
mod record;
mod watch;

use std::time::{Duration, SystemTime};

use millstream_connect::Heads;
use millstream_proto::defrag::DefragPlan;
use millstream_proto::deploy_plan::DeployPlan;
use millstream_proto::event::Event;
use millstream_proto::key::KeyStatus;
use millstream_proto::status::ClusterStatus;
use millstream_proto::token::TokenStatus;
use millstream_proto::trace::{RequestTrace, TracedRequest};
use millstream_proto::usage::{UsageBy, UsageReport};
use millstream_proto::v1;
use millstream_proto::v1::change_node_request::Change;
use tonic::{Code, Request, Response, Status};

pub(crate) use self::address::{check as check_addresses, local_ports};
use self::connection::{KeepAlive, Service, Target};
pub(crate) use self::watch::StatusWatch;
use crate::data_dir::DataDir;
use crate::exit::Failure;
use crate::global::{ClearText, Global};
use crate::token;

/// How long a head may take for what it only looks up or writes down.
const SHORT: Duration = Duration::from_secs(5);
/// How long it may take for what it compiles, or works out for the whole cluster.
const LONG: Duration = Duration::from_secs(60);

/// A connection to the head of a cluster.
pub(crate) struct Client {
    target: Target,
    service: Service,
}

impl Client {
    /// Connects to the cluster that the flags mean.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let data_dir = DataDir::of(global)?;
        let heads = address::of(global, &data_dir)?;
        let token = token::find(global, &data_dir);
        let known = token.as_deref().unwrap_or_default();
        match (Self::connect_to(heads.clone(), known, global.clear_text()).await, token) {
            (Err(failure), Err(missing)) if failure.code() != Failure::UNREACHABLE => {
                Err(Failure::refused(format!(
                    "a cluster listens on `{heads}`, but {missing:#}; name the data directory of its `cluster up` with \
                     --data-dir, or the token's file with --token-file"
                )))
            }
            (connected, _) => connected,
        }
    }

    /// Connects to a cluster whose token is known. Whether its heads may be asked from here is for the caller to know.
    pub(crate) async fn connect_to(
        heads: Heads,
        token: &str,
        clear_text: ClearText,
    ) -> Result<Self, Failure> {
        let mut target = Target::new(heads, token, clear_text);
        let service = target.connect(KeepAlive::CALL).await?;
        Ok(Self { target, service })
    }

    /// Stores pipelines, all or none.
    pub(crate) async fn deploy(
        &mut self,
        request: v1::DeployRequest,
    ) -> Result<Vec<v1::DeployedPipeline>, Failure> {
        let answer = self.call(LONG, request, async |service, request| service.deploy(request).await).await?;
        Ok(answer.pipelines)
    }

    /// What deploying would do, by file.
    pub(crate) async fn plan_deploy(
        &mut self,
        request: v1::DeployRequest,
    ) -> Result<Vec<DeployPlan>, Failure> {
        let answer = self.call(LONG, request, async |service, request| service.plan_deploy(request).await);
        parse(&answer.await?.json)
    }

    /// Lets a canary or a shadow take over; returns its revision.
    pub(crate) async fn promote_rollout(&mut self, name: &str) -> Result<u64, Failure> {
        let request = v1::RolloutRequest { name: name.to_owned() };
        let answer =
            self.call(SHORT, request, async |service, request| service.promote_rollout(request).await);
        Ok(answer.await?.revision)
    }

    /// Gives the canary, shadow or revision on its steps another part of the requests; returns its revision.
    pub(crate) async fn set_rollout(&mut self, name: &str, permille: u16) -> Result<u64, Failure> {
        let request = v1::SetRolloutRequest { name: name.to_owned(), permille: permille.into() };
        let answer = self.call(SHORT, request, async |service, request| service.set_rollout(request).await);
        Ok(answer.await?.revision)
    }

    /// The revisions that are kept of a pipeline, the oldest first.
    pub(crate) async fn revisions(&mut self, name: &str) -> Result<Vec<v1::KeptRevision>, Failure> {
        let request = v1::ListRevisionsRequest { pipeline: name.to_owned() };
        let answer =
            self.call(SHORT, request, async |service, request| service.list_revisions(request).await);
        Ok(answer.await?.revisions)
    }

    /// Takes back the revision that takes over; returns the one that serves.
    pub(crate) async fn abort_rollout(&mut self, name: &str) -> Result<u64, Failure> {
        let request = v1::RolloutRequest { name: name.to_owned() };
        let answer = self.call(SHORT, request, async |service, request| service.abort_rollout(request).await);
        Ok(answer.await?.revision)
    }

    /// Goes back to an earlier revision, or brings a pipeline back that was deleted.
    pub(crate) async fn undo_rollout(
        &mut self,
        name: &str,
        to: Option<u64>,
    ) -> Result<v1::RolloutResponse, Failure> {
        let request = v1::UndoRolloutRequest { name: name.to_owned(), to_revision: to };
        let answer = self.call(LONG, request, async |service, request| service.undo_rollout(request).await);
        answer.await
    }

    /// What was decided about a target, and when the head said so by its own clock.
    pub(crate) async fn explain(
        &mut self,
        target: &str,
    ) -> Result<(Vec<Event>, Option<SystemTime>), Failure> {
        self.explain_since(target, 0).await
    }

    /// What was decided about a target since then (milliseconds since the Unix epoch, by the head's clock), and when the head said so.
    pub(crate) async fn explain_since(
        &mut self,
        target: &str,
        since_ms: u64,
    ) -> Result<(Vec<Event>, Option<SystemTime>), Failure> {
        let request = v1::ExplainRequest { target: target.to_owned(), since_ms };
        let answer = self.answer(SHORT, request, async |service, request| service.explain(request).await);
        let answer = answer.await.map_err(|status| self.target.failure(&status))?;
        let date = answer.metadata().get("date").and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        Ok((parse(&answer.into_inner().json)?, date))
    }

    /// Removes a pipeline.
    pub(crate) async fn delete(&mut self, name: &str) -> Result<(), Failure> {
        let request = v1::DeleteRequest { name: name.to_owned() };
        let answer = self.call(SHORT, request, async |service, request| service.delete(request).await);
        answer.await.map(drop)
    }

    /// Takes a node for gone; returns its id.
    pub(crate) async fn remove_node(&mut self, node: &str) -> Result<String, Failure> {
        let request = v1::RemoveNodeRequest { node: node.to_owned() };
        let answer = self.call(SHORT, request, async |service, request| service.remove_node(request).await);
        answer.await.map(|answer| answer.node_id)
    }

    /// Cordons or drains a node, or lets it take replicas again.
    pub(crate) async fn change_node(
        &mut self,
        node: &str,
        change: Change,
    ) -> Result<v1::ChangeNodeResponse, Failure> {
        let request = v1::ChangeNodeRequest { node: node.to_owned(), change: change.into() };
        self.call(SHORT, request, async |service, request| service.change_node(request).await).await
    }

    /// Sets a deployment's bounds; returns those in force.
    pub(crate) async fn scale(&mut self, request: v1::ScaleRequest) -> Result<v1::ScaleResponse, Failure> {
        self.call(SHORT, request, async |service, request| service.scale(request).await).await
    }

    /// Makes an API key.
    pub(crate) async fn create_key(&mut self, request: v1::CreateKeyRequest) -> Result<KeyStatus, Failure> {
        let answer =
            self.call_with_arguments(request, async |service, request| service.create_key(request).await);
        parse(&answer.await?.json)
    }

    /// Changes an API key.
    pub(crate) async fn set_key(&mut self, request: v1::SetKeyRequest) -> Result<KeyStatus, Failure> {
        let answer =
            self.call_with_arguments(request, async |service, request| service.set_key(request).await);
        parse(&answer.await?.json)
    }

    /// Deletes an API key.
    pub(crate) async fn delete_key(&mut self, name: &str) -> Result<(), Failure> {
        let request = v1::DeleteKeyRequest { name: name.to_owned() };
        let answer =
            self.call_with_arguments(request, async |service, request| service.delete_key(request).await);
        answer.await.map(drop)
    }

    /// The API keys.
    pub(crate) async fn keys(&mut self) -> Result<Vec<KeyStatus>, Failure> {
        let request = v1::ListKeysRequest {};
        let answer = self.call(SHORT, request, async |service, request| service.list_keys(request).await);
        parse(&answer.await?.json)
    }

    /// What keys have used from so long ago on.
    pub(crate) async fn usage(&mut self, last: Duration, by: UsageBy) -> Result<UsageReport, Failure> {
        let last_ms = u64::try_from(last.as_millis()).unwrap_or(u64::MAX);
        let request = v1::GetUsageRequest { last_ms, by: by.to_string() };
        let answer = self.call(LONG, request, async |service, request| service.get_usage(request).await);
        parse(&answer.await?.json)
    }

    /// The trace of a request.
    pub(crate) async fn trace(&mut self, id: &str) -> Result<RequestTrace, Failure> {
        let request = v1::GetTraceRequest { id: id.to_owned() };
        let answer = self.call(SHORT, request, async |service, request| service.get_trace(request).await);
        parse(&answer.await?.json)
    }

    /// The requests whose traces were kept lately.
    pub(crate) async fn traces(
        &mut self,
        pipeline: String,
        limit: u32,
    ) -> Result<Vec<TracedRequest>, Failure> {
        let request = v1::ListTracesRequest { pipeline, limit, with_spans: false };
        let answer = self.call(SHORT, request, async |service, request| service.list_traces(request).await);
        parse(&answer.await?.json)
    }

    /// Makes a token for the dashboard.
    pub(crate) async fn create_token(
        &mut self,
        request: v1::CreateTokenRequest,
    ) -> Result<TokenStatus, Failure> {
        let answer =
            self.call_with_arguments(request, async |service, request| service.create_token(request).await);
        parse(&answer.await?.json)
    }

    /// Deletes a token for the dashboard.
    pub(crate) async fn delete_token(&mut self, name: &str) -> Result<(), Failure> {
        let request = v1::DeleteTokenRequest { name: name.to_owned() };
        let answer =
            self.call_with_arguments(request, async |service, request| service.delete_token(request).await);
        answer.await.map(drop)
    }

    /// The tokens for the dashboard.
    pub(crate) async fn tokens(&mut self) -> Result<Vec<TokenStatus>, Failure> {
        let request = v1::ListTokensRequest {};
        let answer = self.call(SHORT, request, async |service, request| service.list_tokens(request).await);
        parse(&answer.await?.json)
    }

    /// The cluster as it is now.
    pub(crate) async fn status(&mut self) -> Result<ClusterStatus, Failure> {
        let request = v1::StatusRequest {};
        let answer = self.call(SHORT, request, async |service, request| service.status(request).await);
        parse(&answer.await?.json)
    }

    /// The cluster as it is now, and again at each change.
    pub(crate) async fn watch_status(&self) -> Result<StatusWatch, Failure> {
        StatusWatch::open(&self.target).await
    }

    /// The stored pipelines.
    pub(crate) async fn pipelines(&mut self) -> Result<Vec<v1::StoredPipeline>, Failure> {
        let request = v1::ListPipelinesRequest {};
        let answer =
            self.call(SHORT, request, async |service, request| service.list_pipelines(request).await);
        Ok(answer.await?.pipelines)
    }

    /// A revision of a pipeline as it was deployed; the one that is to serve unless a number is given.
    pub(crate) async fn revision(
        &mut self,
        pipeline: &str,
        revision: Option<u64>,
    ) -> Result<v1::GetRevisionResponse, Failure> {
        let revision = revision.unwrap_or(0);
        let request = v1::GetRevisionRequest { pipeline: pipeline.to_owned(), revision };
        self.call(SHORT, request, async |service, request| service.get_revision(request).await).await
    }

    /// Asks the whole cluster to stop.
    pub(crate) async fn shutdown(&mut self, drain: Duration) -> Result<(), Failure> {
        let drain_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        let request = v1::ShutdownRequest { drain_ms };
        let answer = self.call(SHORT, request, async |service, request| service.shutdown(request).await);
        answer.await.map(drop)
    }

    /// Which moves would make whole GPUs free.
    pub(crate) async fn plan_defrag(&mut self) -> Result<DefragPlan, Failure> {
        let request = v1::PlanDefragRequest {};
        let answer = self.call(LONG, request, async |service, request| service.plan_defrag(request).await);
        parse(&answer.await?.json)
    }

    /// The address it is connected to.
    pub(crate) fn address(&self) -> &str {
        self.target.address()
    }

    /// One call, which the head gives up as well when its time is over.
    async fn call<Q: Clone, A>(
        &mut self,
        limit: Duration,
        message: Q,
        method: impl AsyncFn(&mut Service, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        let answer = self.answer(limit, message, method).await;
        answer.map(Response::into_inner).map_err(|status| self.target.failure(&status))
    }

    /// A call in which no file is involved: what is invalid are arguments.
    async fn call_with_arguments<Q: Clone, A>(
        &mut self,
        message: Q,
        method: impl AsyncFn(&mut Service, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure> {
        let answer = self.answer(SHORT, message, method).await;
        answer.map(Response::into_inner).map_err(|status| match status.code() {
            Code::InvalidArgument => Failure::usage(status.message()),
            _ => self.target.failure(&status),
        })
    }

    /// The answer of the head that leads. One that does not has done nothing, so that the call can be made again elsewhere.
    async fn answer<Q: Clone, A>(
        &mut self,
        limit: Duration,
        message: Q,
        method: impl AsyncFn(&mut Service, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<Response<A>, Status> {
        let deadline = millstream_clock::now() + limit;
        let asked = async {
            loop {
                let mut request = Request::new(message.clone());
                request.set_timeout(deadline.saturating_duration_since(millstream_clock::now()));
                let status = match method(&mut self.service, request).await {
                    Ok(answer) => return Ok(answer),
                    Err(status) => status,
                };
                // Rare, and larger than the call itself.
                let redirected = Box::pin(self.target.redirected(&status, KeepAlive::CALL, deadline)).await;
                self.service = redirected.ok_or(status)?;
            }
        };
        within(limit, asked).await
    }
}

/// The whole answer of a call, or that it took too long.
async fn within<A>(
    limit: Duration,
    call: impl Future<Output = Result<Response<A>, Status>>,
) -> Result<Response<A>, Status> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(Status::deadline_exceeded(format!("no answer within {limit}")))
    })
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| {
        Failure::failed(format!("the cluster speaks another version of this command's language: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use axum::body::Body;
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Response as HttpResponse};
    use http_body_util::{BodyExt as _, Full};
    use millstream_connect::{Authority, NotLeading, Secret, serve_grpc};
    use millstream_listen::ConnectionLimits;
    use millstream_proto::event::Decision;
    use tokio::net::TcpListener;

    use super::*;

    /// Serves one answer to every call, as a head whose clock shows `now` and whose admin token is `token`.
    async fn head(answer: impl prost::Message, now: SystemTime) -> Heads {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let message = answer.encode_to_vec();
        // The frame of a message: not compressed, so long.
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        let answer = async move || {
            let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
            let trailers = HeaderMap::from_iter([status]);
            let answer = HttpResponse::builder()
                .header("content-type", "application/grpc")
                .header("date", httpdate::fmt_http_date(now));
            let body = Full::new(frame.into()).with_trailers(async { Some(Ok(trailers)) });
            answer.body(Body::new(body)).unwrap()
        };
        serve(listener, axum::Router::new().fallback(answer));
        address.parse().unwrap()
    }

    /// Serves the word that it does not lead; `None` says that it knows nobody who does.
    async fn follower(leader: Option<&Heads>) -> Heads {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = NotLeading { leader: leader.map(ToString::to_string) }.status("it does not lead");
        let answer = async move || answer.into_http::<Body>();
        serve(listener, axum::Router::new().fallback(answer));
        address.parse().unwrap()
    }

    fn serve(listener: TcpListener, router: axum::Router) {
        let routes = tonic::service::Routes::from(router);
        let secrets = vec![Secret::new(Authority::Admin, "token")];
        tokio::spawn(async move {
            let _server = serve_grpc(listener, ConnectionLimits::members(), secrets, routes);
            std::future::pending::<()>().await;
        });
    }

    fn no_events() -> v1::ExplainResponse {
        v1::ExplainResponse { json: "[]".into() }
    }

    #[tokio::test]
    async fn the_head_that_leads_is_asked() {
        let leader = head(no_events(), UNIX_EPOCH).await;
        let follower = follower(Some(&leader)).await;
        let mut client = Client::connect_to(follower, "token", ClearText::Here).await.unwrap();
        client.explain("rag").await.unwrap();
        assert_eq!(client.address(), leader.to_string());
    }

    #[tokio::test]
    async fn while_nobody_leads_heads_are_asked_in_turn() {
        let leader = head(no_events(), UNIX_EPOCH).await;
        let follower = follower(None).await;
        let both = format!("127.0.0.1:1,{follower},{leader}").parse().unwrap();
        let mut client = Client::connect_to(both, "token", ClearText::Here).await.unwrap();
        assert_eq!(client.address(), follower.to_string());
        client.explain("rag").await.unwrap();
        assert_eq!(client.address(), leader.to_string());
    }

    #[tokio::test]
    async fn a_leader_on_another_machine_is_named_and_not_asked() {
        let elsewhere = "192.0.2.1:7400".parse().unwrap();
        let follower = follower(Some(&elsewhere)).await;
        let mut client = Client::connect_to(follower, "token", ClearText::Here).await.unwrap();
        let failure = client.explain("rag").await.unwrap_err();
        assert_eq!(failure.code(), Failure::UNREACHABLE);
    }

    #[tokio::test]
    async fn the_head_says_what_time_it_is_and_a_long_answer_is_read() {
        // Longer than the 4 MiB that are read unless gRPC is told otherwise.
        let decision = Decision::Pending { reasons: vec!["x".repeat(5 << 20)] };
        let event = Event { sequence: 1, at_ms: 1, pipeline: Some("rag".into()), deployment: None, decision };
        let answer = v1::ExplainResponse { json: serde_json::to_string(&[&event]).unwrap() };
        let now = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        let heads = head(answer, now).await;
        let mut client = Client::connect_to(heads, "token", ClearText::Here).await.unwrap();
        let (events, head_now) = client.explain("rag").await.unwrap();
        assert_eq!((events, head_now), (vec![event], Some(now)));
    }
}
