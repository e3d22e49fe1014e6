//! The last routes of a head, kept on disk with the sources of their revisions: an ingress that starts and hears no head serves
//! from them until a head has said what is to be served. API keys are in them as they are in route tables: as hashes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use millstream_kept::{Keeper, Kept, KeptFile, cluster_id_file, load_cluster_id, write_private};
use millstream_proto::v1;
use prost::Message as _;

use super::revisions::Revisions;
use super::table::Routes;

/// How long a head may take to answer an ingress that starts, before the ingress serves from its last routes.
const HEAD_WAIT: Duration = Duration::from_secs(1);

/// What the file is called, and holds.
const KIND: &str = "routes";

/// See the module.
pub(crate) struct LastRoutes {
    disk: Option<Disk>,
    /// The cluster that this ingress serves, once a head has welcomed it or its data directory says so.
    cluster_id: OnceLock<String>,
}

struct Disk {
    data_dir: PathBuf,
    file: KeptFile,
    keeper: Keeper,
}

impl LastRoutes {
    /// In that data directory; nowhere without one. Needs a runtime.
    pub(crate) fn new(data_dir: Option<PathBuf>) -> Self {
        let disk = data_dir.map(|data_dir| {
            let file = KeptFile::new(&data_dir, KIND);
            Disk { keeper: Keeper::start(file.clone()), file, data_dir }
        });
        Self { disk, cluster_id: OnceLock::new() }
    }

    /// The cluster that this ingress serves, as far as it is known.
    pub(super) fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.get().map(String::as_str)
    }

    /// Reads to which cluster the data directory belongs; before the first head is asked.
    pub(super) async fn find_cluster(&self) {
        let Some(disk) = &self.disk else { return };
        let data_dir = disk.data_dir.clone();
        match tokio::task::spawn_blocking(move || load_cluster_id(&data_dir)).await {
            Ok(Ok(Some(id))) => drop(self.cluster_id.set(id)),
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the cluster's id cannot be read: routes that were kept are not used");
            }
        }
    }

    /// Serves the cluster of the head that welcomes this ingress, unless that serves another one already.
    pub(super) async fn enter(&self, cluster_id: &str) -> Result<(), String> {
        if let Some(mine) = self.cluster_id() {
            let remedy = match &self.disk {
                Some(disk) => format!("delete `{}` and ", cluster_id_file(&disk.data_dir).display()),
                None => String::new(),
            };
            return if mine == cluster_id {
                Ok(())
            } else {
                Err(format!(
                    "the head leads another cluster than this ingress serves; {remedy}start the ingress again"
                ))
            };
        }
        let _ = self.cluster_id.set(cluster_id.to_owned());
        if let Some(disk) = &self.disk {
            let (data_dir, id) = (disk.data_dir.clone(), cluster_id.to_owned());
            let stored = tokio::task::spawn_blocking(move || remember(&data_dir, &id)).await;
            if let Ok(Err(error)) = stored {
                tracing::error!(%error, "cannot keep the cluster's id on disk; it holds until this process ends");
            }
        }
        Ok(())
    }

    /// Keeps a table that is in force; returns at once.
    pub(super) fn keep(&self, table: &v1::RouteTable, revisions: &Revisions) {
        let (Some(disk), Some(cluster_id)) = (&self.disk, self.cluster_id()) else { return };
        let kept = v1::KeptRoutes { table: Some(table.clone()), sources: revisions.sources() };
        disk.keeper.keep(cluster_id, kept.encode_to_vec());
    }

    /// Puts the kept table in force, where the head has sent none in time.
    pub(super) async fn stand_in(&self, routes: &Routes) {
        tokio::time::sleep(HEAD_WAIT).await;
        if routes.current().is_some() {
            return;
        }
        let Some((table, revisions, kept)) = self.read().await else { return };
        // The head's may have come meanwhile. From here on nothing is awaited.
        if routes.current().is_some() {
            return;
        }
        routes.apply_kept(&table, &revisions, kept.written_unix_ms);
        let v1::TableVersion { epoch, number } = table.version.unwrap_or_default();
        let (pipelines, age_s) = (table.pipelines.len(), kept.age().as_secs());
        tracing::warn!(
            epoch,
            number,
            pipelines,
            age_s,
            "no head answers: the last routes are served, from the data directory"
        );
    }

    async fn read(&self) -> Option<(v1::RouteTable, Revisions, Kept)> {
        let (disk, cluster_id) = (self.disk.as_ref()?, self.cluster_id()?.to_owned());
        let file = disk.file.clone();
        let kept = tokio::task::spawn_blocking(move || file.load(&cluster_id)).await.ok()??;
        let routes = v1::KeptRoutes::decode(&*kept.content);
        let routes = routes.inspect_err(|error| disk.file.warn(&error.to_string())).ok()?;
        let revisions = Revisions::compiled(routes.sources).await;
        Some((routes.table?, revisions, kept))
    }
}

/// The worker of this process may have done so already.
fn remember(data_dir: &Path, cluster_id: &str) -> std::io::Result<()> {
    match load_cluster_id(data_dir)? {
        Some(_) => Ok(()),
        None => write_private(&cluster_id_file(data_dir), cluster_id),
    }
}
