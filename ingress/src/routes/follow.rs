//! Puts the newest table in force, as soon as every revision that it names is here, and confirms it then. Until that
//! moment the last table stays in force as a whole.

use std::sync::Arc;

use millstream_connect::Backoff;
use millstream_proto::v1;
use millstream_proto::v1::ingress_message;
use millstream_proto::v1::route_service_client::RouteServiceClient;
use tokio::sync::{mpsc, watch as cell};
use tonic::transport::Channel;

use super::last::LastRoutes;
use super::revisions::Revisions;
use super::table::Routes;
use crate::random;

/// The newest table of a session; `None` before the first.
pub(super) type Newest = Option<Arc<v1::RouteTable>>;

/// Applies the tables of one session.
pub(super) struct Follower<'a> {
    pub(super) routes: &'a Routes,
    pub(super) revisions: &'a mut Revisions,
    pub(super) last_routes: &'a LastRoutes,
    pub(super) head: RouteServiceClient<Channel>,
    pub(super) outbound: mpsc::Sender<ingress_message::Body>,
}

impl Follower<'_> {
    /// See the module. Ends with its session.
    pub(super) async fn follow(mut self, mut tables: cell::Receiver<Newest>) {
        while tables.changed().await.is_ok() {
            let Some(table) = tables.borrow_and_update().clone() else { continue };
            if !self.fetch(&table, &mut tables).await {
                continue;
            }
            self.routes.apply(&table, self.revisions);
            self.revisions.retain_named_by(&table);
            self.last_routes.keep(&table, self.revisions);
            let version = table.version;
            let v1::TableVersion { epoch, number } = version.unwrap_or_default();
            tracing::info!(epoch, number, "route table in force");
            if self.outbound.send(ingress_message::Body::Ack(v1::Ack { version })).await.is_err() {
                return;
            }
        }
    }

    /// Fetches what the table names and is not here. False when there is a newer table before all has come. Tries go on
    /// for as long as the table is the newest, ever more rarely: an ingress that gave up would keep an old table although
    /// nothing is wrong any more.
    async fn fetch(&mut self, table: &v1::RouteTable, tables: &mut cell::Receiver<Newest>) -> bool {
        let mut failures = 0_u32;
        while let Err(error) = self.revisions.fetch(table, &self.head).await {
            let v1::TableVersion { epoch, number } = table.version.unwrap_or_default();
            tracing::warn!(epoch, number, %error, "a route table is not complete, the last one stays in force");
            // A newer table is not waited for: it may name what can be had.
            failures = failures.saturating_add(1);
            let wait = Backoff::REDIAL.delay(failures, &mut random::rng());
            if tokio::time::timeout(wait, tables.changed()).await.is_ok() {
                tables.mark_changed();
                return false;
            }
        }
        true
    }
}
