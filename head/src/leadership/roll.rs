//! The heads of a cluster: each that shares its store enters itself there, for as long as it renews its lease. Who leads may give way
//! only where another one is entered.

use std::sync::Arc;
use std::time::Duration;

use millstream_proto::head::HeadStatus;
use tokio_util::sync::CancellationToken;

use super::election::{LEADER, Leader};
use crate::store::{self, Expected, LeaseId, Store, Write};

/// Where they are, each under its control address.
pub(crate) const HEADS: &str = "heads/";
/// How long a head that was killed stays entered.
const LEASE: Duration = Duration::from_secs(15);
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Roll {
    store: Arc<dyn Store>,
    me: Leader,
    /// Whether other heads may be entered: not where the store is this process's own.
    reach: Reach,
}

/// Whose the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// This process's.
    Own,
    /// That of all heads.
    Shared,
}

impl Roll {
    /// The heads of this store, of which this is one.
    pub(crate) fn new(store: Arc<dyn Store>, me: Leader, reach: Reach) -> Self {
        Self { store, me, reach }
    }

    /// Stays entered until the head closes.
    pub(crate) async fn keep(self: Arc<Self>, closing: CancellationToken) {
        if self.reach == Reach::Own {
            return;
        }
        let mut lease = None;
        let mut renew = tokio::time::interval(RENEW_INTERVAL);
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                _ = renew.tick() => {}
            }
            lease = match self.renew(lease).await {
                Ok(lease) => Some(lease),
                Err(error) => {
                    tracing::debug!(%error, "this head is not entered among the heads just now");
                    None
                }
            };
        }
        if let Some(lease) = lease {
            // Where this fails, it ends by itself.
            let _ = self.store.revoke(lease).await;
        }
    }

    async fn renew(&self, lease: Option<LeaseId>) -> Result<LeaseId, store::Error> {
        if let Some(lease) = lease
            && self.store.keep_alive(lease).await.is_ok()
        {
            return Ok(lease);
        }
        let lease = self.store.grant_lease(LEASE).await?.id;
        let me = serde_json::to_vec(&self.me).expect("names and addresses are text");
        let entry = Write::put(format!("{HEADS}{}", self.me.address), Expected::Any, me).with_lease(lease);
        self.store.commit(entry.into()).await?;
        Ok(lease)
    }

    /// The heads that are entered, by name, and which of them leads.
    pub(crate) async fn list(&self) -> Result<Vec<HeadStatus>, store::Error> {
        let listing = self.store.list(&[HEADS, LEADER]).await?;
        let read = |value: &[u8]| serde_json::from_slice::<Leader>(value).ok();
        let leader = listing.get(LEADER).and_then(|entry| read(&entry.value));
        let mut heads: Vec<_> = listing.under(HEADS).filter_map(|(_, entry)| read(&entry.value)).collect();
        if let Some(leader) = &leader
            && !heads.iter().any(|head| head.address == leader.address)
        {
            heads.push(leader.clone());
        }
        heads.sort_by(|one, other| one.name.cmp(&other.name));
        let leads = |head: &Leader| leader.as_ref().is_some_and(|leader| leader.address == head.address);
        let status = |head: Leader| HeadStatus {
            leads: leads(&head),
            name: head.name,
            control: head.address,
            dashboard: head.dashboard,
        };
        Ok(heads.into_iter().map(status).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leadership::election::testing::{candidate, win};
    use crate::store::embedded::EmbeddedStore;

    #[tokio::test]
    async fn heads_are_entered_until_they_close_and_who_leads_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        let _leads = win(&store, "a").await.unwrap();
        let roll =
            |name: &str| Arc::new(Roll::new(Arc::clone(&store), candidate(&store, name).me, Reach::Shared));
        let (one, closing) = (roll("b"), CancellationToken::new());
        let kept = tokio::spawn(Arc::clone(&one).keep(closing.clone()));
        let names = async || {
            let heads = one.list().await.unwrap();
            heads.into_iter().map(|head| (head.name, head.leads)).collect::<Vec<_>>()
        };
        let both = [("a".to_owned(), true), ("b".to_owned(), false)];
        millstream_test_support::until("both are there", async || (names().await == both).then_some(()))
            .await;
        closing.cancel();
        kept.await.unwrap();
        assert_eq!(names().await, both[..1], "who closes leaves");
    }
}
