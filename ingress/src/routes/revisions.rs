//! The revisions that route tables name, compiled. A revision never changes and its number is never used again, so each
//! is asked for once, by number, and kept for as long as tables name it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use millstream_pipelines::{Name, Plan};
use millstream_proto::v1;
use millstream_proto::v1::route_service_client::RouteServiceClient;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Longest wait for a source.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How many are asked for at a time.
const MAX_FETCHES: usize = 8;

/// A revision of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RevisionId {
    pub(super) pipeline: Name,
    pub(super) number: u64,
}

/// A source is not here yet.
#[derive(Debug, thiserror::Error)]
#[error("revision {} of `{}` cannot be had from the head: {status}", id.number, id.pipeline)]
pub(super) struct FetchError {
    id: RevisionId,
    status: Status,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Revisions {
    known: BTreeMap<RevisionId, Revision>,
}

/// What is known of one.
struct Revision {
    source: v1::GetSourceResponse,
    /// `None`: the source does not compile here.
    plan: Option<Arc<Plan>>,
}

impl Revisions {
    /// One that is here.
    #[cfg(test)]
    pub(crate) fn of(pipeline: &str, number: u64, plan: Arc<Plan>) -> Self {
        let id = RevisionId { pipeline: pipeline.parse().expect("a name"), number };
        let revision = Revision { source: v1::GetSourceResponse::default(), plan: Some(plan) };
        Self { known: BTreeMap::from([(id, revision)]) }
    }

    /// Those with these sources; what is not the name of a pipeline is left out.
    pub(super) async fn compiled(sources: Vec<v1::KeptSource>) -> Self {
        let mut known = BTreeMap::new();
        for v1::KeptSource { pipeline, revision, file_name, source } in sources {
            let Ok(pipeline) = pipeline.parse() else { continue };
            let id = RevisionId { pipeline, number: revision };
            let compiled = Revision::compile(&id, v1::GetSourceResponse { file_name, source }).await;
            known.insert(id, compiled);
        }
        Self { known }
    }

    /// The sources of all, to be kept.
    pub(super) fn sources(&self) -> Vec<v1::KeptSource> {
        let kept = |(id, revision): (&RevisionId, &Revision)| {
            let v1::GetSourceResponse { file_name, source } = revision.source.clone();
            v1::KeptSource { pipeline: id.pipeline.to_string(), revision: id.number, file_name, source }
        };
        self.known.iter().map(kept).collect()
    }

    /// The plan of a revision that has been fetched and compiles.
    pub(super) fn plan(&self, id: &RevisionId) -> Option<&Arc<Plan>> {
        self.known.get(id)?.plan.as_ref()
    }

    /// Fetches and compiles what a table names and is not here. After an error, what has come is kept for the next try.
    pub(super) async fn fetch(
        &mut self,
        table: &v1::RouteTable,
        head: &RouteServiceClient<Channel>,
    ) -> Result<(), FetchError> {
        let missing = named_by(table).into_iter().filter(|id| !self.known.contains_key(id));
        let missing: Vec<_> = missing.collect();
        let fetch = |id: RevisionId| async {
            let fetched = fetch(head.clone(), &id).await;
            (id, fetched)
        };
        let mut fetches = stream::iter(missing).map(fetch).buffer_unordered(MAX_FETCHES);
        let mut outcome = Ok(());
        while let Some((id, fetched)) = fetches.next().await {
            match fetched {
                Ok(revision) => drop(self.known.insert(id, revision)),
                Err(status) => outcome = Err(FetchError { id, status }),
            }
        }
        outcome
    }

    /// Drops what a table does not name.
    pub(super) fn retain_named_by(&mut self, table: &v1::RouteTable) {
        let named = named_by(table);
        self.known.retain(|id, _| named.contains(id));
    }
}

fn named_by(table: &v1::RouteTable) -> BTreeSet<RevisionId> {
    let of_route = |route: &v1::PipelineRoute| {
        let pipeline: Name = route.name.parse().ok()?;
        let ids = route.variants.iter().map(move |variant| variant.revision);
        Some(ids.map(|number| RevisionId { pipeline: pipeline.clone(), number }).collect::<Vec<_>>())
    };
    table.pipelines.iter().filter_map(of_route).flatten().collect()
}

async fn fetch(mut head: RouteServiceClient<Channel>, id: &RevisionId) -> Result<Revision, Status> {
    let message = v1::GetSourceRequest { pipeline: id.pipeline.to_string(), revision: id.number };
    let answer = tokio::time::timeout(FETCH_TIMEOUT, head.get_source(Request::new(message)));
    let answer = answer.await.map_err(|_| Status::deadline_exceeded("no answer came in time"))??;
    Ok(Revision::compile(id, answer.into_inner()).await)
}

impl Revision {
    async fn compile(id: &RevisionId, source: v1::GetSourceResponse) -> Self {
        let plan = compile(source.file_name.clone(), source.source.clone()).await;
        let log = |reason: &String| {
            tracing::error!(pipeline = %id.pipeline, revision = id.number, error = reason, "a plan does not compile, requests run on another revision");
        };
        Self { source, plan: plan.inspect_err(log).ok().map(Arc::new) }
    }
}

/// Compiles off the threads that serve requests. A source that makes the compiler panic is a fault of its own revision, and of no
/// other's.
async fn compile(file_name: String, source: String) -> Result<Plan, String> {
    match tokio::task::spawn_blocking(move || Plan::compile(&file_name, &source)).await {
        Ok(compiled) => compiled.map_err(|faults| faults.to_string()),
        Err(panic) => Err(panic.to_string()),
    }
}
