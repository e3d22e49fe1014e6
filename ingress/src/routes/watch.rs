//! Learns routes from the head, for ever: dials, says hello, puts whole tables in force and confirms them, reports
//! loads. While the head is away the last table stays in force.
//!
//! ```text
//! Ingress        the process restarts it
//! └─ watch task  dials again for ever, backoff with jitter; never ends by itself
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_proto::IngressId;
use millstream_proto::v1;
use millstream_proto::v1::route_service_client::RouteServiceClient;
use millstream_proto::v1::{ingress_message, route_message};
use rand::Rng as _;
use tokio::sync::{mpsc, watch as cell};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::load::{DeploymentLoads, report};
use super::table::Routes;
use crate::transport::remote::chain;
use crate::{clock, random};

const REPORT_INTERVAL: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_REDIAL: Duration = Duration::from_millis(50);
const MAX_REDIAL: Duration = Duration::from_secs(2);
/// A session that lasted that long was a good one: the next dial waits little.
const GOOD_SESSION: Duration = Duration::from_secs(5);
/// Largest table: pipelines' texts are in it.
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
}

/// See the module. Never returns.
pub(crate) async fn watch(
    head: String,
    hello: Hello,
    routes: Arc<Routes>,
    leave: cell::Sender<Option<Duration>>,
) {
    let mut redial = FIRST_REDIAL;
    let mut epoch = 0;
    let mut told = false;
    loop {
        let dialled = clock::now();
        let session = Session { hello: &hello, routes: &routes, leave: &leave, epoch: &mut epoch };
        let end = session.run(&head).await;
        let good = clock::now().duration_since(dialled) >= GOOD_SESSION;
        if good || !told {
            let error =
                end.err().map_or_else(|| "the head closed the session".to_owned(), |error| chain(&*error));
            tracing::warn!(head, error, "session with the head ended, serving on from the last routes");
        }
        told = !good;
        redial = if good { FIRST_REDIAL } else { (redial * 2).min(MAX_REDIAL) };
        let wait = redial.mul_f64(random::rng().random_range(0.5..1.0));
        tokio::time::sleep(wait).await;
    }
}

struct Session<'a> {
    hello: &'a Hello,
    routes: &'a Routes,
    leave: &'a cell::Sender<Option<Duration>>,
    /// The highest term heard of; messages of an older one are ignored.
    epoch: &'a mut u64,
}

impl Session<'_> {
    async fn run(mut self, head: &str) -> Result<(), Error> {
        let channel = Endpoint::from_shared(format!("http://{head}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect()
            .await?;
        let mut client = RouteServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (outbound, messages) = mpsc::channel(16);
        outbound.send(ingress_message::Body::Hello(self.hello_message())).await?;
        let messages = tokio_stream::StreamExt::map(ReceiverStream::new(messages), |body| {
            v1::IngressMessage { body: Some(body) }
        });
        let inbound = client.session(messages).await?.into_inner();
        self.exchange(inbound, outbound).await
    }

    fn hello_message(&self) -> v1::Hello {
        v1::Hello {
            ingress_id: self.hello.id.to_string(),
            name: self.hello.name.clone(),
            address: self.hello.address.to_string(),
            pid: std::process::id(),
        }
    }

    async fn exchange(
        &mut self,
        mut inbound: Streaming<v1::RouteMessage>,
        outbound: mpsc::Sender<ingress_message::Body>,
    ) -> Result<(), Error> {
        let mut told = DeploymentLoads::new();
        let mut tick = tokio::time::interval(REPORT_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = inbound.message() => match message? {
                    Some(message) => self.receive(message, &outbound).await?,
                    None => return Ok(()),
                },
                _ = tick.tick() => self.report(&mut told, &outbound).await?,
                () = self.routes.queue_formed().notified() => self.report(&mut told, &outbound).await?,
            }
        }
    }

    async fn report(
        &self,
        told: &mut DeploymentLoads,
        outbound: &mpsc::Sender<ingress_message::Body>,
    ) -> Result<(), Error> {
        let now = self.routes.loads();
        if let Some(report) = report(told, &now, self.routes.take_endings()) {
            outbound.send(ingress_message::Body::Load(report)).await?;
        }
        *told = now;
        Ok(())
    }

    async fn receive(
        &mut self,
        message: v1::RouteMessage,
        outbound: &mpsc::Sender<ingress_message::Body>,
    ) -> Result<(), Error> {
        if message.epoch < *self.epoch {
            tracing::warn!(epoch = message.epoch, newest = *self.epoch, "message of an older term ignored");
            return Ok(());
        }
        *self.epoch = message.epoch;
        match message.body {
            Some(route_message::Body::Table(table)) => {
                let version = table.version;
                self.routes.apply(table).await;
                tracing::info!(version, epoch = *self.epoch, "route table in force");
                outbound.send(ingress_message::Body::Ack(v1::Ack { version })).await?;
            }
            Some(route_message::Body::Leave(leave)) => {
                self.leave.send_replace(Some(Duration::from_millis(leave.drain_ms)));
            }
            None => tracing::warn!("message of the head without a body ignored"),
        }
        Ok(())
    }
}
