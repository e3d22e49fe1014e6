//! What people ask about API keys: make, change, delete, list. Secrets never come here.

use std::sync::Arc;

use millstream_core::desired::change::Refusal;
use millstream_core::desired::{Desired, Keys, keys};
use millstream_core::present::explain::Subject;
use millstream_pipelines::Name;
use millstream_proto::event::{Decision, KeyChange};
use millstream_proto::v1;
use tonic::Status;

use super::control_service::{refused, to_json};
use super::rollouts::apply;
use crate::clock;
use crate::shared::Shared;

/// Makes a key; gives its status as JSON.
pub(crate) async fn create(shared: &Shared, request: v1::CreateKeyRequest) -> Result<String, Status> {
    let v1::CreateKeyRequest { name, sha256, settings } = request;
    let (settings, now_ms) = (settings.unwrap_or_default().into(), clock::unix_ms());
    let create = |keys: &Keys| keys::create(keys, &name, &sha256, &settings, now_ms);
    let (name, desired) = change(shared, create, KeyChange::Created).await?;
    status(&name, &desired)
}

/// Changes a key's settings; gives its status as JSON.
pub(crate) async fn set(shared: &Shared, request: v1::SetKeyRequest) -> Result<String, Status> {
    let v1::SetKeyRequest { name, settings } = request;
    let settings = settings.unwrap_or_default().into();
    let set = |keys: &Keys| keys::set(keys, &name, &settings);
    let (name, desired) = change(shared, set, KeyChange::Changed).await?;
    status(&name, &desired)
}

/// Deletes a key.
pub(crate) async fn delete(shared: &Shared, name: &str) -> Result<(), Status> {
    change(shared, |keys: &Keys| keys::delete(keys, name), KeyChange::Deleted).await?;
    Ok(())
}

/// The keys' statuses as JSON.
pub(crate) async fn list(shared: &Shared) -> Result<String, Status> {
    let desired = shared.catalog.desired();
    let statuses: Vec<_> = desired.keys.by_name.iter().map(|(name, key)| key.status(name)).collect();
    to_json(&statuses)
}

async fn change(
    shared: &Shared,
    decide: impl Fn(&Keys) -> Result<(Keys, Name), Refusal>,
    change: KeyChange,
) -> Result<(Name, Arc<Desired>), Status> {
    let (name, changed, desired) =
        shared.catalog.change_keys(decide).await.map_err(|error| refused(&error))?;
    if changed {
        tracing::info!(key = %name, ?change, "API key");
        shared.events.note(Subject::Cluster, Decision::Key { name: name.to_string(), change });
        apply(shared, Arc::clone(&desired)).await;
    }
    Ok((name, desired))
}

fn status(name: &Name, desired: &Desired) -> Result<String, Status> {
    to_json(&desired.keys.by_name.get(name).map(|key| key.status(name)))
}
