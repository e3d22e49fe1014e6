//! API keys: make, change, delete, list. Secrets never come here.

use millstream_core::desired::change::Refusal;
use millstream_core::desired::{Desired, Keys, keys};
use millstream_core::present::explain::Subject;
use millstream_pipelines::Name;
use millstream_proto::event::{Decision, KeyChange};
use millstream_proto::key::{KeyRequest, KeyStatus};

use super::Error;
use crate::clock;
use crate::leadership::Term;

/// Makes a key.
pub(crate) async fn create(
    term: &Term,
    name: &str,
    sha256: &[u8],
    settings: &KeyRequest,
) -> Result<Option<KeyStatus>, Error> {
    let now_ms = clock::unix_ms();
    let create = |keys: &Keys| keys::create(keys, name, sha256, settings, now_ms);
    change(term, create, KeyChange::Created, settings).await
}

/// Changes a key's settings.
pub(crate) async fn set(term: &Term, name: &str, settings: &KeyRequest) -> Result<Option<KeyStatus>, Error> {
    change(term, |keys: &Keys| keys::set(keys, name, settings), KeyChange::Changed, settings).await
}

/// Deletes a key.
pub(crate) async fn delete(term: &Term, name: &str) -> Result<(), Error> {
    let delete = |keys: &Keys| keys::delete(keys, name);
    change(term, delete, KeyChange::Deleted, &KeyRequest::default()).await?;
    Ok(())
}

/// The keys.
pub(crate) fn list(desired: &Desired) -> Vec<KeyStatus> {
    desired.keys.by_name.iter().map(|(name, key)| key.status(name)).collect()
}

/// Returns the key as it is now, if it still is.
async fn change(
    term: &Term,
    decide: impl Fn(&Keys) -> Result<(Keys, Name), Refusal>,
    change: KeyChange,
    set: &KeyRequest,
) -> Result<Option<KeyStatus>, Error> {
    let note = |name: &Name| {
        tracing::info!(key = %name, ?change, "API key");
        let decision = Decision::Key { name: name.to_string(), change, set: set.clone() };
        term.events.note(Subject::Cluster, decision);
    };
    let (name, _) = term.catalog.change_keys(decide, note).await?;
    Ok(term.catalog.desired().keys.by_name.get(&name).map(|key| key.status(&name)))
}
