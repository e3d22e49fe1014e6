//! Which member of the etcd cluster is asked. One of them is, for as long as it answers; the next one takes its place when it does
//! not, also when whoever asked has given up waiting.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::{Client, ConnectOptions};
use parking_lot::Mutex;

use crate::access::Access;
use crate::failure::Failure;

/// Largest answer of etcd that is read: all that a head keeps, many times over.
pub(crate) const MAX_ANSWER_BYTES: usize = 256 << 20;

/// What happens to an operation whose outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It is tried with the next member: it writes nothing, or does no harm when it is done twice.
    Harmless,
    /// Whoever asked is told.
    Never,
}

/// See the module.
pub(crate) struct Members {
    members: Vec<Member>,
    asked: AtomicUsize,
    options: ConnectOptions,
}

struct Member {
    url: String,
    /// Held to copy it, never across an await.
    client: Mutex<Option<Client>>,
}

/// One operation with one member. It gives way to the next member unless it went well.
struct Turn<'a> {
    members: &'a Members,
    index: usize,
    went_well: bool,
}

impl Members {
    /// Of these, HOST:PORT.
    pub(crate) fn new(members: &[String], access: &Access) -> Self {
        let member = |member: &String| Member {
            url: format!("{}://{member}", access.scheme()),
            client: Mutex::default(),
        };
        Self {
            members: members.iter().map(member).collect(),
            asked: AtomicUsize::new(0),
            options: access.options(),
        }
    }

    /// Asks one member after the other until one has done it, or has said that it will not be done.
    pub(crate) async fn ask<T, F>(
        &self,
        repeat: Repeat,
        work: impl Fn(Client) -> F + Send,
    ) -> Result<T, Failure>
    where
        T: Send,
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let mut failure = Failure::NotTaken("no member of etcd is named".into());
        // The first one once more: its connection may have been old.
        for _ in 0..=self.members.len() {
            let mut turn = self.next_turn();
            failure = match turn.run(&work).await {
                Ok(value) => return Ok(value),
                Err(Failure::Lost(reason)) if repeat == Repeat::Never => return Err(Failure::Lost(reason)),
                Err(failure @ (Failure::Lost(_) | Failure::NotTaken(_))) => failure,
                Err(decided) => return Err(decided),
            };
            tracing::debug!(
                member = self.members[turn.index].url,
                ?failure,
                "asking the next member of etcd"
            );
        }
        Err(failure)
    }

    fn next_turn(&self) -> Turn<'_> {
        let index = self.asked.load(Ordering::Relaxed) % self.members.len();
        Turn { members: self, index, went_well: false }
    }
}

impl Turn<'_> {
    async fn run<T, F>(&mut self, work: &(impl Fn(Client) -> F + Send)) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        // Nothing is sent before there is a connection.
        let client = self.client().await.map_err(|error| match Failure::from(error) {
            Failure::Lost(reason) => Failure::NotTaken(reason),
            other => other,
        })?;
        let result = work(client).await.map_err(Failure::from);
        self.went_well = !matches!(result, Err(Failure::Lost(_) | Failure::NotTaken(_)));
        result
    }

    async fn client(&self) -> Result<Client, etcd_client::Error> {
        let member = &self.members.members[self.index];
        let known = member.client.lock().clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let connecting = Client::connect([&member.url], Some(self.members.options.clone()));
        // Connecting takes ten kilobytes, and happens once.
        let client = Box::pin(connecting).await?;
        *member.client.lock() = Some(client.clone());
        Ok(client)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.went_well {
            return;
        }
        let Self { members, index, .. } = *self;
        *members.members[index].client.lock() = None;
        let next = (index + 1) % members.members.len();
        // Somebody else may have gone on already.
        let _ = members.asked.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
