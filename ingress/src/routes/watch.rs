//! Learns routes from the head, for ever: dials, says hello, takes whole tables, reports loads. [`super::follow`] puts the
//! tables in force meanwhile. While the head is away the last table stays in force, also over a restart ([`super::last`]).
//!
//! ```text
//! Ingress        the process restarts it
//! └─ watch task  dials again for ever, backoff with jitter; never ends by itself
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Backoff, Heads, NotLeading, Retries, Secret, advertised, chain, connect};
use millstream_proto::IngressId;
use millstream_proto::status::AcceptedRisk;
use millstream_proto::v1;
use millstream_proto::v1::route_service_client::RouteServiceClient;
use millstream_proto::v1::{ingress_message, route_message};
use prost::Message as _;
use tokio::sync::{mpsc, watch as cell};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

use super::follow::{Follower, Newest};
use super::last::LastRoutes;
use super::load::{DeploymentLoads, report};
use super::revisions::Revisions;
use super::table::Routes;
use crate::keys::book;
use crate::random;
use crate::trace::KeptTraces;

const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// How often the head is told what keys have used, and told again what it has not stored.
const USAGE_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// A session that lasted that long was a good one: the next dial waits little.
const GOOD_SESSION: Duration = Duration::from_secs(5);
/// Largest table.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How this ingress introduces itself.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    /// Id of this process.
    pub id: IngressId,
    /// Name of its node.
    pub name: String,
    /// Where it serves HTTP.
    pub address: SocketAddr,
    /// Whether that is over TLS.
    pub tls: bool,
    /// What was accepted for that.
    pub accepted_risks: Vec<AcceptedRisk>,
    /// Where this process has its metrics.
    pub admin: Option<SocketAddr>,
}

/// What passes between the head and other parts of this process.
pub(crate) struct Outbox {
    /// Traces that people are to see.
    pub kept: KeptTraces,
    /// Told when the head asks this ingress to leave.
    pub leave: cell::Sender<Option<Duration>>,
    /// What is served where no head answers an ingress that starts.
    pub last_routes: Arc<LastRoutes>,
}

/// See the module. Never returns.
pub(crate) async fn watch(
    heads: Heads,
    secret: Secret,
    hello: Hello,
    routes: Arc<Routes>,
    mut outbox: Outbox,
) {
    let last_routes = Arc::clone(&outbox.last_routes);
    last_routes.find_cluster().await;
    // One task: no table of a head comes between the look whether there is one and what stands in.
    let dial = dial(heads, &secret, &hello, &routes, &mut outbox);
    tokio::join!(dial, last_routes.stand_in(&routes));
}

async fn dial(mut heads: Heads, secret: &Secret, hello: &Hello, routes: &Routes, outbox: &mut Outbox) {
    let mut retries = Retries::new(Backoff::REDIAL, GOOD_SESSION);
    let (mut epoch, mut is_away) = (0, false);
    let mut revisions = Revisions::default();
    loop {
        let dialled = millstream_clock::now();
        let session = Session { hello, routes, outbox, epoch: &mut epoch, is_away: &mut is_away };
        let head = heads.current().to_owned();
        let error = session.run(&head, secret, &mut revisions).await.err();
        routes.head_is_lost();
        let wait = retries.next_wait(millstream_clock::now().duration_since(dialled), &mut random::rng());
        if retries.is_first() {
            let error = error
                .as_ref()
                .map_or_else(|| "the head closed the session".to_owned(), |error| chain(&**error));
            tracing::warn!(head, error, "session with the head ended, serving on from the last routes");
            is_away = true;
        }
        // Whoever is said to lead is asked at once, but not for ever: two heads may name each other.
        let is_named = match error.as_ref().and_then(|error| NotLeading::of(error.downcast_ref::<Status>()?))
        {
            Some(answer) => heads.follow(answer.leader),
            None => {
                heads.failed();
                false
            }
        };
        if !is_named || !retries.is_first() {
            tokio::time::sleep(wait).await;
        }
    }
}

struct Session<'a> {
    hello: &'a Hello,
    routes: &'a Routes,
    outbox: &'a mut Outbox,
    /// The highest term heard of; messages of an older one are ignored.
    epoch: &'a mut u64,
    /// Whether it was told that the head is away.
    is_away: &'a mut bool,
}

impl Session<'_> {
    async fn run(mut self, head: &str, secret: &Secret, revisions: &mut Revisions) -> Result<(), Error> {
        let endpoint = Endpoint::from_shared(format!("http://{head}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = connect(&endpoint, secret).await?;
        let mut client = RouteServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (outbound, messages) = mpsc::channel(16);
        outbound.send(ingress_message::Body::Hello(self.hello_message(head))).await?;
        let messages = tokio_stream::StreamExt::map(ReceiverStream::new(messages), |body| {
            v1::IngressMessage { body: Some(body) }
        });
        let inbound = client.session(messages).await?.into_inner();
        let (newest, tables) = cell::channel(None);
        let last_routes = Arc::clone(&self.outbox.last_routes);
        let follower = Follower {
            routes: self.routes,
            revisions,
            last_routes: &last_routes,
            head: client,
            outbound: outbound.clone(),
        };
        tokio::select! {
            end = self.exchange(inbound, outbound, newest) => end,
            () = follower.follow(tables) => Ok(()),
        }
    }

    fn hello_message(&self, head: &str) -> v1::Hello {
        let risk = |risk: &AcceptedRisk| match risk {
            AcceptedRisk::ClearText => v1::AcceptedRisk::ClearText.into(),
            AcceptedRisk::Anonymous => v1::AcceptedRisk::Anonymous.into(),
        };
        v1::Hello {
            ingress_id: self.hello.id.to_string(),
            name: self.hello.name.clone(),
            address: self.hello.address.to_string(),
            pid: std::process::id(),
            cluster_id: self.outbox.last_routes.cluster_id().unwrap_or_default().to_owned(),
            tls: self.hello.tls,
            accepted_risks: self.hello.accepted_risks.iter().map(risk).collect(),
            admin: self.hello.admin.map(|admin| advertised(admin, head).to_string()).unwrap_or_default(),
        }
    }

    async fn exchange(
        &mut self,
        mut inbound: Streaming<v1::RouteMessage>,
        outbound: mpsc::Sender<ingress_message::Body>,
        newest: cell::Sender<Newest>,
    ) -> Result<(), Error> {
        let mut reported = DeploymentLoads::new();
        let mut tick = tokio::time::interval(REPORT_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut usage = tokio::time::interval(USAGE_INTERVAL);
        usage.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = inbound.message() => match message? {
                    Some(message) => self.receive(message, &newest).await?,
                    None => return Ok(()),
                },
                _ = tick.tick() => self.report(&mut reported, &outbound).await?,
                () = self.routes.queue_formed().notified() => self.report(&mut reported, &outbound).await?,
                _ = usage.tick() => self.tell_usage(&outbound).await?,
                () = self.routes.book().wanted().notified() => self.tell_usage(&outbound).await?,
                Some(trace) = self.outbox.kept.recv() => {
                    let json = serde_json::to_string(&*trace)?;
                    outbound.send(ingress_message::Body::Trace(v1::KeptTrace { json })).await?;
                }
            }
        }
    }

    async fn report(
        &self,
        reported: &mut DeploymentLoads,
        outbound: &mpsc::Sender<ingress_message::Body>,
    ) -> Result<(), Error> {
        let now = self.routes.loads();
        if let Some(report) = report(reported, &now, self.routes.take_endings()) {
            outbound.send(ingress_message::Body::Load(report)).await?;
        }
        *reported = now;
        Ok(())
    }

    async fn tell_usage(&self, outbound: &mpsc::Sender<ingress_message::Body>) -> Result<(), Error> {
        if let Some(batch) = self.routes.book().batch(book::hour()) {
            outbound.send(ingress_message::Body::Usage(batch)).await?;
        }
        Ok(())
    }

    async fn receive(
        &mut self,
        message: v1::RouteMessage,
        newest: &cell::Sender<Newest>,
    ) -> Result<(), Error> {
        if let Some(route_message::Body::Welcome(welcome)) = &message.body {
            // Of another cluster its epoch means nothing here.
            self.outbox.last_routes.enter(&welcome.cluster_id).await?;
        }
        if message.epoch < *self.epoch {
            tracing::warn!(epoch = message.epoch, newest = *self.epoch, "message of an older term ignored");
            return Ok(());
        }
        *self.epoch = message.epoch;
        match message.body {
            Some(route_message::Body::Table(table)) => {
                newest.send_replace(Some(Arc::new(v1::RouteTable::decode(table)?)));
            }
            Some(route_message::Body::UsageStored(stored)) => self.routes.book().stored(stored.sequence),
            Some(route_message::Body::Leave(leave)) => {
                self.outbox.leave.send_replace(Some(Duration::from_millis(leave.drain_ms)));
            }
            Some(route_message::Body::Welcome(_)) => {
                self.routes.head_is_heard();
                if std::mem::take(self.is_away) {
                    tracing::warn!("the head is back");
                }
            }
            None => tracing::warn!("message of the head without a body ignored"),
        }
        Ok(())
    }
}
