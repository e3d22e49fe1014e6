//! `--watch`: the status again at each change, until Ctrl-C.

use millstream_proto::status::ClusterStatus;

use crate::client::Client;
use crate::exit::Failure;

/// Shows the status now and at each change.
///
/// # Errors
/// Always, in the end: a cluster that goes away is not what was asked for.
pub(super) async fn watch(
    client: &Client,
    mut show: impl FnMut(&ClusterStatus) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut watch = client.watch_status().await?;
    while let Some(status) = watch.next().await? {
        show(&status)?;
    }
    Err(Failure::unreachable(format!("the cluster on `{}` has stopped", client.address())))
}
