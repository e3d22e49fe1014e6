//! What ingresses are told: the newest route table, encoded once for all of them and without the sources of revisions,
//! which each ingress asks for by number; and that they are to leave.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millstream_core::desired::keys::KeySettings;
use millstream_core::desired::{ApiKey, StoredRevision};
use millstream_core::model::{PipelineRoute, ReplicaRoute, RouteTable, StartFailure, TableVersion, Variant};
use millstream_pipelines::Name;
use millstream_proto::v1;
use prost::Message as _;
use prost::bytes::Bytes;

/// What the ingresses of a term are to know; only the newest counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteFeed {
    /// The newest table; `None` until the head knows what runs.
    pub(crate) table: Option<Arc<PublishedTable>>,
    /// Set once the cluster is being shut down.
    pub(crate) leave: Option<Duration>,
}

impl RouteFeed {
    /// Takes the newest table.
    pub(crate) fn publish(&mut self, table: RouteTable) {
        self.table = Some(Arc::new(PublishedTable::new(table)));
    }
}

/// A table that every session sends.
#[derive(Debug)]
pub(crate) struct PublishedTable {
    table: RouteTable,
    encoded: OnceLock<Bytes>,
}

impl PublishedTable {
    /// Encodes nothing yet: a table that the next one replaces before anybody sends it costs nothing.
    pub(crate) fn new(table: RouteTable) -> Self {
        Self { table, encoded: OnceLock::new() }
    }

    /// The table's version.
    pub(crate) fn version(&self) -> TableVersion {
        self.table.version
    }

    /// The encoded [`v1::RouteTable`]: made by whoever asks first, and shared by all others.
    pub(crate) fn encoded(&self) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.table).encode_to_vec().into()).clone()
    }

    /// A revision that requests run on by this table.
    pub(crate) fn revision(&self, pipeline: &str, number: u64) -> Option<&StoredRevision> {
        let routes = &self.table.pipelines;
        let index = routes.binary_search_by(|route| route.name.as_str().cmp(pipeline)).ok()?;
        let mut stored = routes[index].variants.iter().map(|variant| &variant.revision.stored);
        stored.find(|stored| stored.number == number)
    }
}

fn encode(table: &RouteTable) -> v1::RouteTable {
    let TableVersion { epoch, number } = table.version;
    v1::RouteTable {
        version: Some(v1::TableVersion { epoch, number }),
        pipelines: table.pipelines.iter().map(|route| encode_pipeline(route)).collect(),
        keys: table.keys.iter().map(|(name, key)| encode_key(name, key)).collect(),
        num_ingresses: table.num_ingresses,
    }
}

fn encode_pipeline(route: &PipelineRoute) -> v1::PipelineRoute {
    let variant = |variant: &Variant| v1::Variant {
        revision: variant.revision.stored.number,
        permille: variant.permille.into(),
        shadow_permille: variant.shadow_permille.into(),
    };
    let replica = |replica: &ReplicaRoute| v1::ReplicaRoute {
        replica_id: replica.replica.to_string(),
        node_id: replica.node.to_string(),
        address: replica.address.clone(),
        revision: replica.revision,
        serves: replica.serves.clone(),
        answers: replica.answers.clone(),
    };
    let deployments = route.deployments.iter().map(|route| v1::DeploymentRoute {
        deployment: route.deployment.to_string(),
        replicas: route.replicas.iter().map(replica).collect(),
        start_failure: match route.start_failure {
            None => v1::StartFailure::Unspecified,
            Some(StartFailure::Replicas) => v1::StartFailure::Replicas,
            Some(StartFailure::Mismatch) => v1::StartFailure::Mismatch,
        }
        .into(),
    });
    v1::PipelineRoute {
        name: route.name.to_string(),
        variants: route.variants.iter().map(variant).collect(),
        deployments: deployments.collect(),
    }
}

fn encode_key(name: &Name, key: &ApiKey) -> v1::ApiKey {
    let KeySettings { rate_per_s, concurrency, weight, priority, .. } = key.settings;
    v1::ApiKey {
        name: name.to_string(),
        sha256: key.sha256.to_vec().into(),
        tenant: key.tenant,
        rate_per_s: rate_per_s.unwrap_or_default(),
        burst: key.settings.burst_in_force().unwrap_or_default(),
        concurrency: concurrency.unwrap_or_default(),
        weight,
        priority: v1::Priority::from(priority).into(),
        tokens_per_minute: key.settings.tokens_per_minute.unwrap_or_default(),
        tokens_per_day: key.settings.tokens_per_day.unwrap_or_default(),
        models: key.settings.models.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use millstream_core::desired::{Compiled, Revision};
    use tokio::sync::watch;

    /// A pipeline whose revision 3 has a text of 20 kB.
    fn table(number: u64) -> RouteTable {
        let comment = "x".repeat(20_000);
        let source = format!("# {comment}\nname = \"p\"\n[deployments.model]\nengine = \"echo\"\n");
        let compiled = Compiled::from_text("p.toml", &source).unwrap();
        let stored = StoredRevision {
            number: 3,
            file_name: "p.toml".into(),
            source,
            source_dir: "/".into(),
            created_at_ms: 0,
            reuses: BTreeMap::new(),
        };
        let revision = Arc::new(Revision { stored, compiled: Ok(compiled) });
        let variants = vec![Variant { revision, permille: 1000, shadow_permille: 0 }];
        let route = PipelineRoute { name: "p".parse().unwrap(), variants, deployments: Vec::new() };
        let version = TableVersion { epoch: 1, number };
        RouteTable { version, pipelines: Arc::new(vec![Arc::new(route)]), ..RouteTable::default() }
    }

    #[test]
    fn a_table_is_encoded_once_for_all_ingresses_and_without_sources() {
        let feed = watch::Sender::new(RouteFeed::default());
        let ingresses: Vec<_> = (0..100).map(|_| feed.subscribe()).collect();
        feed.send_modify(|feed| feed.publish(table(7)));
        let sent: Vec<_> =
            ingresses.iter().map(|ingress| ingress.borrow().table.clone().unwrap().encoded()).collect();
        assert!(sent.iter().all(|bytes| bytes.as_ptr() == sent[0].as_ptr()), "the same bytes");
        assert!(sent[0].len() < 100, "{} bytes", sent[0].len());
        let decoded = v1::RouteTable::decode(sent[0].clone()).unwrap();
        assert_eq!(
            (decoded.version, decoded.pipelines[0].variants[0].revision),
            (Some(v1::TableVersion { epoch: 1, number: 7 }), 3)
        );
    }

    #[test]
    fn sources_are_found_by_pipeline_and_number() {
        let published = PublishedTable::new(table(1));
        assert!(published.revision("p", 3).is_some_and(|stored| stored.source.len() > 20_000));
        for (pipeline, number) in [("p", 2), ("q", 3), ("", 3)] {
            assert!(published.revision(pipeline, number).is_none());
        }
    }
}
