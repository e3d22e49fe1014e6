//! Connections to a head: how they are made, when they are given up, whom a head that does not lead sends on to, and what
//! their errors mean.

use std::error::Error as _;
use std::time::{Duration, Instant};

use millstream_connect::{Authority, Heads, NotLeading, Refusal, Secret, connect, refusal};
use millstream_proto::v1::control_service_client::ControlServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::address;
use crate::exit::Failure;
use crate::global::ClearText;

/// How long a head may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait before heads are asked again of which none leads.
const ELECTION_PAUSE: Duration = Duration::from_millis(50);
/// Largest answer that is read: the texts of all pipelines, or the status of a large cluster.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The control service, on a connection of somebody who knows the admin token.
pub(super) type Service = ControlServiceClient<Channel>;

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

/// The heads of a cluster and the token that they take.
#[derive(Clone)]
pub(super) struct Target {
    heads: Heads,
    secret: Secret,
    /// Which heads may be asked.
    clear_text: ClearText,
}

impl Target {
    /// Whether these heads may be asked from here is for the caller to know.
    pub(super) fn new(heads: Heads, token: &str, clear_text: ClearText) -> Self {
        Self { heads, secret: Secret::new(Authority::Admin, token), clear_text }
    }

    /// The head that is asked.
    pub(super) fn address(&self) -> &str {
        self.heads.current()
    }

    /// Opens a connection to the first head that takes one.
    pub(super) async fn connect(&mut self, keep_alive: KeepAlive) -> Result<Service, Failure> {
        let mut failures = Vec::new();
        for _ in 0..self.heads.num_choices() {
            match self.open(keep_alive).await {
                Ok(service) => return Ok(service),
                Err(failure) => failures.push(failure),
            }
            self.heads.failed();
        }
        // One that answers, though with a no, tells more than one that does not.
        let likeliest =
            failures.iter().position(|failure| failure.code() != Failure::UNREACHABLE).unwrap_or(0);
        Err(failures.swap_remove(likeliest))
    }

    async fn open(&self, keep_alive: KeepAlive) -> Result<Service, Failure> {
        let address = self.address();
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| Failure::usage(format!("`{address}` is not an address; write it as HOST:PORT")))?
            .connect_timeout(2 * CONNECT_TIMEOUT)
            .http2_keep_alive_interval(keep_alive.interval)
            .keep_alive_timeout(keep_alive.timeout);
        // The endpoint's own limit is for connections that are made again, and is told like any other error.
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, connect(&endpoint, &self.secret)).await;
        let channel = match opened {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(self.not_opened(refusal(&error))),
            Err(_) => return Err(self.silent("no connection within 1s")),
        };
        Ok(ControlServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
    }

    fn not_opened(&self, refusal: Option<Refusal>) -> Failure {
        let address = self.address();
        match refusal {
            None => Failure::unreachable(format!(
                "no cluster answers on `{address}`; start one with `cluster up`, or name another with --cluster or \
                 --data-dir"
            )),
            Some(Refusal::WrongToken(_)) => self.wrong_token(),
            Some(refusal) => Failure::unreachable(format!("no cluster answers on `{address}`: {refusal}")),
        }
    }

    fn wrong_token(&self) -> Failure {
        Failure::refused(format!(
            "the cluster on `{}` does not accept this admin token; name its data directory with --data-dir, or the \
             token's file with --token-file",
            self.address()
        ))
    }

    fn silent(&self, message: &str) -> Failure {
        Failure::unreachable(format!(
            "the cluster on `{}` does not answer ({message}); its process may be stopped, or too busy",
            self.address()
        ))
    }

    /// After the answer of a head that does not lead: a connection to one that does, or may by now. `None` after any other
    /// answer, when there is no time left, and when the one that leads may not be asked from here.
    pub(super) async fn redirected(
        &mut self,
        status: &Status,
        keep_alive: KeepAlive,
        deadline: Instant,
    ) -> Option<Service> {
        let answer = NotLeading::of(status)?;
        let is_allowed =
            |leader: &String| address::check(std::slice::from_ref(leader), self.clear_text).is_ok();
        if !answer.leader.as_ref().is_none_or(is_allowed)
            || millstream_clock::now() + ELECTION_PAUSE >= deadline
        {
            return None;
        }
        if !self.heads.follow(answer.leader) {
            tokio::time::sleep(ELECTION_PAUSE).await;
        }
        self.connect(keep_alive).await.ok()
    }

    /// What an error of a call means to a person.
    pub(super) fn failure(&self, status: &Status) -> Failure {
        let message = status.message();
        // An error of the connection has a source; one that the head sent has none.
        if status.source().is_some() {
            return self.silent(message);
        }
        match status.code() {
            Code::Unauthenticated => self.wrong_token(),
            Code::InvalidArgument => Failure::invalid(message),
            Code::NotFound | Code::Aborted | Code::AlreadyExists | Code::FailedPrecondition => {
                Failure::refused(message)
            }
            Code::DeadlineExceeded | Code::Cancelled => self.silent(message),
            Code::Unavailable => {
                let address = self.address();
                Failure::unreachable(format!("the cluster on `{address}` does not answer: {message}"))
            }
            _ => Failure::failed(message),
        }
    }
}
