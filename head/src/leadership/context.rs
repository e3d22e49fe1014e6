//! What a term has before anything is decided in it: the fenced store and what is kept in it, and what its sessions are
//! told. Actors work on this; the API reaches it through the [`super::Term`].

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::catalog::{self, Catalog};
use crate::events::EventLog;
use crate::host::Host;
use crate::route_feed::RouteFeed;
use crate::snapshots::Snapshots;
use crate::store::{self, Fenced};
use crate::usage::UsageLog;

/// Why a term cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What people ask for cannot be read.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// The events, or what keys have used, cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// See the module.
pub(crate) struct TermContext {
    pub(crate) host: Arc<Host>,
    /// The term's number, which every order carries.
    pub(crate) epoch: u64,
    /// The cluster's id.
    pub(crate) cluster_id: String,
    /// Writable as long as this head leads.
    pub(crate) store: Arc<Fenced>,
    /// What people ask for.
    pub(crate) catalog: Catalog,
    /// What was decided lately, and why.
    pub(crate) events: EventLog,
    /// What API keys have used.
    pub(crate) usage: UsageLog,
    /// What ingresses are told.
    pub(crate) feed: watch::Sender<RouteFeed>,
    /// Pictures of the cluster, for whoever shows it.
    pub(crate) snapshots: Snapshots,
    /// Cancelled once the term is over: every stream and task of it ends.
    pub(crate) over: CancellationToken,
}

impl TermContext {
    /// Reads from the store what the term begins with.
    pub(crate) async fn read(
        host: Arc<Host>,
        store: Fenced,
        epoch: u64,
        cluster_id: String,
    ) -> Result<Self, Error> {
        let store = Arc::new(store);
        let catalog = Catalog::load(Arc::clone(&store)).await?;
        let events = EventLog::load(&store, epoch).await?;
        let usage = UsageLog::load(&store).await?;
        let over = host.closing.child_token();
        let (feed, snapshots) = (watch::Sender::new(RouteFeed::default()), Snapshots::default());
        Ok(Self { host, epoch, cluster_id, store, catalog, events, usage, feed, snapshots, over })
    }
}
