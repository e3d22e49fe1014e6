//! Connections to a head: how they are made, when they are given up, and what their errors mean.

use std::error::Error as _;
use std::time::Duration;

use millstream_proto::v1::control_service_client::ControlServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::exit::Failure;

/// How long a head may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest answer that is read: the texts of all pipelines, or the status of a large cluster.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The control service, called with the admin token.
pub(super) type Service = ControlServiceClient<InterceptedService<Channel, Bearer>>;

/// Puts the admin token on every call.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// When a connection on which nothing comes is given up while a call is under way.
#[derive(Clone, Copy)]
pub(super) struct KeepAlive {
    /// Silence after which the head is pinged.
    interval: Duration,
    /// How long it may take to answer that.
    timeout: Duration,
}

impl KeepAlive {
    /// For calls that a person waits for: a head that is stopped, or whose machine is gone, is found out within a second.
    pub(super) const CALL: Self =
        Self { interval: Duration::from_millis(300), timeout: Duration::from_millis(700) };
    /// For streams, which should outlive a hiccup of the network.
    pub(super) const WATCH: Self = Self { interval: Duration::from_secs(2), timeout: Duration::from_secs(3) };
}

/// A head and the token that it takes.
#[derive(Clone)]
pub(super) struct Target {
    address: String,
    endpoint: Endpoint,
    bearer: Bearer,
}

impl Target {
    /// # Errors
    /// When the address or the token cannot be one.
    pub(super) fn new(address: &str, token: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| Failure::usage(format!("`{address}` is not an address; write it as HOST:PORT")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        let bearer = format!("Bearer {token}")
            .parse()
            .map_err(|_| Failure::usage("the admin token's file holds characters that no token has"))?;
        Ok(Self { address: address.to_owned(), endpoint, bearer: Bearer(bearer) })
    }

    /// As it was given.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, keep_alive: KeepAlive) -> Result<Service, Failure> {
        let endpoint = self
            .endpoint
            .clone()
            .http2_keep_alive_interval(keep_alive.interval)
            .keep_alive_timeout(keep_alive.timeout);
        // The endpoint's own limit does not hold for the look-up of the name.
        let channel = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
        let channel = channel.ok().and_then(Result::ok).ok_or_else(|| {
            Failure::unreachable(format!(
                "no cluster answers on `{}`; start one with `cluster up`, or name another with --cluster or --data-dir",
                self.address
            ))
        })?;
        let service = ControlServiceClient::with_interceptor(channel, self.bearer.clone());
        Ok(service.max_decoding_message_size(MAX_ANSWER_BYTES))
    }

    /// What an error of a call means to a person.
    pub(super) fn failure(&self, status: &Status) -> Failure {
        let (address, message) = (&self.address, status.message());
        let silent = || {
            Failure::unreachable(format!(
                "the cluster on `{address}` does not answer ({message}); its process may be stopped, or too busy"
            ))
        };
        // An error of the connection has a source; one that the head sent has none.
        if status.source().is_some() {
            return silent();
        }
        match status.code() {
            Code::Unauthenticated => Failure::refused(format!(
                "the cluster on `{address}` does not accept this admin token; name its data directory with \
                 --data-dir, or the token's file with --token-file"
            )),
            Code::InvalidArgument => Failure::invalid(message),
            Code::NotFound | Code::Aborted | Code::AlreadyExists | Code::FailedPrecondition => {
                Failure::refused(message)
            }
            Code::DeadlineExceeded | Code::Cancelled => silent(),
            Code::Unavailable => {
                Failure::unreachable(format!("the cluster on `{address}` does not answer: {message}"))
            }
            _ => Failure::failed(message),
        }
    }
}
